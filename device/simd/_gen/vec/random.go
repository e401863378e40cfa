package main

import (
	"fmt"
	"math"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"

	. "setun/device/simd/gen/lane"
)

// philox emits the loop over n float32, a multiple of 64, at ptrs; body gets their Philox4x32-10 words, four vectors at
// a time, in the order of memory. The arguments counter, k0 and k1 are the first counter and the key.
//
// A lane of 64 bits holds one counter; of its state only the low halves count, so that a product needs no shuffle.
func (w wide) philox(n reg.GPVirtual, ptrs []reg.GPVirtual, body func(s Span, words reg.VecVirtual)) {
	counter := w.Vec()
	order, step := w.counters()
	p, err := Param("counter").Resolve()
	if err != nil {
		panic(err)
	}
	VPBROADCASTQ(p.Addr, counter)
	VPADDQ(order, counter, counter)
	mul := [2]Op{w.KBits(0xD2511F53), w.KBits(0xCD9E8D57)}
	weyl := [2]Op{w.KBits(0x9E3779B9), w.KBits(0xBB67AE85)}
	next := Fresh("block")
	Label(next)
	var c [2][4]reg.VecVirtual // nil is 0
	for g := range c {
		c[g][0], c[g][1] = w.Vec(), w.Vec()
		VMOVAPS(counter, c[g][0])
		VPSRLQ(U8(32), counter, c[g][1])
		VPADDQ(step, counter, counter)
	}
	key := [2]reg.VecVirtual{w.Arg("k0"), w.Arg("k1")}
	for r := range 10 {
		for i, k := range key {
			if r > 0 {
				VPADDD(weyl[i], k, k)
			}
		}
		for g, s := range c {
			lo0, hi0 := w.product(mul[0], s[0])
			lo1, hi1 := w.product(mul[1], s[2])
			c[g] = [4]reg.VecVirtual{w.xor(hi1, s[1], key[0]), lo1, w.xor(hi0, s[3], key[1]), lo0}
		}
	}
	for g, s := range c {
		a, b, first, second := w.Vec(), w.Vec(), w.Vec(), w.Vec()
		VSHUFPS(U8(0x88), s[1], s[0], a)
		VSHUFPS(U8(0x88), s[3], s[2], b)
		VSHUFPS(U8(0x88), b, a, first)
		VSHUFPS(U8(0xdd), b, a, second)
		body(w.Full(2*g), first)
		body(w.Full(2*g+1), second)
	}
	for _, p := range ptrs {
		ADDQ(U32(4*w.Bytes()), p)
	}
	SUBQ(U32(4*w.N()), n)
	JG(LabelRef(next))
}

// wide adds what only this file needs.
type wide struct{ W }

var orders = map[W]Mem{}

// counters is the order in which lanes take counters, and the step to the next vector of them. The shuffles at the end
// interleave pairs of lanes.
func (w wide) counters() (order, step Mem) {
	m, ok := orders[w.W]
	n := w.N() / 2
	if !ok {
		m = GLOBL("counters"+w.String(), RODATA|NOPTR)
		for i := range 2 * n {
			v := i%2*n/2 + i/2
			if i >= n {
				v = n
			}
			DATA(8*i, U64(uint64(v)))
		}
		orders[w.W] = m
	}
	return m, m.Offset(w.Bytes())
}

// product gives the low and the high half of m x.
func (w wide) product(m Op, x reg.VecVirtual) (lo, hi reg.VecVirtual) {
	if x == nil {
		return nil, nil
	}
	lo, hi = w.Vec(), w.Vec()
	VPMULUDQ(m, x, lo)
	VPSRLQ(U8(32), lo, hi)
	return lo, hi
}

func (w wide) xor(a, b, key reg.VecVirtual) reg.VecVirtual {
	d := w.Vec()
	switch {
	case a != nil && b != nil && w.W == AVX512:
		VMOVAPS(a, d)
		VPTERNLOGD(U8(0x96), b, key, d)
	case a != nil && b != nil:
		w.Xor(a, b, d)
		w.Xor(d, key, d)
	case a != nil:
		w.Xor(a, key, d)
	default:
		w.Xor(b, key, d)
	}
	return d
}

func uniform(w W) {
	w.Func("uniform", "func(y *float32, n int, counter uint64, k0, k1 uint32, lo, width float32)",
		"y[i] = lo + width*Unit(Philox(k1<<32|k0, counter+i/4)[i%4]), n a multiple of 64")
	y, n := Ptr("y"), Ptr("n")
	unit := w.K(1.0 / (1 << 24))
	wide{w}.philox(n, []reg.GPVirtual{y}, func(s Span, v reg.VecVirtual) {
		VPSRLD(U8(8), v, v)
		VCVTDQ2PS(v, v)
		VMULPS(unit, v, v)
		VMULPS(w.Arg("width"), v, v)
		VADDPS(w.Arg("lo"), v, v)
		s.Store(v, y)
	})
	w.End()
}

var quads = map[uint64]Mem{}

// quad is a constant of 64 bits as an operand.
func quad(bits uint64) Mem {
	m, ok := quads[bits]
	if !ok {
		m = GLOBL(fmt.Sprintf("q%016x", bits), RODATA|NOPTR)
		for i := range 8 {
			DATA(8*i, U64(bits))
		}
		quads[bits] = m
	}
	return m
}

func double(f float64) Mem { return quad(math.Float64bits(f)) }

// The polynomials of fdlibm: log(1+f) = 2s + s z P(z), s = f/(2+f), z = s^2; sin x = x + x z P(z),
// cos x = 1 - z/2 + z^2 P(z), z = x^2. Highest powers first.
var (
	logPoly = []float64{1.479819860511658591e-01, 1.531383769920937332e-01, 1.818357216161805012e-01,
		2.222219843214978396e-01, 2.857142874366239149e-01, 3.999999999940941908e-01, 6.666666666666735130e-01}
	sinPoly = []float64{1.58969099521155010221e-10, -2.50507602534068634195e-08, 2.75573137070700676789e-06,
		-1.98412698298579493134e-04, 8.33333333332248946124e-03, -1.66666666666666324348e-01}
	cosPoly = []float64{-1.13596475577881948265e-11, 2.08757232129817482790e-09, -2.75573143513906633035e-07,
		2.48015872894767294178e-05, -1.38888888888741095749e-03, 4.16666666666666019037e-02}
)

func (w wide) horner(c []float64, x reg.VecVirtual) reg.VecVirtual {
	p := w.Vec()
	VMOVUPD(double(c[0]), p)
	for _, c := range c[1:] {
		VFMADD213PD(double(c), x, p)
	}
	return p
}

// integer turns lanes of integers below 2^52 into float64.
func (w wide) integer(x reg.VecVirtual) {
	w.Or(double(0x1p52), x, x)
	VSUBPD(double(0x1p52), x, x)
}

// radius is sqrt(-2 ln(m 2^-24)) of integers 1 <= m <= 2^24.
func (w wide) radius(m reg.VecVirtual) reg.VecVirtual {
	k, s, z := w.Vec(), w.Vec(), w.Vec()
	// m = 2^k (1+f), sqrt(1/2) <= 1+f < sqrt(2)
	VPSUBQ(double(math.Sqrt2/2), m, k)
	VPSRLQ(U8(52), k, k)
	VPSLLQ(U8(52), k, s)
	VPSUBQ(s, m, m)
	w.integer(k)
	VSUBPD(double(24), k, k)
	VADDPD(double(1), m, s)
	VSUBPD(double(1), m, m)
	VDIVPD(s, m, s)
	VMULPD(s, s, z)
	p := w.horner(logPoly, z)
	VFMADD213PD(double(2), z, p)
	VMULPD(s, p, p)
	VFMADD231PD(double(math.Ln2), k, p)
	VMULPD(double(-2), p, p)
	VSQRTPD(p, p)
	return p
}

// sincos of 2 pi m 2^-24 of float64 integers m: a quarter turn at a time, r quarters left, |r| <= 1/2.
func (w wide) sincos(m reg.VecVirtual) (sin, cos reg.VecVirtual) {
	q, t := w.Vec(), w.Vec()
	VMULPD(double(0x1p-22), m, m)
	VADDPD(double(0x1.8p52), m, q) // the low bits of q count quarters
	VSUBPD(double(0x1.8p52), q, t)
	VSUBPD(t, m, m)
	VMULPD(double(math.Pi/2), m, m)
	VMULPD(m, m, t)
	s, c := w.horner(sinPoly, t), w.horner(cosPoly, t)
	VMULPD(t, s, s)
	VFMADD213PD(m, m, s)
	VFMADD213PD(double(-0.5), t, c)
	VFMADD213PD(double(1), t, c)
	// An odd number of quarters swaps sine and cosine; bit 1 of q turns the sign of the sine, of q+1 the cosine's.
	sin, cos = w.Vec(), w.Vec()
	VPSLLQ(U8(63), q, t)
	if w.W == AVX512 {
		k := K()
		VPMOVQ2M(t, k)
		VBLENDMPD(c, s, k, sin)
		VBLENDMPD(s, c, k, cos)
	} else {
		VBLENDVPD(t, c, s, sin)
		VBLENDVPD(t, s, c, cos)
	}
	for _, v := range []reg.VecVirtual{sin, cos} {
		VPSRLQ(U8(1), q, t)
		VPSLLQ(U8(63), t, t)
		w.Xor(t, v, v)
		VPADDQ(quad(1), q, q)
	}
	return
}

// single rounds float64 to float32 in the low halves of the lanes.
func (w wide) single(x reg.VecVirtual) {
	h := w.Half()
	if w.W == AVX512 {
		VCVTPD2PS(x, h)
	} else {
		VCVTPD2PSY(x, h)
	}
	VPMOVZXDQ(h, x)
}

// normal is Box and Muller's in float64: the low word of a lane gives the radius, the high word the angle.
func normal(w W) {
	w.Func("normal", "func(y *float32, n int, counter uint64, k0, k1 uint32, std float32)",
		"w := Philox(k1<<32|k0, counter+i/4)[i%4&^1:]; r := sqrt(-2*log((w[0]>>8 + 1)/(1<<24)));\n"+
			"y[i] = std*float32(r*cos(2*Pi*Unit(w[1]))), sin for odd i, n a multiple of 64")
	y, n := Ptr("y"), Ptr("n")
	v := wide{w}
	v.philox(n, []reg.GPVirtual{y}, func(s Span, m reg.VecVirtual) {
		a := w.Vec()
		VPSRLQ(U8(40), m, a)
		VPSLLQ(U8(32), m, m)
		VPSRLQ(U8(40), m, m)
		v.integer(a)
		v.integer(m)
		VADDPD(double(1), m, m)
		r := v.radius(m)
		sin, cos := v.sincos(a)
		VMULPD(r, sin, sin)
		VMULPD(r, cos, cos)
		v.single(sin)
		v.single(cos)
		VPSLLQ(U8(32), sin, sin)
		w.Or(sin, cos, cos)
		VMULPS(w.Arg("std"), cos, cos)
		s.Store(cos, y)
	})
	w.End()
}

func dropout(w W, acc bool) {
	name, op := "dropout", "="
	if acc {
		name, op = "dropoutAcc", "+="
	}
	w.Func(name, "func(y, x *float32, n int, counter uint64, k0, k1 uint32, least int32, scale float32)",
		"if Philox(k1<<32|k0, counter+i/4)[i%4]>>8 > least { y[i] "+op+" scale*x[i] } else { y[i] "+op+
			" 0 }, n a multiple of 64")
	y, x, n := Ptr("y"), Ptr("x"), Ptr("n")
	wide{w}.philox(n, []reg.GPVirtual{y, x}, func(s Span, v reg.VecVirtual) {
		VPSRLD(U8(8), v, v)
		least, scale := w.Arg("least"), w.Arg("scale")
		if w == AVX512 {
			k := K()
			VPCMPD(U8(6), least, v, k) // greater than
			VMULPS_Z(s.At(x), scale, k, v)
		} else {
			VPCMPGTD(least, v, v)
			VMULPS(s.At(x), scale, scale)
			VANDPS(scale, v, v)
		}
		if acc {
			VADDPS(s.At(y), v, v)
		}
		s.Store(v, y)
	})
	w.End()
}
