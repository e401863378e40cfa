package cpu

import (
	"math"

	"setun/device"
)

func (d *Device) LayerNorm(y, mean, inv, x, gain, bias device.Mem, rows, cols int, eps float32) {
	y0, mean0, inv0, x0, g0, b0 := y.F32(), mean.F32(), inv.F32(), x.F32(), gain.F32(), bias.F32()
	if d.Failed() || y0 == nil && mean0 == nil && inv0 == nil {
		return
	}
	d.par(rows, 5*cols*cheap, func(lo, hi int) {
		for i := lo; i < hi; i++ {
			x := x0[i*cols : (i+1)*cols]
			sum := 0.0
			for _, v := range x {
				sum += float64(v)
			}
			m := sum / float64(cols)
			sum = 0
			for _, v := range x {
				c := float64(v) - m
				sum += c * c
			}
			m32, r := float32(m), float32(1/math.Sqrt(sum/float64(cols)+float64(eps)))
			if mean0 != nil {
				mean0[i] = m32
			}
			if inv0 != nil {
				inv0[i] = r
			}
			if y0 == nil {
				continue
			}
			y := y0[i*cols : (i+1)*cols]
			for j, v := range x {
				v = float32((float64(v) - m)) * r
				if g0 != nil {
					v *= g0[j]
				}
				if b0 != nil {
					v += b0[j]
				}
				y[j] = v
			}
		}
	})
}

// LayerNormGrad: with xhat = (x-mean)*inv and h = dy*gain, dx += inv*(h - mean(h) - xhat*mean(h*xhat)),
// dgain += sum over i of dy*xhat, dbias += sum over i of dy.
func (d *Device) LayerNormGrad(dx, dgain, dbias, dy, x, gain, mean, inv device.Mem, rows, cols int) {
	dx0, dg0, db0 := dx.F32(), dgain.F32(), dbias.F32()
	dy0, x0, g0, mean0, inv0 := dy.F32(), x.F32(), gain.F32(), mean.F32(), inv.F32()
	if d.Failed() {
		return
	}
	if dx0 != nil {
		d.par(rows, 6*cols*cheap, func(lo, hi int) {
			s := borrow[float32](cols)
			defer s.giveBack()
			for i := lo; i < hi; i++ {
				dx, x := dx0[i*cols:(i+1)*cols], x0[i*cols:(i+1)*cols]
				h := gained(s.x, dy0[i*cols:(i+1)*cols], g0)
				m, r := mean0[i], inv0[i]
				var sh, shx float64
				for j, v := range x {
					sh += float64(h[j])
					shx += float64(h[j]) * float64((v-m)*r)
				}
				mh, mhx := float32(sh/float64(cols)), float32(shx/float64(cols))
				for j, v := range x {
					dx[j] += r * (h[j] - mh - (v-m)*r*mhx)
				}
			}
		})
	}
	if dg0 == nil && db0 == nil {
		return
	}
	d.strips(1, 3*rows, cols, func(_, lo, hi int) {
		var gbuf, bbuf [strip]float64
		sg, sb := gbuf[:hi-lo], bbuf[:hi-lo]
		for i := range rows {
			dy, x, m, r := dy0[i*cols+lo:i*cols+hi], x0[i*cols+lo:i*cols+hi], mean0[i], inv0[i]
			for j, v := range dy {
				sg[j] += float64(v * ((x[j] - m) * r))
				sb[j] += float64(v)
			}
		}
		for j := range sg {
			if dg0 != nil {
				dg0[lo+j] += float32(sg[j])
			}
			if db0 != nil {
				db0[lo+j] += float32(sb[j])
			}
		}
	})
}
