package nn

import (
	"iter"

	"setun/autograd"
	"setun/tensor"
)

// RMSNorm: y = x / sqrt(mean(x^2) + Eps) * Weight over the last dimension. A nil Weight means no gain.
type RMSNorm struct {
	Weight *autograd.Value
	Eps    float32 `param:"-"`
}

// NewRMSNorm starts the gain at 1; eps 0 means 1e-5.
func NewRMSNorm(mk *tensor.Maker, width int, eps float32) *RMSNorm {
	if eps == 0 {
		eps = 1e-5
	}
	return &RMSNorm{autograd.NewParam(mk.Fill(1, width)), eps}
}

// Params yields weight.
func (n *RMSNorm) Params() iter.Seq2[string, *autograd.Value] { return Fields(n) }

// Forward keeps the shape.
func (n *RMSNorm) Forward(t *autograd.Tape, x *autograd.Value) *autograd.Value {
	return t.RMSNorm(x, n.Weight, n.Eps)
}

// LayerNorm: y = (x - mean)/sqrt(var + Eps) * Weight + Bias over the last dimension.
type LayerNorm struct {
	Weight, Bias *autograd.Value
	Eps          float32 `param:"-"`
}

// NewLayerNorm starts the gain at 1 and the bias at 0.
func NewLayerNorm(mk *tensor.Maker, width int) *LayerNorm {
	return &LayerNorm{autograd.NewParam(mk.Fill(1, width)), autograd.NewParam(mk.Zeros(width)), 1e-5}
}

// Params yields weight and bias.
func (n *LayerNorm) Params() iter.Seq2[string, *autograd.Value] { return Fields(n) }

// Forward keeps the shape.
func (n *LayerNorm) Forward(t *autograd.Tape, x *autograd.Value) *autograd.Value {
	return t.LayerNorm(x, n.Weight, n.Bias, n.Eps)
}

// Dropout zeroes a share P of its input while training and scales the rest by 1/(1-P).
type Dropout struct{ P float32 }

// Params yields nothing.
func (Dropout) Params() iter.Seq2[string, *autograd.Value] { return Func(nil).Params() }

// Forward keeps the shape.
func (d Dropout) Forward(t *autograd.Tape, x *autograd.Value) *autograd.Value {
	return t.Dropout(x, d.P)
}
