//go:build amd64

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
	part, sum := s.X, wide(d, sumRowsAVX512, sumRowsAVX2)
	d.split(groups*blocks*strips, 4*min(rows, rowBlock)*min(cols, stripCols), func(lo, hi int) {
		for i := lo; i < hi; i++ {
			j, b, g := i%strips*stripCols, i/strips%blocks, i/strips/blocks
			at, n := g*rows+b*rowBlock, min(rowBlock, rows-b*rowBlock)
			sum(&part[(g*blocks+b)*cols+j], &x0[at*cols+j], n, min(stripCols, cols-j), cols)
		}
	})
	n := blocks * cols
	if groups == 1 { // a bias
		d.addSum(y[:cols], alpha, part)
		return
	}
	d.split(groups, 8*n, func(lo, hi int) {
		for g := lo; g < hi; g++ {
			d.addSum(y[g*cols:(g+1)*cols], alpha, part[g*n:(g+1)*n])
		}
	})
}

// addSum: y += alpha * the sum of the rows of part, which it overwrites.
func (d *Device) addSum(y []float32, alpha float32, part []float32) {
	cols, sum := len(y), wide(d, sumRowsAVX512, sumRowsAVX2)
	for rows := len(part) / cols; rows > 1; rows = ceil(rows, rowBlock) {
		for b := 0; b*rowBlock < rows; b++ {
			sum(&part[b*cols], &part[b*rowBlock*cols], min(rowBlock, rows-b*rowBlock), cols, cols)
		}
	}
	d.axpy(y, alpha, part)
}

// wide is the routine of the device's width.
func wide[F any](d *Device, avx512, avx2 F) F {
	if d.tier >= AVX512 {
		return avx512
	}
	return avx2
}

func ceil(a, b int) int { return (a + b - 1) / b }

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
