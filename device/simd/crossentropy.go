//go:build amd64

package simd

import (
	"math"

	"setun/device"
)

func (d *Device) CrossEntropy(loss, rowLoss, stats, logits, targets device.Mem, rows, cols int) {
	stats0, x0, t0 := stats.F32(), logits.F32(), targets.I32()
	if d.tier == None || d.Failed() || stats0 == nil || rows*cols == 0 || !below(t0[:rows], cols) {
		d.Device.CrossEntropy(loss, rowLoss, stats, logits, targets, rows, cols)
		return
	}
	losses, b := orScratch(rowLoss.F32(), rows)
	defer b.Free()
	f := wide(d, logSumExpAVX512, logSumExpAVX2)
	d.split(rows, 8*cols, func(lo, hi int) {
		f(&stats0[lo], &losses[lo], &x0[lo*cols], hi-lo, cols)
		for i := lo; i < hi; i++ {
			lse := float32(float64(stats0[i]) + math.Log(float64(losses[i])))
			stats0[i], losses[i] = lse, 0
			if t := int(t0[i]); t >= 0 {
				losses[i] = lse - x0[i*cols+t]
			}
		}
	})
	valid, sum := 0, 0.0
	for i, t := range t0[:rows] {
		if t >= 0 {
			valid++
			sum += float64(losses[i])
		}
	}
	inv, mean := 0.0, 0.0
	if valid > 0 {
		inv, mean = 1/float64(valid), sum/float64(valid)
	}
	stats0[rows] = float32(inv)
	if l := loss.F32(); len(l) > 0 {
		l[0] = float32(mean)
	}
}

// below reports whether all ids are; device/cpu reports the one that is not.
func below(ids []int32, n int) bool {
	for _, id := range ids {
		if int(id) >= n {
			return false
		}
	}
	return true
}

func (d *Device) CrossEntropyGrad(dlogits, dloss, stats, logits, targets device.Mem, rows, cols int) {
	g0, stats0, x0, t0 := dlogits.F32(), stats.F32(), logits.F32(), targets.I32()
	if d.tier == None || d.Failed() || g0 == nil || rows*cols == 0 || !below(t0[:rows], cols) {
		d.Device.CrossEntropyGrad(dlogits, dloss, stats, logits, targets, rows, cols)
		return
	}
	f, scale := wide(d, crossEntropyGradAVX512, crossEntropyGradAVX2), dloss.F32()[0]*stats0[rows]
	d.split(rows, 12*cols, func(lo, hi int) {
		f(&g0[lo*cols], &stats0[lo], &x0[lo*cols], &t0[lo], hi-lo, cols, scale)
	})
}
