package devicetest

import (
	"fmt"
	"math"

	"setun/device"
)

// special holds the values arithmetic must pass on as IEEE 754 says.
var special = []float32{0, float32(math.Copysign(0, -1)), 1, -1, nan, inf, -inf, math.MaxFloat32, -math.MaxFloat32,
	1e-30}

// pairs gives every pair of special values.
func pairs() (a, b []float32) {
	for _, x := range special {
		for _, y := range special {
			a, b = append(a, x), append(b, y)
		}
	}
	return a, b
}

// vectors gives cases for each size.
func vectors(kernel string, make func(g gen, n int) call) table {
	t := table{kernel: kernel}
	for _, n := range sizes {
		t.cases = append(t.cases, kase{name: fmt.Sprintf("n=%d", n), make: func(g gen) call { return make(g, n) }})
	}
	t.cases = append(t.cases, kase{name: fmt.Sprintf("n=%d", large), sizeable: true,
		make: func(g gen) call { return make(g, large) }})
	return t
}

func (t table) with(name string, make func(g gen) call) table {
	t.cases = append(t.cases, kase{name: name, make: make})
	return t
}

func elementwiseTables() []table {
	add := func(a, b []float32) call {
		return call{
			ops: []operand{out("dst", len(a)), in("a", a), in("b", b)},
			run: func(k device.Kernels, m []device.Mem) { k.Add(m[0], m[1], m[2]) },
			ref: func(x [][]float64) {
				for i := range x[0] {
					x[0][i] = x[1][i] + x[2][i]
				}
			},
			alias: []int{1, 2},
		}
	}
	mul := func(a, b []float32) call {
		return call{
			ops: []operand{out("dst", len(a)), in("a", a), in("b", b)},
			run: func(k device.Kernels, m []device.Mem) { k.Mul(m[0], m[1], m[2]) },
			ref: func(x [][]float64) {
				for i := range x[0] {
					x[0][i] = x[1][i] * x[2][i]
				}
			},
			alias: []int{1, 2},
		}
	}
	scale := func(alpha float32) func(g gen, n int) call {
		return func(g gen, n int) call {
			return call{
				ops: []operand{out("dst", n), in("x", g.normal(n))},
				run: func(k device.Kernels, m []device.Mem) { k.Scale(m[0], alpha, m[1]) },
				ref: func(x [][]float64) {
					for i := range x[0] {
						x[0][i] = float64(alpha) * x[1][i]
					}
				},
				alias: []int{1},
			}
		}
	}
	axpy := func(alpha float32) func(g gen, n int) call {
		return func(g gen, n int) call {
			return call{
				ops: []operand{grad("d", g.normal(n)), in("x", g.normal(n))},
				run: func(k device.Kernels, m []device.Mem) { k.Axpy(m[0], alpha, m[1]) },
				ref: func(x [][]float64) {
					for i := range x[0] {
						x[0][i] += float64(alpha) * x[1][i]
					}
				},
				tol: 3e-7,
			}
		}
	}
	return []table{
		vectors("Add", func(g gen, n int) call { return add(g.normal(n), g.normal(n)) }).
			with("special", func(gen) call { return add(pairs()) }),
		vectors("Mul", func(g gen, n int) call { return mul(g.normal(n), g.normal(n)) }).
			with("special", func(gen) call { return mul(pairs()) }),
		vectors("MulAdd", func(g gen, n int) call {
			return call{
				ops: []operand{grad("d", g.normal(n)), in("a", g.normal(n)), in("b", g.normal(n))},
				run: func(k device.Kernels, m []device.Mem) { k.MulAdd(m[0], m[1], m[2]) },
				ref: func(x [][]float64) {
					for i := range x[0] {
						x[0][i] += x[1][i] * x[2][i]
					}
				},
				tol: 5e-7,
			}
		}),
		vectors("Scale", scale(-1.7)).with("alpha=0", func(g gen) call { return scale(0)(g, 33) }),
		vectors("Axpy", axpy(0.3)).with("alpha=-1", func(g gen) call { return axpy(-1)(g, 33) }),
		dropoutTable(),
	}
}

func dropoutTable() table {
	t := table{kernel: "Dropout"}
	add := func(n int, p float32, acc, sizeable bool) {
		t.cases = append(t.cases, kase{name: fmt.Sprintf("p=%v,acc=%t,n=%d", p, acc, n), sizeable: sizeable,
			make: func(g gen) call {
				seed := g.Uint64()
				return call{
					ops: []operand{pick(acc, "dst", g.normal(n)), in("x", g.normal(n))},
					run: func(k device.Kernels, m []device.Mem) { k.Dropout(m[0], m[1], p, seed, acc) },
					ref: func(x [][]float64) {
						for i := range x[0] {
							y := 0.0
							if unit(seed, i) >= p {
								y = x[1][i] / (1 - float64(p))
							}
							if acc {
								y += x[0][i]
							}
							x[0][i] = y
						}
					},
					alias: []int{1},
					tol:   5e-7,
				}
			}})
	}
	for _, n := range sizes {
		add(n, 0.3, n%2 == 0, false)
	}
	for _, p := range []float32{0, 0.5, 0.9} {
		add(65, p, false, false)
		add(65, p, true, false)
	}
	add(large, 0.1, false, true)
	return t
}

// unit is element i of Uniform(seed) in [0, 1): word i%4 of counter i/4.
func unit(seed uint64, i int) float32 {
	w := device.Philox(seed, uint64(i/4))
	return float32(w[i%4]>>8) / (1 << 24)
}
