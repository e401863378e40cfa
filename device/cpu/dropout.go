package cpu

import "setun/device"

// Dropout writes 0 (adds nothing) where an element is dropped, whatever x holds.
func (d *Device) Dropout(dst, x device.Mem, p float32, seed uint64, acc bool) {
	y, x0 := dst.F32(), x.F32()
	if d.Failed() {
		return
	}
	n, keep := len(y), 1/(1-p)
	d.par((n+3)/4, 2*costly, func(lo, hi int) {
		for c := lo; c < hi; c++ {
			w := device.Philox(seed, uint64(c))
			y, x := y[4*c:min(4*c+4, n)], x0[4*c:min(4*c+4, n)]
			for j := range y {
				v := float32(0)
				if device.Unit(w[j&3]) >= p {
					v = x[j] * keep
				}
				if acc {
					v += y[j]
				}
				y[j] = v
			}
		}
	})
}
