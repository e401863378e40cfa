package devicetest

import (
	"fmt"
	"math"

	"setun/device"
)

// softmax: y[i,:] = exp(x[i,:] - max) / sum.
func softmax(y, x []float64, rows, cols int) {
	for i := range rows {
		y, x := y[i*cols:(i+1)*cols], x[i*cols:(i+1)*cols]
		m := math.Inf(-1)
		for _, v := range x {
			if v > m {
				m = v
			}
		}
		sum := 0.0
		for j, v := range x {
			y[j] = math.Exp(v - m)
			sum += y[j]
		}
		for j := range y {
			y[j] /= sum
		}
	}
}

func softmaxTables() []table {
	fwd := func(v []float32, rows, cols int) call {
		return call{
			ops:   []operand{out("y", len(v)), in("x", v)},
			run:   func(k device.Kernels, m []device.Mem) { k.Softmax(m[0], m[1], rows, cols) },
			ref:   func(x [][]float64) { softmax(x[0], x[1], rows, cols) },
			alias: []int{1},
			tol:   1e-6,
		}
	}
	bwd := func(g gen, rows, cols int) call {
		n := rows * cols
		y := make([]float64, n)
		softmax(y, floats(device.Wrap(g.normal(n))), rows, cols)
		return call{
			ops: []operand{grad("dx", g.normal(n)), in("dy", g.normal(n)), in("y", narrow(y))},
			run: func(k device.Kernels, m []device.Mem) { k.SoftmaxGrad(m[0], m[1], m[2], rows, cols) },
			ref: func(x [][]float64) {
				for i := range x[0] {
					lo := i / cols * cols
					mean := dot(x[1][lo:lo+cols], x[2][lo:lo+cols])
					x[0][i] += x[2][i] * (x[1][i] - mean)
				}
			},
			diff: func(x [][]float64) map[int][]float64 {
				z := make([]float64, n) // y = softmax(z)
				for i, p := range x[2] {
					z[i] = math.Log(p)
				}
				return map[int][]float64{0: central(z, func() float64 {
					softmax(y, z, rows, cols)
					return dot(x[1], y)
				})}
			},
			tol: 2e-6,
		}
	}
	f, b := table{kernel: "Softmax"}, table{kernel: "SoftmaxGrad"}
	for i, s := range append(shapes, [2]int{3, 0}, [2]int{512, 512}) {
		rows, cols := s[0], s[1]
		name, big := fmt.Sprintf("rows=%d,cols=%d", rows, cols), i > len(shapes)
		f.cases = append(f.cases, kase{name: name, sizeable: big, make: func(g gen) call {
			return fwd(g.normal(rows*cols), rows, cols)
		}})
		b.cases = append(b.cases, kase{name: name, sizeable: big, make: func(g gen) call {
			return bwd(g, rows, cols).small(rows * cols)
		}})
	}
	f = f.with("shifted", func(g gen) call { // exp overflows without the maximum
		return fwd([]float32{1000, 1001, 999, -1000, -1001, -999, 3e4, 0, -3e4, 88, 89, 90}, 4, 3)
	})
	f = f.with("special", func(g gen) call {
		return fwd([]float32{1, 2, 3, 1, nan, 3, nan, nan, nan, -inf, 0, 1, 1, inf, 2, 3, 2, 1}, 6, 3)
	})
	return []table{f, b}
}
