package cpu

import (
	"math"

	"github.com/chewxy/math32"

	"setun/device"
)

func (d *Device) CrossEntropy(loss, rowLoss, stats, logits, targets device.Mem, rows, cols int) {
	loss0, row0, stats0, x0, t0 := loss.F32(), rowLoss.F32(), stats.F32(), logits.F32(), targets.I32()
	if d.Failed() || stats0 == nil || !d.indexed("CrossEntropy", t0[:rows], cols, true) {
		return
	}
	d.par(rows, cols*costly, func(lo, hi int) {
		for i := lo; i < hi; i++ {
			stats0[i] = float32(logSumExp(x0[i*cols : (i+1)*cols]))
		}
	})
	valid, sum := 0, 0.0
	for i := range rows {
		l := float32(0)
		if t := int(t0[i]); t >= 0 {
			l = stats0[i] - x0[i*cols+t]
			valid++
			sum += float64(l)
		}
		if row0 != nil {
			row0[i] = l
		}
	}
	inv, mean := 0.0, 0.0
	if valid > 0 {
		inv, mean = 1/float64(valid), sum/float64(valid)
	}
	stats0[rows] = float32(inv)
	if len(loss0) > 0 {
		loss0[0] = float32(mean)
	}
}

// logSumExp is log sum exp x, shifted by the largest.
func logSumExp(x []float32) float64 {
	m := maxRow(x)
	if math32.IsInf(m, 0) {
		m = 0 // Inf - Inf would hide the infinity
	}
	sum := 0.0
	for _, v := range x {
		sum += exp(float64(v - m))
	}
	return float64(m) + math.Log(sum)
}

func (d *Device) CrossEntropyGrad(dlogits, dloss, stats, logits, targets device.Mem, rows, cols int) {
	g0, dl, stats0, x0, t0 := dlogits.F32(), dloss.F32(), stats.F32(), logits.F32(), targets.I32()
	if d.Failed() || g0 == nil || !d.indexed("CrossEntropyGrad", t0[:rows], cols, true) {
		return
	}
	scale := dl[0] * stats0[rows]
	d.par(rows, cols*costly, func(lo, hi int) {
		for i := lo; i < hi; i++ {
			t := int(t0[i])
			if t < 0 {
				continue
			}
			g, x, lse := g0[i*cols:(i+1)*cols], x0[i*cols:(i+1)*cols], stats0[i]
			hit := g[t] + scale*float32(exp(float64(x[t]-lse))-1)
			for j, v := range x {
				g[j] += scale * float32(exp(float64(v-lse)))
			}
			g[t] = hit
		}
	})
}
