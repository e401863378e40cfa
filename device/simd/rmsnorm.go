//go:build amd64

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
	f := wide(d, rmsNormAVX512, rmsNormAVX2)
	d.split(rows, 8*cols, func(lo, hi int) {
		f(&y0[lo*cols], &inv0[lo], &x0[lo*cols], &g0[0], hi-lo, cols, float32(1/float64(cols)), eps)
		for i := lo; i < hi; i++ {
			if !squarable(inv0[i]) {
				a, b := i*cols, (i+1)*cols
				d.Device.RMSNorm(y.Slice(a, b), inv.Slice(i, i+1), x.Slice(a, b), gain, 1, cols, eps)
			}
		}
	})
}

// squarable reports whether the squares of a row that made inv fit float32, with room to both sides. The rows that do
// not, and those with NaN or Inf, go to device/cpu and its float64.
func squarable(inv float32) bool { return inv > 1e-15 && inv < 1e15 }

func (d *Device) RMSNormGrad(dx, dgain, dy, x, gain, inv device.Mem, rows, cols int) {
	if d.tier == None || rows*cols == 0 {
		d.Device.RMSNormGrad(dx, dgain, dy, x, gain, inv, rows, cols)
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
	grad, sum := wide(d, rmsNormGradAVX512, rmsNormGradAVX2), wide(d, rmsNormGainAVX512, rmsNormGainAVX2)
	recip := float32(1 / float64(cols))
	d.split(blocks, 16*rowBlock*cols, func(lo, hi int) {
		for b := lo; b < hi; b++ { // the second routine finds the block in cache
			i, n := b*rowBlock, min(rowBlock, rows-b*rowBlock)
			at := i * cols
			if dx0 != nil {
				grad(&dx0[at], &dy0[at], &x0[at], &g0[0], &inv0[i], n, cols, recip)
			}
			if dg0 != nil {
				sum(&part.X[b*cols], &dy0[at], &x0[at], &inv0[i], n, cols)
			}
		}
	})
	if dg0 != nil {
		d.addSum(dg0[:cols], 1, part.X)
	}
}
