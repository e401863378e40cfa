//go:build amd64

package simd

import (
	"setun/device"
	"setun/internal/scratch"
)

func (d *Device) LayerNorm(y, mean, inv, x, gain, bias device.Mem, rows, cols int, eps float32) {
	if d.tier == None || y.IsZero() || rows*cols == 0 {
		d.Device.LayerNorm(y, mean, inv, x, gain, bias, rows, cols, eps)
		return
	}
	y0, x0 := y.F32(), x.F32()
	if d.Failed() {
		return
	}
	mean0, b1 := orScratch(mean.F32(), rows)
	inv0, b2 := orScratch(inv.F32(), rows)
	g0, b3 := orFill(gain.F32(), cols, 1)
	b0, b4 := orFill(bias.F32(), cols, 0)
	for _, b := range []scratch.Buf[float32]{b1, b2, b3, b4} {
		defer b.Free()
	}
	f := wide(d, layerNormAVX512, layerNormAVX2)
	recip := float32(1 / float64(cols))
	d.split(rows, 8*cols, func(lo, hi int) {
		f(&y0[lo*cols], &mean0[lo], &inv0[lo], &x0[lo*cols], &g0[0], &b0[0], hi-lo, cols, recip, eps)
		for i := lo; i < hi; i++ {
			if !squarable(inv0[i]) {
				a, b := i*cols, (i+1)*cols
				d.Device.LayerNorm(y.Slice(a, b), mean.Slice(i, i+1), inv.Slice(i, i+1), x.Slice(a, b), gain, bias, 1, cols,
					eps)
			}
		}
	})
}

func (d *Device) LayerNormGrad(dx, dgain, dbias, dy, x, gain, mean, inv device.Mem, rows, cols int) {
	if d.tier == None || rows*cols == 0 {
		d.Device.LayerNormGrad(dx, dgain, dbias, dy, x, gain, mean, inv, rows, cols)
		return
	}
	dx0, dg0, db0 := dx.F32(), dgain.F32(), dbias.F32()
	dy0, x0, mean0, inv0 := dy.F32(), x.F32(), mean.F32(), inv.F32()
	if d.Failed() || dx0 == nil && dg0 == nil && db0 == nil {
		return
	}
	g0, b := orFill(gain.F32(), cols, 1)
	defer b.Free()
	blocks := ceil(rows, rowBlock)
	var part scratch.Buf[float32]
	var gains, biases []float32
	if dg0 != nil || db0 != nil {
		part = scratch.Get[float32](2 * blocks * cols)
		defer part.Free()
		gains, biases = part.X[:blocks*cols], part.X[blocks*cols:]
	}
	grad, sum := wide(d, layerNormGradAVX512, layerNormGradAVX2), wide(d, layerNormGainAVX512, layerNormGainAVX2)
	recip := float32(1 / float64(cols))
	d.split(blocks, 16*rowBlock*cols, func(lo, hi int) {
		for b := lo; b < hi; b++ { // the second routine finds the block in cache
			i, n := b*rowBlock, min(rowBlock, rows-b*rowBlock)
			at := i * cols
			if dx0 != nil {
				grad(&dx0[at], &dy0[at], &x0[at], &g0[0], &mean0[i], &inv0[i], n, cols, recip)
			}
			if gains != nil {
				sum(&gains[b*cols], &biases[b*cols], &dy0[at], &x0[at], &mean0[i], &inv0[i], n, cols)
			}
		}
	})
	if dg0 != nil {
		d.addSum(dg0[:cols], 1, gains)
	}
	if db0 != nil {
		d.addSum(db0[:cols], 1, biases)
	}
}
