package lane

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// FoldInt reduces the 32-bit lanes of v to one by op, such as VPADDD or VPMAXUD.
func (w W) FoldInt(v reg.VecVirtual, op func(...Op)) reg.GPVirtual {
	x, y := XMM(), XMM()
	h := YMM()
	if w == AVX512 {
		VEXTRACTI64X4(U8(1), v, h)
		op(v.AsY(), h, h)
	} else {
		h = v
	}
	VEXTRACTI128(U8(1), h, x)
	op(h.AsX(), x, x)
	for _, order := range []U8{0b01_00_11_10, 0b10_11_00_01} {
		VPSHUFD(order, x, y)
		op(y, x, x)
	}
	r := GP32()
	VMOVD(x, r)
	return r
}

// Masks are the masks of the first n of len(masks) vectors of lanes, n at least 0.
func (w W) Masks(n reg.GPVirtual, vectors int) []reg.Register {
	masks := make([]reg.Register, vectors)
	for v := range masks {
		masks[v] = w.MaskAt(n, v)
	}
	return masks
}

// MaskAt is the mask of vector v of n lanes, n at least 0 and, with 512 bits, at most 255.
func (w W) MaskAt(n reg.GPVirtual, v int) reg.Register {
	lanes := GP64()
	if w == AVX512 {
		k := K()
		MOVQ(I32(-1), lanes)
		BZHIQ(n, lanes, lanes)
		SHRQ(U8(16*v), lanes)
		KMOVW(lanes.As32(), k)
		return k
	}
	bound := GP64()
	MOVQ(n, lanes)
	SUBQ(U8(w.N()*v), lanes)
	XORQ(bound, bound)
	TESTQ(lanes, lanes)
	CMOVQLT(bound, lanes)
	MOVQ(U32(w.N()), bound)
	CMPQ(lanes, bound)
	CMOVQGT(bound, lanes)
	return w.MaskOf(lanes)
}

// LoadMask reads the vector at m; masked lanes are 0 and not touched.
func (w W) LoadMask(m Mem, k reg.Register) reg.VecVirtual {
	v := w.Vec()
	if w == AVX512 {
		VMOVUPS_Z(m, k.(reg.OpmaskVirtual), v)
	} else {
		VMASKMOVPS(m, k.(reg.VecVirtual), v)
	}
	return v
}

// StoreMask writes v at m; masked lanes are not touched.
func (w W) StoreMask(v reg.VecVirtual, k reg.Register, m Mem) {
	if w == AVX512 {
		VMOVUPS(v, k.(reg.OpmaskVirtual), m)
	} else {
		VMASKMOVPS(v, k.(reg.VecVirtual), m)
	}
}
