package cuda

import (
	"setun/device"
	"setun/device/cuda/driver"
)

func (d *Device) Gather(y, table, ids device.Mem, rows, cols int) {
	if y.Len() == 0 || cols <= 0 {
		return
	}
	floats, halves := addr(table), uint64(0)
	if table.Type() == device.F16 {
		floats, halves = 0, floats
	}
	n := rows * cols
	d.each("gather", n, addr(y), floats, halves, addr(ids), num(n), num(cols), num(table.Len()/cols), d.errs)
}

// ScatterAdd sorts the rows by id, then adds the rows of each id in their order.
func (d *Device) ScatterAdd(dtable, dy, ids device.Mem, rows, cols int) {
	if dtable.Len() == 0 || rows <= 0 || cols <= 0 {
		return
	}
	size := num(dtable.Len() / cols)
	keys, free := d.temp(8 * rows)
	defer free()
	other, freeOther := d.temp(8 * rows)
	defer freeOther()
	if keys == 0 || other == 0 {
		return
	}
	d.each("sortIds", rows, keys, addr(ids), num(rows), size, d.errs)
	for run := blockSize; run < rows; run *= 2 {
		d.each("mergeIds", rows, other, keys, num(rows), num(run))
		keys, other = other, keys
	}
	kernel, strip := "scatterAdd1", 32
	if cols%4 == 0 && (addr(dtable)|addr(dy))%16 == 0 {
		kernel, strip = "scatterAdd4", 4*32
	}
	const warps = blockSize / 32
	d.launch(kernel, driver.Dim{X: min((rows+warps-1)/warps, d.maxGrid), Y: (cols + strip - 1) / strip},
		driver.Dim{X: blockSize}, 0, addr(dtable), addr(dy), keys, num(rows), num(cols), size)
}
