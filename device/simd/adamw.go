//go:build amd64 || arm64

package simd

import "setun/device"

func (d *Device) AdamW(w, m, v, g device.Mem, s device.AdamWStep) {
	if d.tier == None {
		d.Device.AdamW(w, m, v, g, s)
		return
	}
	w0, m0, v0, g0 := w.F32(), m.F32(), v.F32(), g.F32()
	if d.Failed() || len(w0) == 0 {
		return
	}
	covers(len(w0), m0, v0, g0)
	split(d, len(w0), 28, adamw{d, w0, m0, v0, g0, s}, adamw.run)
}

type adamw struct {
	d          *Device
	w, m, v, g []float32
	s          device.AdamWStep
}

func (a adamw) run(lo, hi int) {
	s := &a.s
	adamwRoutine[a.d.width()](&a.w[lo], &a.m[lo], &a.v[lo], &a.g[lo], hi-lo, s.GradScale, s.Beta1, 1-s.Beta1,
		s.Beta2, 1-s.Beta2, s.Corr1, s.Corr2, s.Eps, s.LR, 1-s.LR*s.Decay)
}
