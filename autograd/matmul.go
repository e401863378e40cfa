package autograd

import (
	"setun/device"
	"setun/tensor"
)

// MatMul: y = op(a) op(b), op transposing the last two dimensions if asked: (..., m, k) x (k, n), or matrix by matrix
// with equal leading dimensions. da += dy op(b)ᵀ; db += op(a)ᵀ dy, each transposed back.
func (t *Tape) MatMul(a, b *Value, transA, transB bool) *Value {
	if a.T.Dims() < 2 || b.T.Dims() < 2 || (transA && b.T.Dims() == 2 && a.T.Dims() != 2) {
		panic(&tensor.ShapeError{Op: "MatMul", Why: "are not matrices, or not equally many",
			Shapes: [][]int{a.Shape(), b.Shape()}})
	}
	shape := append(make([]int, 0, tensor.MaxDims), a.Shape()...)
	if transA {
		shape[len(shape)-2] = a.Dim(-1)
	}
	n := b.Dim(-1)
	if transB {
		n = b.Dim(-2)
	}
	shape[len(shape)-1] = n
	y := t.floats(a, shape...)
	tensor.MatMul(y, a.T, b.T, transA, transB, 1, 0)
	if !t.grads(a, b) {
		return t.constant(y)
	}
	out := t.result(y)
	t.push(out, func() {
		dy := out.Grad
		at, bt := a.T, b.T
		beta := t.beta(a)
		da := t.grad(a)
		if b.T.Dims() == 2 { // leading dimensions are rows
			at, dy = flat(at), flat(dy)
			da = flat(da)
		}
		if da != nil {
			if transA {
				tensor.MatMul(da, bt, dy, transB, true, 1, beta)
			} else {
				tensor.MatMul(da, dy, bt, false, !transB, 1, beta)
			}
		}
		beta = t.beta(b)
		if db := t.grad(b); db != nil {
			if transB {
				tensor.MatMul(db, dy, at, true, transA, 1, beta)
			} else {
				tensor.MatMul(db, at, dy, !transA, false, 1, beta)
			}
		}
	})
	return out
}

// beta is onto for a product.
func (t *Tape) beta(x *Value) float32 {
	if t.onto(x) {
		return 1
	}
	return 0
}

func flat(x *tensor.Tensor) *tensor.Tensor {
	if x == nil || x.Dims() == 2 {
		return x
	}
	rows := 1
	for _, n := range x.Shape()[:x.Dims()-1] {
		rows *= n
	}
	return x.Reshape(rows, x.Dim(-1))
}

// Linear: y = x wᵀ + bias, x (..., in), w (out, in), bias (out) or nil. dx += dy w; dw += dyᵀ x; dbias += rows of dy.
func (t *Tape) Linear(x, w, bias *Value) *Value { return t.linear(x, w, bias, device.MathFP32) }

// LinearBF16 is Linear with three products that the device may compute in bfloat16, see [device.MathBF16].
func (t *Tape) LinearBF16(x, w, bias *Value) *Value { return t.linear(x, w, bias, device.MathBF16) }

func (t *Tape) linear(x, w, bias *Value, math device.Math) *Value {
	y := t.floats(x, lastDim("Linear", x, w.Dim(0))...)
	tensor.Linear(y, x.T, w.T, tensorOf(bias), math)
	if !t.grads(x, w, bias) {
		return t.constant(y)
	}
	out := t.result(y)
	t.push(out, func() {
		accX, accW := t.onto(x), t.onto(w)
		tensor.LinearGrad(t.grad(x), t.grad(w), t.grad(bias), out.Grad, x.T, w.T, math, accX, accW)
	})
	return out
}
