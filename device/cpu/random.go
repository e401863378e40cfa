package cpu

import (
	"math"

	"setun/device"
)

func (d *Device) Uniform(dst device.Mem, seed uint64, lo, hi float32) {
	y := dst.F32()
	if d.Failed() {
		return
	}
	n, width := len(y), hi-lo
	d.par((n+3)/4, 2*costly, func(first, end int) {
		for c := first; c < end; c++ {
			w := device.Philox(seed, uint64(c))
			y := y[4*c : min(4*c+4, n)]
			for j := range y {
				y[j] = lo + float32(width*device.Unit(w[j]))
			}
		}
	})
}

// Normal turns words 0 and 1 of a counter into normals 0 and 1 by Box and Muller, in float64, and words 2 and 3 into 2
// and 3.
func (d *Device) Normal(dst device.Mem, seed uint64, std float32) {
	y := dst.F32()
	if d.Failed() {
		return
	}
	n := len(y)
	d.par((n+3)/4, 16*costly, func(lo, hi int) {
		for c := lo; c < hi; c++ {
			w := device.Philox(seed, uint64(c))
			var z [4]float32
			for j := 0; j < 4; j += 2 {
				u1 := (float64(w[j]>>8) + 1) / (1 << 24)
				u2 := float64(w[j+1]>>8) / (1 << 24)
				r := math.Sqrt(-2 * math.Log(u1))
				sin, cos := math.Sincos(2 * math.Pi * u2)
				z[j], z[j+1] = std*float32(r*cos), std*float32(r*sin)
			}
			copy(y[4*c:], z[:])
		}
	})
}
