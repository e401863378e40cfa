package devicetest

import (
	"fmt"
	"math"

	"setun/device"
)

// quantizeStochastic is the rule for elements from index at on that share a scale.
func quantizeStochastic(q []float64, x []float32, at int, given float32, s device.StochasticQuant) (scale float32) {
	a := float32(0)
	for _, v := range x {
		if v != v || math.IsInf(float64(v), 0) {
			clear(q)
			return nan
		}
		a = max(a, float32(math.Abs(float64(v))))
	}
	if s.Clip > 0 {
		sum := device.LaneSum(x, func(v float32) float64 { return float64(v) * float64(v) })
		a = min(a, float32(float64(s.Clip)*math.Sqrt(sum/float64(len(x)))))
	}
	scale = max(a, device.GradFloor) / float32(s.Levels)
	if s.Given {
		scale = given
	}
	for j, v := range x {
		v /= scale
		f := math.Floor(float64(v))
		if unit(s.Seed, at+j) < v-float32(f) {
			f++
		}
		q[j] = max(-float64(s.Levels), min(float64(s.Levels), f))
	}
	return scale
}

func stochasticTable() table {
	t := table{kernel: "QuantizeStochastic"}
	quant := func(x, given []float32, s device.StochasticQuant) call {
		scale := out("scale", len(given))
		if s.Given {
			scale = in("scale", given)
		}
		return call{
			ops: []operand{outCodes("codes", len(x)), scale, in("x", x)},
			run: func(k device.Kernels, m []device.Mem) { k.QuantizeStochastic(m[0], m[1], m[2], s) },
			ref: func(x [][]float64) {
				v := narrow(x[2])
				group := len(v) / len(given)
				for i := range given {
					lo, hi := i*group, (i+1)*group
					x[1][i] = float64(quantizeStochastic(x[0][lo:hi], v[lo:hi], lo, given[i], s))
				}
			},
		}
	}
	for _, s := range []device.StochasticQuant{
		{Levels: 127}, {Levels: 127, Given: true}, {Levels: 1}, {Levels: 1, Clip: 2.5}, {Levels: 1, Given: true},
		{Levels: 2, Clip: 1},
	} {
		for i, shape := range append(shapes[1:], [2]int{3, 4096}, [2]int{5, 4097}, [2]int{2, 10000}, [2]int{640, 512}) {
			for _, s.PerRow = range []bool{false, true} {
				s := s
				s.Rows, s.Cols = shape[0], shape[1]
				scales := 1
				if s.PerRow {
					scales = s.Rows
				}
				t.cases = append(t.cases, kase{
					name: fmt.Sprintf("levels=%d,clip=%v,given=%t,perRow=%t,rows=%d,cols=%d", s.Levels, s.Clip, s.Given, s.PerRow,
						s.Rows, s.Cols),
					sizeable: i == len(shapes)+2,
					make: func(g gen) call {
						s := s
						s.Seed = g.Uint64()
						return quant(g.normal(s.Rows*s.Cols), g.uniform(scales, 0.3, 3), s)
					},
				})
			}
		}
	}
	// Whole quotients never move, elements beyond the levels are clipped, 0 stays 0.
	t = t.with("whole", func(gen) call {
		return quant([]float32{0, 0.5, -0.5, 1, -1, 1.5, -1.5, 7, -7}, []float32{0.5},
			device.StochasticQuant{Levels: 2, Given: true, Rows: 3, Cols: 3})
	})
	t = t.with("range", func(gen) call {
		return quant([]float32{0, 0, 0, 1e-38, -1e-40, 1e-30, 3e38, -1e38, 1e30}, make([]float32, 3),
			device.StochasticQuant{Levels: 127, Rows: 3, Cols: 3, PerRow: true})
	})
	for _, given := range []bool{false, true} {
		t = t.with(fmt.Sprintf("special,given=%t", given), func(g gen) call {
			x := g.normal(5 * 17)
			x[0], x[3*17-1], x[4*17+5] = nan, inf, -inf
			return quant(x, []float32{1, 1, 1, 1, 1},
				device.StochasticQuant{Levels: 1, Clip: 2.5, Rows: 5, Cols: 17, PerRow: true, Given: given})
		})
	}
	return t
}
