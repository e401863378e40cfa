package autograd

import "setun/tensor"

// Embedding: y[...,:] = table[ids[...],:], table (V, C), ids of I32. dtable[ids,:] += dy.
func (t *Tape) Embedding(table, ids *Value) *Value {
	shape := append(append(make([]int, 0, tensor.MaxDims), ids.Shape()...), table.Dim(-1))
	y := t.floats(table, shape...)
	tensor.Gather(y, table.T, ids.T)
	if !t.grads(table) {
		return t.constant(y)
	}
	out := t.result(y)
	t.push(out, func() { tensor.ScatterAdd(t.grad(table), out.Grad, ids.T) })
	return out
}
