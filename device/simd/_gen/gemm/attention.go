package main

import (
	"math"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"

	. "setun/device/simd/gen/lane"
)

// pow2 loads the constants of 2^x for any x, within 1.1e-7 of it: a polynomial of degree 5 in x - floor(x), minimax with
// 2^0 = 1, times 2^floor(x). 6 registers, and two more.
func pow2() func(x reg.VecVirtual) {
	var c []Op
	for _, k := range []float32{1.8671331e-3, 9.0170238e-3, 5.5799918e-2, 2.4016445e-1, 6.9315131e-1, 1} {
		c = append(c, AVX512.K(k))
	}
	return func(x reg.VecVirtual) {
		f, p := ZMM(), ZMM()
		VREDUCEPS(U8(9), x, f)
		VMOVAPS(c[0], p)
		for _, k := range c[1:] {
			VFMADD213PS(k, f, p)
		}
		VSCALEFPS(x, p, x) // takes the floor
	}
}

// softmaxRound is an online softmax in powers of two: a block of columns of rows, four at a time.
func softmaxRound() {
	AVX512.Func("softmaxRound", "func(y *uint16, ldy int, x *float32, ldx int, seen *int32, top, sum *float32, "+
		"fours, sure, cols int, scale float32)",
		`for i < 4*fours, j < cols: top[i] = max(top[i], -1e30, x[i][j]*scale), j < seen[i]; y[i][j] = bfloat16(2^(x[i][j]*scale
- top[i])), 0 from seen[i] on; sum[i] is that of y[i] before it is rounded. scale > 0; sure <= seen[i]; cols and sure are
multiples of 16. Rows of y and x lie ldy and ldx bytes apart`)
	y, ldy, x, ldx, seen, sure := Ptr("y"), Ptr("ldy"), Ptr("x"), Ptr("ldx"), Ptr("seen"), Ptr("sure")
	scale, exp, columns := AVX512.Arg("scale"), pow2(), GLOBL("columns", RODATA|NOPTR)
	for i := range 16 {
		DATA(4*i, U32(uint32(i)))
	}
	// each calls body for 16 columns of four rows, with masks from sure on.
	each := func(name string, body func(at [4]Mem, to [2]reg.GPVirtual, masks []reg.OpmaskVirtual)) {
		from, from2, to, to2, j := Clone(x), Clone(ldx), Clone(y), Clone(ldy), GP64()
		ADDQ(from2, from2)
		ADDQ(x, from2)
		ADDQ(to2, to2)
		ADDQ(y, to2)
		XORQ(j, j)
		at := [4]Mem{{Base: from}, {Base: from, Index: ldx, Scale: 1}, {Base: from2}, {Base: from2, Index: ldx, Scale: 1}}
		next := func() {
			ADDQ(U8(64), from)
			ADDQ(U8(64), from2)
			ADDQ(U8(32), to)
			ADDQ(U8(32), to2)
			ADDQ(U8(16), j)
		}
		Label(name)
		CMPQ(j, sure)
		JGE(LabelRef(name + "Masked"))
		body(at, [2]reg.GPVirtual{to, to2}, nil)
		next()
		JMP(LabelRef(name))
		Label(name + "Masked")
		CMPQ(j, Arg("cols"))
		JGE(LabelRef(name + "Done"))
		column := ZMM()
		VPBROADCASTD(j.As32(), column)
		VPADDD(columns, column, column)
		var masks []reg.OpmaskVirtual
		for r := range 4 {
			k, n := K(), ZMM()
			VPBROADCASTD(Mem{Base: seen, Disp: 4 * r}, n)
			VPCMPD(U8(1), n, column, k) // column < n
			masks = append(masks, k)
		}
		body(at, [2]reg.GPVirtual{to, to2}, masks)
		next()
		JMP(LabelRef(name + "Masked"))
		Label(name + "Done")
	}
	Label("rows")
	low := AVX512.Const(float32(math.Inf(-1)))
	var top, sum [4]reg.VecVirtual
	for r := range top {
		top[r] = ZMM()
		VMOVAPS(low, top[r])
	}
	each("max", func(at [4]Mem, _ [2]reg.GPVirtual, masks []reg.OpmaskVirtual) {
		for r, t := range top {
			z := ZMM()
			VMOVUPS(at[r], z)
			if masks == nil { // of a NaN and t, the first operand
				VMAXPS(t, z, t)
			} else {
				VMAXPS(t, z, masks[r], t)
			}
		}
	})
	tops := Ptr("top")
	for r := range top {
		t := AVX512.Fold(top[r:r+1], VMAXPS)
		VMULSS(scale.AsX(), t, t)
		VMAXSS(Mem{Base: tops, Disp: 4 * r}, t, t)
		VMAXSS(Word(-1e30), t, t)
		VMOVSS(t, Mem{Base: tops, Disp: 4 * r})
		top[r] = AVX512.Broadcast(t)
		sum[r] = AVX512.Zero()
	}
	each("exp", func(at [4]Mem, to [2]reg.GPVirtual, masks []reg.OpmaskVirtual) {
		var z [4]reg.VecVirtual
		for r := range z {
			z[r] = ZMM()
			VMOVUPS(at[r], z[r])
			VFMSUB213PS(top[r], scale, z[r])
			exp(z[r])
			if masks != nil {
				VMOVAPS_Z(z[r], masks[r], z[r])
			}
			VADDPS(z[r], sum[r], sum[r])
		}
		for r, p := range to {
			both := roundBF16(z[2*r], z[2*r+1])
			VMOVDQU(both.AsY(), Mem{Base: p})
			VEXTRACTI64X4(U8(1), both, Mem{Base: p, Index: ldy, Scale: 1})
		}
	})
	sums := Ptr("sum")
	for r := range sum {
		VMOVSS(AVX512.Sum(sum[r:r+1]), Mem{Base: sums, Disp: 4 * r})
	}
	for range 4 {
		ADDQ(ldx, x)
		ADDQ(ldy, y)
	}
	ADDQ(U8(16), seen)
	for _, name := range []string{"top", "sum"} {
		ADDQ(U8(16), Arg(name))
	}
	DECQ(Arg("fours"))
	JNE(LabelRef("rows"))
	AVX512.End()
}

// softmaxPair is the gradient of softmax for two keys, by rows and in pairs.
func softmaxPair() {
	AVX512.Func("softmaxPair", "func(p, ds *uint16, ld int, pairs *float32, s, dp *float32, cs int, lse, delta *float32, "+
		"n int, scale, exponent float32)",
		`p[r,i] = 2^(s[r,i]*exponent - lse[i]), ds[r,i] = p[r,i] * (dp[r,i]*scale - delta[i]), both rounded to bfloat16, for
r < 2 and i < n, a multiple of 16; pairs[i] = ds[0,i] | ds[1,i]<<16. Rows of p and ds lie ld bytes apart, of s and dp cs`)
	p, ds, ld, pairs, s, dp, cs := Ptr("p"), Ptr("ds"), Ptr("ld"), Ptr("pairs"), Ptr("s"), Ptr("dp"), Ptr("cs")
	lse, delta, n := Ptr("lse"), Ptr("delta"), Ptr("n")
	scale, exponent, shuffle, exp := AVX512.Arg("scale"), AVX512.Arg("exponent"), pairOrder(), pow2()
	rows := func(x reg.VecVirtual, to reg.GPVirtual) {
		VMOVDQU(x.AsY(), Mem{Base: to})
		VEXTRACTI64X4(U8(1), x, Mem{Base: to, Index: ld, Scale: 1})
	}
	Label("loop")
	l, d := ZMM(), ZMM()
	VMOVUPS(Mem{Base: lse}, l)
	VMOVUPS(Mem{Base: delta}, d)
	var x, y [2]reg.VecVirtual
	for r, at := range []Mem{{Base: s}, {Base: s, Index: cs, Scale: 1}} {
		x[r] = ZMM()
		VMOVUPS(at, x[r])
		VFMSUB213PS(l, exponent, x[r])
		exp(x[r])
	}
	for r, at := range []Mem{{Base: dp}, {Base: dp, Index: cs, Scale: 1}} {
		y[r] = ZMM()
		VMOVUPS(at, y[r])
		VFMSUB213PS(d, scale, y[r])
		VMULPS(x[r], y[r], y[r])
	}
	rows(roundBF16(x[0], x[1]), p)
	both := roundBF16(y[0], y[1])
	rows(both, ds)
	VPERMW(both, shuffle, both)
	VMOVDQU64(both, Mem{Base: pairs})
	for _, q := range []reg.GPVirtual{pairs, s, dp, lse, delta} {
		ADDQ(U8(64), q)
	}
	ADDQ(U8(32), p)
	ADDQ(U8(32), ds)
	SUBQ(U8(16), n)
	JNE(LabelRef("loop"))
	AVX512.End()
}

// roundHead rounds rows to rows and to pairs of rows.
func roundHead() {
	AVX512.Func("roundHead", "func(rows *uint16, pairs *float32, src *float32, ss, n, cols int)",
		`rows[i][j] = bfloat16(src[i][j]), pairs[l][j] = rows[2l][j] | rows[2l+1][j]<<16, for i < n, an even number, and
j < cols, a multiple of 32. Rows of src lie ss bytes apart`)
	rows, pairs, src, ss, n := Ptr("rows"), Ptr("pairs"), Ptr("src"), Ptr("ss"), Ptr("n")
	shuffle := pairOrder()
	ld := Ptr("cols")
	ADDQ(ld, ld)
	Label("pair")
	x, cols := Clone(src), Ptr("cols")
	Label("loop")
	even, odd := ZMM(), ZMM()
	VMOVUPS(Mem{Base: x}, even)
	VMOVUPS(Mem{Base: x, Index: ss, Scale: 1}, odd)
	both := roundBF16(even, odd)
	VMOVDQU(both.AsY(), Mem{Base: rows})
	VEXTRACTI64X4(U8(1), both, Mem{Base: rows, Index: ld, Scale: 1})
	VPERMW(both, shuffle, both)
	VMOVDQU64(both, Mem{Base: pairs})
	ADDQ(U8(64), x)
	ADDQ(U8(32), rows)
	ADDQ(U8(64), pairs)
	SUBQ(U8(16), cols)
	JNE(LabelRef("loop"))
	ADDQ(ld, rows)
	LEAQ(Mem{Base: src, Index: ss, Scale: 2}, src)
	SUBQ(U8(2), n)
	JNE(LabelRef("pair"))
	AVX512.End()
}

// addHead adds rows.
func addHead() {
	AVX512.Func("addHead", "func(dst *float32, ds int, src *float32, n, cols int)",
		"dst[i][j] += src[i][j] for i < n, j < cols, a multiple of 32. Rows of dst lie ds bytes apart")
	head(func() {}, func(dst, src Mem) reg.VecVirtual {
		x := ZMM()
		VMOVUPS(src, x)
		VADDPS(dst, x, x)
		return x
	})
}

// scaleHead multiplies rows by factors.
func scaleHead() {
	AVX512.Func("scaleHead", "func(dst *float32, ds int, src, f *float32, n, cols int)",
		"dst[i][j] = src[i][j] * f[i] for i < n, j < cols, a multiple of 32. Rows of dst lie ds bytes apart")
	f, factor := Ptr("f"), ZMM()
	head(func() {
		VBROADCASTSS(Mem{Base: f}, factor)
		ADDQ(U8(4), f)
	}, func(dst, src Mem) reg.VecVirtual {
		x := ZMM()
		VMULPS(src, factor, x)
		return x
	})
}

// head loops over rows and, in them, over 32 columns.
func head(before func(), body func(dst, src Mem) reg.VecVirtual) {
	dst, ds, src, n := Ptr("dst"), Ptr("ds"), Ptr("src"), Ptr("n")
	Label("row")
	before()
	to, cols := Clone(dst), Ptr("cols")
	Label("loop")
	for v := range 2 {
		at := Mem{Base: to, Disp: 64 * v}
		VMOVUPS(body(at, Mem{Base: src, Disp: 64 * v}), at)
	}
	ADDQ(U32(128), to)
	ADDQ(U32(128), src)
	SUBQ(U8(32), cols)
	JNE(LabelRef("loop"))
	ADDQ(ds, dst)
	DECQ(n)
	JNE(LabelRef("row"))
	AVX512.End()
}

// dotHead is the sum of a*b of rows.
func dotHead() {
	AVX512.Func("dotHead", "func(dst, a, b *float32, stride, n, cols int, scale float32)",
		"dst[i] = scale * the sum of a[i][j]*b[i][j], for i < n, j < cols, a multiple of 32. Rows lie stride bytes apart")
	dst, a, b, stride, n := Ptr("dst"), Ptr("a"), Ptr("b"), Ptr("stride"), Ptr("n")
	scale := AVX512.Arg("scale")
	Label("row")
	x, y, cols, sum := Clone(a), Clone(b), Ptr("cols"), AVX512.Zeros(2)
	Label("loop")
	for v := range sum {
		z := ZMM()
		VMOVUPS(Mem{Base: x, Disp: 64 * v}, z)
		VFMADD231PS(Mem{Base: y, Disp: 64 * v}, z, sum[v])
	}
	ADDQ(U32(128), x)
	ADDQ(U32(128), y)
	SUBQ(U8(32), cols)
	JNE(LabelRef("loop"))
	s := AVX512.Sum(sum)
	VMULSS(scale.AsX(), s, s)
	VMOVSS(s, Mem{Base: dst})
	ADDQ(U8(4), dst)
	ADDQ(stride, a)
	ADDQ(stride, b)
	DECQ(n)
	JNE(LabelRef("row"))
	AVX512.End()
}
