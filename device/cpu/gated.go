package cpu

import "setun/device"

func (d *Device) Gated(f device.UnaryOp, dst, g, u device.Mem) {
	y, g0, u0 := dst.F32(), g.F32(), u.F32()
	if d.Failed() {
		return
	}
	d.par(len(y), costly, func(lo, hi int) {
		var buf [block]float32
		for ; lo < hi; lo += block {
			n := min(block, hi-lo)
			v := buf[:n]
			values(f, v, g0[lo:lo+n])
			y, u := y[lo:lo+n], u0[lo:lo+n]
			for i, v := range v {
				y[i] = v * u[i]
			}
		}
	})
}

func (d *Device) GatedGrad(f device.UnaryOp, dg, du, dy, g, u device.Mem, acc bool) {
	dg0, du0, dy0, g0, u0 := dg.F32(), du.F32(), dy.F32(), g.F32(), u.F32()
	if d.Failed() || dg0 == nil && du0 == nil {
		return
	}
	d.par(len(dy0), 2*costly, func(lo, hi int) {
		var vbuf, sbuf [block]float32
		for ; lo < hi; lo += block {
			n := min(block, hi-lo)
			v, s, dy := vbuf[:n], sbuf[:n], dy0[lo:lo+n]
			valuesSlopes(f, v, s, g0[lo:lo+n])
			if dg0 != nil {
				dg, u := dg0[lo:lo+n], u0[lo:lo+n]
				if !acc {
					clear(dg)
				}
				for i, s := range s {
					dg[i] += dy[i] * s * u[i]
				}
			}
			if du0 != nil {
				du := du0[lo : lo+n]
				if !acc {
					clear(du)
				}
				for i, v := range v {
					du[i] += dy[i] * v
				}
			}
		}
	})
}
