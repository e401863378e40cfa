//go:build amd64 || arm64

package simd

import (
	"setun/device"
	"setun/internal/scratch"
)

func (d *Device) RMSNorm(y, inv, x, gain device.Mem, rows, cols int, eps float32) {
	if d.tier == None || y.IsZero() || rows*cols == 0 {
		d.Device.RMSNorm(y, inv, x, gain, rows, cols, eps)
		return
	}
	y0, x0 := y.F32(), x.F32()
	if d.Failed() {
		return
	}
	inv0, b1 := orScratch(inv.F32(), rows)
	g0, b2 := orFill(gain.F32(), cols, 1)
	defer b1.Free()
	defer b2.Free()
	split(d, rows, 8*cols, rmsNorm{d, y, inv, x, gain, y0, inv0, x0, g0, cols, eps}, rmsNorm.run)
}

type rmsNorm struct {
	d                *Device
	y, inv, x, gain  device.Mem
	y0, inv0, x0, g0 []float32
	cols             int
	eps              float32
}

func (r rmsNorm) run(lo, hi int) {
	n := r.cols
	f := rmsNormRoutine[r.d.width()]
	f(&r.y0[lo*n], &r.inv0[lo], &r.x0[lo*n], &r.g0[0], hi-lo, n, float32(1/float64(n)), r.eps)
	for i := lo; i < hi; i++ {
		if !squarable(r.inv0[i]) {
			r.d.Device.RMSNorm(r.y.Slice(i*n, (i+1)*n), r.inv.Slice(i, i+1), r.x.Slice(i*n, (i+1)*n), r.gain, 1, n, r.eps)
		}
	}
}

// squarable reports whether the squares of a row that made inv fit float32, with room to both sides. The rows that do
// not, and those with NaN or Inf, go to device/cpu and its float64.
func squarable(inv float32) bool { return inv > 1e-15 && inv < 1e15 }

func (d *Device) RMSNormGrad(dx, dgain, dy, x, gain, inv device.Mem, rows, cols int, acc bool) {
	if d.tier == None || rows*cols == 0 {
		d.Device.RMSNormGrad(dx, dgain, dy, x, gain, inv, rows, cols, acc)
		return
	}
	dx0, dg0, dy0, x0, inv0 := dx.F32(), dgain.F32(), dy.F32(), x.F32(), inv.F32()
	if d.Failed() || dx0 == nil && dg0 == nil {
		return
	}
	g0, b := orFill(gain.F32(), cols, 1)
	defer b.Free()
	blocks := ceil(rows, rowBlock)
	var part scratch.Buf[float32]
	if dg0 != nil {
		part = scratch.Get[float32](blocks * cols)
		defer part.Free()
	}
	split(d, blocks, 16*rowBlock*cols, rmsNormGrad{d, dx0, part.X, dy0, x0, g0, inv0, rows, cols, acc}, rmsNormGrad.run)
	if dg0 != nil {
		d.addSum(dg0[:cols], 1, part.X)
	}
}

type rmsNormGrad struct {
	d                       *Device
	dx, part, dy, x, g, inv []float32
	rows, cols              int
	acc                     bool
}

func (r rmsNormGrad) run(lo, hi int) {
	grad, sum := rmsNormGradRoutine[r.d.width()], rmsNormGainRoutine[r.d.width()]
	for b := lo; b < hi; b++ { // the second routine finds the block in cache
		i, n := b*rowBlock, min(rowBlock, r.rows-b*rowBlock)
		at := i * r.cols
		if r.dx != nil {
			if !r.acc {
				clear(r.dx[at : at+n*r.cols])
			}
			grad(&r.dx[at], &r.dy[at], &r.x[at], &r.g[0], &r.inv[i], n, r.cols, float32(1/float64(r.cols)))
		}
		if r.part != nil {
			sum(&r.part[b*r.cols], &r.dy[at], &r.x[at], &r.inv[i], n, r.cols)
		}
	}
}
