//go:build amd64 || arm64

package simd

import (
	"setun/device"
	"setun/internal/scratch"
)

// gateBlock is how many elements pass through gates and slopes at a time: all operands fit the first cache, and results
// that are only added to are cleared there.
const gateBlock = 1024

func (d *Device) Gated(f device.UnaryOp, dst, g, u device.Mem) {
	switch {
	case d.lacks(f):
		d.Device.Gated(f, dst, g, u)
		return
	case f == device.SiLU:
		d.each3(swigluRoutine, 12, dst.F32(), g.F32(), u.F32())
		return
	}
	y, g0, u0 := dst.F32(), g.F32(), u.F32()
	if d.Failed() || len(y) == 0 {
		return
	}
	covers(len(y), g0, u0)
	split(d, len(y), 12, gated{f, d.width(), y, g0, u0}, gated.run)
}

type gated struct {
	f       device.UnaryOp
	width   int
	y, g, u []float32
}

func (x gated) run(lo, hi int) {
	value, mul := activations[x.f].value[x.width], mulRoutine[x.width]
	t := scratch.Get[float32](gateBlock)
	defer t.Free()
	for ; lo < hi; lo += gateBlock {
		n := min(gateBlock, hi-lo)
		value(&t.X[0], &x.g[lo], n)
		mul(&x.y[lo], &t.X[0], &x.u[lo], n)
	}
}

func (d *Device) GatedGrad(f device.UnaryOp, dg, du, dy, g, u device.Mem, acc bool) {
	if d.lacks(f) {
		d.Device.GatedGrad(f, dg, du, dy, g, u, acc)
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
	split(d, n, 28, gatedGrad{f, d.width(), dg0, du0, dy0, g0, u0, acc}, gatedGrad.run)
}

type gatedGrad struct {
	f                device.UnaryOp
	width            int
	dg, du, dy, g, u []float32
	acc              bool
}

func (x gatedGrad) run(lo, hi int) {
	value, slope := activations[x.f].value[x.width], activations[x.f].slope[x.width]
	mul, mulAdd := mulRoutine[x.width], mulAddRoutine[x.width]
	both := swigluGradRoutine[x.width]
	buf := scratch.Get[float32](gateBlock)
	defer buf.Free()
	t := &buf.X[0]
	for ; lo < hi; lo += gateBlock {
		n := min(gateBlock, hi-lo)
		for _, dx := range [2][]float32{x.dg, x.du} {
			if !x.acc && dx != nil {
				clear(dx[lo : lo+n])
			}
		}
		if x.f == device.SiLU && x.dg != nil && x.du != nil {
			both(&x.dg[lo], &x.du[lo], &x.dy[lo], &x.g[lo], &x.u[lo], n)
			continue
		}
		if x.dg != nil {
			mul(t, &x.dy[lo], &x.u[lo], n)
			slope(&x.dg[lo], t, &x.g[lo], n)
		}
		if x.du != nil {
			value(t, &x.g[lo], n)
			mulAdd(&x.du[lo], &x.dy[lo], t, n)
		}
	}
}
