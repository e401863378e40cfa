//go:build amd64 || arm64

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
	split(d, rows, 8*cols, crossEntropy{d, losses, stats0, x0, t0, cols, 0}, crossEntropy.run)
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
	split(d, rows, 12*cols, crossEntropy{d, g0, stats0, x0, t0, cols, dloss.F32()[0] * stats0[rows]}, crossEntropy.grad)
}

type crossEntropy struct {
	d           *Device
	y, stats, x []float32 // y: losses of rows, or the gradient of x
	targets     []int32
	cols        int
	scale       float32
}

func (c crossEntropy) run(lo, hi int) {
	logSumExpRoutine[c.d.width()](&c.stats[lo], &c.y[lo], &c.x[lo*c.cols], hi-lo, c.cols)
	for i := lo; i < hi; i++ {
		lse := float32(float64(c.stats[i]) + math.Log(float64(c.y[i])))
		c.stats[i], c.y[i] = lse, 0
		if t := int(c.targets[i]); t >= 0 {
			c.y[i] = lse - c.x[i*c.cols+t]
		}
	}
}

func (c crossEntropy) grad(lo, hi int) {
	f := crossEntropyGradRoutine[c.d.width()]
	f(&c.y[lo*c.cols], &c.stats[lo], &c.x[lo*c.cols], &c.targets[lo], hi-lo, c.cols, c.scale)
}
