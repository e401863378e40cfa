package simd

import (
	"testing"

	"setun/device"
	"setun/device/devicetest"
)

func TestConformance(t *testing.T) {
	for _, tier := range Tiers() {
		t.Run(tier.String(), func(t *testing.T) {
			devicetest.Run(t, func() device.Device { return NewTier(0, tier) })
		})
	}
}
