package ternary

import (
	"fmt"
	"math"

	"setun/device"
	"setun/device/auto"
	"setun/tensor"
)

// Quantize packs w (rows, cols), row-major, on the processor. cfg says codebook, rule and PerRow; what
// it says of activations and gradients has no part in this. The rule LSQ, whose scale is learned, is an error, and so
// is a weight with a NaN or an infinity.
func Quantize(w []float32, rows, cols int, cfg Config) (*Packed, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	if cfg.Rule == LSQ {
		return nil, fmt.Errorf("ternary: rule %q learns its scale in training; use %q or %q", LSQ, AbsMean, TWN)
	}
	if rows < 1 || cols < 1 || len(w)/cols != rows || len(w)%cols != 0 {
		return nil, fmt.Errorf("ternary: %d values for a weight of %d x %d", len(w), rows, cols)
	}
	dev, err := auto.Host(0)
	if err != nil {
		return nil, err
	}
	l := &Linear{cfg: cfg, out: rows, in: cols}
	l.alloc(dev)
	x := tensor.FromFloats(dev, w, rows, cols)
	rule, factor := cfg.kernel()
	tensor.QuantizeWeights(l.codes, l.scale, x, cfg.Codebook.Levels(), rule, factor)
	defer func() { x.Free(); l.codes.Free(); l.scale.Free() }()
	if err := dev.Sync(); err != nil {
		return nil, err
	}
	scales := l.scale.Floats()
	for i, s := range scales {
		if math.IsNaN(float64(s)) {
			if len(scales) == 1 {
				return nil, fmt.Errorf("ternary: the weight of %d x %d has a NaN or an infinity", rows, cols)
			}
			return nil, fmt.Errorf("ternary: row %d of the weight of %d x %d has a NaN or an infinity", i, rows, cols)
		}
	}
	return NewPacked(cfg.Codebook, l.codes.Codes(), rows, cols, scales)
}

// Dequantize gives the values codes * scales (Rows, Cols), computed on the processor. Data that is no
// valid packing is an error.
func (p *Packed) Dequantize() ([]float32, error) {
	dev, err := auto.Host(0)
	if err != nil {
		return nil, err
	}
	host, err := p.Unpack()
	if err != nil {
		return nil, err
	}
	if err := checkScales(p.Scales, p.Rows); err != nil {
		return nil, err
	}
	codes, scale := tensor.FromCodes(dev, host, p.Rows, p.Cols), tensor.FromFloats(dev, p.Scales, len(p.Scales))
	y := tensor.New(dev, device.F32, p.Rows, p.Cols)
	defer func() { y.Free(); codes.Free(); scale.Free() }()
	tensor.Dequantize(y, codes, scale)
	if err := dev.Sync(); err != nil {
		return nil, err
	}
	return y.Floats(), nil
}
