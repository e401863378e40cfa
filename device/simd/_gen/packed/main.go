// Command packed writes the products with weight codes in panels, see device.PackPanels.
//
// A tile is some rows of activations times a panel. The codes are unsigned, 1 above their value, as VPDPBUSD wants its
// second operand: the sums start at comp, minus the sum of a row of activations for each plane of codes.
package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"

	. "setun/device/simd/gen/lane"
)

const (
	block = 128  // bytes of a block of a panel
	ahead = 8192 // bytes to prefetch
)

func main() {
	ConstraintExpr("amd64")
	one()
	for rows := 2; rows <= 8; rows++ {
		tile{rows: rows, vectors: 2, w: AVX512}.emit()
	}
	tile{rows: 1, vectors: 4, w: AVX2}.emit()
	tile{rows: 4, vectors: 1, w: AVX2}.emit()
	Generate()
}

// A tile is rows of activations times vectors of rows of a panel.
type tile struct {
	rows, vectors int
	w             W
}

const (
	args = "func(y *float32, ldy int, x *int8, ldx int, panel *uint8, blocks int, comp *int32, xs, ws, bias *float32, " +
		"cols int)"
	doc = "y[i,j] = float32(comp[i] + sum x[i,:]*(panel[j,:]+1)) * xs[i] * ws[j], + bias[j] unless that is nil, j < cols"
)

func (t tile) begin(name, doc string) {
	TEXT(name, NOSPLIT, args)
	Pragma("noescape")
	Doc(name + ": " + doc)
}

func (t tile) vecs() []reg.VecVirtual {
	v := make([]reg.VecVirtual, t.vectors)
	for i := range v {
		v[i] = t.w.Zero()
	}
	return v
}

func (t tile) emit() {
	multiply, name, text := t.dots, fmt.Sprintf("packed%dVNNI", t.rows), doc
	if t.w == AVX2 {
		multiply, name = t.pairs, fmt.Sprintf("packed%dAVX2", t.rows)
	}
	if t.vectors == 1 {
		text += "; j are 8 rows of a panel"
	}
	t.begin(name, text)
	sums := make([][]reg.VecVirtual, t.rows)
	for r := range sums {
		sums[r] = t.vecs()
	}
	multiply(sums)
	t.put(sums)
	t.w.End()
}

// pointers are x, advanced by 16 a block: word gives the four codes of row r for plane p.
func (t tile) pointers() (word func(r, p int) Mem, next func()) {
	x, ldx := Ptr("x"), Ptr("ldx")
	at := []reg.GPVirtual{x}
	if t.rows > 3 {
		ld3 := GP64()
		LEAQ(Mem{Base: ldx, Index: ldx, Scale: 2}, ld3)
		for r := 3; r < t.rows; r += 3 {
			a := GP64()
			LEAQ(Mem{Base: at[len(at)-1], Index: ld3, Scale: 1}, a)
			at = append(at, a)
		}
	}
	word = func(r, p int) Mem {
		m := Mem{Base: at[r/3], Disp: 4 * p}
		if r%3 > 0 {
			m.Index, m.Scale = ldx, uint8(r%3)
		}
		return m
	}
	return word, func() {
		for _, a := range at {
			ADDQ(U8(16), a)
		}
	}
}

// dots: planes are shifted down, and then multiply all rows.
func (t tile) dots(sums [][]reg.VecVirtual) {
	word, next := t.pointers()
	panel, blocks := Ptr("panel"), Ptr("blocks")
	low := AVX512.Bits(0x03030303)
	Label("block")
	lines := make([]reg.VecVirtual, t.vectors)
	for v := range lines {
		lines[v] = ZMM()
		VMOVDQU64(Mem{Base: panel, Disp: 64 * v}, lines[v])
		PREFETCHT0(Mem{Base: panel, Disp: ahead + 64*v})
	}
	for p := range 4 {
		codes := make([]reg.VecVirtual, t.vectors)
		for v := range codes {
			codes[v] = ZMM()
			if p == 0 {
				VPANDD(low, lines[v], codes[v])
			} else {
				VPSRLD(U8(2*p), lines[v], codes[v])
				VPANDD(low, codes[v], codes[v])
			}
		}
		for r, s := range sums {
			x := ZMM()
			VPBROADCASTD(word(r, p), x)
			for v := range s {
				VPDPBUSD(x, codes[v], s[v])
			}
		}
	}
	ADDQ(U8(block), panel)
	next()
	DECQ(blocks)
	JNZ(LabelRef("block"))
}

// one row: planes are masked, not shifted, so that each has sums 4^p too large, of its own.
func one() {
	t := tile{rows: 1, vectors: 2, w: AVX512}
	t.begin("packed1VNNI", doc+"; at most 2^15 blocks")
	var sums [4][]reg.VecVirtual
	var masks [4]reg.VecVirtual
	for p := range sums {
		sums[p], masks[p] = t.vecs(), AVX512.Bits(0x03030303<<(2*p))
	}
	word, next := t.pointers()
	panel, blocks := Ptr("panel"), Ptr("blocks")
	Label("block")
	var x [4]reg.VecVirtual
	for p := range x {
		x[p] = ZMM()
		VPBROADCASTD(word(0, p), x[p])
	}
	for v := range t.vectors {
		line := ZMM()
		VMOVDQU64(Mem{Base: panel, Disp: 64 * v}, line)
		PREFETCHT0(Mem{Base: panel, Disp: ahead + 64*v})
		for p := range x {
			codes := ZMM()
			VPANDD(masks[p], line, codes)
			VPDPBUSD(x[p], codes, sums[p][v])
		}
	}
	ADDQ(U8(block), panel)
	next()
	DECQ(blocks)
	JNZ(LabelRef("block"))
	for v, s := range sums[0] {
		for p := 1; p < 4; p++ {
			VPSRAD(U8(2*p), sums[p][v], sums[p][v])
			VPADDD(sums[p][v], s, s)
		}
	}
	t.put(sums[:1])
	AVX512.End()
}

// pairs: sums of int16 over a few blocks, which are at most 8*4*2*2*128.
func (t tile) pairs(sums [][]reg.VecVirtual) {
	word, next := t.pointers()
	panel, blocks := Ptr("panel"), Ptr("blocks")
	low := YMM()
	VMOVDQU(AVX2.KBits(0x03030303).(Mem), low)
	short := make([][]reg.VecVirtual, t.rows)
	for r := range short {
		short[r] = t.vecs()
	}
	Label("some")
	n, eight := GP64(), GP64()
	MOVQ(U32(8), eight)
	MOVQ(blocks, n)
	CMPQ(n, eight)
	CMOVQGT(eight, n)
	SUBQ(n, blocks)
	for _, s := range short {
		for _, v := range s {
			AVX2.Clear(v)
		}
	}
	Label("block")
	for p := range 4 {
		var x reg.VecVirtual
		if t.rows == 1 {
			x = YMM()
			VPBROADCASTD(word(0, p), x)
		}
		for v := range t.vectors {
			codes := YMM()
			if p == 0 {
				VPAND(Mem{Base: panel, Disp: 32 * v}, low, codes)
			} else {
				VMOVDQU(Mem{Base: panel, Disp: 32 * v}, codes)
				VPSRLD(U8(2*p), codes, codes)
				VPAND(low, codes, codes)
			}
			for r := range t.rows {
				product := YMM()
				if t.rows == 1 {
					VPMADDUBSW(x, codes, product)
				} else {
					VPBROADCASTD(word(r, p), product)
					VPMADDUBSW(product, codes, product)
				}
				VPADDW(product, short[r][v], short[r][v])
			}
		}
	}
	if t.vectors > 1 {
		PREFETCHT0(Mem{Base: panel, Disp: ahead})
		PREFETCHT0(Mem{Base: panel, Disp: ahead + 64})
	}
	SUBQ(I8(-block), panel)
	next()
	DECQ(n)
	JNZ(LabelRef("block"))
	ones := AVX2.KBits(0x00010001)
	for r, s := range short {
		for v := range s {
			VPMADDWD(ones, s[v], s[v])
			VPADDD(s[v], sums[r][v], sums[r][v])
		}
	}
	TESTQ(blocks, blocks)
	JNZ(LabelRef("some"))
}

// put scales and stores the sums.
func (t tile) put(sums [][]reg.VecVirtual) {
	w := t.w
	y, ldy, comp, xs, ws, bias, cols := Ptr("y"), Ptr("ldy"), Ptr("comp"), Ptr("xs"), Ptr("ws"), Ptr("bias"), Ptr("cols")
	SHLQ(U8(2), ldy)
	var k []reg.Register
	if w == AVX512 {
		k = w.Masks(cols, t.vectors)
	}
	scale := func(r, v int, x reg.VecVirtual) {
		c, s := w.Vec(), w.Vec()
		VPBROADCASTD(Mem{Base: comp, Disp: 4 * r}, c)
		VPADDD(c, x, x)
		VCVTDQ2PS(x, x)
		VBROADCASTSS(Mem{Base: xs, Disp: 4 * r}, s)
		VMULPS(s, x, x)
	}
	store := func(last func(v int, x reg.VecVirtual, k reg.Register)) {
		for v := range t.vectors {
			mask := reg.Register(nil)
			if k != nil {
				mask = k[v]
			} else {
				mask = w.MaskAt(cols, v)
			}
			at := GP64()
			MOVQ(y, at)
			for r := range sums {
				x := sums[r][v]
				scale(r, v, x)
				VMULPS(w.LoadMask(Mem{Base: ws, Disp: v * w.Bytes()}, mask), x, x)
				last(v, x, mask)
				w.StoreMask(x, mask, Mem{Base: at, Disp: v * w.Bytes()})
				ADDQ(ldy, at)
			}
		}
	}
	TESTQ(bias, bias)
	JNZ(LabelRef("bias"))
	store(func(int, reg.VecVirtual, reg.Register) {})
	JMP(LabelRef("end"))
	Label("bias")
	store(func(v int, x reg.VecVirtual, k reg.Register) {
		VADDPS(w.LoadMask(Mem{Base: bias, Disp: v * w.Bytes()}, k), x, x)
	})
	Label("end")
}
