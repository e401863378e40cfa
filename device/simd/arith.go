//go:build amd64 || arm64

package simd

import "setun/device"

// Routines over n elements; [Device.width] is the index of the one to use.
type (
	routine2 = [widths]func(y, x *float32, n int)
	routine3 = [widths]func(y, a, b *float32, n int)
)

// covers panics unless each x has n elements, n > 0: assembly checks no bounds.
func covers(n int, xs ...[]float32) {
	for _, x := range xs {
		_ = x[n-1]
	}
}

// each2 and each3 run a routine in parallel; an element takes the given bytes of traffic.
func (d *Device) each2(r routine2, bytes int, y, x []float32) {
	if d.Failed() || len(y) == 0 {
		return
	}
	covers(len(y), x)
	split(d, len(y), bytes, vectors2{r[d.width()], y, x}, vectors2.run)
}

type vectors2 struct {
	f    func(y, x *float32, n int)
	y, x []float32
}

func (v vectors2) run(lo, hi int) { v.f(&v.y[lo], &v.x[lo], hi-lo) }

func (d *Device) each3(r routine3, bytes int, y, a, b []float32) {
	if d.Failed() || len(y) == 0 {
		return
	}
	covers(len(y), a, b)
	split(d, len(y), bytes, vectors3{r[d.width()], y, a, b}, vectors3.run)
}

type vectors3 struct {
	f       func(y, a, b *float32, n int)
	y, a, b []float32
}

func (v vectors3) run(lo, hi int) { v.f(&v.y[lo], &v.a[lo], &v.b[lo], hi-lo) }

func (d *Device) Add(dst, a, b device.Mem) {
	if d.tier == None {
		d.Device.Add(dst, a, b)
		return
	}
	d.each3(addRoutine, 12, dst.F32(), a.F32(), b.F32())
}

func (d *Device) Mul(dst, a, b device.Mem) {
	if d.tier == None {
		d.Device.Mul(dst, a, b)
		return
	}
	d.each3(mulRoutine, 12, dst.F32(), a.F32(), b.F32())
}

func (d *Device) MulAdd(dst, a, b device.Mem) {
	if d.tier == None {
		d.Device.MulAdd(dst, a, b)
		return
	}
	d.each3(mulAddRoutine, 16, dst.F32(), a.F32(), b.F32())
}

func (d *Device) Scale(dst device.Mem, alpha float32, x device.Mem) {
	if d.tier == None {
		d.Device.Scale(dst, alpha, x)
		return
	}
	y, p := dst.F32(), x.F32()
	if d.Failed() {
		return
	}
	split(d, len(y), 8, scaling{d, y, alpha, p}, scaling.scale)
}

type scaling struct {
	d     *Device
	y     []float32
	alpha float32
	x     []float32
}

func (s scaling) scale(lo, hi int) { s.d.scale(s.y[lo:hi], s.alpha, s.x[lo:hi]) }
func (s scaling) add(lo, hi int)   { s.d.axpy(s.y[lo:hi], s.alpha, s.x[lo:hi]) }

func (d *Device) Axpy(dst device.Mem, alpha float32, x device.Mem) {
	if d.tier == None {
		d.Device.Axpy(dst, alpha, x)
		return
	}
	y, p := dst.F32(), x.F32()
	if d.Failed() {
		return
	}
	split(d, len(y), 12, scaling{d, y, alpha, p}, scaling.add)
}
