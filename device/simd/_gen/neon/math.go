package main

import "math"

// A konst is a constant in a lane of a vector: multiplications take it there, sums a copy.
type konst struct {
	v    V
	lane int
}

func konsts(f ...float32) (k []konst) {
	var v V
	for i, f := range f {
		if i%4 == 0 {
			v = vec()
		}
		k = append(k, konst{v, i % 4})
		scope(func() {
			r := gp()
			emit("MOVD $0x%08x, %v", math.Float32bits(f), r)
			emit("VMOV %v, V%d.S[%d]", r, v, i%4)
		})
	}
	return
}

func (k konst) to(d V)     { dup(d, k.v, k.lane) }
func (k konst) mul(d, n V) { fmulLane(d, n, k.v, k.lane) }
func (k konst) mla(d, n V) { fmlaLane(d, n, k.v, k.lane) }

// horner is the polynomial c, highest power first, of x.
func horner(c []konst, x V) V {
	p, q := vec(), vec()
	c[0].to(p)
	for _, c := range c[1:] {
		c.to(q)
		fmla(q, p, x)
		p, q = q, p
	}
	return p
}

// Of lane: the same functions, see there.
type exp struct {
	log2e, hi, lo konst
	c             []konst
	low, top, one V
	bias          V
}

func newExp() *exp {
	k := konsts(math.Log2E, -0.693359375, 2.12194440e-4,
		1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1)
	return &exp{k[0], k[1], k[2], k[3:], constant(-105), constant(89), constant(1), bits(127)}
}

// of is e^x in place.
func (e *exp) of(x V) {
	fmin(x, x, e.top)
	e.ofNeg(x)
}

// ofNeg is of for x <= 89 or NaN.
func (e *exp) ofNeg(x V) {
	scope(func() {
		fmax(x, x, e.low)
		n, p := e.reduce(x)
		fadd(p, p, e.one)
		h := vec()
		fcvtns(n, n)
		sshr(h, n, 1)
		sub(n, n, h)
		add(h, h, e.bias)
		add(n, n, e.bias)
		shl(h, h, 23)
		shl(n, n, 23)
		fmul(p, p, h)
		fmul(x, p, n)
	})
}

// reduce gives n and p = e^r - 1 with x = n ln2 + r, |r| <= ln2 / 2. x becomes r.
func (e *exp) reduce(x V) (n, p V) {
	n = vec()
	e.log2e.mul(n, x)
	frintn(n, n)
	e.hi.mla(x, n)
	e.lo.mla(x, n)
	q := horner(e.c, x)
	fmul(q, q, x)
	p = vec()
	copyV(p, x)
	fmla(p, q, x)
	return n, p
}

// bySign: where x has its sign bit set d = neg, elsewhere pos. d is neither.
func bySign(d, x, neg, pos V) {
	sshr(d, x, 31)
	bsl(d, neg, pos)
}

// sigmoid is 1/(1+e^-x) by z = e^-|x|.
type sigmoid struct{ exp *exp }

func newSigmoid() *sigmoid { return &sigmoid{newExp()} }

// parts: s = num/den with den = 1+z.
func (s *sigmoid) parts(x V) (num, den, z V) {
	num, den, z = vec(), vec(), vec()
	fabs(z, x)
	fneg(z, z)
	s.exp.ofNeg(z)
	fadd(den, z, s.exp.one)
	bySign(num, x, z, s.exp.one)
	return
}

func (s *sigmoid) of(x V) V {
	num, den, _ := s.parts(x)
	fdiv(num, num, den)
	return num
}

// slope is z/(1+z)^2, and the value.
func (s *sigmoid) slope(x V) (value, slope V) {
	num, den, z := s.parts(x)
	fdiv(den, s.exp.one, den)
	fmul(num, num, den)
	fmul(z, z, den)
	fmul(z, z, den)
	return num, z
}

func (s *sigmoid) silu(x V) V {
	num, den, _ := s.parts(x)
	fmul(num, num, x)
	fdiv(num, num, den)
	return num
}

// siluSlope is s(x) + x s'(x), and x s(x).
func (s *sigmoid) siluSlope(x V) (value, slope V) {
	value, d := s.slope(x)
	slope = vec()
	copyV(slope, value)
	fmla(slope, d, x)
	fmul(value, value, x)
	return
}

// tanh is (1-z)/(1+z) with the sign of x, z = e^-2|x|, by t = z-1.
type tanh struct {
	exp             *exp
	sign, two, zero V
}

func newTanh() *tanh { return &tanh{newExp(), bits(1 << 31), constant(2), zero()} }

func (h *tanh) parts(x V) (t, z V) {
	orr(x, x, h.sign)
	fadd(x, x, x)
	fmax(x, x, h.exp.low)
	n, p := h.exp.reduce(x)
	t, z = vec(), vec()
	fcvtns(z, n)
	add(z, z, h.exp.bias)
	smax(z, z, h.zero) // below 2^-126 it is 0
	shl(z, z, 23)
	fsub(t, z, h.exp.one)
	fmla(t, z, p)
	copyV(n, z)
	fmla(z, n, p)
	return
}

func (h *tanh) of(x V) V {
	sign := vec()
	and(sign, x, h.sign)
	t, _ := h.parts(x)
	fadd(x, t, h.two)
	fdiv(t, t, x)
	fabs(t, t)
	orr(t, t, sign)
	return t
}

// slope is 4z/(1+z)^2.
func (h *tanh) slope(x V) V {
	t, z := h.parts(x)
	fadd(t, t, h.two)
	fadd(z, z, z)
	fadd(z, z, z)
	fmul(t, t, t)
	fdiv(z, z, t)
	return z
}

// normal is the distribution of the standard normal, and its density.
type normal struct {
	exp            *exp
	slant, half, d konst
	g              []konst
	most           V
}

func newNormal() *normal {
	k := konsts(0.2625, -0.5, 0.3989422804,
		0.0306136515, -0.1481737345, 0.2334541231, -0.1319040507, 0.1481150389, 0.0562842004, 0.102707319, 0.1041544527,
		0.1047489792)
	return &normal{newExp(), k[0], k[1], k[2], k[3:], constant(20)}
}

// of gives Phi(x) and e^(-x^2/2), 0 beyond 20.
func (n *normal) of(x V) (phi, e V) {
	z, u, rest := vec(), vec(), vec()
	e = vec()
	fabs(z, x)
	fmin(z, z, n.most)
	copyV(u, n.exp.one)
	n.slant.mla(u, z)
	fdiv(u, n.exp.one, u)
	fmul(e, z, z)
	fneg(rest, e)
	fmla(rest, z, z) // z*z - rounded
	n.half.mul(e, e)
	n.half.mul(rest, rest)
	n.exp.ofNeg(e)
	copyV(z, e)
	fmla(e, rest, z)
	g := horner(n.g, u)
	fmul(g, g, u)
	fmul(g, g, e)
	fsub(u, n.exp.one, g)
	phi = vec()
	bySign(phi, x, g, u)
	return
}

// geluSlope is Phi(x) + x times the density.
func (n *normal) geluSlope(x V) V {
	phi, e := n.of(x)
	n.d.mul(e, e)
	fmla(phi, x, e)
	return phi
}
