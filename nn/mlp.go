package nn

import (
	"iter"

	"setun/autograd"
	"setun/device"
)

// MLP is the feed-forward block of a transformer. With a Gate it is y = Down(Norm(f(Gate x) * Up x)), SwiGLU for
// f = SiLU (Shazeer 2020, arXiv 2002.05202); without, y = Down(Norm(f(Up x))), the ReLU^2 block for f = ReLU2.
type MLP struct {
	Gate, Up, Down Layer
	SubNorm        *RMSNorm       // before Down; nil: none
	Act            device.UnaryOp `param:"-"`
}

// Params yields the projections and the norm.
func (m *MLP) Params() iter.Seq2[string, *autograd.Value] { return Fields(m) }

// Forward maps (..., C) to (..., C).
func (m *MLP) Forward(t *autograd.Tape, x *autograd.Value) *autograd.Value {
	var h *autograd.Value
	if m.Gate != nil {
		h = t.Gated(m.Act, m.Gate.Forward(t, x), m.Up.Forward(t, x))
	} else {
		h = t.Unary(m.Act, m.Up.Forward(t, x))
	}
	if m.SubNorm != nil {
		h = m.SubNorm.Forward(t, h)
	}
	return m.Down.Forward(t, h)
}
