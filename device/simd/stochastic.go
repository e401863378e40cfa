//go:build amd64 || arm64

package simd

import (
	"setun/device"
	"setun/device/cpu"
)

// QuantizeStochastic takes most of its time to draw, which is what is vectorised.
func (d *Device) QuantizeStochastic(codes, scale, x device.Mem, s device.StochasticQuant) {
	if d.tier == None {
		d.Device.QuantizeStochastic(codes, scale, x, s)
		return
	}
	uniform := uniformRoutine[d.width()]
	d.QuantizeStochasticFrom(codes, scale, x, s, func(u *cpu.Draws, at int) {
		uniform(&u[0], len(u), uint64(at/4), uint32(s.Seed), uint32(s.Seed>>32), 0, 1)
	})
}
