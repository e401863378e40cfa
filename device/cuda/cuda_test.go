package cuda

import (
	"errors"
	flags "flag"
	"fmt"
	"maps"
	"os"
	"slices"
	"sync"
	"testing"

	"setun/device"
	"setun/device/cuda/driver"
	"setun/device/cuda/ptx"
	"setun/device/devicetest"
)

// launched counts the launches of the tests by kernel.
var launched struct {
	sync.Mutex
	kernels map[string]int
}

// TestMain also fails where all tests ran and a kernel was never launched.
func TestMain(m *testing.M) {
	flags.Parse()
	launched.kernels = map[string]int{}
	code := m.Run()
	all := !testing.Short()
	for _, name := range []string{"test.run", "test.skip", "test.list"} {
		all = all && flags.Lookup(name).Value.String() == ""
	}
	if all && code == 0 {
		for _, kernel := range slices.Sorted(maps.Keys(entries())) {
			if launched.kernels[kernel] == 0 {
				fmt.Printf("kernel %s of module %s was never launched\n", kernel, entries()[kernel])
				code = 1
			}
		}
	}
	os.Exit(code)
}

// interpret opens a device on the interpreter. Allocations have exactly the size asked for, so that kernels that read
// past it are found.
func interpret(t *testing.T, c ptx.Config) *Device {
	t.Helper()
	gpu := ptx.Open(c)
	d, err := New(gpu)
	if err != nil {
		t.Fatal(err)
	}
	d.pool.class = func(bytes int) int { return max(bytes, 1) }
	t.Cleanup(func() {
		d.Close()
		launched.Lock()
		defer launched.Unlock()
		for kernel, n := range gpu.Launches() {
			launched.kernels[kernel] += n
		}
	})
	return d
}

// interpreted opens one that no test leads into an error.
func interpreted(t *testing.T, c ptx.Config) *Device {
	t.Helper()
	d := interpret(t, c)
	t.Cleanup(func() {
		if err := d.Sync(); err != nil {
			t.Error(err)
		}
	})
	return d
}

// looping opens a device of such small grids that the blocks of most kernels have to loop, and looks for races of blocks.
func looping(t *testing.T) *Device {
	t.Helper()
	d := interpret(t, ptx.Config{Multiprocessors: 1, CheckBlocks: true})
	d.maxGrid = 2
	return d
}

// TestInterpreter runs the conformance suite on the PTX, every kernel in its native form.
func TestInterpreter(t *testing.T) {
	t.Parallel()
	every := 1
	if testing.Short() {
		every = 32
	}
	var opened []*Device
	devicetest.RunSimulated(t, func() device.Device {
		d := looping(t)
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
