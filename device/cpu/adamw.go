package cpu

import (
	"math"

	"setun/device"
)

func (d *Device) AdamW(w, m, v, g device.Mem, s device.AdamWStep) {
	w0, m0, v0, g0 := w.F32(), m.F32(), v.F32(), g.F32()
	if d.Failed() {
		return
	}
	keep, c1, c2 := 1-s.LR*s.Decay, 1-s.Beta1, 1-s.Beta2
	d.par(len(w0), 4*cheap, func(lo, hi int) {
		w, m, v, g := w0[lo:hi], m0[lo:hi], v0[lo:hi], g0[lo:hi]
		for i := range w {
			g := s.GradScale * g[i]
			a := s.Beta1*m[i] + c1*g
			b := s.Beta2*v[i] + c2*g*g
			m[i], v[i] = a, b
			w[i] = w[i]*keep - s.LR*(a*s.Corr1)/(float32(math.Sqrt(float64(b*s.Corr2)))+s.Eps)
		}
	})
}
