package simd

import (
	"math"
	"testing"

	"setun/device"
)

// TestRandomBits: Uniform, Normal and Dropout give device/cpu's bits. Normal's logarithm and circle are not math's, so
// once in 10^7 or so the two round to different neighbours; not here.
func TestRandomBits(t *testing.T) {
	n := 1<<22 + 13
	if testing.Short() {
		n = 1<<16 + 13
	}
	var want [3]device.Mem
	for _, tier := range Tiers() {
		d := NewTier(0, tier)
		for i, f := range []func(dst device.Mem){
			func(dst device.Mem) { d.Uniform(dst, 1<<40+3, -1, 2) },
			func(dst device.Mem) { d.Normal(dst, 1<<40+3, 0.02) },
			func(dst device.Mem) { d.Dropout(dst, want[0], 0.7, 1<<40+3, false) },
		} {
			got := d.Alloc(device.F32, n)
			f(got)
			if tier == None {
				want[i] = got
				continue
			}
			bad := 0
			for j, w := range want[i].F32() {
				if math.Float32bits(got.F32()[j]) != math.Float32bits(w) {
					if bad++; bad < 4 {
						t.Errorf("%s: kernel %d: [%d] is %v, want %v", tier, i, j, got.F32()[j], w)
					}
				}
			}
			if bad > 0 {
				t.Errorf("%s: kernel %d: %d of %d differ", tier, i, bad, n)
			}
		}
	}
}
