package tensor

// RMSNorm: y = x * inv * gain along the last dimension, inv = 1/sqrt(mean(x^2) + eps), one per row. gain (cols) may be
// nil.
func RMSNorm(y, inv, x, gain *Tensor, eps float32) {
	sameLen("RMSNorm", y, x)
	rows, cols := x.matrix()
	hasLen("RMSNorm", inv, rows)
	check(gain == nil || gain.Len() == cols, "RMSNorm", "do not fit: the gain has one element per column", x, gain)
	where("RMSNorm", y, inv, x, gain).RMSNorm(y.mem, inv.mem, x.mem, gain.Mem(), rows, cols, eps)
}

// RMSNormGrad computes dx, or with acc adds to it, and adds to dgain.
func RMSNormGrad(dx, dgain, dy, x, gain, inv *Tensor, acc bool) {
	sameLen("RMSNorm", dx, dy, x)
	if alias(dx, dgain) {
		RMSNormGrad(dx, nil, dy, x, gain, inv, acc)
		dx = nil
	}
	rows, cols := x.matrix()
	where("RMSNorm", dx, dgain, dy, x, gain, inv).
		RMSNormGrad(dx.Mem(), dgain.Mem(), dy.mem, x.mem, gain.Mem(), inv.mem, rows, cols, acc)
}

// LayerNorm: y = (x - mean) * inv * gain + bias along the last dimension; mean and inv have one element per row. gain
// and bias may be nil.
func LayerNorm(y, mean, inv, x, gain, bias *Tensor, eps float32) {
	sameLen("LayerNorm", y, x)
	rows, cols := x.matrix()
	hasLen("LayerNorm", mean, rows)
	hasLen("LayerNorm", inv, rows)
	check(gain == nil || gain.Len() == cols, "LayerNorm", "do not fit: the gain has one element per column", x, gain)
	check(bias == nil || bias.Len() == cols, "LayerNorm", "do not fit: the bias has one element per column", x, bias)
	where("LayerNorm", y, mean, inv, x, gain, bias).
		LayerNorm(y.mem, mean.mem, inv.mem, x.mem, gain.Mem(), bias.Mem(), rows, cols, eps)
}

// LayerNormGrad accumulates dx, dgain and dbias.
func LayerNormGrad(dx, dgain, dbias, dy, x, gain, mean, inv *Tensor) {
	sameLen("LayerNorm", dx, dy, x)
	if alias(dx, dgain, dbias) {
		LayerNormGrad(dx, nil, nil, dy, x, gain, mean, inv)
		LayerNormGrad(nil, dgain, nil, dy, x, gain, mean, inv)
		dx, dgain = nil, nil
	}
	rows, cols := x.matrix()
	where("LayerNorm", dx, dgain, dbias, dy, x, gain, mean, inv).
		LayerNormGrad(dx.Mem(), dgain.Mem(), dbias.Mem(), dy.mem, x.mem, gain.Mem(), mean.mem, inv.mem, rows, cols)
}
