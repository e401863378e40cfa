// Package devicetest checks devices.
//
// [Run] is the conformance suite every device must pass: each kernel against an oracle in float64 (plain loops, written
// next to its cases), over awkward sizes, spans inside larger allocations, every combination of operands left out, and
// the aliasing that package device allows. [Bench] times the sizeable cases of the same tables.
//
//	func TestDevice(t *testing.T) {
//		devicetest.Run(t, func() device.Device { return mine.New() })
//	}
//
// [Opaque] wraps a host device so that nothing but Upload and Download reaches its memory, its kernels run
// asynchronously, and misuse of memory is an error: code that works on it works on an accelerator.
//
// # Adding a kernel
//
// Write a file with its oracle and its cases and name the function in tables. A case gives its operands in the order of
// the kernel's Mems, the call, the oracle and the tolerance; the checks that hold for all kernels are in one place
// (check), and the package's own tests plant bugs in every kernel to see that its cases find them.
package devicetest
