package cpu

import (
	"math"

	"setun/device"
	"setun/internal/par"
)

func (d *Device) SumSquares(dst, x device.Mem) {
	y, x0 := dst.F32(), x.F32()
	if d.Failed() || len(y) == 0 {
		return
	}
	y[0] += float32(laneSum(d.Threads, x0, sumSquares, 0))
}

// A chunkSum is device.ChunkSum of one function of x and a parameter.
type chunkSum func(x []float32, p float32) float64

// laneSum is device.LaneSum with its chunks in parallel.
func laneSum(threads int, x []float32, sum chunkSum, p float32) float64 {
	n := (len(x) + device.LaneChunk - 1) / device.LaneChunk
	if n <= 1 {
		return sum(x, p)
	}
	s := borrow[float64](n)
	defer s.giveBack()
	par.Each(threads, n, 4, chunks{x, p, sum, s.x}, chunks.add)
	total := 0.0
	for _, v := range s.x {
		total += v
	}
	return total
}

type chunks struct {
	x    []float32
	p    float32
	sum  chunkSum
	part []float64 // a sum for each chunk
}

func (s chunks) add(lo, hi int) {
	for c := lo; c < hi; c++ {
		s.part[c] = s.sum(s.x[c*device.LaneChunk:min(len(s.x), (c+1)*device.LaneChunk)], s.p)
	}
}

// sumSquares adds x*x, which is exact in float64.
func sumSquares(x []float32, _ float32) float64 {
	var lane [16]float64
	for ; len(x) >= 16; x = x[16:] {
		for l, v := range (*[16]float32)(x) {
			lane[l] += float64(v) * float64(v)
		}
	}
	for l, v := range x {
		lane[l] += float64(v) * float64(v)
	}
	return fold(&lane)
}

// sumAbove adds |x| where it is above cut >= 0; NaN counts as above. Positive floats compare as their bits do.
func sumAbove(x []float32, cut float32) float64 {
	var lane [16]float64
	c := math.Float32bits(cut)
	for ; len(x) >= 16; x = x[16:] {
		for l, v := range (*[16]float32)(x) {
			lane[l] += float64(above(v, c))
		}
	}
	for l, v := range x {
		lane[l] += float64(above(v, c))
	}
	return fold(&lane)
}

// above is |x| if its bits are above cut, else 0, without a branch that noise would mispredict.
func above(x float32, cut uint32) float32 {
	b := math.Float32bits(x) &^ (1 << 31)
	if b <= cut {
		b = 0
	}
	return math.Float32frombits(b)
}

// sumAbs adds |x|.
func sumAbs(x []float32, _ float32) float64 {
	var lane [16]float64
	for ; len(x) >= 16; x = x[16:] {
		for l, v := range (*[16]float32)(x) {
			lane[l] += float64(abs(v))
		}
	}
	for l, v := range x {
		lane[l] += float64(abs(v))
	}
	return fold(&lane)
}

// fold adds lanes in halves.
func fold(lane *[16]float64) float64 {
	for w := 8; w > 0; w >>= 1 {
		for i := range w {
			lane[i] += lane[i+w]
		}
	}
	return lane[0]
}

func abs(x float32) float32 { return math.Float32frombits(math.Float32bits(x) &^ (1 << 31)) }
