package cpu

import (
	"setun/device"
	"setun/internal/par"
)

// strip is how many columns a sum over rows takes at a time: a row of it is a few cache lines, the sums fit the stack.
const strip = 64

func (d *Device) AddRows(y, x, b device.Mem, alpha float32, groups, rows, cols int) {
	y0, x0, b0 := y.F32(), x.F32(), b.F32()
	if d.Failed() || y0 == nil {
		return
	}
	d.par(groups*rows, cols*cheap, func(lo, hi int) {
		for i := lo; i < hi; i++ {
			g := i / rows
			y, b := y0[i*cols:(i+1)*cols], b0[g*cols:(g+1)*cols]
			if x0 == nil {
				for j, b := range b {
					y[j] = alpha * b
				}
				continue
			}
			x := x0[i*cols : (i+1)*cols]
			for j, b := range b {
				y[j] = x[j] + alpha*b
			}
		}
	})
}

func (d *Device) SumRows(dst, x device.Mem, alpha float32, groups, rows, cols int) {
	y, x0 := dst.F32(), x.F32()
	if d.Failed() || y == nil {
		return
	}
	d.strips(groups, rows, cols, func(g, lo, hi int) {
		var buf [strip]float64
		sum := buf[:hi-lo]
		for r := g * rows; r < (g+1)*rows; r++ {
			x := x0[r*cols+lo : r*cols+hi]
			for j := range sum {
				sum[j] += float64(x[j])
			}
		}
		y := y[g*cols+lo : g*cols+hi]
		for j, s := range sum {
			y[j] += alpha * float32(s)
		}
	})
}

// strips calls f(g, lo, hi) for strips of at most strip columns of each group of rows.
func (d *Device) strips(groups, rows, cols int, f func(g, lo, hi int)) {
	n := (cols + strip - 1) / strip
	par.Each(d.Threads, groups*n, max(1, task/max(rows*min(cols, strip), 1)), strips{n, cols, f}, strips.call)
}

type strips struct {
	n, cols int
	f       func(g, lo, hi int)
}

func (s strips) call(a, b int) {
	for i := a; i < b; i++ {
		lo := i % s.n * strip
		s.f(i/s.n, lo, min(lo+strip, s.cols))
	}
}
