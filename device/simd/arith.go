//go:build amd64

package simd

import "setun/device"

func (d *Device) Axpy(dst device.Mem, alpha float32, x device.Mem) {
	if d.tier == None {
		d.Device.Axpy(dst, alpha, x)
		return
	}
	y, p := dst.F32(), x.F32()
	if d.Failed() {
		return
	}
	d.split(len(y), 12, func(lo, hi int) { d.axpy(y[lo:hi], alpha, p[lo:hi]) })
}

// axpy: y += alpha * x, not empty.
func (d *Device) axpy(y []float32, alpha float32, x []float32) {
	_ = x[len(y)-1]
	if d.tier >= AVX512 {
		axpyAVX512(&y[0], &x[0], len(y), alpha)
	} else {
		axpyAVX2(&y[0], &x[0], len(y), alpha)
	}
}
