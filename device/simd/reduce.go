//go:build amd64

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
	part, f := s.X, wide(d, sumSquaresAVX512, sumSquaresAVX2)
	d.split(len(part), 4*device.LaneChunk, func(lo, hi int) {
		x := x0[lo*device.LaneChunk : min(len(x0), hi*device.LaneChunk)]
		f(&part[lo], &x[0], len(x))
	})
	y[0] += float32(total(part))
}

// total adds chunk sums in order.
func total(part []float64) (sum float64) {
	for _, v := range part {
		sum += v
	}
	return
}
