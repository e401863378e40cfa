package autograd

import (
	"setun/device"
	"setun/tensor"
)

// RoPE rotates x (B, T, H, D) by the positions 0..T-1 of table (positions, D), a constant. dx += dy rotated back.
func (t *Tape) RoPE(x *Value, table *tensor.Tensor, offset int) *Value {
	y := t.floats(x, x.Shape()...)
	tensor.RoPE(y, x.T, table, offset, false, false)
	if !t.grads(x) {
		return t.constant(y)
	}
	out := t.result(y)
	t.push(out, func() {
		acc := t.onto(x)
		tensor.RoPE(t.grad(x), out.Grad, table, offset, true, acc)
	})
	return out
}

// Attention: y = softmax(q kᵀ/sqrt(D) + mask) v for each head; q (B, T, H, D), k and v (B, S, KV, D), H a multiple of
// KV. Keeps q, k, v, y and one float per query and head; the T x S matrix is never whole in memory.
func (t *Tape) Attention(q, k, v *Value, causal bool) *Value {
	return t.attention(q, k, v, causal, device.MathFP32)
}

// AttentionBF16 is Attention with products that the device may compute in bfloat16, see [device.MathBF16].
func (t *Tape) AttentionBF16(q, k, v *Value, causal bool) *Value {
	return t.attention(q, k, v, causal, device.MathBF16)
}

func (t *Tape) attention(q, k, v *Value, causal bool, math device.Math) *Value {
	y := t.floats(q, q.Shape()...)
	if !t.grads(q, k, v) {
		tensor.Attention(y, nil, q.T, k.T, v.T, causal, math)
		return t.constant(y)
	}
	lse := t.floats(q, q.Dim(0), q.Dim(2), q.Dim(1))
	tensor.Attention(y, lse, q.T, k.T, v.T, causal, math)
	out := t.result(y)
	t.push(out, func() {
		acc := t.onto(q, k, v)
		tensor.AttentionGrad(t.grad(q), t.grad(k), t.grad(v), out.Grad, y, lse, q.T, k.T, v.T, causal, math, acc)
	}, lse)
	return out
}

// CachedAttention is causal attention of new queries q (B, T, H, D) over the first keys of a cache k, v (B, S, KV, D),
// for generation. It has no gradient.
func (t *Tape) CachedAttention(q *Value, k, v *tensor.Tensor, keys int) *Value {
	y := t.floats(q, q.Shape()...)
	tensor.CachedAttention(y, q.T, k, v, keys)
	return t.constant(y)
}
