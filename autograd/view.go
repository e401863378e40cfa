package autograd

import (
	"setun/device"
	"setun/tensor"
)

// Reshape is a view of x with another shape; one dimension may be -1. Its gradient is a view of x's.
func (t *Tape) Reshape(x *Value, shape ...int) *Value {
	y := x.T.ReshapeTo(t.views.next(), shape...)
	if !t.grads(x) {
		return t.value(Value{T: y})
	}
	return t.value(Value{T: y, wants: true, base: x})
}

// SliceLast: y = x[..., lo:hi]. dx[..., lo:hi] += dy.
func (t *Tape) SliceLast(x *Value, lo, hi int) *Value {
	y := t.floats(x, lastDim("SliceLast", x, max(hi-lo, 0))...)
	tensor.CopyCols(y, x.T, lo, hi, false)
	if !t.grads(x) {
		return t.constant(y)
	}
	out := t.result(y)
	t.push(out, func() { tensor.PasteCols(t.grad(x), out.Grad, lo, hi, true) })
	return out
}

// ConcatLast: y = the inputs side by side along the last dimension.
func (t *Tape) ConcatLast(xs ...*Value) *Value {
	if len(xs) == 0 {
		panic(&tensor.ShapeError{Op: "ConcatLast", Why: "needs an input"})
	}
	n := 0
	for _, x := range xs {
		n += x.Dim(-1)
	}
	y := t.floats(xs[0], lastDim("ConcatLast", xs[0], n)...)
	each := func(f func(x *Value, lo, hi int)) {
		lo := 0
		for _, x := range xs {
			f(x, lo, lo+x.Dim(-1))
			lo += x.Dim(-1)
		}
	}
	each(func(x *Value, lo, hi int) { tensor.PasteCols(y, x.T, lo, hi, false) })
	if !t.grads(xs...) {
		return t.constant(y)
	}
	out := t.result(y)
	t.push(out, func() {
		each(func(x *Value, lo, hi int) {
			acc := t.onto(x)
			if dx := t.grad(x); dx != nil {
				tensor.CopyCols(dx, out.Grad, lo, hi, acc)
			}
		})
	})
	return out
}

// Im2Col unrolls the patches of images (B, H, W, C) to (B, OutH, OutW, KH*KW*C): a convolution is Im2Col, then Linear.
// dx += the patches of dy folded back.
func (t *Tape) Im2Col(x *Value, kh, kw, stride, pad int) *Value {
	if x.T.Dims() != 4 {
		panic(&tensor.ShapeError{Op: "Im2Col", Why: "is not (B, H, W, C)", Shapes: [][]int{x.Shape()}})
	}
	s := device.ConvShape{Batch: x.Dim(0), H: x.Dim(1), W: x.Dim(2), C: x.Dim(3), KH: kh, KW: kw,
		Stride: max(stride, 1), Pad: pad}
	h, w := s.Out()
	y := t.floats(x, s.Batch, max(h, 0), max(w, 0), kh*kw*s.C)
	tensor.Im2Col(y, x.T, s)
	if !t.grads(x) {
		return t.constant(y)
	}
	out := t.result(y)
	t.push(out, func() { tensor.Col2Im(t.grad(x), out.Grad, s) })
	return out
}
