package devicetest

import (
	"fmt"

	"setun/device"
)

// groupShapes are (groups, rows, cols).
var groupShapes = [][3]int{
	{1, 0, 5}, {0, 3, 5}, {2, 3, 0}, {1, 1, 1}, {1, 17, 1}, {3, 1, 7}, {2, 5, 16}, {3, 4, 33}, {1, 65, 31}, {5, 2, 127},
	{1, 3, 1000}, {1, 1000, 3},
}

func reduceTables() []table {
	addRows := func(alpha float32, groups, rows, cols int) func(g gen) call {
		return func(g gen) call {
			n := groups * rows * cols
			return call{
				ops: []operand{out("y", n), in("x", g.normal(n)).opt(), in("b", g.normal(groups*cols))},
				run: func(k device.Kernels, m []device.Mem) {
					k.AddRows(m[0], m[1], m[2], alpha, groups, rows, cols)
				},
				ref: func(x [][]float64) {
					for i := range n {
						v := float64(alpha) * x[2][i/(rows*cols)*cols+i%cols]
						if x[1] != nil {
							v += x[1][i]
						}
						x[0][i] = v
					}
				},
				alias: []int{1},
				tol:   3e-7,
			}
		}
	}
	sumRows := func(alpha float32, groups, rows, cols int) func(g gen) call {
		return func(g gen) call {
			return call{
				ops: []operand{grad("d", g.normal(groups*cols)), in("x", g.normal(groups*rows*cols))},
				run: func(k device.Kernels, m []device.Mem) { k.SumRows(m[0], m[1], alpha, groups, rows, cols) },
				ref: func(x [][]float64) {
					for i, v := range x[1] {
						x[0][i/(rows*cols)*cols+i%cols] += float64(alpha) * v
					}
				},
				tol: 1e-6 + 1e-7*float64(rows),
			}
		}
	}
	add, sum := table{kernel: "AddRows"}, table{kernel: "SumRows"}
	for i, s := range append(groupShapes, [3]int{1, 3001, 67}, [3]int{4, 100, 500}) {
		for _, alpha := range []float32{1, -0.7} {
			name := fmt.Sprintf("alpha=%v,groups=%d,rows=%d,cols=%d", alpha, s[0], s[1], s[2])
			big := i >= len(groupShapes)
			add.cases = append(add.cases, kase{name: name, sizeable: big, make: addRows(alpha, s[0], s[1], s[2])})
			sum.cases = append(sum.cases, kase{name: name, sizeable: big, make: sumRows(alpha, s[0], s[1], s[2])})
		}
	}
	squares := func(v []float32) call {
		return call{
			ops: []operand{grad("d", []float32{0.5}), in("x", v)},
			run: func(k device.Kernels, m []device.Mem) { k.SumSquares(m[0], m[1]) },
			ref: func(x [][]float64) { x[0][0] += dot(x[1], x[1]) },
			tol: 2e-7, // float64 accumulation: the size does not matter
		}
	}
	return []table{add, sum,
		vectors("SumSquares", func(g gen, n int) call { return squares(g.normal(n)) }).
			with("NaN", func(gen) call { return squares([]float32{1, nan, 2}) }).
			with("Inf", func(gen) call { return squares([]float32{1, -inf, 2}) }),
	}
}
