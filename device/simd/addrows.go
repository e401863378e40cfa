//go:build amd64 || arm64

package simd

import "setun/device"

func (d *Device) AddRows(y, x, b device.Mem, alpha float32, groups, rows, cols int) {
	if d.tier == None {
		d.Device.AddRows(y, x, b, alpha, groups, rows, cols)
		return
	}
	y0, x0, b0 := y.F32(), x.F32(), b.F32()
	if d.Failed() || len(y0) == 0 || cols == 0 {
		return
	}
	split(d, groups*rows, 12*cols, addRows{d, y0, x0, b0, alpha, rows, cols}, addRows.run)
}

type addRows struct {
	d          *Device
	y, x, b    []float32
	alpha      float32
	rows, cols int
}

func (a addRows) run(lo, hi int) {
	for i := lo; i < hi; i++ {
		y, b := a.y[i*a.cols:][:a.cols], a.b[i/a.rows*a.cols:][:a.cols]
		if a.x == nil {
			a.d.scale(y, a.alpha, b)
		} else {
			a.d.addScaled(y, a.x[i*a.cols:][:a.cols], a.alpha, b)
		}
	}
}
