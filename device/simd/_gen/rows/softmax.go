package main

import (
	"math"

	. "github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/reg"

	. "setun/device/simd/gen/lane"
)

func expRow(w W) {
	w.Func("expRow", "func(y, x *float32, n int, scale, top float32) float32",
		"y[i] = exp(x[i]*scale - top); returns the sum of y")
	y, x, n := Ptr("y"), Ptr("x"), Ptr("n")
	scale, top := w.Arg("scale"), w.Arg("top")
	exp, sum := w.Exponential(), w.Zeros(4)
	w.Each(n, 4, []reg.GPVirtual{y, x}, func(s Span) {
		v := s.Load(x)
		VFMSUB213PS(top, scale, v)
		exp(v)
		s.Keep(v)
		s.Store(v, y)
		VADDPS(v, sum[s.Index()], sum[s.Index()])
	})
	Result(w.Sum(sum))
	w.End()
}

func maxRow(w W) {
	w.Func("maxRow", "func(x *float32, n int) float32", "the largest x[i] that is not NaN, -Inf without any")
	x, n := Ptr("x"), Ptr("n")
	Result(largest(w, x, n))
	w.End()
}

// largest is the code of maxRow. It consumes x and n.
func largest(w W, x, n reg.GPVirtual) reg.VecVirtual {
	low := w.Const(float32(math.Inf(-1)))
	top := make([]reg.VecVirtual, 4)
	for i := range top {
		top[i] = w.Vec()
		VMOVAPS(low, top[i])
	}
	w.Each(n, 4, []reg.GPVirtual{x}, func(s Span) {
		v, t := s.Load(x), top[s.Index()]
		s.Fill(v, low)
		VMAXPS(t, v, t) // of a NaN and t, the first operand
	})
	return w.Fold(top, VMAXPS)
}

func probGrad(w W) {
	w.Func("probGrad", "func(p, ds *float32, n int, scale, lse, delta float32)",
		"p[i] = exp(p[i]*scale - lse); ds[i] = p[i] * (ds[i]-delta)")
	p, ds, n := Ptr("p"), Ptr("ds"), Ptr("n")
	scale, lse, delta := w.Arg("scale"), w.Arg("lse"), w.Arg("delta")
	exp := w.Exponential()
	w.Each(n, 4, []reg.GPVirtual{p, ds}, func(s Span) {
		v := s.Load(p)
		VFMSUB213PS(lse, scale, v)
		exp(v)
		s.Store(v, p)
		d := s.Load(ds)
		VSUBPS(delta, d, d)
		VMULPS(v, d, d)
		s.Store(d, ds)
	})
	w.End()
}

func dot(w W) {
	w.Func("dot", "func(a, b *float32, n int) float32", "the sum of a[i]*b[i]")
	a, b, n := Ptr("a"), Ptr("b"), Ptr("n")
	Result(w.Sum(products(w, a, b, n)))
	w.End()
}

// products accumulates a*b in four registers. It consumes a, b and n.
func products(w W, a, b, n reg.GPVirtual) []reg.VecVirtual {
	sum := w.Zeros(4)
	ptrs := []reg.GPVirtual{a}
	if a != b {
		ptrs = append(ptrs, b)
	}
	w.Each(n, 4, ptrs, func(s Span) {
		u := s.Load(a)
		v := u
		if a != b {
			v = s.Load(b)
		}
		VFMADD231PS(u, v, sum[s.Index()])
	})
	return sum
}
