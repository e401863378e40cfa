package tensor

import "setun/device"

// AdamW updates w, m and v in place with gradient g.
func AdamW(w, m, v, g *Tensor, s device.AdamWStep) {
	sameLen("AdamW", w, m, v, g)
	where("AdamW", w, m, v, g).AdamW(w.mem, m.mem, v.mem, g.mem, s)
}
