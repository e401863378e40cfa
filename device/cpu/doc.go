// Package cpu is the reference device: every kernel of [device.Kernels] in portable Go on host memory, the one the
// others are compared with. It is written to be right first, and fast enough to train small models.
//
// There is one type, [Device]. Invariants:
//
//   - Kernels finish before they return. Goroutines may call them at once as long as no result overlaps an operand.
//   - Results have the same bits for every number of threads and wherever their operands lie in memory: the order in
//     which an element is summed is fixed by the counts alone.
//   - Sums over rows, and the statistics of norms, are accumulated in float64 and rounded once.
//   - Products (Gemm, QLinear) are gonum's Sgemm on tiles of dot products, op(B) transposed into scratch where needed.
//     They spread NaN and Inf as the formula says, 0*NaN included. So does Attention, except that a masked pair takes
//     no part: a NaN in a later key never reaches an earlier query. AttentionGrad keeps to that only between blocks
//     of queries.
//   - QLinear runs on float32 sums of integers that stay below 2^24, which are exact, and adds those up in float64, as exact.
//   - Scratch comes from a pool. A call allocates a few small objects, none as long as its operands.
package cpu
