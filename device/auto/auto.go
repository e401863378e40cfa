// Package auto opens devices by name: the best one that this machine has, or exactly the one asked for.
package auto

import (
	"errors"
	"fmt"
	"strings"

	"setun/device"
	"setun/device/cpu"
	"setun/device/cuda"
	"setun/device/cuda/driver"
	"setun/device/simd"
)

// Names lists what Open knows, best first.
var Names = []string{"cuda", "simd", "cpu"}

// ErrNone is why Open("cuda", n) fails where there is no GPU to use.
var ErrNone = driver.ErrNone

var openCUDA = func() (device.Device, error) { return cuda.Open() } // tests have others

const maxThreads = 4096

// Open gives the device with this name. "auto", or "", takes the best that this machine has; a GPU that is there and
// does not open is an error. A name is exact and never falls back. threads bounds the goroutines of host devices; 0
// means all processors.
func Open(name string, threads int) (device.Device, error) {
	if threads < 0 || threads > maxThreads {
		return nil, fmt.Errorf("device: threads is %d; it must be from 1 to %d, or 0 (all processors)", threads, maxThreads)
	}
	switch name {
	case "cpu":
		return cpu.New(threads), nil
	case "simd":
		return simd.New(threads)
	case "cuda":
		dev, err := openCUDA()
		if err != nil {
			return nil, fmt.Errorf("device cuda: %w", err)
		}
		return dev, nil
	case "auto", "":
		dev, err := openCUDA()
		switch {
		case err == nil:
			return dev, nil
		case !errors.Is(err, ErrNone):
			return nil, fmt.Errorf("device cuda: %w; -device simd computes without the GPU", err)
		}
		return Host(threads)
	}
	return nil, fmt.Errorf("device: unknown device %q; use auto or one of %s", name, strings.Join(Names, ", "))
}

// Host gives the best device that computes on the processor.
func Host(threads int) (device.Device, error) {
	dev, err := simd.New(threads)
	if err != nil {
		return nil, err
	}
	if dev.Tier() == simd.None {
		return cpu.New(threads), nil
	}
	return dev, nil
}

// AllowBF16 lets all products and attention of a device run in bfloat16 with sums in float32, where it has such a mode: a
// GPU has.
func AllowBF16(dev device.Device) {
	if gpu, ok := dev.(*cuda.Device); ok {
		gpu.SetMath(device.MathBF16)
	}
}
