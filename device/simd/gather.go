//go:build amd64

package simd

import (
	"setun/device"
	"setun/internal/par"
)

// ScatterAdd splits the columns, so that rows meet the table in their order. Gather is device/cpu's: it copies rows.
func (d *Device) ScatterAdd(dtable, dy, ids device.Mem, rows, cols int) {
	t0, dy0, ids0 := dtable.F32(), dy.F32(), ids.I32()
	if d.tier == None || d.Failed() || len(t0) == 0 || cols <= 0 {
		d.Device.ScatterAdd(dtable, dy, ids, rows, cols)
		return
	}
	for _, id := range ids0[:rows] {
		if id < 0 || int(id) >= len(t0)/cols { // the error is device/cpu's to tell
			d.Device.ScatterAdd(dtable, dy, ids, rows, cols)
			return
		}
	}
	par.For(d.Threads, cols, max(64, taskBytes/(12*max(rows, 1))), func(lo, hi int) {
		for i, id := range ids0[:rows] {
			t := t0[int(id)*cols+lo : int(id)*cols+hi]
			d.add(t, t, dy0[i*cols+lo:i*cols+hi])
		}
	})
}
