package ternary

import (
	"fmt"
	"iter"
	"math"

	"setun/autograd"
	"setun/device"
	"setun/tensor"
)

// Linear: y = Q8(norm(x)) Q(Weight)ᵀ + Bias, x (..., in), Weight (out, in). In training, Weight is a float32 latent
// weight that both quantizers pass gradients to; after Freeze it is gone and the packed codes remain.
type Linear struct {
	Weight *autograd.Value // latent, nil when frozen
	Bias   *autograd.Value // (out) or nil
	Gain   *autograd.Value // of the norm, (in) or nil
	Scale  *autograd.Value // learned scales of LSQ, else nil
	// Columns are the column clusters' scales (in), which Regroup sets and no gradient moves; nil without.
	Columns *autograd.Value

	cfg     Config
	lambda  float32
	out, in int

	codes     *tensor.Tensor  // (out, in), I8; nil when frozen, unless asked for
	panels    *tensor.Panels  // the codes when frozen
	scale     *tensor.Tensor  // 1 or out
	quantized *autograd.Value // the Weight that codes were computed from
	version   uint64          // its, and those of Scale and Columns, plus 1, at that time

	inverse, scaled *tensor.Tensor // of column clusters in training: 1/Columns (in), Weight/Columns (out, in)
	inverseOf       uint64         // version of Columns, plus 1, that inverse was computed from
}

// NewLinear draws the latent weight with standard deviation 1/sqrt(in); bias starts at 0. It panics on a Config that
// does not Validate.
func NewLinear(mk *tensor.Maker, in, out int, bias bool, cfg Config) *Linear {
	return FromWeight(mk, mk.Normal(float32(1/math.Sqrt(float64(in))), out, in), bias, cfg)
}

// FromWeight makes a layer whose latent weight is w (out, in): for other initialisations and for trained float weights.
func FromWeight(mk *tensor.Maker, w *tensor.Tensor, bias bool, cfg Config) *Linear {
	if err := cfg.Validate(); err != nil {
		panic(err)
	}
	l := &Linear{Weight: autograd.NewParam(w), cfg: cfg.withDefaults(), lambda: 1, out: w.Dim(0), in: w.Dim(1)}
	l.Weight.Quant = latent{l}
	if bias {
		l.Bias = autograd.NewParam(mk.Zeros(l.out))
	}
	if cfg.SubNorm {
		l.Gain = autograd.NewParam(mk.Fill(1, l.in))
	}
	l.alloc(w.Device())
	l.addColumns(w.Device())
	if l.cfg.Rule == LSQ {
		factor := float32(ternaryFactor)
		if l.cfg.Codebook == Five {
			factor = fiveFactor
		}
		tensor.QuantizeWeights(l.codes, l.scale, w, l.cfg.Codebook.Levels(), device.AbsMean, factor)
		l.Scale = autograd.NewParam(l.scale)
		l.Scale.Quant = learned{}
	}
	return l
}

// latent is the quantizer of the layer's weight.
type latent struct{ l *Linear }

// Effective: W + lambda*(Q(W) - W); with column clusters s, (W/s + lambda*(Q(W/s) - W/s))*s.
func (q latent) Effective(dst *tensor.Tensor) {
	q.l.quantize()
	if q.l.Columns == nil {
		q.l.effective(dst, q.l.Weight.T)
		return
	}
	q.l.effective(dst, q.l.scaled)
	s := tensor.New(dst.Device(), device.F32, dst.Shape()...)
	tensor.AddRows(s, nil, q.l.Columns.T, 1)
	tensor.Mul(dst, dst, s)
	s.Free()
}

func (q latent) Codes() *tensor.Tensor {
	q.l.quantize()
	return q.l.codes
}

// learned is the quantizer of a learned scale, whose effect is in the layer's weight already.
type learned struct{}

func (learned) Effective(dst *tensor.Tensor) { tensor.Fill(dst, 0) }
func (learned) Codes() *tensor.Tensor        { return nil }

// effective writes w + lambda*(Q - w) to dst, Q the codes as they are.
func (l *Linear) effective(dst, w *tensor.Tensor) {
	tensor.Dequantize(dst, l.codes, l.scale)
	if l.lambda < 1 {
		tensor.Scale(dst, l.lambda, dst)
		tensor.Axpy(dst, 1-l.lambda, w)
	}
}

// alloc makes room for codes and scales.
func (l *Linear) alloc(dev device.Device) {
	n := 1
	if l.cfg.PerRow {
		n = l.out
	}
	l.codes, l.scale = tensor.New(dev, device.I8, l.out, l.in), tensor.New(dev, device.F32, n)
}

// Params yields weight, bias, norm, scale and columns, those that there are.
func (l *Linear) Params() iter.Seq2[string, *autograd.Value] {
	return func(yield func(string, *autograd.Value) bool) {
		_ = (l.Weight == nil || yield("weight", l.Weight)) && (l.Bias == nil || yield("bias", l.Bias)) &&
			(l.Gain == nil || yield("norm", l.Gain)) && (l.Scale == nil || yield("scale", l.Scale)) &&
			(l.Columns == nil || yield("columns", l.Columns))
	}
}

// Config is the layer's configuration with its defaults filled in.
func (l *Linear) Config() Config { return l.cfg }

// SetLambda blends in the quantizer: the layer uses W + lambda*(Q(W) - W). A rise from 0 to 1 over the first part of
// training costs less accuracy than a start at 1, which is the default.
func (l *Linear) SetLambda(lambda float32) { l.lambda = min(max(lambda, 0), 1) }

// Quantized gives the codes (out, in) and the scale (1 or out) of the weight as it is now. They belong to the layer. A
// frozen layer unpacks its codes for this, and keeps them from then on.
func (l *Linear) Quantized() (codes, scale *tensor.Tensor) {
	l.quantize()
	if l.codes == nil {
		l.codes = tensor.New(l.panels.Device(), device.I8, l.out, l.in)
		l.panels.Unpack(l.codes)
	}
	return l.codes, l.scale
}

// Panels gives the codes and the scale of a frozen layer as products read them; nil before Freeze. They belong to the
// layer.
func (l *Linear) Panels() (codes *tensor.Panels, scale *tensor.Tensor) { return l.panels, l.scale }

func (l *Linear) quantize() {
	if l.Weight == nil {
		return
	}
	v := 1 + l.Weight.Version()
	if l.Scale != nil {
		v += l.Scale.Version()
	}
	if l.Columns != nil {
		v += l.Columns.Version()
	}
	if v == l.version && l.Weight == l.quantized {
		return
	}
	rule, factor := l.cfg.kernel()
	tensor.QuantizeWeights(l.codes, l.scale, l.source(), l.cfg.Codebook.Levels(), rule, factor)
	l.version, l.quantized = v, l.Weight
}

// Forward maps (..., in) to (..., out).
func (l *Linear) Forward(t *autograd.Tape, x *autograd.Value) *autograd.Value {
	gain := l.Gain
	if gain != nil && l.Columns != nil {
		gain = t.Mul(gain, l.Columns)
	}
	switch {
	case gain != nil:
		x = t.RMSNorm(x, gain, 1e-5)
	case l.Columns != nil:
		x = t.MulRows(x, l.Columns)
	}
	l.quantize()
	if l.cfg.FloatActs || l.lambda < 1 && l.Weight != nil {
		return l.blended(t, x)
	}
	if l.Weight == nil {
		return t.PackedLinear(x, l.panels, l.scale, l.Bias, l.cfg.Math.kernel())
	}
	return t.QLinear(x, l.weight(t), l.codes, l.scale, l.Bias, l.cfg.Math.kernel())
}

// weight is what is quantized, on the tape.
func (l *Linear) weight(t *autograd.Tape) *autograd.Value {
	w := l.Weight
	if l.Columns != nil {
		w = t.Rescaled(w, l.scaled, l.inverse)
	}
	if l.Scale != nil {
		w = t.LSQ(w, l.Scale, l.cfg.Codebook.Levels(), l.lambda)
	}
	return w
}

// blended is Forward with float weights, W + lambda*(Q(W) - W): in bfloat16 where a quantized layer is to be fast.
func (l *Linear) blended(t *autograd.Tape, x *autograd.Value) *autograd.Value {
	linear := t.Linear
	if l.cfg.Math != FP32 {
		linear = t.LinearBF16
	}
	if !l.cfg.FloatActs {
		x = t.Int8(x)
	}
	if l.Weight == nil {
		w, codes := t.Temp(x, device.F32, l.out, l.in), t.Temp(x, device.I8, l.out, l.in)
		l.panels.Unpack(codes)
		tensor.Dequantize(w, codes, l.scale)
		return linear(x, autograd.NewConst(w), l.Bias)
	}
	return linear(x, t.Custom(autograd.Op{
		Name: "blend",
		Forward: func(c *autograd.Ctx, in []*tensor.Tensor) *tensor.Tensor {
			q := c.New(l.out, l.in)
			l.effective(q, in[0])
			return q
		},
		Backward: func(_ *autograd.Ctx, din []*tensor.Tensor, dq *tensor.Tensor) { tensor.Axpy(din[0], 1, dq) },
	}, l.weight(t)), l.Bias)
}

// Freeze packs the weight and gives up the latent one. The output stays that of lambda 1 to the bit.
func (l *Linear) Freeze() (*Packed, error) {
	p, err := l.Pack()
	if err != nil {
		return nil, err
	}
	if l.Weight != nil {
		l.panels = tensor.NewPanels(l.codes.Device(), l.codes.Codes(), l.out, l.in, l.cfg.Codebook.Levels())
		l.codes.Free()
		l.codes = nil
		l.Weight.T.Free()
		l.Weight.FreeGrad()
		if l.Scale != nil {
			l.Scale.FreeGrad()
		}
		if l.scaled != nil {
			l.scaled.Free()
			l.inverse.Free()
		}
		l.Weight, l.Scale, l.scaled, l.inverse, l.quantized = nil, nil, nil, nil, nil
	}
	return p, nil
}

// Frozen reports whether the layer has given up its latent weight.
func (l *Linear) Frozen() bool { return l.Weight == nil }

// Pack gives the weight as it is now in packed form; the layer does not change.
func (l *Linear) Pack() (*Packed, error) {
	l.quantize()
	codes := l.codes
	if codes == nil {
		codes = tensor.New(l.panels.Device(), device.I8, l.out, l.in)
		defer codes.Free()
		l.panels.Unpack(codes)
	}
	if err := codes.Device().Sync(); err != nil {
		return nil, err
	}
	p, err := NewPacked(l.cfg.Codebook, codes.Codes(), l.out, l.in, l.scale.Floats())
	if err == nil && l.Columns != nil {
		p.Columns = l.Columns.T.Floats()
	}
	return p, err
}

// FromPacked makes a frozen layer on dev. Bias and Gain, if the model has them, are set by the caller.
func FromPacked(dev device.Device, p *Packed, cfg Config) (*Linear, error) {
	cfg.Codebook, cfg.PerRow, cfg.Columns = p.Codebook(), len(p.Scales) != 1, 0
	if p.Columns != nil {
		cfg.Columns = max(2, len(distinct(p.Columns)))
	}
	if err := checkColumns(p.Columns, p.Cols); err != nil {
		return nil, err
	}
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	codes, err := p.Unpack()
	if err != nil {
		return nil, err
	}
	l, err := FromCodes(dev, codes, p.Rows, p.Cols, p.Scales, cfg)
	if err == nil && l.Columns != nil {
		l.Columns.T.SetFloats(p.Columns)
	}
	return l, err
}

// FromCodes makes a frozen layer of codes (out, in) of cfg's codebook and 1 or out scales. Columns, if cfg has them,
// are 1 until the caller sets them.
func FromCodes(dev device.Device, codes []int8, out, in int, scales []float32, cfg Config) (*Linear, error) {
	cfg.PerRow = len(scales) != 1
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	if out < 1 || in < 1 || len(codes)/in != out || len(codes)%in != 0 {
		return nil, fmt.Errorf("ternary: %d codes for a weight of %d x %d", len(codes), out, in)
	}
	if err := checkScales(scales, out); err != nil {
		return nil, err
	}
	levels := cfg.Codebook.Levels()
	for i, c := range codes {
		if int(c) > levels || int(c) < -levels {
			return nil, fmt.Errorf("ternary: code %d of a weight of %d x %d is %d, not one of the codebook %s", i, out, in, c,
				cfg.Codebook)
		}
	}
	l := &Linear{cfg: cfg, lambda: 1, out: out, in: in}
	l.panels = tensor.NewPanels(dev, codes, out, in, levels)
	l.scale = tensor.FromFloats(dev, scales, len(scales))
	l.addColumns(dev)
	return l, nil
}
