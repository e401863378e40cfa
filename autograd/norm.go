package autograd

import "setun/tensor"

// RMSNorm: y = x / sqrt(mean(x^2) + eps) * gain along the last dimension; gain (C) may be nil. Keeps x and one float
// per row. Zhang and Sennrich 2019, arXiv 1910.07467.
func (t *Tape) RMSNorm(x, gain *Value, eps float32) *Value {
	y := t.floats(x, x.Shape()...)
	inv := t.floats(x, rows(x))
	tensor.RMSNorm(y, inv, x.T, tensorOf(gain), eps)
	if !t.grads(x, gain) {
		t.free(inv)
		return t.constant(y)
	}
	out := t.result(y)
	t.push(out, func() {
		acc := t.onto(x)
		tensor.RMSNormGrad(t.grad(x), t.grad(gain), out.Grad, x.T, tensorOf(gain), inv, acc)
	}, inv)
	return out
}

// LayerNorm: y = (x - mean)/sqrt(var + eps) * gain + bias along the last dimension; gain and bias (C) may be nil. Keeps
// x and two floats per row. Ba et al. 2016, arXiv 1607.06450.
func (t *Tape) LayerNorm(x, gain, bias *Value, eps float32) *Value {
	y := t.floats(x, x.Shape()...)
	mean, inv := t.floats(x, rows(x)), t.floats(x, rows(x))
	tensor.LayerNorm(y, mean, inv, x.T, tensorOf(gain), tensorOf(bias), eps)
	if !t.grads(x, gain, bias) {
		t.free(mean, inv)
		return t.constant(y)
	}
	out := t.result(y)
	t.push(out, func() {
		tensor.LayerNormGrad(t.grad(x), t.grad(gain), t.grad(bias), out.Grad, x.T, tensorOf(gain), mean, inv)
	}, mean, inv)
	return out
}

// rows is the number of vectors along the last dimension.
func rows(x *Value) int {
	if x.T.Dims() == 0 {
		return 1
	}
	n := 1
	for _, d := range x.Shape()[:x.T.Dims()-1] {
		n *= d
	}
	return n
}

func tensorOf(v *Value) *tensor.Tensor {
	if v == nil {
		return nil
	}
	return v.T
}
