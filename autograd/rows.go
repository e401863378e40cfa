package autograd

import "setun/tensor"

// AddRows: y[g,r,c] = x[g,r,c] + b[g,c]: a bias (C) on (..., C), or (B, C) added to every token of (B, T, C). dx += dy;
// db[g,c] += sum over r of dy.
func (t *Tape) AddRows(x, b *Value) *Value {
	y := t.floats(x, x.Shape()...)
	tensor.AddRows(y, x.T, b.T, 1)
	if !t.grads(x, b) {
		return t.constant(y)
	}
	out := t.result(y)
	t.push(out, func() {
		tensor.SumRows(t.grad(b), out.Grad, 1)
		t.pass(x, out)
	})
	return out
}

// MeanRows: y[b,c] = mean over r of x[b,r,c], x (B, R, C): average pooling. dx[b,r,c] += dy[b,c]/R.
func (t *Tape) MeanRows(x *Value) *Value {
	if x.T.Dims() != 3 {
		panic(&tensor.ShapeError{Op: "MeanRows", Why: "is not (B, R, C)", Shapes: [][]int{x.Shape()}})
	}
	y := t.floats(x, x.Dim(0), x.Dim(2))
	tensor.Fill(y, 0)
	tensor.SumRows(y, x.T, 1/float32(x.Dim(1)))
	if !t.grads(x) {
		return t.constant(y)
	}
	out := t.result(y)
	t.push(out, func() {
		dx := t.grad(x)
		tensor.AddRows(dx, dx, out.Grad, 1/float32(x.Dim(1)))
	})
	return out
}

// Sum: y = the sum of all elements, a scalar. dx += dy.
func (t *Tape) Sum(x *Value) *Value { return t.sum(x, 1) }

// Mean: y = the mean of all elements, a scalar. dx += dy/n.
func (t *Tape) Mean(x *Value) *Value { return t.sum(x, 1/float32(x.T.Len())) }

func (t *Tape) sum(x *Value, alpha float32) *Value {
	y := t.floats(x)
	tensor.Fill(y, 0)
	tensor.Sum(y, x.T, alpha)
	if !t.grads(x) {
		return t.constant(y)
	}
	out := t.result(y)
	t.push(out, func() {
		dx := t.grad(x).Reshape(-1, 1)
		tensor.AddRows(dx, dx, out.Grad, alpha)
	})
	return out
}
