package cuda

import "setun/device"

// A thread has the four elements of a counter.

func (d *Device) Dropout(dst, x device.Mem, p float32, seed uint64, acc bool) {
	n := dst.Len()
	d.each("dropout", (n+3)/4, addr(dst), addr(x), f32(p), f32(1/(1-p)), u64(seed), flag(acc), num(n))
}

func (d *Device) Uniform(dst device.Mem, seed uint64, lo, hi float32) {
	n := dst.Len()
	d.each("uniform", (n+3)/4, addr(dst), u64(seed), f32(lo), f32(hi-lo), num(n))
}

func (d *Device) Normal(dst device.Mem, seed uint64, std float32) {
	n := dst.Len()
	d.each("normal", (n+3)/4, addr(dst), u64(seed), f32(std), num(n))
}
