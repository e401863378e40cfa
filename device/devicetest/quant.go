package devicetest

import (
	"fmt"
	"math"

	"setun/device"
)

// quantizeRow follows the rule in float32.
func quantizeRow(q []float64, x []float32, floor float32) (scale float32) {
	a := floor
	for _, v := range x {
		if v != v || math.IsInf(float64(v), 0) {
			clear(q)
			return nan
		}
		a = max(a, float32(math.Abs(float64(v))))
	}
	s := 127 / a
	for j, v := range x {
		q[j] = math.RoundToEven(float64(v * s))
	}
	return a / 127
}

// quantizeWeights is the rule for elements that share a scale: means in float64 and LaneSum's order, rounded to float32
// once; quotients in float32.
func quantizeWeights(q []float64, w []float32, given float32, s device.WeightQuant) (scale float32) {
	abs := func(v float32) float64 { return math.Abs(float64(v)) }
	mean := device.LaneSum(w, abs) / float64(len(w))
	if math.IsNaN(mean) || math.IsInf(mean, 0) {
		clear(q)
		return nan
	}
	levels := float64(s.Levels)
	switch s.Rule {
	case device.TWN:
		cut := float32(float64(s.Factor) * mean)
		kept := 0
		sum := device.LaneSum(w, func(v float32) float64 {
			if float32(abs(v)) > cut {
				return abs(v)
			}
			return 0
		})
		for j, v := range w {
			q[j] = 0
			if float32(abs(v)) > cut {
				q[j] = math.Copysign(1, float64(v))
				kept++
			}
		}
		return float32(sum / float64(kept))
	case device.AbsMean:
		scale = float32(max(float64(s.Factor)*mean, 1e-8))
	case device.Given:
		scale = given
	}
	for j, v := range w {
		q[j] = max(-levels, min(levels, math.RoundToEven(float64(v/scale))))
	}
	return scale
}

func quantTables() []table {
	return []table{quantizeRowsTable(), quantizeWeightsTable(), stochasticTable(), dequantizeTable(), lsqTable()}
}

func quantizeRowsTable() table {
	t := table{kernel: "QuantizeRows"}
	quant := func(v []float32, rows, cols int) call {
		return call{
			ops: []operand{outCodes("q", rows*cols), out("scale", rows), in("x", v)},
			run: func(k device.Kernels, m []device.Mem) { k.QuantizeRows(m[0], m[1], m[2], rows, cols) },
			ref: func(x [][]float64) {
				v := narrow(x[2])
				for i := range rows {
					x[1][i] = float64(quantizeRow(x[0][i*cols:(i+1)*cols], v[i*cols:(i+1)*cols], 1e-5))
				}
			},
		}
	}
	for i, s := range append(shapes, [2]int{2, 5000}, [2]int{512, 1024}) {
		rows, cols := s[0], s[1]
		t.cases = append(t.cases, kase{name: fmt.Sprintf("rows=%d,cols=%d", rows, cols), sizeable: i > len(shapes),
			make: func(g gen) call { return quant(g.normal(rows*cols), rows, cols) }})
	}
	// 127/a = 1, 2 and 0.5 make halves: they round to even.
	t = t.with("halves", func(gen) call {
		return quant([]float32{
			127, 0.5, 1.5, 2.5, -0.5, -1.5, 126.5, -126.5,
			-63.5, 0.25, 0.75, 1.25, -0.25, -0.75, 63.25, 62.75,
			254, 1, 3, 5, -1, -3, 253, -253,
		}, 3, 8)
	})
	// Rows of zeros and of tiny values use a = 1e-5; huge values and values whose reciprocal is small.
	t = t.with("range", func(gen) call {
		return quant([]float32{0, 0, 0, 1e-6, -1e-7, 1e-12, 1e-5, 9e-6, -1e-5, 3e38, -1e38, 1e30, 1e9, -1, 1e7}, 5, 3)
	})
	// NaN and Inf take their row only, wherever in the row they stand.
	for _, cols := range []int{3, 17, 64} {
		t = t.with(fmt.Sprintf("special,cols=%d", cols), func(g gen) call {
			const rows = 9
			v := g.normal(rows * cols)
			v[0], v[3*cols-1], v[4*cols], v[5*cols], v[7*cols+1] = nan, nan, inf, -inf, -nan
			return quant(v, rows, cols)
		})
	}
	return t
}

func quantizeWeightsTable() table {
	t := table{kernel: "QuantizeWeights"}
	quant := func(w, given []float32, s device.WeightQuant) call {
		scale := out("scale", len(given))
		if s.Rule == device.Given {
			scale = in("scale", given)
		}
		return call{
			ops: []operand{outCodes("codes", len(w)), scale, in("w", w)},
			run: func(k device.Kernels, m []device.Mem) { k.QuantizeWeights(m[0], m[1], m[2], s) },
			ref: func(x [][]float64) {
				w := narrow(x[2])
				group := len(w) / len(given)
				for i := range given {
					lo, hi := i*group, (i+1)*group
					x[1][i] = float64(quantizeWeights(x[0][lo:hi], w[lo:hi], given[i], s))
				}
			},
		}
	}
	rules := []device.WeightQuant{
		{Rule: device.AbsMean, Levels: 1, Factor: 1},
		{Rule: device.AbsMean, Levels: 2, Factor: 0.5},
		{Rule: device.TWN, Levels: 1, Factor: 0.7},
		{Rule: device.Given, Levels: 1},
		{Rule: device.Given, Levels: 2},
	}
	name := func(s device.WeightQuant) string {
		rule := [...]string{"AbsMean", "TWN", "Given"}[s.Rule]
		return fmt.Sprintf("%s/levels=%d,factor=%v,perRow=%t,rows=%d,cols=%d",
			rule, s.Levels, s.Factor, s.PerRow, s.Rows, s.Cols)
	}
	for _, s := range rules {
		for i, shape := range append(shapes[1:], [2]int{3, 4096}, [2]int{5, 4097}, [2]int{2, 10000}, [2]int{640, 512}) {
			for _, s.PerRow = range []bool{false, true} {
				s := s
				s.Rows, s.Cols = shape[0], shape[1]
				sizeable := i == len(shapes)+2
				t.cases = append(t.cases, kase{name: name(s), sizeable: sizeable, make: func(g gen) call {
					w := g.normal(s.Rows * s.Cols)
					for i := range w {
						w[i] *= 0.02
					}
					scales := 1
					if s.PerRow {
						scales = s.Rows
					}
					return quant(w, g.uniform(scales, 0.005, 0.03), s)
				}})
			}
		}
	}
	// Quotients at 0.5 and 1.5 round to even; all zeros divide by 1e-8.
	t = t.with("halves", func(gen) call {
		return quant([]float32{0.25, -0.25, 0.75, -0.75, 1.25, 100, -100, 0.26, 0.24}, []float32{0.5},
			device.WeightQuant{Rule: device.Given, Levels: 2, Rows: 3, Cols: 3})
	})
	t = t.with("zeros", func(gen) call {
		return quant(make([]float32, 33), []float32{0}, device.WeightQuant{Levels: 1, Factor: 1, Rows: 3, Cols: 11})
	})
	t = t.with("special", func(g gen) call {
		w := g.normal(5 * 17)
		w[0], w[3*17-1], w[4*17+5] = nan, inf, -inf
		return quant(w, make([]float32, 5), device.WeightQuant{Levels: 1, Factor: 1, Rows: 5, Cols: 17, PerRow: true})
	})
	return t
}

func dequantizeTable() table {
	t := table{kernel: "Dequantize"}
	for i, s := range append(shapes, [2]int{512, 1024}) {
		for _, perRow := range []bool{false, true} {
			rows, cols, scales := s[0], s[1], 1
			if perRow {
				scales = rows
			}
			if perRow && rows == 0 {
				continue
			}
			t.cases = append(t.cases, kase{
				name:     fmt.Sprintf("rows=%d,cols=%d,perRow=%t", rows, cols, perRow),
				sizeable: i == len(shapes),
				make: func(g gen) call {
					return call{
						ops: []operand{out("y", rows*cols), in("codes", g.codes(rows*cols, 127)),
							in("scale", g.uniform(scales, 0.01, 1))},
						run: func(k device.Kernels, m []device.Mem) { k.Dequantize(m[0], m[1], m[2], rows, cols) },
						ref: func(x [][]float64) {
							for i := range x[0] {
								x[0][i] = x[1][i] * at(x[2], i/cols)
							}
						},
					}
				},
			})
		}
	}
	return t
}

// at is x[i], or x[0] of a single element.
func at(x []float64, i int) float64 {
	if len(x) == 1 {
		return x[0]
	}
	return x[i]
}

func lsqTable() table {
	t := table{kernel: "LSQGrad"}
	lsq := func(g gen, w, scale []float32, rows, cols, levels int) call {
		const alpha = 0.25
		return call{
			ops: []operand{grad("dscale", g.normal(len(scale))), in("dq", g.normal(len(w))), in("w", w),
				in("scale", scale)},
			run: func(k device.Kernels, m []device.Mem) {
				k.LSQGrad(m[0], m[1], m[2], m[3], rows, cols, levels, alpha)
			},
			ref: func(x [][]float64) {
				for i, dq := range x[1] {
					row := 0
					if len(scale) > 1 {
						row = i / cols
					}
					v := float64(float32(x[2][i]) / float32(x[3][row]))
					c := max(-float64(levels), min(float64(levels), math.RoundToEven(v)))
					if math.Abs(v) < float64(levels) {
						c -= v
					}
					x[0][row] += alpha * dq * c
				}
			},
			tol: 3e-6,
		}
	}
	for i, s := range append(shapes, [2]int{512, 1024}) {
		for _, levels := range []int{1, 2} {
			for _, perRow := range []bool{false, true} {
				rows, cols, scales := s[0], s[1], 1
				if perRow {
					scales = rows
				}
				if perRow && rows == 0 {
					continue
				}
				t.cases = append(t.cases, kase{
					name:     fmt.Sprintf("rows=%d,cols=%d,levels=%d,perRow=%t", rows, cols, levels, perRow),
					sizeable: i == len(shapes),
					make: func(g gen) call {
						return lsq(g, g.normal(rows*cols), g.uniform(scales, 0.3, 0.9), rows, cols, levels)
					},
				})
			}
		}
	}
	t = t.with("edges", func(g gen) call { // v = ±levels and halves
		return lsq(g, []float32{0.5, -0.5, 0.25, -0.25, 1, -1, 0.75, 0}, []float32{0.5}, 2, 4, 1)
	})
	return t
}
