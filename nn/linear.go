package nn

import (
	"iter"
	"math"

	"setun/autograd"
	"setun/tensor"
)

// Linear: y = x Weightᵀ + Bias, x (..., in), Weight (out, in), Bias (out) or nil.
type Linear struct {
	Weight, Bias *autograd.Value
	BF16         bool // products may be computed in bfloat16, where the device is faster with it
}

// NewLinear draws Weight with standard deviation 1/sqrt(in) and starts Bias, if wanted, at 0.
func NewLinear(mk *tensor.Maker, in, out int, bias bool) *Linear {
	l := &Linear{Weight: autograd.NewParam(mk.Normal(InvSqrt(in), out, in))}
	if bias {
		l.Bias = autograd.NewParam(mk.Zeros(out))
	}
	return l
}

// Params yields weight and bias.
func (l *Linear) Params() iter.Seq2[string, *autograd.Value] { return Fields(l) }

// Forward maps (..., in) to (..., out).
func (l *Linear) Forward(t *autograd.Tape, x *autograd.Value) *autograd.Value {
	if l.BF16 {
		return t.LinearBF16(x, l.Weight, l.Bias)
	}
	return t.Linear(x, l.Weight, l.Bias)
}

// InvSqrt is 1/sqrt(in), the standard deviation that keeps a linear layer's output as large as its input (LeCun).
func InvSqrt(in int) float32 { return float32(1 / math.Sqrt(float64(max(in, 1)))) }

// Xavier is sqrt(2/(in+out)) (Glorot and Bengio 2010).
func Xavier(in, out int) float32 { return float32(math.Sqrt(2 / float64(max(in+out, 1)))) }

// Kaiming is sqrt(2/in), for layers before a ReLU (He et al. 2015, arXiv 1502.01852).
func Kaiming(in int) float32 { return float32(math.Sqrt(2 / float64(max(in, 1)))) }
