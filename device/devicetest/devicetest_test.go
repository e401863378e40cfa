package devicetest

import (
	"reflect"
	"testing"

	"setun/device"
	"setun/device/cpu"
)

func TestCPU(t *testing.T) {
	for name, threads := range map[string]int{"threads=1": 1, "threads=2": 2} {
		t.Run(name, func(t *testing.T) {
			if testing.Short() && threads == 1 {
				t.Skip("one thread is the easier case")
			}
			Run(t, func() device.Device { return cpu.New(threads) })
		})
	}
}

func TestOpaqueConforms(t *testing.T) {
	var opened []*OpaqueDevice
	run(goT{t}, func() device.Device {
		d := Opaque(cpu.New(2))
		opened = append(opened, d)
		return d
	}, nil, small, 1)
	for _, d := range opened {
		if d.Sync() == nil && d.Live() != 0 {
			t.Errorf("%d allocations were not freed", d.Live())
		}
	}
}

// TestTables: every kernel has cases with distinct names, and the operands are those of its Mems.
func TestTables(t *testing.T) {
	seen := map[string]bool{}
	for _, tb := range tables() {
		if seen[tb.kernel] || len(tb.cases) == 0 {
			t.Errorf("%s: two tables, or an empty one", tb.kernel)
		}
		seen[tb.kernel] = true
		names := map[string]bool{}
		sizeable := false
		for _, k := range tb.cases {
			if names[k.name] {
				t.Errorf("%s: two cases %s", tb.kernel, k.name)
			}
			names[k.name] = true
			sizeable = sizeable || k.sizeable
		}
		if !sizeable && tb.kernel != "Copy" && tb.kernel != "Fill" {
			t.Errorf("%s has no case for Bench", tb.kernel)
		}
		c := tb.cases[0].build()
		c.run(device.Bridge{Do: func(call device.Call) {
			if call.Kernel != tb.kernel || len(call.Mems) != len(c.ops) {
				t.Errorf("%s: the case calls %s with %d Mems", tb.kernel, call.Kernel, len(call.Mems))
			}
			for i, o := range c.ops {
				if o.mode != input && i >= call.Results {
					t.Errorf("%s: %s is a result, the bridge says it is not", tb.kernel, o.name)
				}
			}
		}}, make([]device.Mem, len(c.ops)))
	}
	kernels := reflect.TypeFor[device.Kernels]()
	for i := range kernels.NumMethod() {
		if name := kernels.Method(i).Name; !seen[name] {
			t.Errorf("kernel %s has no cases", name)
		}
	}
}

func BenchmarkCPU(b *testing.B) { Bench(b, cpu.New(0)) }
