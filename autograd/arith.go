package autograd

import (
	"slices"

	"setun/tensor"
)

// Add: y = a + b, same shape. da += dy; db += dy.
func (t *Tape) Add(a, b *Value) *Value {
	sameShape("Add", a, b)
	y := t.floats(a, a.Shape()...)
	tensor.Add(y, a.T, b.T)
	if !t.grads(a, b) {
		return t.constant(y)
	}
	out := t.result(y)
	t.push(out, func() {
		t.add(b, out.Grad)
		t.pass(a, out)
	})
	return out
}

// Sub: y = a - b, same shape. da += dy; db -= dy.
func (t *Tape) Sub(a, b *Value) *Value {
	sameShape("Sub", a, b)
	y := t.floats(a, a.Shape()...)
	tensor.Copy(y, a.T)
	tensor.Axpy(y, -1, b.T)
	if !t.grads(a, b) {
		return t.constant(y)
	}
	out := t.result(y)
	t.push(out, func() {
		tensor.Axpy(t.grad(b), -1, out.Grad)
		t.pass(a, out)
	})
	return out
}

// Mul: y = a * b, elementwise, same shape. da += dy*b; db += dy*a.
func (t *Tape) Mul(a, b *Value) *Value {
	sameShape("Mul", a, b)
	y := t.floats(a, a.Shape()...)
	tensor.Mul(y, a.T, b.T)
	if !t.grads(a, b) {
		return t.constant(y)
	}
	out := t.result(y)
	t.push(out, func() {
		tensor.MulAdd(t.grad(a), out.Grad, b.T)
		tensor.MulAdd(t.grad(b), out.Grad, a.T)
	})
	return out
}

// Scale: y = alpha * x. dx += alpha*dy.
func (t *Tape) Scale(x *Value, alpha float32) *Value {
	y := t.floats(x, x.Shape()...)
	tensor.Scale(y, alpha, x.T)
	if !t.grads(x) {
		return t.constant(y)
	}
	out := t.result(y)
	t.push(out, func() { tensor.Axpy(t.grad(x), alpha, out.Grad) })
	return out
}

func sameShape(op string, a, b *Value) {
	if !slices.Equal(a.Shape(), b.Shape()) {
		panic(&tensor.ShapeError{Op: op, Why: "differ", Shapes: [][]int{slices.Clone(a.Shape()), slices.Clone(b.Shape())}})
	}
}

// lastDim is x's shape with n in the place of the last dimension.
func lastDim(op string, x *Value, n int) []int {
	if x.T.Dims() == 0 {
		panic(&tensor.ShapeError{Op: op, Why: "has no last dimension", Shapes: [][]int{{}}})
	}
	shape := append(make([]int, 0, tensor.MaxDims), x.Shape()...)
	shape[len(shape)-1] = n
	return shape
}
