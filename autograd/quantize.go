package autograd

import (
	"math"

	"setun/device"
	"setun/tensor"
)

// StraightThrough is a value with the tensor q and the gradient of x, as if q = x (Bengio et al. 2013, arXiv
// 1308.3432). The tape takes q over. dx += dy.
func (t *Tape) StraightThrough(x *Value, q *tensor.Tensor) *Value {
	if !t.grads(x) {
		return t.constant(q)
	}
	out := t.result(q)
	t.push(out, func() { t.pass(x, out) })
	return out
}

// Int8 rounds x to int8 per token and back, straight through: y = q * scale. dx += dy.
func (t *Tape) Int8(x *Value) *Value {
	if r := t.int8.rounded; r != nil && t.int8.of == x && r.wants == t.grads(x) {
		return r
	}
	q, scale := t.quantized(x)
	y := t.floats(x, x.Shape()...)
	tensor.Dequantize(y, q, scale)
	r := t.StraightThrough(x, y)
	if x.taped {
		t.int8.rounded = r
	}
	return r
}

// int8Form is a value in int8 per token. The tape keeps the last one: layers that read the same input share it.
type int8Form struct {
	of       *Value
	q, scale *tensor.Tensor
	kept     bool   // a node frees q and scale
	rounded  *Value // Int8(of), when it was asked for
}

// quantized is x in int8 per token: codes and scales, which the tape owns.
func (t *Tape) quantized(x *Value) (q, scale *tensor.Tensor) {
	f := &t.int8
	if f.of == x && x.taped {
		return f.q, f.scale
	}
	t.dropInt8()
	q, scale = t.alloc(x.Device(), device.I8, x.Shape()...), t.floats(x, rows(x))
	tensor.QuantizeRows(q, scale, x.T)
	t.settle(q)
	t.settle(scale)
	*f = int8Form{of: x, q: q, scale: scale}
	return q, scale
}

// keepInt8 lets the node just pushed, the first of those that share it, free the int8 form after its backward, the last.
func (t *Tape) keepInt8() {
	if f := &t.int8; !f.kept {
		f.kept = true
		t.kept = append(t.kept, f.q, f.scale)
	}
}

func (t *Tape) dropInt8() {
	if f := &t.int8; !f.kept {
		t.release(f.q)
		t.release(f.scale)
	}
	t.int8 = int8Form{}
}

// QLinear: y = (xq codesᵀ) * xs * ws + bias, with xq, xs the int8 form of x (..., in) per token and codes, ws the
// quantized form of the latent weight w (out, in), exact in the integers. Straight through both quantizers: dx +=
// (dy*ws) codes; dw += dyᵀ (xq*xs), in float32 or int8 as grad says. w may be nil (frozen). Keeps x as int8. The tape
// takes neither codes nor ws over: they must live until Backward.
func (t *Tape) QLinear(x, w *Value, codes, ws *tensor.Tensor, bias *Value, grad device.Math) *Value {
	xq, xs := t.quantized(x)
	y := t.floats(x, lastDim("QLinear", x, codes.Dim(0))...)
	tensor.QLinear(y, xq, xs, codes, ws, tensorOf(bias))
	if !t.grads(x, w, bias) {
		return t.constant(y)
	}
	out := t.result(y)
	t.push(out, func() {
		accX, accW := t.onto(x), t.onto(w)
		tensor.QLinearGrad(t.grad(x), t.grad(w), t.grad(bias), out.Grad, xq, xs, codes, ws, grad, accX, accW)
	})
	t.keepInt8()
	return out
}

// PackedLinear is QLinear with a frozen weight in panels: the same bits. dx += (dy*ws) codes, which are unpacked for it.
func (t *Tape) PackedLinear(x *Value, w *tensor.Panels, ws *tensor.Tensor, bias *Value, grad device.Math) *Value {
	xq, xs := t.quantized(x)
	y := t.floats(x, lastDim("PackedLinear", x, w.Out)...)
	tensor.PackedLinear(y, xq, xs, w, ws, tensorOf(bias))
	if !t.grads(x, bias) {
		return t.constant(y)
	}
	out := t.result(y)
	t.push(out, func() {
		codes := t.alloc(x.Device(), device.I8, w.Out, w.In)
		w.Unpack(codes)
		acc := t.onto(x)
		tensor.QLinearGrad(t.grad(x), nil, t.grad(bias), out.Grad, xq, xs, codes, ws, grad, acc, true)
		t.free(codes)
	})
	t.keepInt8()
	return out
}

// LSQ is w with a learned scale: a view of w whose gradient, that of the quantized weight, also moves the scale (Esser
// et al. 2019, arXiv 1902.08153). scale has one element or one per row of w. dw += dq; dscale += share * sum of
// dq*(code - w/scale inside the range, code outside) / sqrt(n*levels), n the weights per scale. share is that of the
// quantized weight in what multiplies, 1 but for blending.
func (t *Tape) LSQ(w, scale *Value, levels int, share float32) *Value {
	if !t.grads(w, scale) {
		return t.value(Value{T: w.T})
	}
	alpha := share * float32(1/math.Sqrt(float64(w.T.Len()/scale.T.Len()*levels)))
	out := t.view(w.T)
	t.push(out, func() {
		t.add(w, out.Grad)
		if g := t.grad(scale); share != 0 {
			tensor.LSQGrad(g, out.Grad, w.T, scale.T, levels, alpha)
		}
	})
	return out
}

// Rescaled is q, which holds w[..., c] * s[c], as a value whose gradient moves w: dw += dq*s, s (C). The tape takes
// neither q nor s over.
func (t *Tape) Rescaled(w *Value, q, s *tensor.Tensor) *Value {
	if !t.grads(w) {
		return t.value(Value{T: q})
	}
	out := t.view(q)
	t.push(out, func() {
		full := t.floats(w, w.Shape()...)
		tensor.AddRows(full, nil, s, 1)
		tensor.MulAdd(t.grad(w), out.Grad, full)
		t.free(full)
	})
	return out
}

// Temp takes memory from the tape's pool that lives until Reset: scratch for an operation's own constants.
func (t *Tape) Temp(like *Value, typ device.Type, shape ...int) *tensor.Tensor {
	y := t.take(like.Device(), typ, shape...)
	t.temps = append(t.temps, y)
	return y
}
