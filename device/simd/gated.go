//go:build amd64

package simd

import (
	"setun/device"
	"setun/internal/scratch"
)

// gateBlock is how many elements pass through the gates without a routine of their own at a time: all operands fit the
// first cache.
const gateBlock = 1024

var swiglu = routine3{swigluAVX512, swigluAVX2}

func (d *Device) Gated(f device.UnaryOp, dst, g, u device.Mem) {
	switch {
	case d.tier == None:
		d.Device.Gated(f, dst, g, u)
		return
	case f == device.SiLU:
		d.each3(swiglu, 12, dst.F32(), g.F32(), u.F32())
		return
	}
	y, g0, u0 := dst.F32(), g.F32(), u.F32()
	if d.Failed() || len(y) == 0 {
		return
	}
	covers(len(y), g0, u0)
	value, mul := activations[f].value[d.width()], mulRoutine[d.width()]
	d.blocks(len(y), 12, func(t *float32, at, n int) {
		value(t, &g0[at], n)
		mul(&y[at], t, &u0[at], n)
	})
}

func (d *Device) GatedGrad(f device.UnaryOp, dg, du, dy, g, u device.Mem) {
	if d.tier == None {
		d.Device.GatedGrad(f, dg, du, dy, g, u)
		return
	}
	dg0, du0, dy0, g0, u0 := dg.F32(), du.F32(), dy.F32(), g.F32(), u.F32()
	if d.Failed() || len(dy0) == 0 || dg0 == nil && du0 == nil {
		return
	}
	n := len(dy0)
	covers(n, g0)
	if dg0 != nil {
		covers(n, dg0, u0)
	}
	if du0 != nil {
		covers(n, du0)
	}
	if f == device.SiLU && dg0 != nil && du0 != nil {
		grad := [2]func(dg, du, dy, g, u *float32, n int){swigluGradAVX512, swigluGradAVX2}[d.width()]
		d.split(n, 28, func(lo, hi int) { grad(&dg0[lo], &du0[lo], &dy0[lo], &g0[lo], &u0[lo], hi-lo) })
		return
	}
	value, slope := activations[f].value[d.width()], activations[f].slope[d.width()]
	mul, mulAdd := mulRoutine[d.width()], mulAddRoutine[d.width()]
	d.blocks(n, 28, func(t *float32, at, n int) {
		if dg0 != nil {
			mul(t, &dy0[at], &u0[at], n)
			slope(&dg0[at], t, &g0[at], n)
		}
		if du0 != nil {
			value(t, &g0[at], n)
			mulAdd(&du0[at], &dy0[at], t, n)
		}
	})
}

// blocks calls f on blocks of n elements that start at at, with a block of scratch memory.
func (d *Device) blocks(n, bytes int, f func(t *float32, at, n int)) {
	d.split(n, bytes, func(lo, hi int) {
		t := scratch.Get[float32](gateBlock)
		defer t.Free()
		for ; lo < hi; lo += gateBlock {
			f(&t.X[0], lo, min(gateBlock, hi-lo))
		}
	})
}
