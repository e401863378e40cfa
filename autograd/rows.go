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

// MulRows: y[..., c] = x[..., c] * s[c], x (..., C), s (C). dx += dy*s; ds[c] += sum of dy*x. Devices have no such
// kernel: s is repeated for every row first.
func (t *Tape) MulRows(x, s *Value) *Value {
	if s.T.Dims() != 1 {
		panic(&tensor.ShapeError{Op: "MulRows", Why: "is not (C)", Shapes: [][]int{s.Shape()}})
	}
	y := t.floats(x, x.Shape()...)
	tensor.AddRows(y, nil, s.T, 1)
	tensor.Mul(y, y, x.T)
	if !t.grads(x, s) {
		return t.constant(y)
	}
	out := t.result(y)
	t.push(out, func() {
		full := t.floats(x, x.Shape()...)
		if ds := t.grad(s); ds != nil {
			tensor.Mul(full, out.Grad, x.T)
			tensor.SumRows(ds, full, 1)
		}
		if x.wants {
			tensor.AddRows(full, nil, s.T, 1)
			tensor.Mul(out.Grad, out.Grad, full)
			t.pass(x, out)
		}
		t.free(full)
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
