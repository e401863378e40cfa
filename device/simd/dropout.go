//go:build amd64 || arm64

package simd

import (
	"math"

	"setun/device"
)

type dropoutFunc func(y, x *float32, n int, counter uint64, k0, k1 uint32, least int32, scale float32)

// Dropout writes 0 (adds nothing) where an element is dropped, whatever x holds.
func (d *Device) Dropout(dst, x device.Mem, p float32, seed uint64, acc bool) {
	if d.tier == None {
		d.Device.Dropout(dst, x, p, seed, acc)
		return
	}
	y, x0 := dst.F32(), x.F32()
	if d.Failed() || len(y) == 0 {
		return
	}
	covers(len(y), x0)
	drop := dropoutRoutine[d.width()]
	if acc {
		drop = dropoutAccRoutine[d.width()]
	}
	// Unit(w) >= p is w>>8 > least; with a p above 1 or NaN never.
	least := int32(1 << 24)
	if p <= 1 {
		least = int32(math.Ceil(max(float64(p), 0)*(1<<24))) - 1
	}
	do := func(y, x *float32, n, at int) {
		drop(y, x, n, uint64(at/4), uint32(seed), uint32(seed>>32), least, 1/(1-p))
	}
	d.philoxSplit(len(y), 12, func(lo, hi int) { do(&y[lo], &x0[lo], hi-lo, lo) }, func(lo, hi int) {
		var t, u [philoxBlock]float32
		copy(t[:], y[lo:hi])
		copy(u[:], x0[lo:hi])
		do(&t[0], &u[0], len(t), lo)
		copy(y[lo:hi], t[:])
	})
}
