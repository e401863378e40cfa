package device

// LaneChunk is the number of elements LaneSum adds before it folds its lanes.
const LaneChunk = 4096

// LaneSum adds f(x[i]) in the order that all devices share, so that scales, and with them codes, have the same bits
// everywhere: chunks of [LaneChunk] elements; in a chunk element i goes to float64 lane i%16, in order; lanes fold in
// halves (8, 4, 2, 1); chunk sums add up in order.
func LaneSum(x []float32, f func(float32) float64) float64 {
	total := 0.0
	for len(x) > 0 {
		n := min(len(x), LaneChunk)
		total += ChunkSum(x[:n], f)
		x = x[n:]
	}
	return total
}

// ChunkSum is LaneSum of at most one chunk: the unit of work that devices run in parallel.
func ChunkSum(x []float32, f func(float32) float64) float64 {
	var lane [16]float64
	for i, v := range x {
		lane[i&15] += f(v)
	}
	for w := 8; w > 0; w >>= 1 {
		for i := range w {
			lane[i] += lane[i+w]
		}
	}
	return lane[0]
}
