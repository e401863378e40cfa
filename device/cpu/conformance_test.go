package cpu

import (
	"testing"

	"setun/device"
	"setun/device/devicetest"
)

func TestConformance(t *testing.T) {
	devicetest.Run(t, func() device.Device { return New(0) })
}
