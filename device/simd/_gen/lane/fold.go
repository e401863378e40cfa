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

// Masks are the masks of the first n of len(masks) vectors of lanes, n at least 1.
func (w W) Masks(n reg.GPVirtual, vectors int) []reg.Register {
	masks := make([]reg.Register, vectors)
	if w == AVX512 {
		m := GP64()
		MOVQ(I32(-1), m)
		BZHIQ(n, m, m)
		for i := range masks {
			k := K()
			KMOVW(m.As32(), k)
			masks[i] = k
			SHRQ(U8(16), m)
		}
		return masks
	}
	zero, lanes, rest := GP64(), GP64(), GP64()
	XORQ(zero, zero)
	MOVQ(n, rest)
	for i := range masks {
		MOVQ(rest, lanes)
		CMPQ(lanes, U8(8))
		eight := GP64()
		MOVQ(U32(8), eight)
		CMOVQGT(eight, lanes)
		TESTQ(lanes, lanes)
		CMOVQLT(zero, lanes)
		masks[i] = w.MaskOf(lanes)
		SUBQ(U8(8), rest)
	}
	return masks
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
