package cpu_test

import (
	"fmt"

	"setun/device"
	"setun/device/cpu"
)

func Example() {
	d := cpu.New(0)
	x, y := d.Alloc(device.F32, 3), d.Alloc(device.F32, 3)
	d.Upload(x, device.Wrap([]float32{-1, 0, 2}))
	d.Unary(device.ReLU, y, x)
	host := make([]float32, 3)
	d.Download(device.Wrap(host), y)
	fmt.Println(host, d.Sync())
	// Output: [0 0 2] <nil>
}

// A kernel that meets bad data does nothing; the first error stays until Sync is asked.
func ExampleDevice_Sync() {
	d := cpu.New(0)
	table, y := device.Wrap(make([]float32, 20)), device.Wrap(make([]float32, 4))
	d.Gather(y, table, device.Wrap([]int32{3, 10}), 2, 2)
	fmt.Println(d.Sync())
	// Output: cpu: Gather: id 10 at row 1 is outside the table of 10 rows
}
