// Package lane writes vector code once for both widths: 512 bits with masks, and 256 bits.
package lane

import (
	"fmt"
	"math"
	"strings"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// W is a vector width in bits.
type W int

const (
	AVX2   W = 256
	AVX512 W = 512
)

// Widths is both, for loops over the tiers.
var Widths = []W{AVX512, AVX2}

// N is the number of float32 lanes.
func (w W) N() int { return int(w) / 32 }

// Bytes is the size of a vector.
func (w W) Bytes() int { return int(w) / 8 }

func (w W) String() string {
	if w == AVX512 {
		return "AVX512"
	}
	return "AVX2"
}

// Func begins the routine name+"AVX512" or name+"AVX2". doc is its Go twin.
func (w W) Func(name, signature, doc string) {
	TEXT(name+w.String(), NOSPLIT, signature)
	Pragma("noescape")
	Doc(strings.Split(name+w.String()+": "+doc, "\n")...)
}

// End ends a routine.
func (w W) End() {
	VZEROUPPER()
	RET()
}

// Vec is a fresh vector register.
func (w W) Vec() reg.VecVirtual {
	if w == AVX512 {
		return ZMM()
	}
	return YMM()
}

// Half is a fresh vector register of half the width: as many int16 as Vec has float32.
func (w W) Half() reg.VecVirtual {
	if w == AVX512 {
		return YMM()
	}
	return XMM()
}

// Zero is a fresh register of zeros.
func (w W) Zero() reg.VecVirtual {
	v := w.Vec()
	w.Clear(v)
	return v
}

// Clear zeroes v. (The 256-bit VXORPS would be the EVEX form for registers above 15; 256-bit code never has those.)
func (w W) Clear(v reg.VecVirtual) {
	if w == AVX512 {
		VPXORD(v, v, v)
	} else {
		VPXOR(v, v, v)
	}
}

// Arg broadcasts the float32 argument name.
func (w W) Arg(name string) reg.VecVirtual {
	v := w.Vec()
	p, err := Param(name).Resolve()
	if err != nil {
		panic(err)
	}
	VBROADCASTSS(p.Addr, v)
	return v
}

// Ptr loads the pointer or integer argument name.
func Ptr(name string) reg.GPVirtual { return Load(Param(name), GP64()).(reg.GPVirtual) }

var globals = map[uint32]Mem{}

// word is a read-only 32-bit constant, shared by the routines of a file; 256 bits of it, to be an operand.
func word(bits uint32) Mem {
	m, ok := globals[bits]
	if !ok {
		m = GLOBL(fmt.Sprintf("c%08x", bits), RODATA|NOPTR)
		for i := range 4 {
			DATA(8*i, U64(uint64(bits)<<32|uint64(bits)))
		}
		globals[bits] = m
	}
	return m
}

// K is a constant as an operand: a register, or memory with 256 bits, which has few registers.
func (w W) K(f float32) Op { return w.KBits(math.Float32bits(f)) }

// KBits is a 32-bit pattern as an operand.
func (w W) KBits(bits uint32) Op {
	if w == AVX512 {
		return w.Bits(bits)
	}
	return word(bits)
}

// Const broadcasts a float32.
func (w W) Const(f float32) reg.VecVirtual { return w.Bits(math.Float32bits(f)) }

// Bits broadcasts a 32-bit pattern.
func (w W) Bits(bits uint32) reg.VecVirtual {
	v := w.Vec()
	VBROADCASTSS(word(bits), v)
	return v
}

// And, Or, Xor are bitwise in the float domain: dst = a op b.
func (w W) And(a Op, b, dst reg.VecVirtual) {
	if w == AVX512 {
		VPANDD(a, b, dst)
	} else {
		VANDPS(a, b, dst)
	}
}

func (w W) Or(a Op, b, dst reg.VecVirtual) {
	if w == AVX512 {
		VPORD(a, b, dst)
	} else {
		VORPS(a, b, dst)
	}
}

func (w W) Xor(a Op, b, dst reg.VecVirtual) {
	if w == AVX512 {
		VPXORD(a, b, dst)
	} else {
		VXORPS(a, b, dst)
	}
}

// RoundEven: dst = x rounded to the nearest integer, ties to even.
func (w W) RoundEven(x Op, dst reg.VecVirtual) {
	if w == AVX512 {
		VRNDSCALEPS(U8(8), x, dst)
	} else {
		VROUNDPS(U8(8), x, dst)
	}
}

// A Span is one vector of a loop: full, or the masked tail.
type Span struct {
	w    W
	off  int // bytes from the pointers
	tail bool
	k    reg.Register // mask of the tail: K, or a vector for 256 bits
}

// Full is the vector i vectors from the pointers.
func (w W) Full(i int) Span { return Span{w: w, off: i * w.Bytes()} }

// Tail reports whether lanes are masked.
func (s Span) Tail() bool { return s.tail }

// Mask is the mask of a tail: a K register, or a vector of all-ones lanes with 256 bits.
func (s Span) Mask() reg.Register { return s.k }

// Load reads the vector of float32 at p; masked lanes are 0 and not touched.
func (s Span) Load(p reg.GPVirtual) reg.VecVirtual {
	v := s.w.Vec()
	m := Mem{Base: p, Disp: s.off}
	switch {
	case !s.tail:
		VMOVUPS(m, v)
	case s.w == AVX512:
		VMOVUPS_Z(m, s.k.(reg.OpmaskVirtual), v)
	default:
		VMASKMOVPS(m, s.k.(reg.VecVirtual), v)
	}
	return v
}

// At is the memory at p, an operand for a full span only.
func (s Span) At(p reg.GPVirtual) Mem { return Mem{Base: p, Disp: s.off} }

// Store writes the vector at p; masked lanes are not touched.
func (s Span) Store(v reg.VecVirtual, p reg.GPVirtual) {
	m := Mem{Base: p, Disp: s.off}
	switch {
	case !s.tail:
		VMOVUPS(v, m)
	case s.w == AVX512:
		VMOVUPS(v, s.k.(reg.OpmaskVirtual), m)
	default:
		VMASKMOVPS(v, s.k.(reg.VecVirtual), m)
	}
}

// Keep zeroes the masked lanes of v, for sums. A full span is left alone.
func (s Span) Keep(v reg.VecVirtual) {
	switch {
	case !s.tail:
	case s.w == AVX512:
		VMOVAPS_Z(v, s.k.(reg.OpmaskVirtual), v)
	default:
		VANDPS(s.k.(reg.VecVirtual), v, v)
	}
}

var labels int

// Fresh is a label unique in the file.
func Fresh(name string) string {
	labels++
	return fmt.Sprintf("%s%d", name, labels)
}

// Fetch asks for the line a page ahead of m, since the processor's own prefetch ends with each page.
func Fetch(m Mem) {
	m.Disp += 4096
	PREFETCHT0(m)
}

// fetch is Fetch for the lines of n bytes at p.
func fetch(p reg.GPVirtual, n int) {
	for at := 0; at+64 <= n; at += 64 {
		Fetch(Mem{Base: p, Disp: at})
	}
}

// Each emits the loop over n float32 at ptrs: body for unroll vectors at a time, then one at a time, then the masked
// tail. It consumes n and advances ptrs.
func (w W) Each(n reg.GPVirtual, unroll int, ptrs []reg.GPVirtual, body func(s Span)) {
	step := func(vectors int, first, next string) {
		Label(first)
		CMPQ(n, U32(vectors*w.N()))
		JLT(LabelRef(next))
		for i := range vectors {
			body(w.Full(i))
		}
		for _, p := range ptrs {
			fetch(p, vectors*w.Bytes())
			ADDQ(U32(vectors*w.Bytes()), p)
		}
		SUBQ(U32(vectors*w.N()), n)
		JMP(LabelRef(first))
	}
	many, one, tail, done := Fresh("many"), Fresh("one"), Fresh("tail"), Fresh("done")
	if unroll > 1 {
		step(unroll, many, one)
	}
	step(1, one, tail)
	Label(tail)
	TESTQ(n, n)
	JLE(LabelRef(done))
	body(Span{w: w, tail: true, k: w.MaskOf(n)})
	Label(done)
}

// MaskOf is the mask of the first n lanes, 0 <= n < N.
func (w W) MaskOf(n reg.GPVirtual) reg.Register {
	if w == AVX512 {
		t, ones := GP32(), GP32()
		MOVL(U32(0xffff), ones)
		BZHIL(n.As32(), ones, t)
		k := K()
		KMOVW(t, k)
		return k
	}
	at, tbl := GP64(), GP64()
	LEAQ(tailTable(), tbl)
	MOVQ(U32(8), at)
	SUBQ(n, at)
	v := YMM()
	VMOVDQU(Mem{Base: tbl, Index: at, Scale: 4}, v)
	return v
}

var tails *Mem

func tailTable() Mem {
	if tails == nil {
		m := GLOBL("tails", RODATA|NOPTR)
		for i := range 16 {
			ones := U32(0)
			if i < 8 {
				ones = 0xffffffff
			}
			DATA(4*i, ones)
		}
		tails = &m
	}
	return *tails
}
