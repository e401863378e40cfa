package autograd

import (
	"slices"

	"setun/device"
	"setun/tensor"
)

// Op is an operation of the user's own. Forward computes the result of the inputs; Backward adds to the gradients of
// the inputs, of which those not wanted are nil. What Backward needs beyond inputs and output goes through Ctx.Save.
type Op struct {
	Name     string
	Forward  func(c *Ctx, in []*tensor.Tensor) *tensor.Tensor
	Backward func(c *Ctx, din []*tensor.Tensor, dy *tensor.Tensor)
}

// Ctx is what a custom operation sees of the tape.
type Ctx struct {
	In    []*tensor.Tensor // the inputs
	Out   *tensor.Tensor   // the result, in Backward
	Saved []*tensor.Tensor // what Forward saved, in order

	t    *Tape
	dev  device.Device
	done []*tensor.Tensor // scratch to free after the call
}

// New takes a float32 tensor with undefined contents from the tape, for the result or to save. In Backward it is
// scratch.
func (c *Ctx) New(shape ...int) *tensor.Tensor {
	x := c.t.alloc(c.dev, device.F32, shape...)
	c.done = append(c.done, x)
	return x
}

// Save keeps tensors until Backward has run. Those made with New are freed then, others belong to whoever made them.
func (c *Ctx) Save(xs ...*tensor.Tensor) { c.Saved = append(c.Saved, xs...) }

// free releases what New handed out, except the tensors to keep.
func (c *Ctx) free(keep ...*tensor.Tensor) {
	for _, x := range c.done {
		if !slices.Contains(keep, x) {
			c.t.release(x)
		}
	}
	c.done = nil
}

// Custom runs op on the inputs.
//
//	double := autograd.Op{
//		Forward: func(c *autograd.Ctx, in []*tensor.Tensor) *tensor.Tensor {
//			y := c.New(in[0].Shape()...)
//			tensor.Scale(y, 2, in[0])
//			return y
//		},
//		Backward: func(c *autograd.Ctx, din []*tensor.Tensor, dy *tensor.Tensor) { tensor.Axpy(din[0], 2, dy) },
//	}
func (t *Tape) Custom(op Op, in ...*Value) *Value {
	c := &Ctx{t: t, dev: in[0].Device()}
	for _, v := range in {
		c.In = append(c.In, v.T)
	}
	y := op.Forward(c, c.In)
	if !slices.Contains(c.done, y) {
		e := &tensor.ShapeError{Op: "Custom " + op.Name, Why: "is a result that Forward did not make with Ctx.New"}
		if y != nil {
			e.Shapes = [][]int{y.Shape()}
		}
		panic(e)
	}
	if !t.grads(in...) || op.Backward == nil {
		c.free(y)
		return t.constant(y)
	}
	var keep []*tensor.Tensor
	for _, x := range c.Saved {
		if x != y && slices.Contains(c.done, x) {
			keep = append(keep, x)
		}
	}
	c.free(append(keep, y)...)
	out := t.result(y)
	t.push(out, func() {
		c.Out = y
		din := make([]*tensor.Tensor, len(in))
		for i, v := range in {
			din[i] = t.grad(v)
		}
		op.Backward(c, din, out.Grad)
		c.free()
	}, keep...)
	return out
}
