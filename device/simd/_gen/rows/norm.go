package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"

	. "setun/device/simd/gen/lane"
)

// rsqrt: x = 1/sqrt(x + eps), eps an argument.
func rsqrt(x reg.VecVirtual) {
	one := XMM()
	VADDSS(Arg("eps"), x, x)
	VSQRTSS(x, x, x)
	VMOVSS(Word(1), one)
	VDIVSS(x, one, x)
}

func rmsNorm(w W) {
	w.Func("rmsNorm", "func(y, inv, x, gain *float32, rows, cols int, recip, eps float32)",
		"inv[i] = 1/sqrt(recip * sum of x[i,:]^2 + eps); y[i,j] = x[i,j]*inv[i] * gain[j]; rows > 0")
	y, inv, x := Ptr("y"), Ptr("inv"), Ptr("x")
	rows([]reg.GPVirtual{y, x}, func(cols func() reg.GPVirtual) {
		px := Clone(x)
		m := w.Sum(products(w, px, px, cols()))
		VMULSS(Arg("recip"), m, m)
		rsqrt(m)
		VMOVSS(m, Mem{Base: inv})
		r := w.Broadcast(m)
		px, py, gain := Clone(x), Clone(y), Ptr("gain")
		w.Each(cols(), 4, []reg.GPVirtual{px, py, gain}, func(s Span) {
			v, g := s.Load(px), s.Load(gain)
			VMULPS(r, v, v)
			VMULPS(g, v, v)
			s.Store(v, py)
		})
		ADDQ(U32(4), inv)
	})
	w.End()
}

func rmsNormGrad(w W) {
	w.Func("rmsNormGrad", "func(dx, dy, x, gain, inv *float32, rows, cols int, recip float32)",
		"with h = dy*gain, c = inv^2 * recip * sum of h[i,:]*x[i,:]: dx[i,j] += inv[i] * (h[i,j] - x[i,j]*c); rows > 0")
	dx, dy, x, inv := Ptr("dx"), Ptr("dy"), Ptr("x"), Ptr("inv")
	rows([]reg.GPVirtual{dx, dy, x}, func(cols func() reg.GPVirtual) {
		acc := w.Zeros(4)
		pdy, px, gain := Clone(dy), Clone(x), Ptr("gain")
		w.Each(cols(), 4, []reg.GPVirtual{pdy, px, gain}, func(s Span) {
			h, v, g := s.Load(pdy), s.Load(px), s.Load(gain)
			VMULPS(g, h, h)
			VFMADD231PS(h, v, acc[s.Index()])
		})
		m := w.Sum(acc)
		VMULSS(Arg("recip"), m, m)
		VMULSS(Mem{Base: inv}, m, m)
		VMULSS(Mem{Base: inv}, m, m)
		c, r := w.Broadcast(m), w.Broadcast(Mem{Base: inv})
		pdy, px, gain = Clone(dy), Clone(x), Ptr("gain")
		pdx := Clone(dx)
		w.Each(cols(), 4, []reg.GPVirtual{pdx, pdy, px, gain}, func(s Span) {
			h, v, g, d := s.Load(pdy), s.Load(px), s.Load(gain), s.Load(pdx)
			VMULPS(g, h, h)
			VFNMADD231PS(c, v, h)
			VFMADD231PS(r, h, d)
			s.Store(d, pdx)
		})
		ADDQ(U32(4), inv)
	})
	w.End()
}

// widths of the strips whose sums stay in registers: acc accumulators a vector.
func widths(w W, acc int) []int {
	if w == AVX512 {
		return []int{16 / acc, 4, 1}
	}
	return []int{8 / acc, 2, 1}
}

func rmsNormGain(w W) {
	w.Func("rmsNormGain", "func(sum, dy, x, inv *float32, rows, cols int)",
		"sum[j] = sum over i of dy[i,j]*x[i,j]*inv[i]; rows > 0")
	sum, dy, x := Ptr("sum"), Ptr("dy"), Ptr("x")
	w.Strips(Ptr("cols"), widths(w, 1), []reg.GPVirtual{sum, dy, x}, func(strip []Span) {
		acc := w.Zeros(len(strip))
		pdy, px, inv, bytes := Clone(dy), Clone(x), Ptr("inv"), Ptr("cols")
		SHLQ(U8(2), bytes)
		Times(Ptr("rows"), func() {
			r := w.Broadcast(Mem{Base: inv})
			for i, s := range strip {
				g, v := s.Load(pdy), s.Load(px)
				VMULPS(r, v, v)
				VFMADD231PS(g, v, acc[i])
			}
			ADDQ(bytes, pdy)
			ADDQ(bytes, px)
			ADDQ(U32(4), inv)
		})
		for i, s := range strip {
			s.Store(acc[i], sum)
		}
	})
	w.End()
}

func layerNorm(w W) {
	w.Func("layerNorm", "func(y, mean, inv, x, gain, bias *float32, rows, cols int, recip, eps float32)",
		`m = recip * sum of x[i,:], then improved by d = recip * sum of x[i,:]-m;
mean[i] = m+d; inv[i] = 1/sqrt(recip * sum of (x[i,:]-m)^2 - d^2 + eps); y[i,j] = (x[i,j]-m-d)*inv[i]*gain[j] + bias[j];
rows > 0`)
	y, mean, inv, x := Ptr("y"), Ptr("mean"), Ptr("inv"), Ptr("x")
	rows([]reg.GPVirtual{y, x}, func(cols func() reg.GPVirtual) {
		acc, px := w.Zeros(4), Clone(x)
		w.Each(cols(), 4, []reg.GPVirtual{px}, func(s Span) {
			v := s.Load(px)
			VADDPS(v, acc[s.Index()], acc[s.Index()])
		})
		m := w.Sum(acc)
		VMULSS(Arg("recip"), m, m)
		shift := w.Broadcast(m)

		sums, squares := w.Zeros(4), w.Zeros(4)
		px = Clone(x)
		w.Each(cols(), 4, []reg.GPVirtual{px}, func(s Span) {
			v := s.Load(px)
			VSUBPS(shift, v, v)
			s.Keep(v)
			VADDPS(v, sums[s.Index()], sums[s.Index()])
			VFMADD231PS(v, v, squares[s.Index()])
		})
		d, variance := w.Sum(sums), w.Sum(squares)
		VMULSS(Arg("recip"), d, d)
		VMULSS(Arg("recip"), variance, variance)
		VFNMADD231SS(d, d, variance)
		zero := XMM()
		VMOVSS(Word(0), zero)
		VMAXSS(variance, zero, variance) // of 0 and a NaN, the NaN
		rsqrt(variance)
		VMOVSS(variance, Mem{Base: inv})
		r, rest := w.Broadcast(variance), w.Broadcast(d)
		VADDSS(d, m, m)
		VMOVSS(m, Mem{Base: mean})

		px, py, gain, bias := Clone(x), Clone(y), Ptr("gain"), Ptr("bias")
		w.Each(cols(), 4, []reg.GPVirtual{px, py, gain, bias}, func(s Span) {
			v, g, b := s.Load(px), s.Load(gain), s.Load(bias)
			VSUBPS(shift, v, v)
			VSUBPS(rest, v, v)
			VMULPS(r, v, v)
			VFMADD213PS(b, g, v)
			s.Store(v, py)
		})
		ADDQ(U32(4), mean)
		ADDQ(U32(4), inv)
	})
	w.End()
}

func layerNormGrad(w W) {
	w.Func("layerNormGrad", "func(dx, dy, x, gain, mean, inv *float32, rows, cols int, recip float32)",
		`with h = dy*gain, n = (x-mean)*inv and means over a row (recip * sum):
dx[i,j] += inv[i] * (h[i,j] - mean(h) - n[i,j]*mean(h*n)); rows > 0`)
	dx, dy, x, mean, inv := Ptr("dx"), Ptr("dy"), Ptr("x"), Ptr("mean"), Ptr("inv")
	rows([]reg.GPVirtual{dx, dy, x}, func(cols func() reg.GPVirtual) {
		m, r := w.Broadcast(Mem{Base: mean}), w.Broadcast(Mem{Base: inv})
		sh, shx := w.Zeros(4), w.Zeros(4)
		pdy, px, gain := Clone(dy), Clone(x), Ptr("gain")
		w.Each(cols(), 4, []reg.GPVirtual{pdy, px, gain}, func(s Span) {
			h, v, g := s.Load(pdy), s.Load(px), s.Load(gain)
			VSUBPS(m, v, v)
			VMULPS(g, h, h)
			s.Keep(h)
			VADDPS(h, sh[s.Index()], sh[s.Index()])
			VFMADD231PS(h, v, shx[s.Index()])
		})
		mh, mhx := w.Sum(sh), w.Sum(shx)
		VMULSS(Arg("recip"), mh, mh)
		VMULSS(Arg("recip"), mhx, mhx)
		VMULSS(r.AsX(), mhx, mhx)
		VMULSS(r.AsX(), mhx, mhx)
		a, b := w.Broadcast(mh), w.Broadcast(mhx)
		pdy, px, gain = Clone(dy), Clone(x), Ptr("gain")
		pdx := Clone(dx)
		w.Each(cols(), 4, []reg.GPVirtual{pdx, pdy, px, gain}, func(s Span) {
			h, v, g, d := s.Load(pdy), s.Load(px), s.Load(gain), s.Load(pdx)
			VSUBPS(m, v, v)
			VFMSUB213PS(a, g, h)
			VFNMADD231PS(b, v, h)
			VFMADD231PS(r, h, d)
			s.Store(d, pdx)
		})
		ADDQ(U32(4), mean)
		ADDQ(U32(4), inv)
	})
	w.End()
}

func layerNormGain(w W) {
	w.Func("layerNormGain", "func(gain, bias, dy, x, mean, inv *float32, rows, cols int)",
		"gain[j] = sum over i of dy[i,j]*(x[i,j]-mean[i])*inv[i]; bias[j] = sum over i of dy[i,j]; rows > 0")
	gain, bias, dy, x := Ptr("gain"), Ptr("bias"), Ptr("dy"), Ptr("x")
	w.Strips(Ptr("cols"), widths(w, 2), []reg.GPVirtual{gain, bias, dy, x}, func(strip []Span) {
		sg, sb := w.Zeros(len(strip)), w.Zeros(len(strip))
		pdy, px, mean, inv, bytes := Clone(dy), Clone(x), Ptr("mean"), Ptr("inv"), Ptr("cols")
		SHLQ(U8(2), bytes)
		Times(Ptr("rows"), func() {
			m, r := w.Broadcast(Mem{Base: mean}), w.Broadcast(Mem{Base: inv})
			for i, s := range strip {
				g, v := s.Load(pdy), s.Load(px)
				VSUBPS(m, v, v)
				VMULPS(r, v, v)
				VFMADD231PS(g, v, sg[i])
				VADDPS(g, sb[i], sb[i])
			}
			ADDQ(bytes, pdy)
			ADDQ(bytes, px)
			ADDQ(U32(4), mean)
			ADDQ(U32(4), inv)
		})
		for i, s := range strip {
			s.Store(sg[i], gain)
			s.Store(sb[i], bias)
		}
	})
	w.End()
}
