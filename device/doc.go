// Package device is the contract between setun and the hardware: memory, and one set of kernels.
//
// There are three types. A [Mem] is a span of memory on a device; the zero Mem means "not wanted". A [Device] allocates
// and frees memory, moves it to and from the host, and implements [Kernels]. Everything above this package reaches the
// data of a tensor through these two, so a device whose memory the host cannot read, or whose kernels run
// asynchronously, fits without a change.
//
// # Rules every device obeys
//
//   - Kernels know counts (n, rows, cols, m, n, k, heads), never shapes, and never what a gradient is for.
//   - Data is row-major and contiguous unless a stride is a parameter.
//   - Results named dst or y are overwritten. Gradients, named with a leading d (dx, dw), are accumulated: d += ....
//     Kernels of the hot path take acc: without it they overwrite the gradient, which may hold anything.
//   - A zero Mem in the place of a gradient (any d...) or an optional result or operand is skipped. Alloc of 0 elements is
//     not a zero Mem.
//   - Gaps between strided rows are never written; a strided span ends with its last element, not with a full row.
//   - dst may be the same span as an operand in elementwise kernels (Add, Mul, Scale, Unary, Gated, Dropout, AddRows,
//     RoPE, Softmax). Spans that overlap only in part are never allowed.
//   - Kernels return nothing. A device that fails keeps its first error; [Device.Sync] reports it, and the kernels after
//     it do nothing.
//   - The same inputs give the same bits on the same device and thread count. Integer results (codes) are the same on
//     every device: the reductions behind them have the fixed order of [LaneSum].
//
// Package device/devicetest checks all of this for any implementation.
package device
