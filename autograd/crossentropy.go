package autograd

import "setun/tensor"

// CrossEntropy: the mean of -log softmax(logits)[target] in nats over the rows with target >= 0; logits (..., V),
// targets (...) of I32. Keeps the logits and one float per row. dlogits += dy/valid * (softmax - onehot).
func (t *Tape) CrossEntropy(logits, targets *Value) *Value {
	y := t.floats(logits)
	stats := t.floats(logits, rows(logits)+1)
	tensor.CrossEntropy(y, nil, stats, logits.T, targets.T)
	if !t.grads(logits) {
		t.free(stats)
		return t.constant(y)
	}
	out := t.result(y)
	t.push(out, func() { tensor.CrossEntropyGrad(t.grad(logits), out.Grad, stats, logits.T, targets.T) }, stats)
	return out
}

// TokenLoss: -log softmax(logits)[target] of every row, without a gradient: for evaluation.
func (t *Tape) TokenLoss(logits, targets *Value) *Value {
	n := rows(logits)
	y, stats := t.floats(logits, n), t.floats(logits, n+1)
	tensor.CrossEntropy(nil, y, stats, logits.T, targets.T)
	t.free(stats)
	return t.constant(y)
}
