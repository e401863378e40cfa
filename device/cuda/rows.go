package cuda

import (
	"setun/device"
	"setun/device/cuda/driver"
)

func (d *Device) AddRows(y, x, b device.Mem, alpha float32, groups, rows, cols int) {
	n := min(groups*rows*cols, y.Len())
	d.each("addRows", n, addr(y), addr(x), addr(b), f32(alpha), num(groups), num(rows), num(cols), num(n))
}

func (d *Device) SumRows(dst, x device.Mem, alpha float32, groups, rows, cols int) {
	d.columns("sumRows", []device.Mem{dst}, alpha, groups, rows, cols, func(part uint64) []uint64 {
		return []uint64{addr(dst), addr(x), f32(alpha), part, num(groups), num(rows), num(cols)}
	})
}

// columns queues a kernel that sums over the rows of each column and group, in at most maxSplits parts, and what adds
// the parts up, times alpha, in each of ds that is wanted. part is where the kernel leaves the parts of all ds; if it is
// 0, the kernel adds to ds itself. How rows are split depends on the shape alone, and so do the bits of the sums.
func (d *Device) columns(kernel string, ds []device.Mem, alpha float32, groups, rows, cols int,
	args func(part uint64) []uint64) {
	wanted := false
	for _, m := range ds {
		wanted = wanted || !m.IsZero()
	}
	n := groups * cols
	if !wanted || n <= 0 || rows <= 0 {
		return
	}
	const tile, maxSplits, minRows = 32, 64, 64
	splits := min(max(rows/minRows, 1), maxSplits)
	part := uint64(0)
	if splits > 1 {
		var free func()
		part, free = d.temp(8 * len(ds) * splits * n)
		defer free()
		if part == 0 {
			return
		}
	}
	d.launch(kernel, driver.Dim{X: (cols + tile - 1) / tile, Y: splits, Z: min(groups, d.maxGrid)},
		driver.Dim{X: blockSize}, 0, args(part)...)
	if splits == 1 {
		return
	}
	for i, m := range ds {
		if !m.IsZero() {
			d.each("addColumns", n, addr(m), part+uint64(8*i*splits*n), f32(alpha), num(splits), num(cols), num(n))
		}
	}
}

// rowForms are the names of what ROWS in row.h makes of a kernel.
type rowForms struct{ warp4, block4, warp1, block1 string }

func rowFormsOf(kernel string) rowForms {
	return rowForms{kernel + "Warp4", kernel + "Block4", kernel + "Warp1", kernel + "Block1"}
}

// shares queues the form of a kernel that suits its rows. x are its operands: rows of cols elements, which it reads
// in fours where it can. Up to keep columns it keeps in registers what it has read.
func (d *Device) shares(f *rowForms, rows, cols, keep int, x []device.Mem, args ...uint64) {
	const warps = blockSize / 32
	wide := cols%4 == 0 && cols <= keep
	for _, m := range x {
		wide = wide && addr(m)%uint64(4*m.Type().Size()) == 0
	}
	switch {
	case wide && cols <= kept/warps:
		d.rows(f.warp4, (rows+warps-1)/warps, args...)
	case wide:
		d.rows(f.block4, rows, args...)
	case cols <= 8*32:
		d.rows(f.warp1, (rows+warps-1)/warps, args...)
	default:
		d.rows(f.block1, rows, args...)
	}
}

const (
	kept   = 32 * blockSize // the most columns that the registers of a block keep
	unkept = 1 << 30        // for kernels that read a row but once: they keep nothing, however long it is
)

func (d *Device) SumSquares(dst, x device.Mem) {
	if dst.Len() == 0 || x.Len() == 0 {
		return
	}
	part, chunks, free := d.laneChunks(x, 1, x.Len(), sumSquares, 0)
	defer free()
	if part != 0 {
		d.launch("sumSquares", driver.Dim{}, driver.Dim{X: 32}, 0, addr(dst), part, num(chunks))
	}
}

// What laneChunks sums, as in lanes.h.
const (
	sumSquares = iota
	sumAbs
	sumAbove // with a cut for each group
	countAbove
)

// laneChunks leaves at part the sums of the chunks of device.LaneSum, for groups of n elements; part is 0 after an
// error.
func (d *Device) laneChunks(x device.Mem, groups, n, f int, cut uint64) (part uint64, chunks int, free func()) {
	chunks = (n + device.LaneChunk - 1) / device.LaneChunk
	part, free = d.temp(8 * groups * chunks)
	if part != 0 {
		d.each("laneChunks", 16*groups*chunks, part, addr(x), num(groups), num(n), num(f), cut)
	}
	return part, chunks, free
}
