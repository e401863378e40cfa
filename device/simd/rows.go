//go:build amd64 || arm64

package simd

import (
	"setun/device"
	"setun/internal/scratch"
)

// rowBlock rows are added up in float32; their sums are rows again. The size is fixed, so the order of additions is.
const rowBlock = 64

// stripCols is how many columns of a block a task of SumRows takes.
const stripCols = 1024

func (d *Device) SumRows(dst, x device.Mem, alpha float32, groups, rows, cols int) {
	if d.tier == None || groups*rows*cols == 0 {
		d.Device.SumRows(dst, x, alpha, groups, rows, cols)
		return
	}
	y, x0 := dst.F32(), x.F32()
	if d.Failed() || y == nil {
		return
	}
	blocks, strips := ceil(rows, rowBlock), ceil(cols, stripCols)
	s := scratch.Get[float32](groups * blocks * cols)
	defer s.Free()
	r := sumRows{d, y, s.X, x0, alpha, rows, cols, blocks, strips}
	split(d, groups*blocks*strips, 4*min(rows, rowBlock)*min(cols, stripCols), r, sumRows.sum)
	split(d, groups, 8*blocks*cols, r, sumRows.add)
}

// sumRows is y += alpha * the sum of rows of x: part has the sums of blocks.
type sumRows struct {
	d                          *Device
	y, part, x                 []float32
	alpha                      float32
	rows, cols, blocks, strips int
}

func (r sumRows) sum(lo, hi int) {
	f := sumRowsRoutine[r.d.width()]
	for i := lo; i < hi; i++ {
		j, b, g := i%r.strips*stripCols, i/r.strips%r.blocks, i/r.strips/r.blocks
		at, n := g*r.rows+b*rowBlock, min(rowBlock, r.rows-b*rowBlock)
		f(&r.part[(g*r.blocks+b)*r.cols+j], &r.x[at*r.cols+j], n, min(stripCols, r.cols-j), r.cols)
	}
}

func (r sumRows) add(lo, hi int) {
	n := r.blocks * r.cols
	for g := lo; g < hi; g++ {
		r.d.addSum(r.y[g*r.cols:(g+1)*r.cols], r.alpha, r.part[g*n:(g+1)*n])
	}
}

// addSum: y += alpha * the sum of the rows of part, which it overwrites.
func (d *Device) addSum(y []float32, alpha float32, part []float32) {
	cols, sum := len(y), sumRowsRoutine[d.width()]
	for rows := len(part) / cols; rows > 1; rows = ceil(rows, rowBlock) {
		for b := 0; b*rowBlock < rows; b++ {
			sum(&part[b*cols], &part[b*rowBlock*cols], min(rowBlock, rows-b*rowBlock), cols, cols)
		}
	}
	d.axpy(y, alpha, part)
}

// orFill is x, or n times v in borrowed memory if x is nil.
func orFill(x []float32, n int, v float32) ([]float32, scratch.Buf[float32]) {
	if x != nil {
		return x, scratch.Buf[float32]{}
	}
	b := scratch.Get[float32](n)
	for i := range b.X {
		b.X[i] = v
	}
	return b.X, b
}

// orScratch is x, or borrowed memory if x is nil.
func orScratch(x []float32, n int) ([]float32, scratch.Buf[float32]) {
	if x != nil {
		return x, scratch.Buf[float32]{}
	}
	b := scratch.Get[float32](n)
	return b.X, b
}
