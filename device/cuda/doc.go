// Package cuda is the device of NVIDIA GPUs, from compute capability 8.0 on, without cgo and without a CUDA toolkit at
// build or run time: package driver finds the driver's library at run time, package kernels holds the kernels as PTX.
// [Open] fails with [driver.ErrNone] where there is no such GPU.
//
// The few types: [Device] is memory and kernels on one stream of one GPU; a [driver.Driver] is that GPU, or the
// interpreter of device/cuda/ptx, on which the tests run.
//
// Invariants: work happens in the order of the calls, so memory that is freed may be handed out again at once. Kernels
// return before they are done; Download and Sync wait. The first error sticks, and kernels after it do nothing; an
// index outside its table is found on the GPU and becomes the error at the next Download or Sync. Kernels without a
// native form run on the host by copies, and [Device.Bridged] counts them. Sums have a fixed order: same inputs, same
// bits.
//
// The tests run on the interpreter. On a machine with a GPU
//
//	SETUN_CUDA=1 go test ./device/cuda ./tests -run 'GPU|CUDA' -v
//	go run ./bench -devices cuda,simd
//
// runs the conformance suite and a small training on it, and times it beside the processor. Neither was run: where this
// was written there was no GPU.
package cuda
