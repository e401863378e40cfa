package cpu

import (
	"math"

	"setun/device"
)

func (d *Device) RMSNorm(y, inv, x, gain device.Mem, rows, cols int, eps float32) {
	y0, inv0, x0, g0 := y.F32(), inv.F32(), x.F32(), gain.F32()
	if d.Failed() || y0 == nil && inv0 == nil {
		return
	}
	d.par(rows, 3*cols*cheap, func(lo, hi int) {
		for i := lo; i < hi; i++ {
			x := x0[i*cols : (i+1)*cols]
			r := float32(1 / math.Sqrt(dot(x, x)/float64(cols)+float64(eps)))
			if inv0 != nil {
				inv0[i] = r
			}
			if y0 == nil {
				continue
			}
			y := y0[i*cols : (i+1)*cols]
			if g0 == nil {
				for j, v := range x {
					y[j] = v * r
				}
				continue
			}
			g := g0[:cols]
			for j, v := range x {
				y[j] = v * r * g[j]
			}
		}
	})
}

func (d *Device) RMSNormGrad(dx, dgain, dy, x, gain, inv device.Mem, rows, cols int, acc bool) {
	dx0, dg0, dy0, x0, g0, inv0 := dx.F32(), dgain.F32(), dy.F32(), x.F32(), gain.F32(), inv.F32()
	if d.Failed() {
		return
	}
	if dx0 != nil {
		d.par(rows, 4*cols*cheap, func(lo, hi int) {
			s := borrow[float32](cols)
			defer s.giveBack()
			for i := lo; i < hi; i++ {
				dx, x := dx0[i*cols:(i+1)*cols], x0[i*cols:(i+1)*cols]
				if !acc {
					clear(dx)
				}
				h := gained(s.x, dy0[i*cols:(i+1)*cols], g0)
				r := inv0[i]
				c := float32(float64(r) * float64(r) * (dot(h, x) / float64(cols)))
				for j, v := range x {
					dx[j] += r * (h[j] - v*c)
				}
			}
		})
	}
	if dg0 == nil {
		return
	}
	d.strips(1, 2*rows, cols, func(_, lo, hi int) {
		var buf [strip]float64
		sum := buf[:hi-lo]
		for i := range rows {
			dy, x, r := dy0[i*cols+lo:i*cols+hi], x0[i*cols+lo:i*cols+hi], inv0[i]
			for j := range sum {
				sum[j] += float64(dy[j] * (x[j] * r))
			}
		}
		for j, s := range sum {
			dg0[lo+j] += float32(s)
		}
	})
}

// gained is dy*gain, in h if there is a gain.
func gained(h, dy, gain []float32) []float32 {
	if gain == nil {
		return dy
	}
	gain, h = gain[:len(dy)], h[:len(dy)]
	for j, v := range dy {
		h[j] = v * gain[j]
	}
	return h
}
