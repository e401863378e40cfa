// Command gemm writes the routines of the float32 matrix product.
package main

import (
	"flag"
	"fmt"
	"log"
	"os"
	"regexp"
	"strconv"

	. "github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/gotypes"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"

	. "setun/device/simd/gen/lane"
)

func main() {
	ConstraintExpr("amd64")
	for _, w := range Widths {
		vectors := 4
		if w == AVX2 {
			vectors = 2
		}
		for _, rows := range []int{6, 4, 2, 1} {
			for v := vectors; v > 0; v-- {
				tile(w, rows, v, false)
			}
		}
		for _, rows := range []int{2, 1} {
			dots(w, rows)
		}
		copyPanel(w)
		compact(w)
	}
	turn8()
	for _, rows := range []int{6, 4, 2, 1} {
		for v := 4; v > 0; v-- {
			tile(AVX512, rows, v, true)
		}
	}
	roundRow()
	roundPairs()
	softmaxRound()
	softmaxPair()
	roundHead()
	addHead()
	scaleHead()
	dotHead()
	Generate()
	encode(flag.Lookup("out").Value.String())
}

// tile is the product of rows x k and k x 16v (8v with 256 bits), all sums in registers. One k step loads v vectors of B
// and multiplies them by one broadcast element of each row of A. With pairs, an element is two of bfloat16.
func tile(w W, rows, v int, pairs bool) {
	name, doc := "tile", ""
	if pairs {
		name, doc = "tileBF16x", "\nElements of A and B are two bfloat16 each, and their product is the sum of two."
	}
	w.Func(fmt.Sprintf("%s%dx%d", name, rows, v),
		"func(k int, a *float32, ars, acs int, b *float32, bs int, c *float32, cs, last int, alpha, beta float32, bias *float32)",
		fmt.Sprintf(`C[i][j] = alpha * sum over l < k of A[i][l]*B[l][j] + beta*C[i][j] + bias[j] for i < %d and
j < %d+last, 0 < last <= %d. Element (i, l) of A lies i*ars + l*acs bytes from a, row l of B l*bs bytes from b, row i of C
i*cs bytes from c. C is not read if beta is 0; bias may be nil.%s`, rows, (v-1)*w.N(), w.N(), doc))
	k, a, ars, acs, b, bs := Ptr("k"), Ptr("a"), Ptr("ars"), Ptr("acs"), Ptr("b"), Ptr("bs")
	c, cs, last := Ptr("c"), Ptr("cs"), Ptr("last")

	mask := w.MaskOf(last)
	// Three rows hang on each of two pointers: base, base+stride, base+2*stride.
	base := func(p, stride reg.GPVirtual) (at func(row, disp int) Mem) {
		q := p
		if rows > 3 {
			q = GP64()
			LEAQ(Mem{Base: p, Index: stride, Scale: 2}, q)
			ADDQ(stride, q)
		}
		return func(row, disp int) Mem {
			m := Mem{Base: p, Disp: disp}
			if row >= 3 {
				m.Base = q
			}
			if row%3 > 0 {
				m.Index, m.Scale = stride, uint8(row%3)
			}
			return m
		}
	}
	atA := base(a, ars)
	advanceA := func() {
		ADDQ(acs, a)
		if rows > 3 {
			ADDQ(acs, atA(3, 0).Base)
		}
	}
	atC := base(c, cs)
	for i := range rows {
		for j := range v {
			PREFETCHT0(atC(i, j*w.Bytes()))
		}
	}
	acc := make([][]reg.VecVirtual, rows)
	for i := range acc {
		for range v {
			acc[i] = append(acc[i], w.Zero())
		}
	}
	bv := make([]reg.VecVirtual, v)
	for j := range bv {
		bv[j] = w.Vec()
	}
	x := []reg.VecVirtual{w.Vec(), w.Vec()}
	step := func() {
		for j := range bv {
			m := Mem{Base: b, Disp: j * w.Bytes()}
			if j == v-1 && w == AVX512 {
				VMOVUPS_Z(m, mask, bv[j])
			} else {
				VMOVUPS(m, bv[j])
			}
		}
		for i := range rows {
			VBROADCASTSS(atA(i, 0), x[i%2])
			for j := range bv {
				if pairs {
					VPDPWSSD(bv[j], x[i%2], acc[i][j]) // see encode
				} else {
					VFMADD231PS(bv[j], x[i%2], acc[i][j])
				}
			}
		}
		ADDQ(bs, b)
		advanceA()
	}
	four, one, done := Fresh("four"), Fresh("one"), Fresh("done")
	SUBQ(U8(4), k)
	JLT(LabelRef(one))
	Label(four)
	for range 4 {
		step()
	}
	SUBQ(U8(4), k)
	JGE(LabelRef(four))
	Label(one)
	ADDQ(U8(4), k)
	oneLoop := Fresh("loop")
	Label(oneLoop)
	TESTQ(k, k)
	JLE(LabelRef(done))
	step()
	DECQ(k)
	JMP(LabelRef(oneLoop))
	Label(done)

	s := w.Arg("alpha")
	for i := range rows {
		for j := range v {
			VMULPS(s, acc[i][j], acc[i][j])
		}
	}
	noBias, noBeta := Fresh("nobias"), Fresh("nobeta")
	bias := Ptr("bias")
	TESTQ(bias, bias)
	JEQ(LabelRef(noBias))
	for j := range bv {
		load(w, Mem{Base: bias, Disp: j * w.Bytes()}, bv[j], j == v-1, mask)
	}
	for i := range rows {
		for j := range v {
			VADDPS(bv[j], acc[i][j], acc[i][j])
		}
	}
	Label(noBias)
	beta, arg := GP32(), must(Param("beta").Resolve())
	MOVL(arg.Addr, beta)
	ADDL(beta, beta) // 0 for both zeros
	JEQ(LabelRef(noBeta))
	s = w.Arg("beta")
	for i := range rows {
		for j := range v {
			load(w, atC(i, j*w.Bytes()), bv[j], j == v-1, mask)
			VFMADD231PS(bv[j], s, acc[i][j])
		}
	}
	Label(noBeta)
	for i := range rows {
		for j := range v {
			m := atC(i, j*w.Bytes())
			switch {
			case j < v-1:
				VMOVUPS(acc[i][j], m)
			case w == AVX512:
				VMOVUPS(acc[i][j], mask, m)
			default:
				VMASKMOVPS(acc[i][j], mask, m)
			}
		}
	}
	w.End()
}

func must(b *gotypes.Basic, err error) *gotypes.Basic {
	if err != nil {
		panic(err)
	}
	return b
}

// load reads a vector, its lanes masked if it is the last one.
func load(w W, m Mem, v reg.VecVirtual, last bool, mask reg.Register) {
	switch {
	case !last:
		VMOVUPS(m, v)
	case w == AVX512:
		VMOVUPS_Z(m, mask, v)
	default:
		VMASKMOVPS(m, mask, v)
	}
}

// dots is the product of a few rows of A with four rows of B, both with k contiguous: for products too small to pack B.
func dots(w W, rows int) {
	w.Func(fmt.Sprintf("dots%dx4", rows), "func(k int, a *float32, as int, b *float32, bs int, sum *float32)",
		fmt.Sprintf(`sum[4*i+j] = sum over l < k of A[i][l]*B[j][l] for i < %d and j < 4; rows of A and B lie as and bs
bytes apart.`, rows))
	k, a, as, b, bs, sum := Ptr("k"), Ptr("a"), Ptr("as"), Ptr("b"), Ptr("bs"), Ptr("sum")
	row := func(p, stride reg.GPVirtual, n int) []reg.GPVirtual {
		ps := []reg.GPVirtual{p}
		for range n - 1 {
			q := GP64()
			LEAQ(Mem{Base: ps[len(ps)-1], Index: stride, Scale: 1}, q)
			ps = append(ps, q)
		}
		return ps
	}
	pa, pb := row(a, as, rows), row(b, bs, 4)
	acc := make([][]reg.VecVirtual, rows)
	for i := range acc {
		for range 4 {
			acc[i] = append(acc[i], w.Zero())
		}
	}
	w.Each(k, 1, append(append([]reg.GPVirtual{}, pa...), pb...), func(s Span) {
		var av []reg.VecVirtual
		for i := range rows {
			av = append(av, s.Load(pa[i]))
		}
		for j := range 4 {
			bv := s.Load(pb[j])
			for i := range rows {
				VFMADD231PS(bv, av[i], acc[i][j])
			}
		}
	})
	for i := range rows {
		v := sum4(w, acc[i])
		VMOVUPS(v, Mem{Base: sum, Disp: 16 * i})
	}
	w.End()
}

// sum4 adds the lanes of four vectors into one of four.
func sum4(w W, x []reg.VecVirtual) reg.VecVirtual {
	y := make([]reg.VecVirtual, 4)
	for i, v := range x {
		y[i] = v
		if w == AVX512 {
			h := YMM()
			VEXTRACTF64X4(U8(1), v, h)
			VADDPS(h, v.AsY(), h)
			y[i] = h
		}
	}
	a, b := YMM(), YMM()
	VHADDPS(y[1].AsY(), y[0].AsY(), a)
	VHADDPS(y[3].AsY(), y[2].AsY(), b)
	VHADDPS(b, a, a)
	h := XMM()
	VEXTRACTF128(U8(1), a, h)
	VADDPS(a.AsX(), h, h)
	return h
}

// copyPanel gathers a column strip of a row-major matrix.
func copyPanel(w W) {
	v := 4
	if w == AVX2 {
		v = 2
	}
	w.Func("copyPanel", "func(dst, src *float32, stride, rows int)",
		fmt.Sprintf("dst[i][j] = src[i][j], j < %d; rows of dst are dense, rows of src stride bytes apart", v*w.N()))
	dst, src, stride, rows := Ptr("dst"), Ptr("src"), Ptr("stride"), Ptr("rows")
	loop, done := Fresh("loop"), Fresh("done")
	Label(loop)
	DECQ(rows)
	JLT(LabelRef(done))
	for j := range v {
		x := w.Vec()
		VMOVUPS(Mem{Base: src, Disp: j * w.Bytes()}, x)
		VMOVUPS(x, Mem{Base: dst, Disp: j * w.Bytes()})
	}
	ADDQ(stride, src)
	ADDQ(U32(v*w.Bytes()), dst)
	JMP(LabelRef(loop))
	Label(done)
	w.End()
}

// compact is copyPanel for any width, with rows fetched ahead: they may lie a page apart.
func compact(w W) {
	w.Func("compact", "func(dst, src *float32, stride, rows, n int)",
		"dst[i][j] = src[i][j], j < n; rows of dst are dense, rows of src stride bytes apart")
	dst, src, stride, rows := Ptr("dst"), Ptr("src"), Ptr("stride"), Ptr("rows")
	n, p, line, ahead := GP64(), GP64(), GP64(), GP64()
	MOVQ(stride, ahead)
	SHLQ(U8(3), ahead)
	loop, done, fetch, copies := Fresh("loop"), Fresh("done"), Fresh("fetch"), Fresh("copy")
	Label(loop)
	DECQ(rows)
	JLT(LabelRef(done))
	Load(Param("n"), n)
	CMPQ(rows, U8(8))
	JLT(LabelRef(copies))
	LEAQ(Mem{Base: src, Index: ahead, Scale: 1}, p)
	LEAQ(Mem{Base: p, Index: n, Scale: 4}, line)
	Label(fetch)
	PREFETCHT0(Mem{Base: p})
	ADDQ(U8(64), p)
	CMPQ(p, line)
	JLT(LabelRef(fetch))
	Label(copies)
	MOVQ(src, p)
	w.Each(n, 2, []reg.GPVirtual{p, dst}, func(s Span) { s.Store(s.Load(p), dst) })
	Load(Param("n"), n)
	tail := GP64()
	MOVQ(n, tail)
	ANDQ(U8(w.N()-1), tail)
	LEAQ(Mem{Base: dst, Index: tail, Scale: 4}, dst)
	ADDQ(stride, src)
	JMP(LabelRef(loop))
	Label(done)
	w.End()
}

// turn8 transposes 8 columns at a time: both tiers use it.
func turn8() {
	w := AVX2
	w.Func("turn8x", "func(dst *float32, ds int, src *float32, ss, n int)",
		"dst[l][j] = src[j][l] for j < 8, l < 8n; rows of dst and src lie ds and ss bytes apart")
	dst, ds, src, ss, n := Ptr("dst"), Ptr("ds"), Ptr("src"), Ptr("ss"), Ptr("n")
	src3, ss3 := GP64(), GP64()
	LEAQ(Mem{Base: ss, Index: ss, Scale: 2}, ss3)
	LEAQ(Mem{Base: src, Index: ss, Scale: 4}, src3)
	ds3 := GP64()
	LEAQ(Mem{Base: ds, Index: ds, Scale: 2}, ds3)
	loop, done := Fresh("loop"), Fresh("done")
	rowOf := func(p, s, s3 reg.GPVirtual, i int) Mem {
		switch i {
		case 0:
			return Mem{Base: p}
		case 3:
			return Mem{Base: p, Index: s3, Scale: 1}
		}
		return Mem{Base: p, Index: s, Scale: uint8(i)}
	}
	Label(loop)
	DECQ(n)
	JLT(LabelRef(done))
	var r [8]reg.VecVirtual
	for i := range r {
		r[i] = YMM()
		p := src
		if i >= 4 {
			p = src3
		}
		VMOVUPS(rowOf(p, ss, ss3, i%4), r[i])
	}
	pair := func(op func(...Op), hi func(...Op), a, b reg.VecVirtual) (lo, up reg.VecVirtual) {
		lo, up = YMM(), YMM()
		op(b, a, lo)
		hi(b, a, up)
		return
	}
	unpackLo := func(o ...Op) { VUNPCKLPS(o[0], o[1], o[2]) }
	unpackHi := func(o ...Op) { VUNPCKHPS(o[0], o[1], o[2]) }
	var t [8]reg.VecVirtual
	for i := 0; i < 8; i += 2 {
		t[i], t[i+1] = pair(unpackLo, unpackHi, r[i], r[i+1])
	}
	lo := func(o ...Op) { VSHUFPS(U8(0x44), o[0], o[1], o[2]) }
	hi := func(o ...Op) { VSHUFPS(U8(0xee), o[0], o[1], o[2]) }
	var u [8]reg.VecVirtual
	for g := 0; g < 8; g += 4 {
		u[g], u[g+1] = pair(lo, hi, t[g], t[g+2])
		u[g+2], u[g+3] = pair(lo, hi, t[g+1], t[g+3])
	}
	d4 := GP64()
	LEAQ(Mem{Base: dst, Index: ds, Scale: 4}, d4)
	for i := range 4 {
		x, y := YMM(), YMM()
		VPERM2F128(U8(0x20), u[i+4], u[i], x)
		VPERM2F128(U8(0x31), u[i+4], u[i], y)
		VMOVUPS(x, rowOf(dst, ds, ds3, i))
		VMOVUPS(y, rowOf(d4, ds, ds3, i))
	}
	LEAQ(Mem{Base: dst, Index: ds, Scale: 8}, dst)
	ADDQ(U8(32), src)
	ADDQ(U8(32), src3)
	JMP(LabelRef(loop))
	Label(done)
	w.End()
}

// AVX512_BF16 in bytes, which Go's assembler does not know, each for an instruction with the same operands that is not
// used otherwise: VDPBF16PS for VPDPWSSD, and VCVTNE2PS2BF16, whose first operand makes the lower half, for VPMULHUW.
var encodings = map[string]struct {
	name         string
	prefix, code int
}{
	"VPDPWSSD": {"VDPBF16PS", 2, 0x52},
	"VPMULHUW": {"VCVTNE2PS2BF16", 3, 0x72},
}

func encode(path string) {
	text, err := os.ReadFile(path)
	if err != nil {
		log.Fatal(err)
	}
	instruction := regexp.MustCompile(`(VPDPWSSD|VPMULHUW) +Z(\d+), Z(\d+), Z(\d+)`)
	text = instruction.ReplaceAllFunc(text, func(line []byte) []byte {
		var r [3]int
		match := instruction.FindSubmatch(line)
		for i, m := range match[2:] {
			r[i], _ = strconv.Atoi(string(m))
		}
		e := encodings[string(match[1])]
		m, v, d := r[0], r[1], r[2]
		bit := func(r, b int) int { return ^r >> b & 1 } // EVEX stores registers inverted
		return fmt.Appendf(nil, "LONG $0x%02x%02x%02x62; WORD $0x%02x%02x // %s Z%d, Z%d, Z%d", 0x40|bit(v, 4)<<3,
			^v&15<<3|4|e.prefix, bit(d, 3)<<7|bit(m, 4)<<6|bit(m, 3)<<5|bit(d, 4)<<4|2, 0xc0|d&7<<3|m&7, e.code, e.name, m, v, d)
	})
	if err := os.WriteFile(path, text, 0o666); err != nil {
		log.Fatal(err)
	}
}

// roundBF16 rounds two vectors to bfloat16: lo in the lower half of the result. Subnormal numbers become 0.
func roundBF16(lo, hi reg.VecVirtual) reg.VecVirtual {
	y := ZMM()
	VPMULHUW(lo, hi, y)
	return y
}

// roundRow rounds a row.
func roundRow() {
	AVX512.Func("roundRow", "func(dst *uint16, src *float32, n int)", "dst[i] = bfloat16(src[i]), i < n")
	dst, src, n := Ptr("dst"), Ptr("src"), Ptr("n")
	loop, tail, done := Fresh("loop"), Fresh("tail"), Fresh("done")
	Label(loop)
	CMPQ(n, U8(32))
	JLT(LabelRef(tail))
	lo, hi := ZMM(), ZMM()
	VMOVUPS(Mem{Base: src}, lo)
	VMOVUPS(Mem{Base: src, Disp: 64}, hi)
	VMOVUPS(roundBF16(lo, hi), Mem{Base: dst})
	ADDQ(U32(128), src)
	ADDQ(U8(64), dst)
	SUBQ(U8(32), n)
	JMP(LabelRef(loop))
	Label(tail)
	TESTQ(n, n)
	JLE(LabelRef(done))
	k := AVX512.Masks(n, 2)
	lo, hi = AVX512.LoadMask(Mem{Base: src}, k[0]), AVX512.LoadMask(Mem{Base: src, Disp: 64}, k[1])
	ones, all := GP64(), K()
	MOVQ(I32(-1), ones)
	BZHIQ(n, ones, ones)
	KMOVD(ones.As32(), all)
	VMOVDQU16(roundBF16(lo, hi), all, Mem{Base: dst})
	Label(done)
	AVX512.End()
}

var order *Mem

// pairOrder is the order in which VPERMW puts the halves of a vector side by side.
func pairOrder() reg.VecVirtual {
	if order == nil {
		m := GLOBL("pairOrder", RODATA|NOPTR)
		for i := range 16 {
			DATA(4*i, U32(uint32(i|(i+16)<<16)))
		}
		order = &m
	}
	shuffle := ZMM()
	VMOVDQU64(*order, shuffle)
	return shuffle
}

// roundPairs rounds rows and puts two of them side by side.
func roundPairs() {
	AVX512.Func("roundPairs", "func(dst *float32, ds int, src *float32, ss, pairs, n int)",
		`dst[l][j] = bfloat16(src[2l][j]) | bfloat16(src[2l+1][j])<<16 for l < pairs, j < n; rows of dst and src lie ds and
ss bytes apart`)
	dst, ds, src, ss, pairs := Ptr("dst"), Ptr("ds"), Ptr("src"), Ptr("ss"), Ptr("pairs")
	shuffle := pairOrder()
	even, odd, q, n := GP64(), GP64(), GP64(), GP64()
	rows, done := Fresh("rows"), Fresh("done")
	Label(rows)
	DECQ(pairs)
	JLT(LabelRef(done))
	MOVQ(src, even)
	LEAQ(Mem{Base: src, Index: ss, Scale: 1}, odd)
	MOVQ(dst, q)
	Load(Param("n"), n)
	AVX512.Each(n, 4, []reg.GPVirtual{even, odd, q}, func(s Span) {
		x := roundBF16(s.Load(even), s.Load(odd))
		VPERMW(x, shuffle, x)
		s.Store(x, q)
	})
	LEAQ(Mem{Base: src, Index: ss, Scale: 2}, src)
	ADDQ(ds, dst)
	JMP(LabelRef(rows))
	Label(done)
	AVX512.End()
}
