package main

import (
	"math"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"

	. "setun/device/simd/gen/lane"
)

func expRow(w W) {
	w.Func("expRow", "func(y, x *float32, n int, scale, top float32) float32",
		"y[i] = exp(x[i]*scale - top); returns the sum of y")
	y, x, n := Ptr("y"), Ptr("x"), Ptr("n")
	scale, top := w.Arg("scale"), w.Arg("top")
	exp, sum := w.NewExp().Of, w.Zeros(4)
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
	exp := w.NewExp().Of
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

// rows emits body for the rows of the argument rows, and moves ptrs on by a row of the argument cols after each.
func rows(ptrs []reg.GPVirtual, body func(cols func() reg.GPVirtual)) {
	Times(Ptr("rows"), func() {
		body(func() reg.GPVirtual { return Ptr("cols") })
		bytes := Ptr("cols")
		SHLQ(U8(2), bytes)
		for _, p := range ptrs {
			ADDQ(bytes, p)
		}
	})
}

func softmax(w W) {
	w.Func("softmax", "func(y, x *float32, rows, cols int)",
		"y[i,:] = exp(x[i,:] - max) / sum of the same; rows > 0")
	y, x := Ptr("y"), Ptr("x")
	exp := w.NewExp().Of
	rows([]reg.GPVirtual{y, x}, func(cols func() reg.GPVirtual) {
		top := w.Broadcast(largest(w, Clone(x), cols()))
		sum := w.Zeros(4)
		px, py := Clone(x), Clone(y)
		w.Each(cols(), 4, []reg.GPVirtual{px, py}, func(s Span) {
			v := s.Load(px)
			VSUBPS(top, v, v)
			exp(v)
			s.Keep(v)
			s.Store(v, py)
			VADDPS(v, sum[s.Index()], sum[s.Index()])
		})
		inv := XMM()
		VMOVSS(Word(1), inv)
		VDIVSS(w.Sum(sum), inv, inv)
		r := w.Broadcast(inv)
		py = Clone(y)
		w.Each(cols(), 4, []reg.GPVirtual{py}, func(s Span) {
			v := s.Load(py)
			VMULPS(r, v, v)
			s.Store(v, py)
		})
	})
	w.End()
}

func softmaxGrad(w W) {
	w.Func("softmaxGrad", "func(dx, dy, y *float32, rows, cols int)",
		"dx[i,j] += y[i,j] * (dy[i,j] - sum of dy[i,:]*y[i,:]); rows > 0")
	dx, dy, y := Ptr("dx"), Ptr("dy"), Ptr("y")
	rows([]reg.GPVirtual{dx, dy, y}, func(cols func() reg.GPVirtual) {
		mean := w.Broadcast(w.Sum(products(w, Clone(dy), Clone(y), cols())))
		pdx, pdy, py := Clone(dx), Clone(dy), Clone(y)
		w.Each(cols(), 4, []reg.GPVirtual{pdx, pdy, py}, func(s Span) {
			g, p, d := s.Load(pdy), s.Load(py), s.Load(pdx)
			VSUBPS(mean, g, g)
			VFMADD231PS(p, g, d)
			s.Store(d, pdx)
		})
	})
	w.End()
}
