//go:build amd64 || arm64

package simd

import "setun/device"

// lacks reports whether the portable kernels compute f.
func (d *Device) lacks(f device.UnaryOp) bool { return d.tier == None || int(f) >= len(activations) }

func (d *Device) Unary(f device.UnaryOp, dst, x device.Mem) {
	if d.lacks(f) {
		d.Device.Unary(f, dst, x)
		return
	}
	d.each2(activations[f].value, 8, dst.F32(), x.F32())
}

func (d *Device) UnaryGrad(f device.UnaryOp, dx, dy, x device.Mem, acc bool) {
	if d.lacks(f) {
		d.Device.UnaryGrad(f, dx, dy, x, acc)
		return
	}
	dx0, dy0, x0 := dx.F32(), dy.F32(), x.F32()
	if d.Failed() || len(dx0) == 0 {
		return
	}
	covers(len(dx0), dy0, x0)
	split(d, len(dx0), 16, unaryGrad{activations[f].slope[d.width()], dx0, dy0, x0, acc}, unaryGrad.run)
}

type unaryGrad struct {
	slope     func(dx, dy, x *float32, n int)
	dx, dy, x []float32
	acc       bool
}

func (u unaryGrad) run(lo, hi int) {
	for ; lo < hi; lo += gateBlock {
		n := min(gateBlock, hi-lo)
		if !u.acc {
			clear(u.dx[lo : lo+n])
		}
		u.slope(&u.dx[lo], &u.dy[lo], &u.x[lo], n)
	}
}
