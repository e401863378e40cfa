//go:build amd64 || arm64

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
	softmaxRoutine[s.d.width()](&s.y[lo*s.cols], &s.x[lo*s.cols], hi-lo, s.cols)
}

func (s softmax) grad(lo, hi int) {
	at := lo * s.cols
	softmaxGradRoutine[s.d.width()](&s.y[at], &s.x[at], &s.z[at], hi-lo, s.cols)
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
