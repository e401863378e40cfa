package simd_test

import (
	"fmt"

	"setun/device"
	"setun/device/simd"
)

func Example() {
	dev, err := simd.New(0) // the best instruction set here, or the one that SETUN_SIMD names
	if err != nil {
		fmt.Println(err)
		return
	}
	x, y := dev.Alloc(device.F32, 3), dev.Alloc(device.F32, 3)
	dev.Upload(x, device.Wrap([]float32{1, 2, 3}))
	dev.Scale(y, 10, x)
	host := make([]float32, 3)
	dev.Download(device.Wrap(host), y)
	fmt.Println(host, dev.Sync())
	// Output: [10 20 30] <nil>
}
