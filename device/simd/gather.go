//go:build amd64 || arm64

package simd

import (
	"setun/device"
	"setun/internal/par"
)

// Gather of half precision widens rows; of float32 it is device/cpu's: it copies rows.
func (d *Device) Gather(y, table, ids device.Mem, rows, cols int) {
	y0, h, ids0 := y.F32(), table.F16(), ids.I32()
	if d.tier == None || d.Failed() || h == nil || cols <= 0 || d.outside(ids0[:rows], len(h)/cols) {
		d.Device.Gather(y, table, ids, rows, cols)
		return
	}
	for i, id := range ids0[:rows] {
		d.widen(y0[i*cols:][:cols], h[int(id)*cols:][:cols])
	}
}

// outside reports an id that is not below n: the error is device/cpu's to tell.
func (d *Device) outside(ids []int32, n int) bool {
	for _, id := range ids {
		if id < 0 || int(id) >= n {
			return true
		}
	}
	return false
}

// ScatterAdd splits the columns, so that rows meet the table in their order.
func (d *Device) ScatterAdd(dtable, dy, ids device.Mem, rows, cols int) {
	t0, dy0, ids0 := dtable.F32(), dy.F32(), ids.I32()
	if d.tier == None || d.Failed() || len(t0) == 0 || cols <= 0 || d.outside(ids0[:rows], len(t0)/cols) {
		d.Device.ScatterAdd(dtable, dy, ids, rows, cols)
		return
	}
	grain := max(64, taskBytes/(12*max(rows, 1)))
	par.Each(d.Threads, cols, grain, scatterAdd{d, t0, dy0, ids0[:rows], cols}, scatterAdd.run)
}

type scatterAdd struct {
	d         *Device
	table, dy []float32
	ids       []int32
	cols      int
}

func (s scatterAdd) run(lo, hi int) {
	for i, id := range s.ids {
		at := int(id) * s.cols
		t := s.table[at+lo : at+hi]
		s.d.add(t, t, s.dy[i*s.cols+lo:i*s.cols+hi])
	}
}
