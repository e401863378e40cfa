package lane

import (
	"math"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// Index is the place of the span in its step: the accumulator that it adds to.
func (s Span) Index() int { return s.off / s.w.Bytes() }

// Fill copies the masked lanes of v from fill.
func (s Span) Fill(v, fill reg.VecVirtual) {
	switch {
	case !s.tail:
	case s.w == AVX512:
		VBLENDMPS(v, fill, s.k.(reg.OpmaskVirtual), v)
	default:
		VBLENDVPS(s.k.(reg.VecVirtual), v, fill, v)
	}
}

// Zeros is n accumulators.
func (w W) Zeros(n int) []reg.VecVirtual {
	v := make([]reg.VecVirtual, n)
	for i := range v {
		v[i] = w.Zero()
	}
	return v
}

// Sum adds the accumulators, then the lanes, in halves; the sum is the low lane.
func (w W) Sum(acc []reg.VecVirtual) reg.VecVirtual { return w.Fold(acc, VADDPS) }

// Fold is Sum for any operation op(b, a, dst).
func (w W) Fold(acc []reg.VecVirtual, op func(...Op)) reg.VecVirtual {
	for h := len(acc) / 2; h > 0; h /= 2 {
		for i := range h {
			op(acc[i+h], acc[i], acc[i])
		}
	}
	x, t := XMM(), XMM()
	if w == AVX512 {
		y := YMM()
		VEXTRACTF64X4(U8(1), acc[0], y)
		op(y, acc[0].AsY(), y)
		VEXTRACTF32X4(U8(1), y, x)
		op(x, y.AsX(), x)
	} else {
		VEXTRACTF128(U8(1), acc[0], x)
		op(x, acc[0].AsX(), x)
	}
	VPERMILPS(U8(0x4e), x, t)
	op(t, x, x)
	VPERMILPS(U8(0xb1), x, t)
	op(t, x, x)
	return x
}

// Broadcast copies the low float32 of x to every lane.
func (w W) Broadcast(x Op) reg.VecVirtual {
	v := w.Vec()
	VBROADCASTSS(x, v)
	return v
}

// Arg is the memory of the argument name.
func Arg(name string) Mem {
	p, err := Param(name).Resolve()
	if err != nil {
		panic(err)
	}
	return p.Addr
}

// Result stores the low float32 of x as the result.
func Result(x reg.VecVirtual) {
	p, err := ReturnIndex(0).Resolve()
	if err != nil {
		panic(err)
	}
	VMOVSS(x, p.Addr)
}

// Word is a float32 constant in memory.
func Word(f float32) Mem { return word(math.Float32bits(f)) }

// Clone is a copy of an integer register, for loops that use theirs up.
func Clone(p reg.GPVirtual) reg.GPVirtual {
	c := GP64()
	MOVQ(p, c)
	return c
}

// Times emits body for n > 0 rounds; it consumes n.
func Times(n reg.GPVirtual, body func()) {
	next := Fresh("next")
	Label(next)
	body()
	DECQ(n)
	JNZ(LabelRef(next))
}

// Strips is Each for columns: body gets a strip of widths[0] vectors, then of widths[1], ... (the last is 1), at last
// the masked tail.
func (w W) Strips(n reg.GPVirtual, widths []int, ptrs []reg.GPVirtual, body func(s []Span)) {
	for _, k := range widths {
		strip, next := Fresh("strip"), Fresh("next")
		Label(strip)
		CMPQ(n, U32(k*w.N()))
		JLT(LabelRef(next))
		spans := make([]Span, k)
		for i := range spans {
			spans[i] = Span{w: w, off: i * w.Bytes()}
		}
		body(spans)
		for _, p := range ptrs {
			ADDQ(U32(k*w.Bytes()), p)
		}
		SUBQ(U32(k*w.N()), n)
		JMP(LabelRef(strip))
		Label(next)
	}
	done := Fresh("done")
	TESTQ(n, n)
	JLE(LabelRef(done))
	body([]Span{{w: w, tail: true, k: w.MaskOf(n)}})
	Label(done)
}

// A Group is 16 elements of a loop: one span, or two with 256 bits. Of int8 it is 16 bytes, of float64 128.
type Group struct {
	Spans []Span
	n     reg.GPVirtual // elements of the tail
}

func (w W) group(at int) (g Group) {
	for i := 0; i < 16; i += w.N() {
		g.Spans = append(g.Spans, Span{w: w, off: 64*at + 4*i})
	}
	return
}

// By16 is Each in groups: it consumes n, advances floats by 4 bytes an element and bytes by 1.
func (w W) By16(n reg.GPVirtual, unroll int, floats, bytes []reg.GPVirtual, body func(g Group)) {
	for _, k := range []int{unroll, 1} {
		loop, next := Fresh("groups"), Fresh("next")
		Label(loop)
		CMPQ(n, U32(16*k))
		JLT(LabelRef(next))
		for i := range k {
			body(w.group(i))
		}
		for _, p := range floats {
			fetch(p, 64*k)
			ADDQ(U32(64*k), p)
		}
		for _, p := range bytes {
			fetch(p, 16*k)
			ADDQ(U32(16*k), p)
		}
		SUBQ(U32(16*k), n)
		JMP(LabelRef(loop))
		Label(next)
		if unroll == 1 {
			break
		}
	}
	done := Fresh("done")
	TESTQ(n, n)
	JLE(LabelRef(done))
	g := w.group(0)
	g.n = n
	left := n
	for i := range g.Spans {
		g.Spans[i].tail = true
		if w == AVX512 {
			g.Spans[i].k = w.MaskOf(n)
			continue
		}
		some := GP64()
		MOVQ(U32(8), some)
		CMPQ(left, some)
		CMOVQLT(left, some)
		g.Spans[i].k = w.MaskOf(some)
		rest := Clone(left)
		SUBQ(some, rest)
		left = rest
	}
	body(g)
	Label(done)
}

// StoreInt8 narrows the int32 of the group's vectors with saturation and writes them at p.
func (g Group) StoreInt8(v []reg.VecVirtual, p reg.GPVirtual) {
	s := g.Spans[0]
	m := Mem{Base: p, Disp: s.off / 4}
	x := XMM()
	if s.w == AVX512 {
		VPMOVSDB(v[0], x)
		if s.tail {
			VMOVDQU8(x, s.k.(reg.OpmaskVirtual), m)
		} else {
			VMOVDQU32(x, m)
		}
		return
	}
	y := YMM()
	VPACKSSDW(v[1], v[0], y)
	VEXTRACTI128(U8(1), y, x)
	VPACKSSWB(x, y.AsX(), x)
	VPSHUFD(U8(0xd8), x, x)
	if !s.tail {
		VMOVDQU(x, m)
		return
	}
	n, at, b := Clone(g.n), Clone(p), GP64()
	some, one := Fresh("some"), Fresh("byte")
	CMPQ(n, U32(8))
	JLT(LabelRef(some))
	VMOVQ(x, Mem{Base: at})
	VPSRLDQ(U8(8), x, x)
	ADDQ(U32(8), at)
	SUBQ(U32(8), n)
	done := Fresh("done")
	JZ(LabelRef(done))
	Label(some)
	VMOVQ(x, b)
	Label(one)
	MOVB(b.As8(), Mem{Base: at})
	SHRQ(U8(8), b)
	INCQ(at)
	DECQ(n)
	JNZ(LabelRef(one))
	Label(done)
}

// LoadInt8 reads int8 at p as the int32 of the group's vectors.
func (g Group) LoadInt8(p reg.GPVirtual) []reg.VecVirtual {
	s := g.Spans[0]
	m := Mem{Base: p, Disp: s.off / 4}
	v := []reg.VecVirtual{s.w.Vec()}
	if s.w == AVX512 {
		if !s.tail {
			VPMOVSXBD(m, v[0])
			return v
		}
		x := XMM()
		VMOVDQU8_Z(m, s.k.(reg.OpmaskVirtual), x)
		VPMOVSXBD(x, v[0])
		return v
	}
	v = append(v, s.w.Vec())
	if !s.tail {
		VPMOVSXBD(m, v[0])
		VPMOVSXBD(m.Offset(8), v[1])
		return v
	}
	// Byte by byte from the last: two words shift up together.
	lo, hi, n, b := GP64(), GP64(), Clone(g.n), GP64()
	XORQ(lo, lo)
	XORQ(hi, hi)
	one := Fresh("byte")
	Label(one)
	SHLQ(U8(8), lo, hi)
	SHLQ(U8(8), lo)
	MOVBQZX(Mem{Base: p, Index: n, Scale: 1, Disp: -1}, b)
	ORQ(b, lo)
	DECQ(n)
	JNZ(LabelRef(one))
	for i, r := range []reg.GPVirtual{lo, hi} {
		x := XMM()
		VMOVQ(r, x)
		VPMOVSXBD(x, v[i])
	}
	return v
}

// Lanes is the 16 float64 accumulators of device.LaneSum.
type Lanes struct {
	w   W
	acc []reg.VecVirtual
}

// NewLanes is 16 zeros.
func (w W) NewLanes() Lanes { return Lanes{w, w.Zeros(1024 / int(w))} }

// Clear zeroes the lanes.
func (l Lanes) Clear() {
	for _, a := range l.acc {
		l.w.Clear(a)
	}
}

// Add adds the float32 of a group.
func (l Lanes) Add(v []reg.VecVirtual) { l.halves(v, func(d, a reg.VecVirtual) { VADDPD(d, a, a) }) }

// AddSquares adds their squares, which are exact in float64.
func (l Lanes) AddSquares(v []reg.VecVirtual) {
	l.halves(v, func(d, a reg.VecVirtual) { VFMADD231PD(d, d, a) })
}

func (l Lanes) halves(v []reg.VecVirtual, f func(d, a reg.VecVirtual)) {
	for i, v := range v {
		lo, hi := l.w.Vec(), l.w.Vec()
		if l.w == AVX512 {
			y := YMM()
			VEXTRACTF64X4(U8(1), v, y)
			VCVTPS2PD(v.AsY(), lo)
			VCVTPS2PD(y, hi)
		} else {
			x := XMM()
			VEXTRACTF128(U8(1), v, x)
			VCVTPS2PD(v.AsX(), lo)
			VCVTPS2PD(x, hi)
		}
		f(lo, l.acc[2*i])
		f(hi, l.acc[2*i+1])
	}
}

// Sum folds the lanes in halves: a float64.
func (l Lanes) Sum() reg.VecVirtual {
	x, t := XMM(), XMM()
	VADDPD(l.acc[len(l.acc)/2], l.acc[0], l.acc[0])
	if l.w == AVX512 {
		y := YMM()
		VEXTRACTF64X4(U8(1), l.acc[0], y)
		VADDPD(y, l.acc[0].AsY(), y)
		VEXTRACTF64X2(U8(1), y, x)
		VADDPD(x, y.AsX(), x)
	} else {
		VADDPD(l.acc[3], l.acc[1], l.acc[1])
		VADDPD(l.acc[1], l.acc[0], l.acc[0])
		VEXTRACTF128(U8(1), l.acc[0], x)
		VADDPD(x, l.acc[0].AsX(), x)
	}
	VPERMILPD(U8(1), x, t)
	VADDSD(t, x, x)
	return x
}
