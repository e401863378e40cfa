package tensor

// Softmax: y = exp(x - max) / sum along the last dimension.
func Softmax(y, x *Tensor) {
	sameLen("Softmax", y, x)
	rows, cols := x.matrix()
	where("Softmax", y, x).Softmax(y.mem, x.mem, rows, cols)
}

// SoftmaxGrad: dx += y * (dy - sum(dy*y)) along the last dimension.
func SoftmaxGrad(dx, dy, y *Tensor) {
	sameLen("Softmax", dx, dy, y)
	rows, cols := y.matrix()
	where("Softmax", dx, dy, y).SoftmaxGrad(dx.Mem(), dy.mem, y.mem, rows, cols)
}
