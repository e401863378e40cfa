package cpu

import (
	"math"

	"setun/device"
)

func (d *Device) QuantizeStochastic(codes, scale, x device.Mem, s device.StochasticQuant) {
	q0, s0, x0 := codes.I8(), scale.F32(), x.F32()
	if d.Failed() || q0 == nil || len(s0) == 0 {
		return
	}
	groups, n := 1, s.Rows*s.Cols
	if s.PerRow {
		groups, n = s.Rows, s.Cols
	}
	if n == 0 {
		return
	}
	if !s.Given {
		if groups == 1 {
			s0[0] = stochasticScale(d.Threads, x0[:n], s)
		} else {
			d.par(groups, 2*n*cheap, func(lo, hi int) {
				for i := lo; i < hi; i++ {
					s0[i] = stochasticScale(1, x0[i*n:(i+1)*n], s)
				}
			})
		}
	}
	d.par((groups*n+3)/4, 2*costly, func(lo, hi int) { roundStochastic(q0, s0, x0, groups*n, n, lo, hi, s) })
	if s.Given {
		for i := range groups {
			if !finite(absMax(x0[i*n : (i+1)*n])) {
				clear(q0[i*n : (i+1)*n])
			}
		}
	}
}

// stochasticScale is NaN for a group with a NaN or Inf.
func stochasticScale(threads int, x []float32, s device.StochasticQuant) float32 {
	a := absMax(x)
	if !finite(a) {
		return nan32
	}
	if s.Clip > 0 {
		rms := math.Sqrt(laneSum(threads, x, sumSquares, 0) / float64(len(x)))
		a = min(a, float32(float64(s.Clip)*rms))
	}
	return max(a, device.GradFloor) / float32(s.Levels)
}

// roundStochastic makes the codes of the counters lo to hi of Philox; n of the total elements share a scale.
func roundStochastic(q []int8, scale, x []float32, total, n, lo, hi int, s device.StochasticQuant) {
	top, g := float32(s.Levels), 4*lo/n
	for c := lo; c < hi; c++ {
		w := device.Philox(s.Seed, uint64(c))
		for i := 4 * c; i < min(4*c+4, total); i++ {
			if i == (g+1)*n {
				g++
			}
			v := max(min(x[i]/scale[g], top), -top)
			f := float32(math.Floor(float64(v)))
			if device.Unit(w[i&3]) < v-f {
				f++
			}
			if f != f { // of a NaN scale, or 0/0
				f = 0
			}
			q[i] = int8(f)
		}
	}
}
