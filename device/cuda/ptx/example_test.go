package ptx_test

import (
	"fmt"
	"strings"

	"setun/device/cuda/driver"
	"setun/device/cuda/ptx"
)

const double = `
.version 7.1
.target sm_80
.address_size 64
.visible .entry double(.param .u64 p, .param .u32 n)
{
	.reg .pred %p<2>;
	.reg .b32 %r<4>;
	.reg .b64 %rd<4>;
	mov.u32 %r1, %tid.x;
	ld.param.u32 %r2, [n];
	setp.ge.u32 %p1, %r1, %r2;
	@%p1 ret;
	ld.param.u64 %rd1, [p];
	mul.wide.u32 %rd2, %r1, 4;
	add.s64 %rd3, %rd1, %rd2;
	ld.global.u32 %r3, [%rd3];
	shl.b32 %r3, %r3, 1;
	st.global.u32 [%rd3], %r3;
	ret;
}`

// A kernel, and what happens when its length is wrong.
func Example() {
	gpu := ptx.Open(ptx.Config{})
	defer gpu.Close()
	module, err := gpu.Load(double)
	if err != nil {
		fmt.Println(err)
		return
	}
	kernel, _ := gpu.Function(module, "double", 0)
	host, _ := gpu.HostAlloc(16)
	copy(host, []byte{1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 4, 0, 0, 0})
	p, _ := gpu.Alloc(16)
	gpu.Upload(p, host)
	one, warp := driver.Dim{X: 1, Y: 1, Z: 1}, driver.Dim{X: 32, Y: 1, Z: 1}
	gpu.Launch(kernel, one, warp, 0, []uint64{uint64(p), 4})
	gpu.Sync()
	gpu.Download(host, p)
	fmt.Println(gpu.Sync(), host)

	gpu.Launch(kernel, one, warp, 0, []uint64{uint64(p), 5})
	fmt.Println(strings.ReplaceAll(gpu.Sync().Error(), ": ", ":\n"))
	// Output:
	// <nil> [2 0 0 0 4 0 0 0 6 0 0 0 8 0 0 0]
	// cuLaunchKernel:
	// CUDA_ERROR_ILLEGAL_ADDRESS (700):
	// kernel double, block (0,0,0), thread (4,0,0), line 17 (ld.global.u32 %r3, [%rd3];):
	// read of 4 bytes at 0x100000010, 0 bytes past the end of allocation 0 at 0x100000000 of 16 bytes
}
