package lane

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// Where x has its sign bit set, dst = neg, elsewhere pos.
func (w W) bySign(x, neg, pos, dst reg.VecVirtual) {
	if w == AVX512 {
		k := K()
		VPMOVD2M(x, k)
		VBLENDMPS(neg, pos, k, dst)
	} else {
		VBLENDVPS(x, neg, pos, dst)
	}
}

// Positive: dst = one where x > 0, else 0 (also for NaN).
func (w W) Positive(x, zero, one, dst reg.VecVirtual) {
	if w == AVX512 {
		k := K()
		VCMPPS(U8(14), zero, x, k) // greater than
		VMOVAPS_Z(one, k, dst)
	} else {
		VCMPPS(U8(14), zero, x, dst)
		VANDPS(one, dst, dst)
	}
}

// Sigmoid is s(x) = 1/(1+e^-x) by z = e^-|x|, which cannot overflow, within 2.1 ulp. NaN stays.
type Sigmoid struct {
	w    W
	exp  *Exp
	one  reg.VecVirtual
	sign Op
}

// NewSigmoid loads the constants: those of Exp and 2 more.
func (w W) NewSigmoid() *Sigmoid {
	e := w.NewExp()
	if w == AVX512 {
		return &Sigmoid{w, e, e.one.(reg.VecVirtual), w.KBits(1 << 31)}
	}
	return &Sigmoid{w, e, w.Const(1), w.KBits(1 << 31)}
}

// parts: s = num/den with den = 1+z.
func (s *Sigmoid) parts(x reg.VecVirtual) (num, den, z reg.VecVirtual) {
	w := s.w
	num, den, z = w.Vec(), w.Vec(), w.Vec()
	w.Or(s.sign, x, z)
	s.exp.OfNeg(z)
	VADDPS(z, s.one, den)
	w.bySign(x, z, s.one, num)
	return
}

// Of is s(x).
func (s *Sigmoid) Of(x reg.VecVirtual) reg.VecVirtual {
	num, den, _ := s.parts(x)
	VDIVPS(den, num, num)
	return num
}

// Slope is s'(x) = z/(1+z)^2, and s(x).
func (s *Sigmoid) Slope(x reg.VecVirtual) (value, slope reg.VecVirtual) {
	num, den, z := s.parts(x)
	VDIVPS(den, s.one, den)
	VMULPS(den, num, num)
	VMULPS(den, z, z)
	VMULPS(den, z, z)
	return num, z
}

// SiLU is x s(x), within 3 ulp.
func (s *Sigmoid) SiLU(x reg.VecVirtual) reg.VecVirtual {
	num, den, _ := s.parts(x)
	VMULPS(x, num, num)
	VDIVPS(den, num, num)
	return num
}

// SiLUSlope is s(x) + x s'(x), and x s(x).
func (s *Sigmoid) SiLUSlope(x reg.VecVirtual) (value, slope reg.VecVirtual) {
	value, slope = s.Slope(x)
	VFMADD213PS(value, x, slope)
	VMULPS(x, value, value)
	return
}

// Tanh is (1-z)/(1+z) with the sign of x, z = e^-2|x|, by t = z-1, which keeps its digits near 0: within 3 ulp. NaN
// stays.
type Tanh struct {
	w         W
	exp       *Exp
	sign, two Op
	zero, one reg.VecVirtual
}

// NewTanh loads the constants: those of Exp and 4 more.
func (w W) NewTanh() *Tanh {
	return &Tanh{w, w.NewExp(), w.KBits(1 << 31), w.K(2), w.Zero(), w.Const(1)}
}

// parts gives t and z; x becomes -2|x|.
func (h *Tanh) parts(x reg.VecVirtual) (t, z reg.VecVirtual) {
	w := h.w
	w.Or(h.sign, x, x)
	VADDPS(x, x, x)
	VMAXPS(x, h.exp.low, x)
	n, p := h.exp.reduce(x)
	t, z = w.Vec(), w.Vec()
	if w == AVX512 {
		VSCALEFPS(n, h.one, z)
	} else {
		VCVTPS2DQ(n, z)
		VPADDD(h.exp.bias, z, z)
		VPMAXSD(h.zero, z, z) // below 2^-126 it is 0
		VPSLLD(U8(23), z, z)
	}
	// With p = e^r - 1: t = 2^n p + (2^n - 1), z = 2^n p + 2^n.
	VSUBPS(h.one, z, t)
	VFMADD231PS(p, z, t)
	VFMADD231PS(p, z, z)
	return
}

// Of is tanh x.
func (h *Tanh) Of(x reg.VecVirtual) reg.VecVirtual {
	w := h.w
	sign := w.Vec()
	w.And(h.sign, x, sign)
	t, _ := h.parts(x)
	VADDPS(h.two, t, x)
	VDIVPS(x, t, t)
	// -t/(2+t) is not negative: t is -0 or below.
	w.Or(h.sign, t, t)
	w.Xor(h.sign, t, t)
	w.Or(sign, t, t)
	return t
}

// Slope is 1 - tanh(x)^2 = 4z/(1+z)^2.
func (h *Tanh) Slope(x reg.VecVirtual) reg.VecVirtual {
	t, z := h.parts(x)
	VADDPS(h.two, t, t)
	VADDPS(z, z, z)
	VADDPS(z, z, z)
	VMULPS(t, t, t)
	VDIVPS(t, z, z)
	return z
}

// Normal is the distribution of the standard normal, Phi(x), and its density: with z = |x|, e^(-z^2/2) G(z) is Phi(-z),
// G a polynomial of degree 9 in u = 1/(1 + 0.2625z), minimax for 0 <= z <= 14.3 (relative error 2e-8; the last bits of
// its coefficients are those that round best). The rounding of z^2 is made good, so that the negative tail keeps its
// digits: x Phi(x) is within 8 ulp. NaN stays.
type Normal struct {
	w                    W
	exp                  *Exp
	sign, slant, half, d Op
	most, one            reg.VecVirtual
	g                    []Op
}

// normalPoly holds the coefficients of u^9 down to u.
var normalPoly = []float32{0.0306136515, -0.1481737345, 0.2334541231, -0.1319040507, 0.1481150389, 0.0562842004,
	0.102707319, 0.1041544527, 0.1047489792}

// NewNormal loads the constants: those of Exp and 15 more (3 with 256 bits).
func (w W) NewNormal() *Normal {
	n := &Normal{w: w, exp: w.NewExp(), sign: w.KBits(1 << 31), slant: w.K(0.2625), half: w.K(-0.5),
		d: w.K(0.3989422804), most: w.Const(20)}
	if w == AVX512 {
		n.one = n.exp.one.(reg.VecVirtual)
	} else {
		n.one = w.Const(1)
	}
	for _, c := range normalPoly {
		n.g = append(n.g, w.K(c))
	}
	return n
}

// Of gives Phi(x) and e^(-x^2/2), 0 beyond 20.
func (n *Normal) Of(x reg.VecVirtual) (phi, e reg.VecVirtual) {
	w := n.w
	z, u, rest := w.Vec(), w.Vec(), w.Vec()
	phi, e = w.Vec(), w.Vec()
	w.Or(n.sign, x, z)
	w.Xor(n.sign, z, z)
	VMINPS(z, n.most, z)
	VMOVAPS(n.one, u)
	VFMADD231PS(n.slant, z, u)
	VDIVPS(u, n.one, u)
	VMULPS(z, z, e)
	VMOVAPS(e, rest)
	VFMSUB231PS(z, z, rest) // z*z - rounded
	VMULPS(n.half, e, e)
	VMULPS(n.half, rest, rest)
	n.exp.OfNeg(e)
	VFMADD231PS(rest, e, e)
	VMOVUPS(n.g[0], phi)
	for _, c := range n.g[1:] {
		VFMADD213PS(c, u, phi)
	}
	VMULPS(u, phi, phi)
	VMULPS(e, phi, phi)
	VSUBPS(phi, n.one, u)
	w.bySign(x, phi, u, phi)
	return
}

// GELUSlope is Phi(x) + x times the density.
func (n *Normal) GELUSlope(x reg.VecVirtual) reg.VecVirtual {
	phi, e := n.Of(x)
	VMULPS(n.d, e, e)
	VFMADD231PS(e, x, phi)
	return phi
}
