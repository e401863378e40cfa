// Package auto opens devices by name: the best one that this machine has, or exactly the one asked for.
package auto

import (
	"fmt"
	"strings"

	"setun/device"
	"setun/device/cpu"
	"setun/device/simd"
)

// Names lists what Open knows, best first.
var Names = []string{"simd", "cpu"}

// Open gives the device with this name. "auto", or "", takes the best that works here; a name is exact and never falls
// back. threads bounds the goroutines of host devices; 0 means all processors.
func Open(name string, threads int) (device.Device, error) {
	if threads < 0 {
		return nil, fmt.Errorf("device: threads is %d; it must be 0 (all processors) or more", threads)
	}
	switch name {
	case "cpu":
		return cpu.New(threads), nil
	case "simd", "auto", "":
		dev, err := simd.New(threads)
		if err != nil {
			return nil, err
		}
		if name != "simd" && dev.Tier() == simd.None {
			return cpu.New(threads), nil
		}
		return dev, nil
	}
	return nil, fmt.Errorf("device: unknown device %q; use auto or one of %s", name, strings.Join(Names, ", "))
}
