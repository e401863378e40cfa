package devicetest

import (
	"fmt"

	"setun/device"
)

// qlinear: y[i,j] = float32(sum over k of xq[i,k]*codes[j,k]) * xs[i] * ws[j or 0] + bias[j].
func qlinear(y, xq, xs, codes, ws, bias []float64, m, n, k int) {
	for i := range m {
		for j := range n {
			sum := int64(0)
			for l := range k {
				sum += int64(xq[i*k+l]) * int64(codes[j*k+l])
			}
			v := float64(float32(sum)) * xs[i] * at(ws, j)
			if bias != nil {
				v += bias[j]
			}
			y[i*n+j] = v
		}
	}
}

func qlinearTables() []table {
	fwd := func(xq, codes []int8, xs, ws, bias []float32, m, n, k int, tol float64) call {
		return call{
			ops: []operand{out("y", m*n), in("xq", xq), in("xs", xs), in("codes", codes), in("ws", ws),
				in("bias", bias).opt()},
			run: func(d device.Kernels, o []device.Mem) {
				d.QLinear(o[0], o[1], o[2], o[3], o[4], o[5], m, n, k)
			},
			ref:     func(x [][]float64) { qlinear(x[0], x[1], x[2], x[3], x[4], x[5], m, n, k) },
			tol:     tol,
			mulAdds: m * n * k,
		}
	}
	gradX := func(g gen, levels, scales, m, n, k int) call {
		return call{
			ops: []operand{grad("dx", g.normal(m*k)), in("dy", g.normal(m*n)), in("codes", g.codes(n*k, levels)),
				in("ws", g.uniform(scales, 0.5, 1))},
			run: func(d device.Kernels, o []device.Mem) { d.QLinearGradX(o[0], o[1], o[2], o[3], m, n, k) },
			ref: func(x [][]float64) {
				for i := range x[0] {
					for j := range n {
						x[0][i] += x[1][i/k*n+j] * at(x[3], j) * x[2][j*k+i%k]
					}
				}
			},
			// The product is linear in x = xq*xs, so any x will do.
			diff: func(x [][]float64) map[int][]float64 {
				v, y, ones := make([]float64, m*k), make([]float64, m*n), fill(m, 1)
				return map[int][]float64{0: central(v, func() float64 {
					linear(y, v, ones, x[2], x[3], m, n, k)
					return dot(y, x[1])
				})}
			},
			tol:     1e-6 + 4e-7*float64(n*levels),
			mulAdds: m * n * k,
		}
	}
	gradW := func(g gen, m, n, k int) call {
		return call{
			ops: []operand{grad("dw", g.normal(n*k)), in("dy", g.normal(m*n)), in("xq", g.codes(m*k, 127)),
				in("xs", g.uniform(m, 0.005, 0.01))},
			run: func(d device.Kernels, o []device.Mem) { d.QLinearGradW(o[0], o[1], o[2], o[3], m, n, k) },
			ref: func(x [][]float64) {
				for i := range x[0] {
					for r := range m {
						x[0][i] += x[1][r*n+i/k] * x[3][r] * x[2][r*k+i%k]
					}
				}
			},
			diff: func(x [][]float64) map[int][]float64 {
				w, y := make([]float64, n*k), make([]float64, m*n)
				return map[int][]float64{0: central(w, func() float64 {
					linear(y, x[2], x[3], w, []float64{1}, m, n, k)
					return dot(y, x[1])
				})}
			},
			tol:     1e-6 + 4e-7*float64(m),
			mulAdds: m * n * k,
		}
	}
	ts := []table{{kernel: "QLinear"}, {kernel: "QLinearGradX"}, {kernel: "QLinearGradW"}}
	for _, s := range []struct {
		m, n, k  int
		sizeable bool
	}{
		{m: 0, n: 3, k: 4}, {m: 3, n: 0, k: 4}, {m: 3, n: 2, k: 0}, {m: 1, n: 1, k: 1}, {m: 1, n: 17, k: 33},
		{m: 5, n: 3, k: 16}, {m: 2, n: 31, k: 15}, {m: 7, n: 5, k: 65}, {m: 17, n: 33, k: 31}, {m: 33, n: 16, k: 64},
		{m: 3, n: 64, k: 127}, {m: 65, n: 2, k: 128}, {m: 1, n: 9, k: 1000}, {m: 4, n: 130, k: 257},
		{m: 512, n: 512, k: 512, sizeable: true}, {m: 1, n: 1024, k: 1024, sizeable: true},
	} {
		m, n, k := s.m, s.n, s.k
		for _, levels := range []int{1, 2} {
			for _, perRow := range []bool{false, true} {
				if s.sizeable && (perRow || levels > 1) {
					continue
				}
				scales := 1
				if perRow {
					scales = max(n, 1)
				}
				add := func(t *table, make func(g gen) call) {
					t.cases = append(t.cases, kase{
						name:     fmt.Sprintf("m=%d,n=%d,k=%d,levels=%d,perRow=%t", m, n, k, levels, perRow),
						sizeable: s.sizeable,
						make:     func(g gen) call { return make(g).small(m * n * k / 16) },
					})
				}
				add(&ts[0], func(g gen) call {
					return fwd(g.codes(m*k, 127), g.codes(n*k, levels), g.uniform(m, 0.005, 0.01),
						g.uniform(scales, 0.5, 1), g.normal(n), m, n, k, 5e-7)
				})
				add(&ts[1], func(g gen) call { return gradX(g, levels, scales, m, n, k) })
				if levels == 1 && !perRow {
					add(&ts[2], func(g gen) call { return gradW(g, m, n, k) })
				}
			}
		}
	}
	// Sums are exact integers: scales that are powers of two leave no rounding but that of float32(sum).
	for _, k := range []int{1, 31, 64, 65, 5000, 140_001} {
		for _, levels := range []int8{1, 2} {
			ts[0] = ts[0].with(fmt.Sprintf("exact,k=%d,levels=%d", k, levels), func(g gen) call {
				const m, n = 3, 5
				xq, codes := make([]int8, m*k), make([]int8, n*k)
				for i := range xq { // rows of 127, of -127, of both
					xq[i] = 127
					if i/k == 1 || i/k == 2 && g.IntN(2) == 0 {
						xq[i] = -127
					}
				}
				for i := range codes {
					codes[i] = levels
					if i/k == 1 || i/k == 2 && g.IntN(2) == 0 {
						codes[i] = -levels
					} else if i/k == 3 {
						codes[i] = int8(i % 2)
					}
				}
				return fwd(xq, codes, []float32{1, 0.5, 2}, []float32{1, 0.25, 4, 1, 2}, make([]float32, n), m, n, k, 0)
			})
		}
	}
	return ts
}

// linear is qlinear for any numbers: y[i,j] = sum over k of x[i,k]*xs[i]*w[j,k]*ws[j or 0].
func linear(y, x, xs, w, ws []float64, m, n, k int) {
	for i := range m {
		for j := range n {
			y[i*n+j] = dot(x[i*k:(i+1)*k], w[j*k:(j+1)*k]) * xs[i] * at(ws, j)
		}
	}
}

func fill(n int, v float64) []float64 {
	x := make([]float64, n)
	for i := range x {
		x[i] = v
	}
	return x
}
