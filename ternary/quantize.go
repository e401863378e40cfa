package ternary

import (
	"fmt"
	"math"

	"setun/device"
	"setun/device/auto"
	"setun/tensor"
)

// Quantize packs w (rows, cols), row-major, on the processor. cfg says codebook, rule, PerRow and Columns; what
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
	l := FromWeight(tensor.NewMaker(dev, 0), tensor.FromFloats(dev, w, rows, cols), false,
		Config{Codebook: cfg.Codebook, Rule: cfg.Rule, Threshold: cfg.Threshold, PerRow: cfg.PerRow, Columns: cfg.Columns})
	Regroup(l)
	p, err := l.Pack()
	if err != nil {
		return nil, err
	}
	for _, t := range []*tensor.Tensor{l.Weight.T, l.codes, l.scale, l.scaled, l.inverse} {
		if t != nil {
			t.Free()
		}
	}
	for i, s := range p.Scales {
		if math.IsNaN(float64(s)) {
			if len(p.Scales) == 1 {
				return nil, fmt.Errorf("ternary: the weight of %d x %d has a NaN or an infinity", rows, cols)
			}
			return nil, fmt.Errorf("ternary: row %d of the weight of %d x %d has a NaN or an infinity", i, rows, cols)
		}
	}
	return p, nil
}

// Dequantize gives the values codes * scales (Rows, Cols), times column scales, computed on the processor. Data that is
// no valid packing is an error.
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
	if err := checkColumns(p.Columns, p.Cols); err != nil {
		return nil, err
	}
	codes, scale := tensor.FromCodes(dev, host, p.Rows, p.Cols), tensor.FromFloats(dev, p.Scales, len(p.Scales))
	y := tensor.New(dev, device.F32, p.Rows, p.Cols)
	defer func() { y.Free(); codes.Free(); scale.Free() }()
	tensor.Dequantize(y, codes, scale)
	if p.Columns != nil {
		s, full := tensor.FromFloats(dev, p.Columns, p.Cols), tensor.New(dev, device.F32, p.Rows, p.Cols)
		tensor.AddRows(full, nil, s, 1)
		tensor.Mul(y, y, full)
		s.Free()
		full.Free()
	}
	if err := dev.Sync(); err != nil {
		return nil, err
	}
	return y.Floats(), nil
}
