package device_test

import (
	"fmt"
	"reflect"
	"slices"
	"testing"

	"setun/device"
)

// TestBridge calls every kernel through a bridge to a second bridge: both must see it once, by name, with all its Mems
// in order.
func TestBridge(t *testing.T) {
	kernels := reflect.TypeFor[device.Kernels]()
	memType := reflect.TypeFor[device.Mem]()
	for i := range kernels.NumMethod() {
		m := kernels.Method(i)
		t.Run(m.Name, func(t *testing.T) {
			var args []reflect.Value
			var mems, hosts []device.Mem
			for j := range m.Type.NumIn() {
				if m.Type.In(j) != memType {
					args = append(args, reflect.Zero(m.Type.In(j)))
					continue
				}
				mem := device.Wrap(make([]float32, j+1))
				if len(mems) == 2 {
					mem = device.Mem{} // zero Mems pass through
				}
				args = append(args, reflect.ValueOf(mem))
				mems = append(mems, mem)
				hosts = append(hosts, device.Wrap(make([]float32, j+1)))
			}
			var outer, inner []device.Call
			host := device.Bridge{Do: func(c device.Call) { inner = append(inner, c) }}
			b := device.Bridge{Do: func(c device.Call) {
				outer = append(outer, c)
				c.Run(host, hosts)
			}}
			reflect.ValueOf(b).MethodByName(m.Name).Call(args)
			if len(outer) != 1 || len(inner) != 1 {
				t.Fatalf("Do ran %d times, the host's %d, want once each", len(outer), len(inner))
			}
			for _, got := range []struct {
				c    device.Call
				mems []device.Mem
			}{{outer[0], mems}, {inner[0], hosts}} {
				if got.c.Kernel != m.Name {
					t.Errorf("kernel %q, want %q", got.c.Kernel, m.Name)
				}
				if !slices.Equal(got.c.Mems, got.mems) {
					t.Errorf("Mems %v, want %v", got.c.Mems, got.mems)
				}
				if n := got.c.Results; n < 1 || n > len(got.mems) {
					t.Errorf("%d results of %d Mems", n, len(got.mems))
				}
			}
		})
	}
}

// A bridge that counts the kernels a device hands to its host.
func ExampleBridge() {
	bridged := map[string]int{}
	var host device.Device = device.NewNull()
	kernels := device.Bridge{Do: func(c device.Call) {
		bridged[c.Kernel]++
		c.Run(host, c.Mems)
	}}
	x := host.Alloc(device.F32, 8)
	kernels.Fill(x, 1)
	kernels.Add(x, x, x)
	kernels.Add(x, x, x)
	fmt.Println(bridged)
	// Output: map[Add:2 Fill:1]
}
