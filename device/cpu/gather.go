package cpu

import (
	"setun/device"
	"setun/internal/half"
	"setun/internal/par"
)

func (d *Device) Gather(y, table, ids device.Mem, rows, cols int) {
	y0, t0, ids0, halves := y.F32(), table.F32(), ids.I32(), table.F16()
	if d.Failed() || y0 == nil || cols <= 0 || !d.indexed("Gather", ids0[:rows], table.Len()/cols, false) {
		return
	}
	par.Each(d.Threads, rows, task/(cols*cheap), gather{y0, t0, halves, ids0, cols}, gather.run)
}

type gather struct {
	y, table []float32
	halves   []uint16
	ids      []int32
	cols     int
}

func (g gather) run(lo, hi int) {
	n := g.cols
	for i := lo; i < hi; i++ {
		id := int(g.ids[i])
		if g.halves != nil {
			for j, h := range g.halves[id*n : (id+1)*n] {
				g.y[i*n+j] = half.FromF16(h)
			}
			continue
		}
		copy(g.y[i*n:(i+1)*n], g.table[id*n:(id+1)*n])
	}
}

// ScatterAdd splits the columns, so that rows meet the table in their order.
func (d *Device) ScatterAdd(dtable, dy, ids device.Mem, rows, cols int) {
	t0, dy0, ids0 := dtable.F32(), dy.F32(), ids.I32()
	if d.Failed() || t0 == nil || cols <= 0 || !d.indexed("ScatterAdd", ids0[:rows], len(t0)/cols, false) {
		return
	}
	par.For(d.Threads, cols, max(16, task/max(rows, 1)), func(lo, hi int) {
		for i, id := range ids0[:rows] {
			addTo(t0[int(id)*cols+lo:int(id)*cols+hi], dy0[i*cols+lo:i*cols+hi])
		}
	})
}
