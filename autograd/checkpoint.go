package autograd

import (
	"setun/device"
	"setun/tensor"
)

// Checkpoint computes y = f(x) without keeping f's intermediate values: the backward pass runs f again (Chen et al.
// 2016, arXiv 1604.06174). It trades one more forward pass of the block for its memory. f may use parameters; other
// values of the tape it must not use, their gradients would be lost. On a tape that does not record, it only frees f's
// intermediate values.
func (t *Tape) Checkpoint(f func(t *Tape, x *Value) *Value, x *Value) *Value {
	start := t.draws
	// Dropout must act, so the child records when its parent does; the record is dropped.
	child := &Tape{Pool: t.Pool, Grad: t.Grad, Seed: t.Seed, draws: start}
	defer child.Reset() // also when f panics
	in := &Value{T: x.T, wants: t.Grad && x.wants}
	y := child.give(f(child, in))
	t.draws = child.draws
	if !t.Grad || !in.wants && !y.wants {
		return t.constant(y.T)
	}
	out := t.result(y.T)
	t.push(out, func() {
		again := &Tape{Pool: t.Pool, Grad: true, Seed: t.Seed, draws: start}
		defer again.Reset()
		in := &Value{T: x.T, wants: x.wants}
		defer func() { again.release(in.Grad) }()
		y := f(again, in)
		if y.wants {
			tensor.Axpy(again.grad(y), 1, out.Grad)
			if y != in {
				again.sweep(nil)
			}
		}
		if in.Grad != nil {
			t.add(x, in.Grad)
		}
	})
	return out
}

// give removes y's tensor from the tape's ownership; a view or a value from outside is copied.
func (t *Tape) give(y *Value) *Value {
	for i := range t.nodes {
		if t.nodes[i].out == y && y.owned {
			y.owned = false
			return y
		}
	}
	for i, x := range t.temps {
		if x == y.T {
			t.temps = append(t.temps[:i], t.temps[i+1:]...)
			return y
		}
	}
	c := t.take(y.Device(), device.F32, y.Shape()...)
	tensor.Copy(c, y.T)
	return &Value{T: c, wants: y.wants}
}
