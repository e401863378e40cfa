package simd

import "setun/device"

func (d *Device) Normal(dst device.Mem, seed uint64, std float32) {
	if d.tier == None {
		d.Device.Normal(dst, seed, std)
		return
	}
	y := dst.F32()
	if d.Failed() {
		return
	}
	fill := func(y *float32, n, at int) {
		if d.tier >= AVX512 {
			normalAVX512(y, n, uint64(at/4), uint32(seed), uint32(seed>>32), std)
		} else {
			normalAVX2(y, n, uint64(at/4), uint32(seed), uint32(seed>>32), std)
		}
	}
	d.philoxFill(y, 32, fill)
}
