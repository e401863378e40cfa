package cpu

import "setun/device"

func (d *Device) Softmax(y, x device.Mem, rows, cols int) {
	y0, x0 := y.F32(), x.F32()
	if d.Failed() || y0 == nil {
		return
	}
	d.par(rows, cols*costly, func(lo, hi int) {
		for i := lo; i < hi; i++ {
			y, x := y0[i*cols:(i+1)*cols], x0[i*cols:(i+1)*cols]
			inv := float32(1 / expRow(y, x, maxRow(x)))
			for j := range y {
				y[j] *= inv
			}
		}
	})
}

func (d *Device) SoftmaxGrad(dx, dy, y device.Mem, rows, cols int) {
	dx0, dy0, y0 := dx.F32(), dy.F32(), y.F32()
	if d.Failed() || dx0 == nil {
		return
	}
	d.par(rows, 4*cols*cheap, func(lo, hi int) {
		for i := lo; i < hi; i++ {
			dx, dy, y := dx0[i*cols:(i+1)*cols], dy0[i*cols:(i+1)*cols], y0[i*cols:(i+1)*cols]
			mean := float32(dot(dy, y))
			for j, p := range y {
				dx[j] += p * (dy[j] - mean)
			}
		}
	})
}

// dot is the sum of a*b in float64, in four lanes.
func dot(a, b []float32) float64 {
	var s0, s1, s2, s3 float64
	b = b[:len(a)]
	i := 0
	for ; i+4 <= len(a); i += 4 {
		a, b := a[i:i+4:i+4], b[i:i+4:i+4]
		s0 += float64(a[0]) * float64(b[0])
		s1 += float64(a[1]) * float64(b[1])
		s2 += float64(a[2]) * float64(b[2])
		s3 += float64(a[3]) * float64(b[3])
	}
	for ; i < len(a); i++ {
		s0 += float64(a[i]) * float64(b[i])
	}
	return (s0 + s1) + (s2 + s3)
}
