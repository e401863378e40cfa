package simd

// The leaves that other kernels use, on vectors that are not empty.

// add: y = a + b.
func (d *Device) add(y, a, b []float32) {
	covers(len(y), a, b)
	addNEON(&y[0], &a[0], &b[0], len(y))
}

// scale: y = alpha * x.
func (d *Device) scale(y []float32, alpha float32, x []float32) {
	_ = x[len(y)-1]
	scaleNEON(&y[0], &x[0], len(y), alpha)
}

// axpy: y += alpha * x.
func (d *Device) axpy(y []float32, alpha float32, x []float32) {
	_ = x[len(y)-1]
	axpyNEON(&y[0], &x[0], len(y), alpha)
}

// addScaled: y = x + alpha * b.
func (d *Device) addScaled(y, x []float32, alpha float32, b []float32) {
	covers(len(y), x, b)
	addScaledNEON(&y[0], &x[0], &b[0], len(y), alpha)
}

// expRow: y[i] = exp(x[i]*scale - top) for i < len(y), not empty; it returns the sum of y. y may be x.
func (d *Device) expRow(y, x []float32, scale, top float32) float32 {
	_ = x[len(y)-1]
	return expRowNEON(&y[0], &x[0], len(y), scale, top)
}

// maxRow is the largest element of x, not empty, that is not NaN; -Inf without any.
func (d *Device) maxRow(x []float32) float32 {
	return maxRowNEON(&x[0], len(x))
}

// probGrad: p = exp(p*scale - lse); ds = p * (ds-delta). Not empty.
func (d *Device) probGrad(p, ds []float32, scale, lse, delta float32) {
	_ = ds[len(p)-1]
	probGradNEON(&p[0], &ds[0], len(p), scale, lse, delta)
}

// dot is the sum of a*b over len(a) elements, not empty, in float32 lanes.
func (d *Device) dot(a, b []float32) float32 {
	_ = b[len(a)-1]
	return dotNEON(&a[0], &b[0], len(a))
}
