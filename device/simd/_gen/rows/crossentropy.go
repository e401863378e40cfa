package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"

	. "setun/device/simd/gen/lane"
)

func logSumExp(w W) {
	w.Func("logSumExp", "func(top, sum, x *float32, rows, cols int)",
		"top[i] = max x[i,:], 0 if that is infinite; sum[i] = sum of exp(x[i,:] - top[i]); rows > 0")
	top, sum, x := Ptr("top"), Ptr("sum"), Ptr("x")
	exp := w.NewExp().Of
	rows([]reg.GPVirtual{x}, func(cols func() reg.GPVirtual) {
		bits, magnitude, zero := GP32(), GP32(), GP32()
		VMOVD(largest(w, Clone(x), cols()), bits)
		MOVL(bits, magnitude)
		ANDL(U32(0x7fffffff), magnitude)
		XORL(zero, zero)
		CMPL(magnitude, U32(0x7f800000))
		CMOVLEQ(zero, bits)
		MOVL(bits, Mem{Base: top})
		m := w.Broadcast(Mem{Base: top})
		acc, px := w.Zeros(4), Clone(x)
		w.Each(cols(), 4, []reg.GPVirtual{px}, func(s Span) {
			v := s.Load(px)
			VSUBPS(m, v, v)
			exp(v)
			s.Keep(v)
			VADDPS(v, acc[s.Index()], acc[s.Index()])
		})
		VMOVSS(w.Sum(acc), Mem{Base: sum})
		ADDQ(U32(4), top)
		ADDQ(U32(4), sum)
	})
	w.End()
}

func crossEntropyGrad(w W) {
	w.Func("crossEntropyGrad", "func(dx, lse, x *float32, targets *int32, rows, cols int, scale float32)",
		"dx[i,j] += scale * (exp(x[i,j] - lse[i]) - [j = targets[i]]) where targets[i] >= 0; rows > 0")
	dx, lse, x, targets := Ptr("dx"), Ptr("lse"), Ptr("x"), Ptr("targets")
	scale, exp := w.Arg("scale"), w.NewExp().Of
	rows([]reg.GPVirtual{dx, x}, func(cols func() reg.GPVirtual) {
		skip := Fresh("skip")
		t := GP64()
		MOVLQSX(Mem{Base: targets}, t)
		TESTQ(t, t)
		JLT(LabelRef(skip))
		m := w.Broadcast(Mem{Base: lse})
		pdx, px := Clone(dx), Clone(x)
		w.Each(cols(), 4, []reg.GPVirtual{pdx, px}, func(s Span) {
			v, d := s.Load(px), s.Load(pdx)
			VSUBPS(m, v, v)
			exp(v)
			VFMADD231PS(v, scale, d)
			s.Store(d, pdx)
		})
		hit := XMM()
		at := Mem{Base: dx, Index: t, Scale: 4}
		VMOVSS(at, hit)
		VSUBSS(scale.AsX(), hit, hit)
		VMOVSS(hit, at)
		Label(skip)
		ADDQ(U32(4), targets)
		ADDQ(U32(4), lse)
	})
	w.End()
}
