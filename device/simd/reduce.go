//go:build amd64 || arm64

package simd

import (
	"setun/device"
	"setun/internal/scratch"
)

func (d *Device) SumSquares(dst, x device.Mem) {
	y, x0 := dst.F32(), x.F32()
	if d.tier == None || d.Failed() || len(y) == 0 || len(x0) == 0 {
		d.Device.SumSquares(dst, x)
		return
	}
	s := scratch.Get[float64](ceil(len(x0), device.LaneChunk))
	defer s.Free()
	split(d, len(s.X), 4*device.LaneChunk, sumSquares{d, s.X, x0}, sumSquares.run)
	y[0] += float32(total(s.X))
}

type sumSquares struct {
	d    *Device
	part []float64
	x    []float32
}

func (s sumSquares) run(lo, hi int) {
	x := s.x[lo*device.LaneChunk : min(len(s.x), hi*device.LaneChunk)]
	sumSquaresRoutine[s.d.width()](&s.part[lo], &x[0], len(x))
}

// total adds chunk sums in order.
func total(part []float64) (sum float64) {
	for _, v := range part {
		sum += v
	}
	return
}
