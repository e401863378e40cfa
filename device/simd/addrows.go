//go:build amd64

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
	d.split(groups*rows, 12*cols, func(lo, hi int) {
		for i := lo; i < hi; i++ {
			g := i / rows
			y, b := y0[i*cols:(i+1)*cols], b0[g*cols:(g+1)*cols]
			if x0 == nil {
				d.scale(y, alpha, b)
			} else {
				d.addScaled(y, x0[i*cols:(i+1)*cols], alpha, b)
			}
		}
	})
}
