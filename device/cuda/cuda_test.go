package cuda

import (
	"errors"
	"os"
	"testing"

	"setun/device"
	"setun/device/cuda/driver"
	"setun/device/cuda/ptx"
	"setun/device/devicetest"
)

// interpret opens a device on the interpreter that checks everything: allocations have exactly the size asked for, so
// that kernels that read past it are found, and with one multiprocessor threads have several elements.
func interpret(t *testing.T) *Device {
	d, err := New(ptx.Open(ptx.Config{Multiprocessors: 1}))
	if err != nil {
		t.Fatal(err)
	}
	d.pool.class = func(bytes int) int { return max(bytes, 1) }
	t.Cleanup(func() { d.Close() })
	return d
}

// TestInterpreter runs the conformance suite on the PTX, every kernel in its native form.
func TestInterpreter(t *testing.T) {
	every := 1
	if testing.Short() {
		every = 32
	}
	var opened []*Device
	devicetest.RunSimulated(t, func() device.Device {
		d := interpret(t)
		opened = append(opened, d)
		return d
	}, every)
	for _, d := range opened {
		if b := d.Bridged(); len(b) > 0 {
			t.Errorf("kernels ran on the host: %v", b)
		}
	}
}

// TestGPU runs the conformance suite, its sizeable cases too, on a GPU.
func TestGPU(t *testing.T) {
	if os.Getenv("SETUN_CUDA") == "" {
		t.Skip("set SETUN_CUDA=1 to run on a GPU")
	}
	probe, err := driver.Open()
	if errors.Is(err, driver.ErrNone) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Log(probe.Info())
	if err := probe.Close(); err != nil {
		t.Fatal(err)
	}
	devicetest.Run(t, func() device.Device {
		d, err := Open()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			d.Close()
			if b := d.Bridged(); len(b) > 0 {
				t.Errorf("kernels ran on the host: %v", b)
			}
		})
		return d
	})
}
