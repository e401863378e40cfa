//go:build amd64

package simd

import "setun/device"

func (d *Device) Softmax(y, x device.Mem, rows, cols int) {
	if d.tier == None || rows*cols == 0 {
		d.Device.Softmax(y, x, rows, cols)
		return
	}
	y0, x0 := y.F32(), x.F32()
	if d.Failed() || y0 == nil {
		return
	}
	split(d, rows, 8*cols, softmax{d, y0, x0, nil, cols}, softmax.run)
}

type softmax struct {
	d       *Device
	y, x, z []float32 // y of x, or the gradient y += of x with respect to z
	cols    int
}

func (s softmax) run(lo, hi int) {
	wide(s.d, softmaxAVX512, softmaxAVX2)(&s.y[lo*s.cols], &s.x[lo*s.cols], hi-lo, s.cols)
}

func (s softmax) grad(lo, hi int) {
	at := lo * s.cols
	wide(s.d, softmaxGradAVX512, softmaxGradAVX2)(&s.y[at], &s.x[at], &s.z[at], hi-lo, s.cols)
}

func (d *Device) SoftmaxGrad(dx, dy, y device.Mem, rows, cols int) {
	if d.tier == None || rows*cols == 0 {
		d.Device.SoftmaxGrad(dx, dy, y, rows, cols)
		return
	}
	dx0, dy0, y0 := dx.F32(), dy.F32(), y.F32()
	if d.Failed() || dx0 == nil {
		return
	}
	split(d, rows, 16*cols, softmax{d, dx0, dy0, y0, cols}, softmax.grad)
}

// expRow: y[i] = exp(x[i]*scale - top) for i < len(y), not empty; it returns the sum of y. y may be x.
func (d *Device) expRow(y, x []float32, scale, top float32) float32 {
	_ = x[len(y)-1]
	if d.tier >= AVX512 {
		return expRowAVX512(&y[0], &x[0], len(y), scale, top)
	}
	return expRowAVX2(&y[0], &x[0], len(y), scale, top)
}

// maxRow is the largest element of x, not empty, that is not NaN; -Inf without any.
func (d *Device) maxRow(x []float32) float32 {
	if d.tier >= AVX512 {
		return maxRowAVX512(&x[0], len(x))
	}
	return maxRowAVX2(&x[0], len(x))
}

// probGrad: p = exp(p*scale - lse); ds = p * (ds-delta). Not empty.
func (d *Device) probGrad(p, ds []float32, scale, lse, delta float32) {
	_ = ds[len(p)-1]
	if d.tier >= AVX512 {
		probGradAVX512(&p[0], &ds[0], len(p), scale, lse, delta)
	} else {
		probGradAVX2(&p[0], &ds[0], len(p), scale, lse, delta)
	}
}

// dot is the sum of a*b over len(a) elements, not empty, in float32 lanes.
func (d *Device) dot(a, b []float32) float32 {
	_ = b[len(a)-1]
	if d.tier >= AVX512 {
		return dotAVX512(&a[0], &b[0], len(a))
	}
	return dotAVX2(&a[0], &b[0], len(a))
}
