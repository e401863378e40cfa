package autograd

import "setun/tensor"

// Softmax: y = exp(x - max)/sum along the last dimension; keeps y. dx += y * (dy - sum(dy*y)).
func (t *Tape) Softmax(x *Value) *Value {
	y := t.floats(x, x.Shape()...)
	tensor.Softmax(y, x.T)
	if !t.grads(x) {
		return t.constant(y)
	}
	out := t.result(y)
	t.push(out, func() { tensor.SoftmaxGrad(t.grad(x), out.Grad, y) })
	return out
}
