// Command cache writes what reads a key-value cache or a table row by row, in float32, half precision or int8: dot products
// with its rows, and sums of them. A row in int8 ends in its scale.
package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"

	. "setun/device/simd/gen/lane"
)

func main() {
	ConstraintExpr("amd64")
	for _, w := range Widths {
		widen(w)
		narrow(w)
		for _, r := range []rows{{w, 4}, {w, 2}, {w, 1}} {
			r.dots()
			r.mix()
		}
	}
	Generate()
}

// rows of float32 (size 4), half precision (2) or int8 (1).
type rows struct {
	w    W
	size int
}

func (r rows) suffix() (name, typ string) {
	switch r.size {
	case 4:
		return "", "*float32"
	case 2:
		return "Half", "*uint16"
	}
	return "Int8", "*int8"
}

// load reads the vector i vectors from p.
func (r rows) load(p reg.GPVirtual, i int) reg.VecVirtual {
	v := r.w.Vec()
	m := Mem{Base: p, Disp: i * r.w.N() * r.size}
	switch r.size {
	case 4:
		VMOVUPS(m, v)
	case 2:
		VCVTPH2PS(m, v)
	default:
		VPMOVSXBD(m, v)
		VCVTDQ2PS(v, v)
	}
	return v
}

// fma: acc += row * x, the row in memory if that can be an operand.
func (r rows) fma(p reg.GPVirtual, i int, x, acc reg.VecVirtual) {
	if r.size == 4 {
		VFMADD231PS(Mem{Base: p, Disp: i * r.w.Bytes()}, x, acc)
	} else {
		VFMADD231PS(r.load(p, i), x, acc)
	}
}

// dots of n rows, four at a time: n is not zero, d a multiple of 16.
func (r rows) dots() {
	w := r.w
	name, typ := r.suffix()
	doc := "s[j] = scale * sum x[:d]*row[j*ld:], j < n; d is a multiple of 16"
	if r.size == 1 {
		doc = "s[j] = scale * sum x[:d]*row[j*ld:] * the float32 at row[j*ld+d], j < n; d is a multiple of 16"
	}
	w.Func("rowDots"+name, "func(s, x *float32, row "+typ+", ld, d, n int, scale float32)", doc)
	s, row, ld, n := Ptr("s"), Ptr("row"), Ptr("ld"), Ptr("n")
	if r.size > 1 {
		SHLQ(U8(r.size/2), ld)
	}
	step := func(count int) {
		x, d := Ptr("x"), Ptr("d")
		at, sums := make([]reg.GPVirtual, count), make([]reg.VecVirtual, count)
		for i := range at {
			at[i], sums[i] = GP64(), w.Zero()
			if i == 0 {
				MOVQ(row, at[0])
			} else {
				LEAQ(Mem{Base: at[i-1], Index: ld, Scale: 1}, at[i])
			}
		}
		loop := Fresh("dot")
		Label(loop)
		for v := range 16 / w.N() {
			xv := w.Vec()
			VMOVUPS(Mem{Base: x, Disp: v * w.Bytes()}, xv)
			for i, acc := range sums {
				r.fma(at[i], v, xv, acc)
			}
		}
		for _, p := range at {
			PREFETCHT0(Mem{Base: p, Index: ld, Scale: 8})
		}
		ADDQ(U8(64), x)
		for _, p := range at {
			ADDQ(U8(16*r.size), p)
		}
		SUBQ(U8(16), d)
		JNZ(LabelRef(loop))
		y := make([]reg.VecVirtual, count)
		for i, v := range sums {
			y[i] = v
			if w == AVX512 {
				y[i] = YMM()
				VEXTRACTF64X4(U8(1), v, y[i])
				VADDPS(v.AsY(), y[i], y[i])
			}
		}
		if count == 4 {
			VHADDPS(y[1], y[0], y[0])
			VHADDPS(y[3], y[2], y[2])
			VHADDPS(y[2], y[0], y[0])
		} else {
			VHADDPS(y[0], y[0], y[0])
			VHADDPS(y[0], y[0], y[0])
		}
		out, f := XMM(), XMM()
		VEXTRACTF128(U8(1), y[0], out)
		VADDPS(y[0].AsX(), out, out)
		p, err := Param("scale").Resolve()
		if err != nil {
			panic(err)
		}
		VBROADCASTSS(p.Addr, f)
		VMULPS(f, out, out)
		if r.size == 1 { // the pointers are at the scales
			VMOVSS(Mem{Base: at[0]}, f)
			for i, p := range at[1:] {
				VINSERTPS(U8((i+1)<<4), Mem{Base: p}, f, f)
			}
			VMULPS(f, out, out)
		}
		if count == 4 {
			VMOVUPS(out, Mem{Base: s})
		} else {
			VMOVSS(out, Mem{Base: s})
		}
		ADDQ(U8(4*count), s)
		for range count {
			ADDQ(ld, row)
		}
		SUBQ(U8(count), n)
	}
	Label("four")
	CMPQ(n, U8(4))
	JLT(LabelRef("one"))
	step(4)
	JMP(LabelRef("four"))
	Label("one")
	TESTQ(n, n)
	JEQ(LabelRef("done"))
	step(1)
	JMP(LabelRef("one"))
	Label("done")
	w.End()
}

// mix: strips of columns that fit the registers, each over all rows.
func (r rows) mix() {
	w := r.w
	name, typ := r.suffix()
	doc := "y[i] = sum over j < n of p[j]*row[j*ld+i], i < d; d is a multiple of 16"
	if r.size == 1 {
		doc = "y[i] = sum over j < n of p[j]*row[j*ld+i] * the float32 at row[j*ld+d], i < d; d is a multiple of 16"
	}
	w.Func("rowMix"+name, "func(y, p *float32, row "+typ+", ld, d, n int)", doc)
	y, row0, ld, d := Ptr("y"), Ptr("row"), Ptr("ld"), Ptr("d")
	if r.size > 1 {
		SHLQ(U8(r.size/2), ld)
	}
	scales := GP64() // of the first row
	if r.size == 1 {
		LEAQ(Mem{Base: row0, Index: d, Scale: 1}, scales)
	}
	strips := []int{128, 96, 64, 32, 16}
	if w == AVX2 {
		strips = []int{64, 32, 16}
	}
	Label("strip")
	for _, cols := range strips {
		next := Fresh("narrower")
		CMPQ(d, U32(cols))
		JLT(LabelRef(next))
		p, row, n := Ptr("p"), GP64(), Ptr("n")
		MOVQ(row0, row)
		sums := make([]reg.VecVirtual, cols/w.N())
		for i := range sums {
			sums[i] = w.Zero()
		}
		scale := GP64()
		if r.size == 1 {
			MOVQ(scales, scale)
		}
		loop := Fresh("row")
		Label(loop)
		f := w.Vec()
		if r.size == 1 {
			x := XMM()
			VMOVSS(Mem{Base: p}, x)
			VMULSS(Mem{Base: scale}, x, x)
			VBROADCASTSS(x, f)
			ADDQ(ld, scale)
		} else {
			VBROADCASTSS(Mem{Base: p}, f)
		}
		for i, acc := range sums {
			r.fma(row, i, f, acc)
		}
		for line := 0; line < cols*r.size; line += 64 {
			PREFETCHT0(Mem{Base: row, Index: ld, Scale: 8, Disp: line})
		}
		ADDQ(U8(4), p)
		ADDQ(ld, row)
		DECQ(n)
		JNZ(LabelRef(loop))
		for i, acc := range sums {
			VMOVUPS(acc, Mem{Base: y, Disp: i * w.Bytes()})
		}
		ADDQ(U32(4*cols), y)
		ADDQ(U32(cols*r.size), row0)
		SUBQ(U32(cols), d)
		JMP(LabelRef("strip"))
		Label(next)
	}
	w.End()
}

// widen and narrow convert whole vectors.
func widen(w W) {
	w.Func("widen", "func(y *float32, x *uint16, n int)", "y[i] = half.FromF16(x[i]), i < n, a multiple of 16")
	y, x, n := Ptr("y"), Ptr("x"), Ptr("n")
	r := rows{w, 2}
	Label("loop")
	for i := range 16 / w.N() {
		VMOVUPS(r.load(x, i), Mem{Base: y, Disp: i * w.Bytes()})
	}
	ADDQ(U8(32), x)
	ADDQ(U8(64), y)
	SUBQ(U8(16), n)
	JNZ(LabelRef("loop"))
	w.End()
}

func narrow(w W) {
	w.Func("narrow", "func(y *uint16, x *float32, n int)", "y[i] = half.F16(x[i]), i < n, a multiple of 16")
	y, x, n := Ptr("y"), Ptr("x"), Ptr("n")
	Label("loop")
	for i := range 16 / w.N() {
		v := w.Vec()
		VMOVUPS(Mem{Base: x, Disp: i * w.Bytes()}, v)
		VCVTPS2PH(U8(0), v, Mem{Base: y, Disp: i * w.Bytes() / 2})
	}
	ADDQ(U8(64), x)
	ADDQ(U8(32), y)
	SUBQ(U8(16), n)
	JNZ(LabelRef("loop"))
	w.End()
}
