package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"

	. "setun/device/simd/gen/lane"
)

// operand is what s loads at p: memory itself, except for a tail.
func operand(s Span, p reg.GPVirtual) Op {
	if s.Tail() {
		return s.Load(p)
	}
	return s.At(p)
}

func arith(w W) {
	w.Func("add", "func(y, a, b *float32, n int)", "y[i] = a[i] + b[i]")
	y, a, b, n := Ptr("y"), Ptr("a"), Ptr("b"), Ptr("n")
	w.Each(n, 4, []reg.GPVirtual{y, a, b}, func(s Span) {
		v := s.Load(a)
		VADDPS(operand(s, b), v, v)
		s.Store(v, y)
	})
	w.End()

	w.Func("mul", "func(y, a, b *float32, n int)", "y[i] = a[i] * b[i]")
	y, a, b, n = Ptr("y"), Ptr("a"), Ptr("b"), Ptr("n")
	w.Each(n, 4, []reg.GPVirtual{y, a, b}, func(s Span) {
		v := s.Load(a)
		VMULPS(operand(s, b), v, v)
		s.Store(v, y)
	})
	w.End()

	w.Func("mulAdd", "func(y, a, b *float32, n int)", "y[i] += a[i] * b[i]")
	y, a, b, n = Ptr("y"), Ptr("a"), Ptr("b"), Ptr("n")
	w.Each(n, 4, []reg.GPVirtual{y, a, b}, func(s Span) {
		v, d := s.Load(a), s.Load(y)
		VFMADD231PS(operand(s, b), v, d)
		s.Store(d, y)
	})
	w.End()

	w.Func("scale", "func(y, x *float32, n int, alpha float32)", "y[i] = alpha * x[i]")
	y, x, n := Ptr("y"), Ptr("x"), Ptr("n")
	alpha := w.Arg("alpha")
	w.Each(n, 4, []reg.GPVirtual{y, x}, func(s Span) {
		v := w.Vec()
		VMULPS(operand(s, x), alpha, v)
		s.Store(v, y)
	})
	w.End()

	w.Func("axpy", "func(y, x *float32, n int, alpha float32)", "y[i] += alpha*x[i]")
	y, x, n = Ptr("y"), Ptr("x"), Ptr("n")
	alpha = w.Arg("alpha")
	w.Each(n, 4, []reg.GPVirtual{y, x}, func(s Span) {
		d := s.Load(y)
		VFMADD231PS(operand(s, x), alpha, d)
		s.Store(d, y)
	})
	w.End()

	w.Func("addScaled", "func(y, x, b *float32, n int, alpha float32)", "y[i] = x[i] + alpha*b[i]")
	y, x, b, n = Ptr("y"), Ptr("x"), Ptr("b"), Ptr("n")
	alpha = w.Arg("alpha")
	w.Each(n, 4, []reg.GPVirtual{y, x, b}, func(s Span) {
		d := s.Load(x)
		VFMADD231PS(operand(s, b), alpha, d)
		s.Store(d, y)
	})
	w.End()
}
