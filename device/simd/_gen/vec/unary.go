package main

import (
	. "github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/reg"

	. "setun/device/simd/gen/lane"
)

// An activation loads its constants and gives the code of f(x) and f'(x), which may change x.
type activation struct {
	name, value, slope string // Go
	code               func(w W) (value, slope func(x reg.VecVirtual) reg.VecVirtual)
	unroll             int
}

var activations = []activation{
	{"silu", "x[i] * sigmoid(x[i])", "sigmoid(x[i]) * (1 + x[i]*(1-sigmoid(x[i])))",
		func(w W) (value, slope func(x reg.VecVirtual) reg.VecVirtual) {
			s := w.NewSigmoid()
			return s.SiLU, func(x reg.VecVirtual) reg.VecVirtual {
				_, slope := s.SiLUSlope(x)
				return slope
			}
		}, 1},
	{"relu", "max(x[i], 0)", "float32(x[i] > 0)",
		func(w W) (value, slope func(x reg.VecVirtual) reg.VecVirtual) {
			zero, one := w.Zero(), w.Const(1)
			return func(x reg.VecVirtual) reg.VecVirtual {
					VMAXPS(x, zero, x)
					return x
				}, func(x reg.VecVirtual) reg.VecVirtual {
					w.Positive(x, zero, one, x)
					return x
				}
		}, 4},
	{"relu2", "max(x[i], 0) * max(x[i], 0)", "2 * max(x[i], 0)",
		func(w W) (value, slope func(x reg.VecVirtual) reg.VecVirtual) {
			zero := w.Zero()
			return func(x reg.VecVirtual) reg.VecVirtual {
					VMAXPS(x, zero, x)
					VMULPS(x, x, x)
					return x
				}, func(x reg.VecVirtual) reg.VecVirtual {
					VMAXPS(x, zero, x)
					VADDPS(x, x, x)
					return x
				}
		}, 4},
	{"gelu", "x[i] * Phi(x[i])", "Phi(x[i]) + x[i]*exp(-x[i]*x[i]/2)/sqrt(2*Pi)",
		func(w W) (value, slope func(x reg.VecVirtual) reg.VecVirtual) {
			n := w.NewNormal()
			return func(x reg.VecVirtual) reg.VecVirtual {
				phi, _ := n.Of(x)
				VMULPS(phi, x, x)
				return x
			}, n.GELUSlope
		}, 1},
	{"sigmoid", "1 / (1 + exp(-x[i]))", "sigmoid(x[i]) * (1 - sigmoid(x[i]))",
		func(w W) (value, slope func(x reg.VecVirtual) reg.VecVirtual) {
			s := w.NewSigmoid()
			return s.Of, func(x reg.VecVirtual) reg.VecVirtual {
				_, slope := s.Slope(x)
				return slope
			}
		}, 1},
	{"tanh", "tanh(x[i])", "1 - tanh(x[i])*tanh(x[i])",
		func(w W) (value, slope func(x reg.VecVirtual) reg.VecVirtual) {
			h := w.NewTanh()
			return h.Of, h.Slope
		}, 1},
	{"exp", "exp(x[i])", "exp(x[i])",
		func(w W) (value, slope func(x reg.VecVirtual) reg.VecVirtual) {
			e := w.NewExp()
			f := func(x reg.VecVirtual) reg.VecVirtual {
				e.Of(x)
				return x
			}
			return f, f
		}, 1},
}

func unary(w W) {
	for _, a := range activations {
		w.Func(a.name, "func(y, x *float32, n int)", "y[i] = "+a.value)
		y, x, n := Ptr("y"), Ptr("x"), Ptr("n")
		value, _ := a.code(w)
		w.Each(n, a.unroll, []reg.GPVirtual{y, x}, func(s Span) { s.Store(value(s.Load(x)), y) })
		w.End()

		w.Func(a.name+"Grad", "func(d, dy, x *float32, n int)", "d[i] += dy[i] * "+a.slope)
		d, dy, x, n := Ptr("d"), Ptr("dy"), Ptr("x"), Ptr("n")
		_, slope := a.code(w)
		w.Each(n, a.unroll, []reg.GPVirtual{d, dy, x}, func(s Span) {
			v := slope(s.Load(x))
			sum := s.Load(d)
			VFMADD231PS(operand(s, dy), v, sum)
			s.Store(sum, d)
		})
		w.End()
	}
}

// gated is SwiGLU's gate, one pass over each operand; the other gates are two passes over blocks in cache.
func gated(w W) {
	w.Func("swiglu", "func(y, gate, u *float32, n int)", "y[i] = gate[i] * sigmoid(gate[i]) * u[i]")
	y, g, u, n := Ptr("y"), Ptr("gate"), Ptr("u"), Ptr("n")
	f := w.NewSigmoid()
	w.Each(n, 1, []reg.GPVirtual{y, g, u}, func(s Span) {
		v := f.SiLU(s.Load(g))
		VMULPS(operand(s, u), v, v)
		s.Store(v, y)
	})
	w.End()

	w.Func("swigluGrad", "func(dg, du, dy, gate, u *float32, n int)",
		"dgate[i] += dy[i] * silu'(gate[i]) * u[i]; du[i] += dy[i] * silu(gate[i])")
	dg, du, dy, g, u, n := Ptr("dg"), Ptr("du"), Ptr("dy"), Ptr("gate"), Ptr("u"), Ptr("n")
	f = w.NewSigmoid()
	w.Each(n, 1, []reg.GPVirtual{dg, du, dy, g, u}, func(s Span) {
		value, slope := f.SiLUSlope(s.Load(g))
		d := s.Load(dy)
		a := s.Load(du)
		VFMADD231PS(d, value, a)
		s.Store(a, du)
		VMULPS(d, slope, slope)
		a = s.Load(dg)
		VFMADD231PS(operand(s, u), slope, a)
		s.Store(a, dg)
	})
	w.End()
}
