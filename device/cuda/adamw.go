package cuda

import "setun/device"

func (d *Device) AdamW(w, m, v, g device.Mem, s device.AdamWStep) {
	n := w.Len()
	d.each("adamW", n, addr(w), addr(m), addr(v), addr(g), f32(s.LR), f32(s.Beta1), f32(s.Beta2), f32(s.Eps), f32(s.Decay),
		f32(s.Corr1), f32(s.Corr2), f32(s.GradScale), num(n))
}
