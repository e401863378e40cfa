package autograd

import (
	"setun/device"
	"setun/tensor"
)

// Unary: y = f(x). dx += dy * f'(x).
func (t *Tape) Unary(f device.UnaryOp, x *Value) *Value {
	y := t.floats(x, x.Shape()...)
	tensor.Unary(f, y, x.T)
	if !t.grads(x) {
		return t.constant(y)
	}
	out := t.result(y)
	t.push(out, func() {
		acc := t.onto(x)
		tensor.UnaryGrad(f, t.grad(x), out.Grad, x.T, acc)
	})
	return out
}

// SiLU: y = x * sigmoid(x).
func (t *Tape) SiLU(x *Value) *Value { return t.Unary(device.SiLU, x) }

// ReLU: y = max(x, 0).
func (t *Tape) ReLU(x *Value) *Value { return t.Unary(device.ReLU, x) }

// ReLU2: y = max(x, 0)^2 (So et al. 2021, arXiv 2109.08668).
func (t *Tape) ReLU2(x *Value) *Value { return t.Unary(device.ReLU2, x) }

// GELU: y = x * Phi(x), exact.
func (t *Tape) GELU(x *Value) *Value { return t.Unary(device.GELU, x) }

// Sigmoid: y = 1/(1+exp(-x)).
func (t *Tape) Sigmoid(x *Value) *Value { return t.Unary(device.Sigmoid, x) }

// Tanh: y = tanh(x).
func (t *Tape) Tanh(x *Value) *Value { return t.Unary(device.Tanh, x) }

// Exp: y = exp(x).
func (t *Tape) Exp(x *Value) *Value { return t.Unary(device.Exp, x) }

// Gated: y = f(g) * u: SwiGLU with f = SiLU (Shazeer 2020, arXiv 2002.05202). dg += dy*f'(g)*u; du += dy*f(g).
func (t *Tape) Gated(f device.UnaryOp, g, u *Value) *Value {
	sameShape("Gated", g, u)
	y := t.floats(g, g.Shape()...)
	tensor.Gated(f, y, g.T, u.T)
	if !t.grads(g, u) {
		return t.constant(y)
	}
	out := t.result(y)
	t.push(out, func() {
		acc := t.onto(g, u)
		tensor.GatedGrad(f, t.grad(g), t.grad(u), out.Grad, g.T, u.T, acc)
	})
	return out
}

// Dropout: y = x * keep/(1-p) on a tape that records, x itself otherwise. dx += dy * keep/(1-p).
func (t *Tape) Dropout(x *Value, p float32) *Value {
	if p == 0 || !t.Grad {
		return x
	}
	seed := t.draw()
	y := t.floats(x, x.Shape()...)
	tensor.Dropout(y, x.T, p, seed, false)
	if !t.grads(x) {
		return t.constant(y)
	}
	out := t.result(y)
	t.push(out, func() {
		acc := t.onto(x)
		tensor.Dropout(t.grad(x), out.Grad, p, seed, acc)
	})
	return out
}
