package cpu

import (
	"math"

	"setun/device"
)

func (d *Device) QuantizeStochastic(codes, scale, x device.Mem, s device.StochasticQuant) {
	d.QuantizeStochasticFrom(codes, scale, x, s, func(u *Draws, at int) {
		for i := 0; i < len(u); i += 4 {
			w := device.Philox(s.Seed, uint64(at+i)/4)
			for j := range w {
				u[i+j] = device.Unit(w[j])
			}
		}
	})
}

// Draws are elements of [device.Kernels.Uniform] over [0, 1).
type Draws [64]float32

// QuantizeStochasticFrom is QuantizeStochastic for devices that have a faster source of random numbers: draw fills in
// the elements from at on.
func (d *Device) QuantizeStochasticFrom(codes, scale, x device.Mem, s device.StochasticQuant,
	draw func(u *Draws, at int)) {
	q0, s0, x0 := codes.I8(), scale.F32(), x.F32()
	groups, n := 1, s.Rows*s.Cols
	if s.PerRow {
		groups, n = s.Rows, s.Cols
	}
	if d.Failed() || q0 == nil || len(s0) == 0 || n == 0 {
		return
	}
	if !s.Given && groups == 1 {
		s0[0] = stochasticScale(d.Threads, x0[:n], s)
	} else if !s.Given {
		d.par(groups, 2*n*cheap, func(lo, hi int) {
			for i := lo; i < hi; i++ {
				s0[i] = stochasticScale(1, x0[i*n:(i+1)*n], s)
			}
		})
	}
	total := groups * n
	d.par((total+len(Draws{})-1)/len(Draws{}), len(Draws{})*costly, func(lo, hi int) {
		var u Draws
		for b := lo; b < hi; b++ {
			at := b * len(u)
			draw(&u, at)
			for i, end := at, min(at+len(u), total); i < end; { // a piece of one group
				g := i / n
				stop := min(end, (g+1)*n)
				roundStochastic(q0[i:stop], x0[i:stop], u[i-at:], s0[g], float32(s.Levels))
				i = stop
			}
		}
	})
	for i := range groups {
		if s.Given && !finite(absMax(x0[i*n:(i+1)*n])) {
			clear(q0[i*n : (i+1)*n])
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

// roundStochastic: q = floor(v) + [u < v - floor(v)] of v = x/scale, without branches that noise would mispredict.
func roundStochastic(q []int8, x, u []float32, scale, top float32) {
	x, u = x[:len(q)], u[:len(q)]
	for i := range q {
		v := max(min(x[i]/scale, top), -top)
		if v != v { // of a NaN scale, or 0/0
			v = 0
		}
		f := int32(v)
		below := int32(math.Float32bits(v-float32(f))) >> 31 // -1 where f > v, and at -0
		f += below
		up := math.Float32bits(u[i]-(v-float32(f))) >> 31 // of a difference of 0 it is 0
		q[i] = int8(f + int32(up))
	}
}
