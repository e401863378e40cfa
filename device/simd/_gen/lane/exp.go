package lane

import (
	"math"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// Exp is e^x in float32, within 1 ulp: x = n ln2 + r, Cephes' polynomial of degree 7 in r, times 2^n. NaN stays, above
// 88.73 it is +Inf, below -103.98 it is 0; between are the denormals.
type Exp struct {
	w                  W
	low                reg.VecVirtual
	log2e, hi, lo, one Op
	c                  []Op
	top, bias          Op // bias: 256 bits only
}

// expPoly holds the coefficients of r^7 down to r^2.
var expPoly = []float32{1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1,
	5.0000001201e-1}

// NewExp loads the constants: 12 registers, one with 256 bits.
func (w W) NewExp() *Exp {
	e := &Exp{w: w, low: w.Const(-105), log2e: w.K(math.Log2E), hi: w.K(-0.693359375), lo: w.K(2.12194440e-4),
		one: w.K(1), top: w.K(89)}
	for _, c := range expPoly {
		e.c = append(e.c, w.K(c))
	}
	if w == AVX2 {
		e.bias = w.KBits(127)
	}
	return e
}

// Of computes e^x in place. It takes two more registers.
func (e *Exp) Of(x reg.VecVirtual) {
	top := e.w.Vec()
	VMOVUPS(e.top, top)
	VMINPS(x, top, x) // the first operand is the one that passes its NaN on
	e.OfNeg(x)
}

// OfNeg is Of for x <= 89 or NaN.
func (e *Exp) OfNeg(x reg.VecVirtual) {
	VMAXPS(x, e.low, x)
	n, p := e.reduce(x)
	VADDPS(e.one, p, p)
	if e.w == AVX512 {
		VSCALEFPS(n, p, x)
		return
	}
	// 2^n in two halves, as 2^128 and 2^-150 are no float32.
	VCVTPS2DQ(n, n)
	VPSRAD(U8(1), n, x)
	VPSUBD(x, n, n)
	VPADDD(e.bias, x, x)
	VPADDD(e.bias, n, n)
	VPSLLD(U8(23), x, x)
	VPSLLD(U8(23), n, n)
	VMULPS(x, p, p)
	VMULPS(n, p, x)
}

// reduce gives n and p = e^r - 1 with x = n ln2 + r, |r| <= ln2 / 2. x becomes r.
func (e *Exp) reduce(x reg.VecVirtual) (n, p reg.VecVirtual) {
	n, p = e.w.Vec(), e.w.Vec()
	VMULPS(e.log2e, x, n)
	e.w.RoundEven(n, n)
	VFMADD231PS(e.hi, n, x)
	VFMADD231PS(e.lo, n, x)
	VMOVUPS(e.c[0], p)
	for _, c := range e.c[1:] {
		VFMADD213PS(c, x, p)
	}
	// p = p r^2 + r
	VMULPS(x, p, p)
	VFMADD213PS(x, x, p)
	return n, p
}
