package main

import (
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
