package cpu

import "setun/device"

func (d *Device) Add(dst, a, b device.Mem) {
	y, p, q := dst.F32(), a.F32(), b.F32()
	if d.Failed() {
		return
	}
	d.par(len(y), cheap, func(lo, hi int) {
		y, p, q := y[lo:hi], p[lo:hi], q[lo:hi]
		for i := range y {
			y[i] = p[i] + q[i]
		}
	})
}

func (d *Device) Mul(dst, a, b device.Mem) {
	y, p, q := dst.F32(), a.F32(), b.F32()
	if d.Failed() {
		return
	}
	d.par(len(y), cheap, func(lo, hi int) {
		y, p, q := y[lo:hi], p[lo:hi], q[lo:hi]
		for i := range y {
			y[i] = p[i] * q[i]
		}
	})
}

func (d *Device) MulAdd(dst, a, b device.Mem) {
	y, p, q := dst.F32(), a.F32(), b.F32()
	if d.Failed() {
		return
	}
	d.par(len(y), cheap, func(lo, hi int) {
		y, p, q := y[lo:hi], p[lo:hi], q[lo:hi]
		for i := range y {
			y[i] += p[i] * q[i]
		}
	})
}

func (d *Device) Scale(dst device.Mem, alpha float32, x device.Mem) {
	y, p := dst.F32(), x.F32()
	if d.Failed() {
		return
	}
	d.par(len(y), cheap, func(lo, hi int) {
		y, p := y[lo:hi], p[lo:hi]
		for i := range y {
			y[i] = alpha * p[i]
		}
	})
}

func (d *Device) Axpy(dst device.Mem, alpha float32, x device.Mem) {
	y, p := dst.F32(), x.F32()
	if d.Failed() {
		return
	}
	d.par(len(y), cheap, func(lo, hi int) { axpy(y[lo:hi], alpha, p[lo:hi]) })
}

// addTo: y += x.
func addTo(y, x []float32) {
	x = x[:len(y)]
	for i := range y {
		y[i] += x[i]
	}
}

// axpy: y += alpha * x.
func axpy(y []float32, alpha float32, x []float32) {
	x = x[:len(y)]
	for i := range y {
		y[i] += alpha * x[i]
	}
}
