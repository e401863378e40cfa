package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"

	. "setun/device/simd/gen/lane"
)

func quantizeRows(w W) {
	w.Func("quantizeRows", "func(q *int8, scale, x *float32, rows, cols int)",
		"a = max(max|x[i,:]|, 1e-5); scale[i] = a/127; q[i,j] = roundEven(x[i,j] * (127/a))\n"+
			"(anything if a is not finite); rows > 0")
	q, scale, x := Ptr("q"), Ptr("scale"), Ptr("x")
	abs := w.Bits(0x7fffffff)
	rows([]reg.GPVirtual{x}, func(cols func() reg.GPVirtual) {
		acc, px := w.Zeros(4), Clone(x)
		w.Each(cols(), 4, []reg.GPVirtual{px}, func(s Span) {
			v := s.Load(px)
			w.And(abs, v, v)
			VPMAXUD(v, acc[s.Index()], acc[s.Index()]) // bits order as the numbers do, NaN last
		})
		a, t, full := w.Fold(acc, VPMAXUD), XMM(), XMM()
		VMOVSS(Word(1e-5), t)
		VPMAXUD(t, a, a)
		VMOVSS(Word(127), full)
		VDIVSS(a, full, t)
		s := w.Broadcast(t)
		VDIVSS(full, a, a)
		VMOVSS(a, Mem{Base: scale})
		px = Clone(x)
		w.By16(cols(), 4, []reg.GPVirtual{px}, []reg.GPVirtual{q}, func(g Group) {
			v := loads(g, px)
			for _, v := range v {
				VMULPS(s, v, v)
				VCVTPS2DQ(v, v)
			}
			g.StoreInt8(v, q)
		})
		rest := cols() // By16 leaves q at the tail
		ANDQ(U32(15), rest)
		ADDQ(rest, q)
		ADDQ(U32(4), scale)
	})
	w.End()
}

// ternaryOf makes v the codes sign(v)*(|v| > cut[0]) + sign(v)*(|v| > cut[1]) + ..., and magnitude |v|; with kept, |v| is
// zeroed where no cut is passed.
func ternaryOf(w W, v, magnitude, abs, one reg.VecVirtual, kept bool, cuts ...reg.VecVirtual) {
	const greater = 30
	w.And(abs, v, magnitude)
	sign := w.Vec()
	VPSRAD(U8(31), v, sign)
	w.Or(one, sign, sign)
	for i, cut := range cuts {
		if w == AVX512 {
			k := K()
			VCMPPS(U8(greater), cut, magnitude, k)
			if i == 0 {
				VMOVDQA32_Z(sign, k, v)
			} else {
				VPADDD(sign, v, k, v)
			}
			if kept {
				VMOVAPS_Z(magnitude, k, magnitude)
			}
			continue
		}
		m := w.Vec()
		VCMPPS(U8(greater), cut, magnitude, m)
		if kept {
			w.And(m, magnitude, magnitude)
		}
		w.And(m, sign, m)
		if i == 0 {
			VMOVAPS(m, v)
		} else {
			VPADDD(m, v, v)
		}
	}
}

func ternary(w W) {
	w.Func("ternary", "func(q *int8, w *float32, n int, cut1, cut2 float32) uint32",
		"q[i] = sign(w[i]) * ([|w[i]| > cut1] + [|w[i]| > cut2]); returns the bits of max |w|, NaN last")
	q, x, n := Ptr("q"), Ptr("w"), Ptr("n")
	abs, one, cut1, cut2, top := w.Bits(0x7fffffff), w.Bits(1), w.Arg("cut1"), w.Arg("cut2"), w.Zero()
	w.By16(n, 4, []reg.GPVirtual{x}, []reg.GPVirtual{q}, func(g Group) {
		v := loads(g, x)
		for _, v := range v {
			m := w.Vec()
			ternaryOf(w, v, m, abs, one, false, cut1, cut2)
			VPMAXUD(m, top, top)
		}
		g.StoreInt8(v, q)
	})
	Result(w.Fold([]reg.VecVirtual{top}, VPMAXUD))
	w.End()
}

func signs(w W) {
	w.Func("signs", "func(q *int8, part *float64, w *float32, n int, cut float32) uint32",
		"q[i] = sign(w[i]) where |w[i]| > cut, else 0; part[c] = device.ChunkSum of the kept |w| of chunk c;\n"+
			"returns how many are kept; n > 0")
	q, part, x := Ptr("q"), Ptr("part"), Ptr("w")
	abs, one, cut, kept := w.Bits(0x7fffffff), w.Bits(1), w.Arg("cut"), w.Zero()
	lanes := w.NewLanes()
	chunks(w, lanes, part, func(n reg.GPVirtual) {
		w.By16(n, 2, []reg.GPVirtual{x}, []reg.GPVirtual{q}, func(g Group) {
			v := loads(g, x)
			var magnitudes []reg.VecVirtual
			for _, v := range v {
				m, c := w.Vec(), w.Vec()
				ternaryOf(w, v, m, abs, one, true, cut)
				magnitudes = append(magnitudes, m)
				VPABSD(v, c)
				VPADDD(c, kept, kept)
			}
			lanes.Add(magnitudes)
			g.StoreInt8(v, q)
		})
	})
	Result(w.Fold([]reg.VecVirtual{kept}, VPADDD))
	w.End()
}

func encode(w W) {
	w.Func("encode", "func(q *int8, w *float32, n int, scale, top float32) uint32",
		"q[i] = roundEven(min(max(w[i]/scale, -top), top)), of NaN 0; returns the bits of max |w|, NaN last")
	q, x, n := Ptr("q"), Ptr("w"), Ptr("n")
	scale, top, low, abs, most := w.Arg("scale"), w.Arg("top"), w.Bits(1<<31), w.Bits(0x7fffffff), w.Zero()
	w.Xor(top, low, low)
	w.By16(n, 2, []reg.GPVirtual{x}, []reg.GPVirtual{q}, func(g Group) {
		const ordered = 7
		v := loads(g, x)
		for _, v := range v {
			m := w.Vec()
			w.And(abs, v, m)
			VPMAXUD(m, most, most)
			VDIVPS(scale, v, v)
			var number reg.Register
			if w == AVX512 {
				k := K()
				VCMPPS(U8(ordered), v, v, k)
				number = k
			} else {
				m := w.Vec()
				VCMPPS(U8(ordered), v, v, m)
				number = m
			}
			VMINPS(top, v, v)
			VMAXPS(low, v, v)
			VCVTPS2DQ(v, v)
			if w == AVX512 {
				VMOVDQA32_Z(v, number.(reg.OpmaskVirtual), v)
			} else {
				w.And(number.(reg.VecVirtual), v, v)
			}
		}
		g.StoreInt8(v, q)
	})
	Result(w.Fold([]reg.VecVirtual{most}, VPMAXUD))
	w.End()
}

func dequantize(w W) {
	w.Func("dequantize", "func(y *float32, q *int8, scale *float32, rows, cols, step int)",
		"y[i,j] = q[i,j] * scale[i*step]; rows > 0")
	y, q, scale, step := Ptr("y"), Ptr("q"), Ptr("scale"), Ptr("step")
	SHLQ(U8(2), step)
	Times(Ptr("rows"), func() {
		s, n := w.Broadcast(Mem{Base: scale}), Ptr("cols")
		w.By16(n, 4, []reg.GPVirtual{y}, []reg.GPVirtual{q}, func(g Group) {
			for i, v := range g.LoadInt8(q) {
				VCVTDQ2PS(v, v)
				VMULPS(s, v, v)
				g.Spans[i].Store(v, y)
			}
		})
		rest := Ptr("cols")
		ANDQ(U32(15), rest)
		ADDQ(rest, q)
		SHLQ(U8(2), rest)
		ADDQ(rest, y)
		ADDQ(step, scale)
	})
	w.End()
}

func lsq(w W) {
	w.Func("lsq", "func(part *float64, dq, w *float32, n int, scale, top float32)",
		"with v = w/scale: part[c] = sum over chunk c of dq * (roundEven(v) - v if |v| < top, else ±top); n > 0")
	part, dq, x := Ptr("part"), Ptr("dq"), Ptr("w")
	scale, top, abs, lanes := w.Arg("scale"), w.Arg("top"), w.Bits(0x7fffffff), w.NewLanes()
	chunks(w, lanes, part, func(n reg.GPVirtual) {
		w.By16(n, 2, []reg.GPVirtual{x, dq}, nil, func(g Group) {
			const atLeast = 29
			v := loads(g, x)
			for i, v := range v {
				c, sign := w.Vec(), w.Vec()
				VDIVPS(scale, v, v)
				w.RoundEven(v, c)
				VSUBPS(v, c, c)
				if w == AVX512 {
					m, k := w.Vec(), K()
					w.And(abs, v, m)
					VCMPPS(U8(atLeast), top, m, k)
					VPANDND(v, abs, sign)
					VPORD(top, sign, k, c)
				} else {
					m := w.Vec()
					w.And(abs, v, m)
					VCMPPS(U8(atLeast), top, m, m)
					VANDNPS(v, abs, sign)
					w.Or(top, sign, sign)
					VBLENDVPS(m, sign, c, c)
				}
				VMULPS(g.Spans[i].Load(dq), c, v)
			}
			lanes.Add(v)
		})
	})
	w.End()
}
