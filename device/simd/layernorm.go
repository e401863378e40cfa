//go:build amd64 || arm64

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
	defer b1.Free()
	defer b2.Free()
	defer b3.Free()
	defer b4.Free()
	l := layerNorm{d, y, mean, inv, x, gain, bias, y0, mean0, inv0, x0, g0, b0, cols, eps}
	split(d, rows, 8*cols, l, layerNorm.run)
}

type layerNorm struct {
	d                           *Device
	y, mean, inv, x, gain, bias device.Mem
	y0, mean0, inv0, x0, g0, b0 []float32
	cols                        int
	eps                         float32
}

func (l layerNorm) run(lo, hi int) {
	n := l.cols
	f := layerNormRoutine[l.d.width()]
	f(&l.y0[lo*n], &l.mean0[lo], &l.inv0[lo], &l.x0[lo*n], &l.g0[0], &l.b0[0], hi-lo, n, float32(1/float64(n)), l.eps)
	for i := lo; i < hi; i++ {
		if !squarable(l.inv0[i]) {
			l.d.Device.LayerNorm(l.y.Slice(i*n, (i+1)*n), l.mean.Slice(i, i+1), l.inv.Slice(i, i+1),
				l.x.Slice(i*n, (i+1)*n), l.gain, l.bias, 1, n, l.eps)
		}
	}
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
	l := layerNormGrad{d, dx0, gains, biases, dy0, x0, g0, mean0, inv0, rows, cols}
	split(d, blocks, 16*rowBlock*cols, l, layerNormGrad.run)
	if dg0 != nil {
		d.addSum(dg0[:cols], 1, gains)
	}
	if db0 != nil {
		d.addSum(db0[:cols], 1, biases)
	}
}

type layerNormGrad struct {
	d                                      *Device
	dx, gains, biases, dy, x, g, mean, inv []float32
	rows, cols                             int
}

func (l layerNormGrad) run(lo, hi int) {
	grad, sum := layerNormGradRoutine[l.d.width()], layerNormGainRoutine[l.d.width()]
	for b := lo; b < hi; b++ { // the second routine finds the block in cache
		i, n := b*rowBlock, min(rowBlock, l.rows-b*rowBlock)
		at := i * l.cols
		if l.dx != nil {
			grad(&l.dx[at], &l.dy[at], &l.x[at], &l.g[0], &l.mean[i], &l.inv[i], n, l.cols, float32(1/float64(l.cols)))
		}
		if l.gains != nil {
			sum(&l.gains[b*l.cols], &l.biases[b*l.cols], &l.dy[at], &l.x[at], &l.mean[i], &l.inv[i], n, l.cols)
		}
	}
}
