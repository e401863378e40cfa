package devicetest

import (
	"fmt"
	"math"

	"setun/device"
)

// activate gives f(x) and f'(x).
func activate(f device.UnaryOp, x float64) (y, slope float64) {
	s := 1 / (1 + math.Exp(-x))
	switch f {
	case device.SiLU:
		return x * s, s + x*s*(1-s)
	case device.ReLU:
		if x > 0 {
			return x, 1
		}
		return 0 * x, 0
	case device.ReLU2:
		if x > 0 {
			return x * x, 2 * x
		}
		return 0 * x, 0
	case device.GELU:
		phi := (1 + math.Erf(x/math.Sqrt2)) / 2
		return x * phi, phi + x*math.Exp(-x*x/2)/math.Sqrt(2*math.Pi)
	case device.Sigmoid:
		return s, s * (1 - s)
	case device.Tanh:
		t := math.Tanh(x)
		return t, 1 - t*t
	case device.Exp:
		return math.Exp(x), math.Exp(x)
	}
	panic("devicetest: no oracle for " + f.String())
}

// corners are where activations saturate, overflow or lose their digits; NaN must not get lost.
var corners = []float32{0, 1e-8, -1e-8, 1e-3, -1e-3, 0.5, -0.5, 5, -5, 9, -9, 17, -17, 30, -30, 60, -60, 80, -80, 100,
	-100, 1e4, -1e4, nan}

func unaryTables() []table {
	fwd := func(f device.UnaryOp, v []float32) call {
		return call{
			ops: []operand{out("dst", len(v)), in("x", v)},
			run: func(k device.Kernels, m []device.Mem) { k.Unary(f, m[0], m[1]) },
			ref: func(x [][]float64) {
				for i, v := range x[1] {
					x[0][i], _ = activate(f, v)
				}
			},
			alias: []int{1},
			tol:   4e-6,
		}
	}
	bwd := func(f device.UnaryOp, dx, dy, v []float32) call {
		return call{
			ops: []operand{grad("dx", dx), in("dy", dy), in("x", v)},
			ref: func(x [][]float64) {
				for i, v := range x[2] {
					_, s := activate(f, v)
					x[0][i] += x[1][i] * s
				}
			},
			diff: func(x [][]float64) map[int][]float64 {
				return map[int][]float64{0: central(x[2], func() float64 {
					sum := 0.0
					for i, v := range x[2] {
						y, _ := activate(f, v)
						sum += x[1][i] * y
					}
					return sum
				})}
			},
			tol: 4e-6,
		}.adding(1, func(k device.Kernels, m []device.Mem, acc bool) { k.UnaryGrad(f, m[0], m[1], m[2], acc) })
	}
	gated := func(f device.UnaryOp, g, u []float32) call {
		return call{
			ops: []operand{out("dst", len(g)), in("g", g), in("u", u)},
			run: func(k device.Kernels, m []device.Mem) { k.Gated(f, m[0], m[1], m[2]) },
			ref: func(x [][]float64) {
				for i, v := range x[1] {
					y, _ := activate(f, v)
					x[0][i] = y * x[2][i]
				}
			},
			alias: []int{1, 2},
			tol:   4e-6,
		}
	}
	gatedGrad := func(f device.UnaryOp, g gen, n int) call {
		return call{
			ops: []operand{grad("dg", g.normal(n)), grad("du", g.normal(n)),
				in("dy", g.normal(n)), in("g", g.normal(n)), in("u", g.normal(n))},
			ref: func(x [][]float64) {
				for i, v := range x[3] {
					y, s := activate(f, v)
					if x[0] != nil {
						x[0][i] += x[2][i] * s * x[4][i]
					}
					if x[1] != nil {
						x[1][i] += x[2][i] * y
					}
				}
			},
			diff: func(x [][]float64) map[int][]float64 {
				loss := func() float64 {
					sum := 0.0
					for i, v := range x[3] {
						y, _ := activate(f, v)
						sum += x[2][i] * y * x[4][i]
					}
					return sum
				}
				return map[int][]float64{0: central(x[3], loss), 1: central(x[4], loss)}
			},
			tol: 5e-6,
		}.adding(2, func(k device.Kernels, m []device.Mem, acc bool) { k.GatedGrad(f, m[0], m[1], m[2], m[3], m[4], acc) })
	}
	ts := []table{{kernel: "Unary"}, {kernel: "UnaryGrad"}, {kernel: "Gated"}, {kernel: "GatedGrad"}}
	for _, f := range device.UnaryOps {
		for _, n := range append(sizes, large) {
			// Every size for one activation, a few for the others.
			if f != device.SiLU && n != 0 && n != 17 && n != 127 && n != large {
				continue
			}
			add := func(t *table, make func(g gen) call) {
				t.cases = append(t.cases, kase{name: fmt.Sprintf("%s/n=%d", f, n), sizeable: n == large, make: make})
			}
			add(&ts[0], func(g gen) call { return fwd(f, g.normal(n)) })
			add(&ts[1], func(g gen) call {
				return bwd(f, g.normal(n), g.normal(n), g.normal(n)).small(n)
			})
			add(&ts[2], func(g gen) call { return gated(f, g.normal(n), g.normal(n)) })
			add(&ts[3], func(g gen) call { return gatedGrad(f, g, n).small(n) })
		}
		ts[0] = ts[0].with(f.String()+"/corners", func(gen) call { return fwd(f, corners) })
		ts[1] = ts[1].with(f.String()+"/corners", func(g gen) call {
			c := corners[:len(corners)-1] // without NaN
			b := bwd(f, g.normal(len(c)), g.normal(len(c)), c)
			b.diff = nil
			return b
		})
	}
	return ts
}

// small drops the central differences of n or more than 1000 values.
func (c call) small(n int) call {
	if n >= 1000 {
		c.diff = nil
	}
	return c
}
