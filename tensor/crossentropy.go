package tensor

import "setun/device"

// CrossEntropy of logits (rows, classes) against targets (rows, I32): loss[0] is the mean of -log
// softmax(logits)[target] over the rows with target >= 0, in nats; rowLoss (rows) has the parts. Either may be nil.
// stats (rows+1) is kept for the gradient.
func CrossEntropy(loss, rowLoss, stats, logits, targets *Tensor) {
	rows, cols := logits.matrix()
	check(targets.Type() == device.I32 && targets.Len() == rows, "CrossEntropy", "do not fit: one target per row",
		logits, targets)
	hasLen("CrossEntropy", loss, 1)
	hasLen("CrossEntropy", rowLoss, rows)
	hasLen("CrossEntropy", stats, rows+1)
	where("CrossEntropy", loss, rowLoss, stats, logits, targets).
		CrossEntropy(loss.Mem(), rowLoss.Mem(), stats.mem, logits.mem, targets.mem, rows, cols)
}

// CrossEntropyGrad: dlogits += dloss/valid * (softmax(logits) - onehot(targets)).
func CrossEntropyGrad(dlogits, dloss, stats, logits, targets *Tensor) {
	sameLen("CrossEntropy", dlogits, logits)
	rows, cols := logits.matrix()
	where("CrossEntropy", dlogits, dloss, stats, logits, targets).
		CrossEntropyGrad(dlogits.Mem(), dloss.mem, stats.mem, logits.mem, targets.mem, rows, cols)
}
