package nn

import (
	"iter"

	"setun/autograd"
)

// Conv2D is a convolution over images (B, H, W, C): patches of Size x Size unrolled, then the linear layer Proj from
// Size*Size*C to the output channels, which may be nn.Linear or ternary.Linear.
type Conv2D struct {
	Proj              Layer `param:""`
	Size, Stride, Pad int
}

// Params yields Proj's parameters.
func (c *Conv2D) Params() iter.Seq2[string, *autograd.Value] { return Fields(c) }

// Forward maps (B, H, W, C) to (B, OutH, OutW, out).
func (c *Conv2D) Forward(t *autograd.Tape, x *autograd.Value) *autograd.Value {
	return c.Proj.Forward(t, t.Im2Col(x, c.Size, c.Size, max(c.Stride, 1), c.Pad))
}
