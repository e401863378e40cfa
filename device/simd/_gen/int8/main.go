// Command int8 writes the routines of the quantized linear layer.
//
// Operand A has rows of codes, B columns. Four codes along the contraction are a group, one 32-bit word. A stores its
// groups at any two strides; B is packed in panels [groups][64 columns][4] of code+128, unsigned as VPDPBUSD wants its
// second operand, which adds 128 times the sum of the row of A: the sums start at comp = -128 * that.
package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"

	. "setun/device/simd/gen/lane"
)

const (
	panel = 64 // columns of a panel of B
	block = 48 // rows of a block of A in columns
)

func main() {
	ConstraintExpr("amd64")
	for mr := 1; mr <= 6; mr++ {
		tile{rows: mr, vectors: 4, w: AVX512, vnni: true}.emit()
	}
	for _, w := range Widths {
		for _, mr := range []int{1, 4} {
			tile{rows: mr, vectors: 2, w: w}.emit()
		}
	}
	packRows()
	packCols()
	dotVNNI()
	dotAVX2()
	for _, w := range Widths {
		sumCodes(w)
		for _, scaled := range []bool{false, true} {
			rowMax(w, scaled)
			rowCodes(w, scaled)
		}
		colMax(w)
		colCodes(w)
	}
	Generate()
}

// A tile is rows of A times vectors of columns of B.
type tile struct {
	rows, vectors int
	w             W
	vnni          bool
}

func (t tile) emit() {
	w := t.w
	name := fmt.Sprintf("qtile%d", t.rows)
	if t.vnni {
		TEXT(name+"VNNI", NOSPLIT, tileArgs)
		Pragma("noescape")
		Doc(name + "VNNI: " + tileDoc)
	} else {
		w.Func(name, tileArgs, tileDoc)
	}
	masks := func() []reg.Register { return w.Masks(Ptr("cols"), t.vectors) }
	var k []reg.Register
	if w == AVX512 {
		k = masks()
	}
	c, ldc, a, ars, comp, rs, tiles := Ptr("c"), Ptr("ldc"), Ptr("a"), Ptr("ars"), Ptr("comp"), Ptr("rs"), Ptr("tiles")
	SHLQ(U8(2), ldc)
	sums := make([][]reg.VecVirtual, t.rows)
	for r := range sums {
		for range t.vectors {
			sums[r] = append(sums[r], w.Vec())
		}
	}
	Label("tile")
	for r, s := range sums {
		VPBROADCASTD(Mem{Base: comp, Disp: 4 * r}, s[0])
		for _, v := range s[1:] {
			VMOVAPS(s[0], v)
		}
	}
	line := GP64() // of c, for the end
	MOVQ(c, line)
	for r := range t.rows {
		for v := range max(1, t.vectors*w.Bytes()/64) {
			PREFETCHT0(Mem{Base: line, Disp: 64 * v})
		}
		if r < t.rows-1 {
			ADDQ(ldc, line)
		}
	}
	b, groups, aks := Ptr("b"), Ptr("groups"), Ptr("aks")
	at := []reg.GPVirtual{GP64(), GP64()} // rows 0 and 3
	MOVQ(a, at[0])
	if t.rows > 3 {
		LEAQ(Mem{Base: a, Index: ars, Scale: 2}, at[1])
		ADDQ(ars, at[1])
	}
	Label("group")
	t.group(b, at, ars, sums)
	ADDQ(U32(4*panel), b)
	ADDQ(aks, at[0])
	if t.rows > 3 {
		ADDQ(aks, at[1])
	}
	DECQ(groups)
	JNZ(LabelRef("group"))

	mode, cs := Ptr("mode"), Ptr("cs")
	if k == nil {
		k = masks()
	}
	CMPQ(mode, U8(1))
	JEQ(LabelRef("bias"))
	JGT(LabelRef("acc"))
	t.put(sums, c, ldc, rs, cs, k, func(v int, x reg.VecVirtual) {})
	JMP(LabelRef("next"))
	Label("bias")
	bias := Ptr("bias")
	t.put(sums, c, ldc, rs, cs, k, func(v int, x reg.VecVirtual) {
		VADDPS(Mem{Base: bias, Disp: v * w.Bytes()}, x, x)
	})
	JMP(LabelRef("next"))
	Label("acc")
	t.put(sums, c, ldc, rs, cs, k, func(v int, x reg.VecVirtual) {
		VADDPS(w.LoadMask(Mem{Base: c, Disp: v * w.Bytes()}, k[v]), x, x)
	})
	Label("next")
	for range t.rows {
		ADDQ(ars, a)
	}
	ADDQ(U8(4*t.rows), comp)
	ADDQ(U8(4*t.rows), rs)
	DECQ(tiles)
	JNZ(LabelRef("tile"))
	w.End()
}

const (
	tileArgs = "func(c *float32, ldc int, a *int8, ars, aks int, b *uint8, groups int, comp *int32, rs, cs, " +
		"bias *float32, mode, cols, tiles int)"
	tileDoc = "c[i,j] = float32(comp[i] + sum a[i,:]*b[:,j]) * rs[i] * cs[j]; mode 1 adds bias[j], mode 2 c[i,j]"
)

// group multiplies one group of A and B.
func (t tile) group(b reg.GPVirtual, at []reg.GPVirtual, ars reg.GPVirtual, sums [][]reg.VecVirtual) {
	w := t.w
	word := func(r int) reg.VecVirtual {
		m := Mem{Base: at[r/3]}
		if r%3 > 0 {
			m.Index, m.Scale = ars, uint8(r%3)
		}
		v := w.Vec()
		VPBROADCASTD(m, v)
		return v
	}
	if t.vnni {
		cols := make([]reg.VecVirtual, t.vectors)
		for v := range cols {
			cols[v] = w.Vec()
			VMOVUPS(Mem{Base: b, Disp: 64 * v}, cols[v])
		}
		for r, s := range sums {
			x := word(r)
			for v := range s {
				VPDPBUSD(x, cols[v], s[v])
			}
		}
		return
	}
	// Even and odd codes as int16: VPMADDWD is exact for all of them.
	even, odd := make([]reg.VecVirtual, t.vectors), make([]reg.VecVirtual, t.vectors)
	for v := range even {
		even[v], odd[v] = w.Vec(), w.Vec()
		VMOVUPS(Mem{Base: b, Disp: w.Bytes() * v}, odd[v])
		VPSLLW(U8(8), odd[v], even[v])
		VPSRLW(U8(8), odd[v], odd[v])
		VPSRLW(U8(8), even[v], even[v])
	}
	for r, s := range sums {
		x, y, p := word(r), w.Vec(), w.Vec()
		VPSRAW(U8(8), x, y)
		VPSLLW(U8(8), x, x)
		VPSRAW(U8(8), x, x)
		for v := range s {
			VPMADDWD(x, even[v], p)
			VPADDD(p, s[v], s[v])
			VPMADDWD(y, odd[v], p)
			VPADDD(p, s[v], s[v])
		}
	}
}

// put scales and stores the sums; c advances by the rows.
func (t tile) put(sums [][]reg.VecVirtual, c, ldc, rs, cs reg.GPVirtual, k []reg.Register,
	add func(v int, x reg.VecVirtual)) {
	w := t.w
	for r, s := range sums {
		scale := w.Vec()
		VBROADCASTSS(Mem{Base: rs, Disp: 4 * r}, scale)
		for v, x := range s {
			VCVTDQ2PS(x, x)
			VMULPS(scale, x, x)
			VMULPS(Mem{Base: cs, Disp: v * w.Bytes()}, x, x)
			add(v, x)
			w.StoreMask(x, k[v], Mem{Base: c, Disp: v * w.Bytes()})
		}
		ADDQ(ldc, c)
	}
}

func routine(name, signature, doc string) {
	TEXT(name, NOSPLIT, signature)
	Pragma("noescape")
	Doc(name + ": " + doc)
}

// bits broadcasts a 32-bit pattern to 128 or 256 bits.
func bits(pattern uint32, v reg.VecVirtual) reg.VecVirtual {
	g := GP32()
	MOVL(U32(pattern), g)
	VMOVD(g, v.AsX())
	VPBROADCASTD(v.AsX(), v)
	return v
}

// packRows turns 8 rows of codes into 8 columns of a panel: an 8x8 transpose of words for every 32 codes.
func packRows() {
	routine("packRowsAVX2", "func(dst *uint8, src *int8, ld, n int)",
		"dst[g*256+4*r+c] = src[r*ld+4*g+c] + 128, r < 8, g < 8*n, c < 4")
	dst, src, ld, n := Ptr("dst"), Ptr("src"), Ptr("ld"), Ptr("n")
	ld3, src3 := GP64(), GP64()
	LEAQ(Mem{Base: ld, Index: ld, Scale: 2}, ld3)
	LEAQ(Mem{Base: src, Index: ld3, Scale: 1}, src3)
	flip := bits(0x80808080, YMM())
	rows := []Mem{{Base: src}, {Base: src, Index: ld, Scale: 1}, {Base: src, Index: ld, Scale: 2}, {Base: src3},
		{Base: src, Index: ld, Scale: 4}, {Base: src3, Index: ld, Scale: 2}, {Base: src3, Index: ld3, Scale: 1},
		{Base: src3, Index: ld, Scale: 4}}
	Label("loop")
	var r, t, u [8]reg.VecVirtual
	for i := range r {
		r[i], t[i], u[i] = YMM(), YMM(), YMM()
	}
	for i := 0; i < 8; i += 2 {
		VMOVDQU(rows[i], r[i])
		VMOVDQU(rows[i+1], r[i+1])
		VPUNPCKLDQ(r[i+1], r[i], t[i])
		VPUNPCKHDQ(r[i+1], r[i], t[i+1])
	}
	for i := 0; i < 8; i += 4 {
		VPUNPCKLQDQ(t[i+2], t[i], u[i])
		VPUNPCKHQDQ(t[i+2], t[i], u[i+1])
		VPUNPCKLQDQ(t[i+3], t[i+1], u[i+2])
		VPUNPCKHQDQ(t[i+3], t[i+1], u[i+3])
	}
	for i := range 4 {
		for half, order := range []U8{0x20, 0x31} {
			v := YMM()
			VPERM2I128(order, u[i+4], u[i], v)
			VPXOR(flip, v, v)
			VMOVDQU(v, Mem{Base: dst, Disp: 4 * panel * (i + 4*half)})
		}
	}
	ADDQ(U8(32), src)
	ADDQ(U8(32), src3)
	ADDQ(U32(8*4*panel), dst)
	DECQ(n)
	JNZ(LabelRef("loop"))
	VZEROUPPER()
	RET()
}

// packCols interleaves the bytes of 4 rows of codes, 16 columns at a time.
func packCols() {
	routine("packColsAVX2", "func(dst *uint8, src *int8, ld, groups, n int)",
		"dst[g*256+4*c+r] = src[(4*g+r)*ld+c] + 128, r < 4, c < 16*n")
	dst, src, ld, groups := Ptr("dst"), Ptr("src"), Ptr("ld"), Ptr("groups")
	flip := bits(0x80808080, XMM())
	Label("group")
	n, p, q, to := Ptr("n"), GP64(), GP64(), GP64()
	MOVQ(src, p)
	LEAQ(Mem{Base: src, Index: ld, Scale: 2}, q)
	MOVQ(dst, to)
	Label("unit")
	var r [4]reg.VecVirtual
	for i, m := range []Mem{{Base: p}, {Base: p, Index: ld, Scale: 1}, {Base: q}, {Base: q, Index: ld, Scale: 1}} {
		r[i] = XMM()
		VMOVDQU(m, r[i])
		VPXOR(flip, r[i], r[i])
	}
	lo, lo2, hi, hi2 := XMM(), XMM(), XMM(), XMM()
	VPUNPCKLBW(r[1], r[0], lo)
	VPUNPCKLBW(r[3], r[2], lo2)
	VPUNPCKHBW(r[1], r[0], hi)
	VPUNPCKHBW(r[3], r[2], hi2)
	var out [4]reg.VecVirtual
	for i := range out {
		out[i] = XMM()
	}
	VPUNPCKLWD(lo2, lo, out[0])
	VPUNPCKHWD(lo2, lo, out[1])
	VPUNPCKLWD(hi2, hi, out[2])
	VPUNPCKHWD(hi2, hi, out[3])
	for i, v := range out {
		VMOVDQU(v, Mem{Base: to, Disp: 16 * i})
	}
	ADDQ(U8(16), p)
	ADDQ(U8(16), q)
	ADDQ(U8(64), to)
	DECQ(n)
	JNZ(LabelRef("unit"))
	LEAQ(Mem{Base: src, Index: ld, Scale: 4}, src)
	ADDQ(U32(4*panel), dst)
	DECQ(groups)
	JNZ(LabelRef("group"))
	RET()
}

// fourAt are rows 0 to 3 of p.
func fourAt(p, ld, ld3 reg.GPVirtual) []Mem {
	return []Mem{{Base: p}, {Base: p, Index: ld, Scale: 1}, {Base: p, Index: ld, Scale: 2},
		{Base: p, Index: ld3, Scale: 1}}
}

const dotDoc = "sum[j] = comp + sum x[:]*(codes[j*ld:]+128), j < 4*n"

// dotVNNI: four rows of codes at a time against one x.
func dotVNNI() {
	routine("qdotVNNI", "func(sum *int32, x, codes *int8, ld, k, n int, comp int32)", dotDoc)
	sum, x0, codes, ld, n := Ptr("sum"), Ptr("x"), Ptr("codes"), Ptr("ld"), Ptr("n")
	flip := AVX512.Bits(0x80808080)
	ld3 := GP64()
	LEAQ(Mem{Base: ld, Index: ld, Scale: 2}, ld3)
	comp := XMM()
	VMOVD(Load(Param("comp"), GP32()), comp)
	VPBROADCASTD(comp, comp)
	tail, ones := GP64(), GP64()
	MOVQ(Ptr("k"), tail)
	ANDQ(U8(63), tail)
	MOVQ(I32(-1), ones)
	BZHIQ(tail, ones, ones)
	k := K()
	KMOVQ(ones, k)
	Label("row")
	x, p, left := GP64(), GP64(), Ptr("k")
	MOVQ(x0, x)
	MOVQ(codes, p)
	rows := fourAt(p, ld, ld3)
	var s [4]reg.VecVirtual
	for i := range s {
		s[i] = AVX512.Zero()
	}
	Label("chunk")
	CMPQ(left, U8(64))
	JLT(LabelRef("tail"))
	v := ZMM()
	VMOVDQU8(Mem{Base: x}, v)
	for i, m := range rows {
		c := ZMM()
		VPXORD(m, flip, c)
		VPDPBUSD(v, c, s[i])
	}
	ADDQ(U8(64), x)
	ADDQ(U8(64), p)
	SUBQ(U8(64), left)
	JMP(LabelRef("chunk"))
	Label("tail")
	TESTQ(left, left)
	JEQ(LabelRef("fold"))
	VMOVDQU8_Z(Mem{Base: x}, k, v)
	for i, m := range rows {
		c := ZMM()
		VMOVDQU8_Z(m, k, c)
		VPXORD(flip, c, c)
		VPDPBUSD(v, c, s[i])
	}
	Label("fold")
	fold4(s, comp, sum)
	LEAQ(Mem{Base: codes, Index: ld, Scale: 4}, codes)
	ADDQ(U8(16), sum)
	DECQ(n)
	JNZ(LabelRef("row"))
	VZEROUPPER()
	RET()
}

// fold4 stores the four sums of the lanes of s, plus comp.
func fold4(s [4]reg.VecVirtual, comp reg.VecVirtual, sum reg.GPVirtual) {
	var y [4]reg.VecVirtual
	for i, v := range s {
		y[i] = v
		if v.Size() == 64 {
			h := YMM()
			VEXTRACTI64X4(U8(1), v, h)
			VPADDD(v.AsY(), h, h)
			y[i] = h
		}
	}
	VPHADDD(y[1], y[0], y[0])
	VPHADDD(y[3], y[2], y[2])
	VPHADDD(y[2], y[0], y[0])
	x := XMM()
	VEXTRACTI128(U8(1), y[0], x)
	VPADDD(y[0].AsX(), x, x)
	VPADDD(comp, x, x)
	VMOVDQU(x, Mem{Base: sum})
}

// dotAVX2 leaves the codes signed: comp is 0.
func dotAVX2() {
	routine("qdotAVX2", "func(sum *int32, x, codes *int8, ld, k, n int)",
		"sum[j] = sum x[:]*codes[j*ld:], j < 4*n, k a multiple of 16")
	sum, x0, codes, ld, n := Ptr("sum"), Ptr("x"), Ptr("codes"), Ptr("ld"), Ptr("n")
	ld3 := GP64()
	LEAQ(Mem{Base: ld, Index: ld, Scale: 2}, ld3)
	Label("row")
	x, p, left := GP64(), GP64(), Ptr("k")
	MOVQ(x0, x)
	MOVQ(codes, p)
	rows := fourAt(p, ld, ld3)
	var s [4]reg.VecVirtual
	for i := range s {
		s[i] = AVX2.Zero()
	}
	Label("chunk")
	TESTQ(left, left)
	JLE(LabelRef("fold"))
	v := YMM()
	VPMOVSXBW(Mem{Base: x}, v)
	for i, m := range rows {
		c := YMM()
		VPMOVSXBW(m, c)
		VPMADDWD(v, c, c)
		VPADDD(c, s[i], s[i])
	}
	ADDQ(U8(16), x)
	ADDQ(U8(16), p)
	SUBQ(U8(16), left)
	JMP(LabelRef("chunk"))
	Label("fold")
	comp := XMM()
	VPXOR(comp, comp, comp)
	fold4(s, comp, sum)
	LEAQ(Mem{Base: codes, Index: ld, Scale: 4}, codes)
	ADDQ(U8(16), sum)
	DECQ(n)
	JNZ(LabelRef("row"))
	VZEROUPPER()
	RET()
}

// sumCodes: with 256 bits, n must be a multiple of 32.
func sumCodes(w W) {
	doc := "sum x[i]"
	if w == AVX2 {
		doc += ", n a multiple of 32"
	}
	w.Func("sumCodes", "func(x *int8, n int) int32", doc)
	x, n := Ptr("x"), Ptr("n")
	bytes, words, sum := w.Bits(0x01010101), w.Bits(0x00010001), w.Zero()
	add := func(v reg.VecVirtual) {
		VPMADDUBSW(v, bytes, v)
		VPMADDWD(v, words, v)
		VPADDD(v, sum, sum)
	}
	Label("loop")
	CMPQ(n, U8(w.Bytes()))
	JLT(LabelRef("tail"))
	v := w.Vec()
	VMOVUPS(Mem{Base: x}, v)
	add(v)
	ADDQ(U8(w.Bytes()), x)
	SUBQ(U8(w.Bytes()), n)
	JMP(LabelRef("loop"))
	Label("tail")
	if w == AVX512 {
		ones, k := GP64(), K()
		MOVQ(I32(-1), ones)
		BZHIQ(n, ones, ones)
		KMOVQ(ones, k)
		VMOVDQU8_Z(Mem{Base: x}, k, v)
		add(v)
	}
	r := w.FoldInt(sum, intOp(VPADDD))
	Store(r, ReturnIndex(0))
	w.End()
}

func intOp(f func(...Op)) func(...Op) { return f }

// scaledBy is the suffix of the routines that multiply by a scale per column.
func scaledBy(scaled bool) string {
	if scaled {
		return "Scaled"
	}
	return ""
}

// rowMax gives the bits of the largest |h|: NaN is above Inf, which is above all numbers.
func rowMax(w W, scaled bool) {
	name, sig, doc := "gradRowMax"+scaledBy(scaled), "func(x *float32, n int) uint32", "max of the bits of |x[j]|"
	if scaled {
		sig, doc = "func(x, ws *float32, n int) uint32", "max of the bits of |x[j]*ws[j]|"
	}
	w.Func(name, sig, doc)
	ptrs := []reg.GPVirtual{Ptr("x")}
	if scaled {
		ptrs = append(ptrs, Ptr("ws"))
	}
	abs, top := w.Bits(0x7fffffff), w.Zero()
	w.Each(Ptr("n"), 4, ptrs, func(s Span) {
		h := s.Load(ptrs[0])
		if scaled {
			VMULPS(s.Load(ptrs[1]), h, h)
		}
		w.And(abs, h, h)
		VPMAXUD(h, top, top)
	})
	r := w.FoldInt(top, intOp(VPMAXUD))
	Store(r, ReturnIndex(0))
	w.End()
}

// rowCodes rounds h*s to codes and adds them up. With 256 bits, n must be a multiple of 32.
func rowCodes(w W, scaled bool) {
	name, sig, doc := "gradRow"+scaledBy(scaled), "func(q *int8, x *float32, n int, s float32) int32",
		"q[j] = roundEven(x[j]*s); the sum of q"
	if scaled {
		sig, doc = "func(q *int8, x, ws *float32, n int, s float32) int32",
			"q[j] = roundEven(x[j]*ws[j]*s); the sum of q"
	}
	if w == AVX2 {
		doc += "; n a multiple of 32"
	}
	w.Func(name, sig, doc)
	q, n := Ptr("q"), Ptr("n")
	ptrs := []reg.GPVirtual{Ptr("x")}
	if scaled {
		ptrs = append(ptrs, Ptr("ws"))
	}
	s, sum := w.Arg("s"), w.Zero()
	if w == AVX512 {
		w.Each(n, 2, ptrs, func(span Span) {
			h := span.Load(ptrs[0])
			if scaled {
				VMULPS(span.Load(ptrs[1]), h, h)
			}
			VMULPS(s, h, h)
			VCVTPS2DQ(h, h)
			VPADDD(h, sum, sum)
			if span.Tail() {
				VPMOVSDB(h, span.Mask().(reg.OpmaskVirtual), Mem{Base: q})
			} else {
				VPMOVSDB(h, Mem{Base: q})
				ADDQ(U8(16), q)
			}
		})
	} else {
		order := YMM()
		VMOVDQU(packOrder(), order)
		Label("loop")
		CMPQ(n, U8(32))
		JLT(LabelRef("done"))
		var h [4]reg.VecVirtual
		for i := range h {
			h[i] = YMM()
			VMOVUPS(Mem{Base: ptrs[0], Disp: 32 * i}, h[i])
			if scaled {
				VMULPS(Mem{Base: ptrs[1], Disp: 32 * i}, h[i], h[i])
			}
			VMULPS(s, h[i], h[i])
			VCVTPS2DQ(h[i], h[i])
			VPADDD(h[i], sum, sum)
		}
		VPACKSSDW(h[1], h[0], h[0])
		VPACKSSDW(h[3], h[2], h[2])
		VPACKSSWB(h[2], h[0], h[0])
		VPERMD(h[0], order, h[0])
		VMOVDQU(h[0], Mem{Base: q})
		ADDQ(U8(32), q)
		for _, p := range ptrs {
			ADDQ(U32(128), p)
		}
		SUBQ(U8(32), n)
		JMP(LabelRef("loop"))
		Label("done")
	}
	r := w.FoldInt(sum, intOp(VPADDD))
	Store(r, ReturnIndex(0))
	w.End()
}

var packed *Mem

// packOrder undoes the order that packing leaves the words in.
func packOrder() Mem {
	if packed == nil {
		m := GLOBL("packOrder", RODATA|NOPTR)
		for i, v := range []U32{0, 4, 1, 5, 2, 6, 3, 7} {
			DATA(4*i, v)
		}
		packed = &m
	}
	return *packed
}

// fourRows emits the loop over the columns of 4 rows of x, a block at a time and the rest masked. body gets the place
// of the vector and the 4 vectors of x*xs; after a block, next advances other pointers.
func fourRows(w W, body func(v int, k reg.Register, h [4]reg.VecVirtual), next func()) {
	x, ld, n := Ptr("x"), Ptr("ld"), Ptr("n")
	SHLQ(U8(2), ld)
	x3, xs := GP64(), Ptr("xs")
	LEAQ(Mem{Base: ld, Index: ld, Scale: 2}, x3)
	ADDQ(x, x3)
	rows := [4]Mem{{Base: x}, {Base: x, Index: ld, Scale: 1}, {Base: x, Index: ld, Scale: 2}, {Base: x3}}
	var scale [4]reg.VecVirtual
	for r := range scale {
		scale[r] = w.Vec()
		VBROADCASTSS(Mem{Base: xs, Disp: 4 * r}, scale[r])
	}
	each := func(masked bool) {
		for v := range block / w.N() {
			var h [4]reg.VecVirtual
			var k reg.Register
			if masked {
				k = w.MaskAt(n, v)
			}
			for r, m := range rows {
				m.Disp = v * w.Bytes()
				if !masked {
					h[r] = w.Vec()
					VMULPS(m, scale[r], h[r])
					if m.Disp%64 == 0 {
						Fetch(m)
					}
				} else {
					h[r] = w.LoadMask(m, k)
					VMULPS(h[r], scale[r], h[r])
				}
			}
			body(v, k, h)
		}
	}
	Label("block")
	CMPQ(n, U8(block))
	JLT(LabelRef("tail"))
	each(false)
	ADDQ(U32(4*block), x)
	ADDQ(U32(4*block), x3)
	next()
	SUBQ(U8(block), n)
	JMP(LabelRef("block"))
	Label("tail")
	TESTQ(n, n)
	JEQ(LabelRef("done"))
	each(true)
	Label("done")
	w.End()
}

// colMax is rowMax for columns, four rows at a time.
func colMax(w W) {
	w.Func("gradColMax", "func(top, x *float32, ld int, xs *float32, n int)",
		"top[j] = max as bits of top[j] and, over i < 4, |x[i*ld+j]*xs[i]|; j < n")
	top, abs := Ptr("top"), w.Bits(0x7fffffff)
	fourRows(w, func(v int, k reg.Register, h [4]reg.VecVirtual) {
		m := Mem{Base: top, Disp: v * w.Bytes()}
		for r := range h {
			w.And(abs, h[r], h[r])
		}
		VPMAXUD(h[1], h[0], h[0])
		VPMAXUD(h[3], h[2], h[2])
		VPMAXUD(h[2], h[0], h[0])
		if k == nil {
			VPMAXUD(m, h[0], h[0])
			VMOVUPS(h[0], m)
		} else {
			VPMAXUD(w.LoadMask(m, k), h[0], h[0])
			w.StoreMask(h[0], k, m)
		}
	}, func() { ADDQ(U32(4*block), top) })
}

// colCodes quantizes the columns of four rows to words of blocks of A.
func colCodes(w W) {
	w.Func("gradCol", "func(dst *int8, stride int, sum *int32, x *float32, ld int, xs, s *float32, n int)",
		fmt.Sprintf("dst[j/%d*stride+4*(j%%%d)+i] = roundEven(x[i*ld+j]*xs[i]*s[j]), i < 4, j < n, 0 beyond n in its block; "+
			"sum[j] += the sum over i", block, block))
	dst, stride, sum, s, low := Ptr("dst"), Ptr("stride"), Ptr("sum"), Ptr("s"), w.Bits(0xff)
	fourRows(w, func(v int, k reg.Register, h [4]reg.VecVirtual) {
		scale, to := w.Vec(), Mem{Base: sum, Disp: v * w.Bytes()}
		if k == nil {
			VMOVUPS(Mem{Base: s, Disp: v * w.Bytes()}, scale)
		} else {
			scale = w.LoadMask(Mem{Base: s, Disp: v * w.Bytes()}, k)
		}
		for r := range h {
			VMULPS(scale, h[r], h[r])
			VCVTPS2DQ(h[r], h[r])
		}
		t, u := w.Vec(), w.Vec()
		VPADDD(h[1], h[0], t)
		VPADDD(h[3], h[2], u)
		VPADDD(u, t, t)
		if k == nil {
			VPADDD(to, t, t)
			VMOVUPS(t, to)
		} else {
			VPADDD(w.LoadMask(to, k), t, t)
			w.StoreMask(t, k, to)
		}
		for r := range 3 {
			w.And(low, h[r], h[r])
		}
		for r := 1; r < 4; r++ {
			VPSLLD(U8(8*r), h[r], h[r])
		}
		w.Or(h[1], h[0], h[0])
		w.Or(h[3], h[2], h[2])
		w.Or(h[2], h[0], h[0])
		VMOVUPS(h[0], Mem{Base: dst, Disp: v * w.Bytes()})
	}, func() {
		ADDQ(stride, dst)
		ADDQ(U32(4*block), sum)
		ADDQ(U32(4*block), s)
	})
}
