//go:build amd64 || arm64

package simd

import (
	"math"

	"setun/device"
	"setun/internal/par"
	"setun/internal/scratch"
)

// Copy between types is vectorised, the rest is device/cpu's.
func (d *Device) Copy(dst, src device.Mem) {
	if d.tier == None || dst.Type() == src.Type() || dst.Type() != device.F16 && src.Type() != device.F16 {
		d.Device.Copy(dst, src)
		return
	}
	if d.Failed() {
		return
	}
	n := dst.Len() &^ 15
	if dst.Type() == device.F16 {
		split(d, n, 6, halves{d, src.F32(), dst.F16()}, halves.narrow)
	} else {
		d.widen(dst.F32()[:n], src.F16())
	}
	if n < dst.Len() {
		d.Device.Copy(dst.Slice(n, dst.Len()), src.Slice(n, src.Len()))
	}
}

// narrow and widen convert whole vectors; par cuts anywhere, so what is left over goes through a vector of its own.
func (d *Device) narrow(y []uint16, x []float32) {
	f := narrowRoutine[d.width()]
	n := len(y) &^ 15
	if n > 0 {
		f(&y[0], &x[0], n)
	}
	if n < len(y) {
		a, b := scratch.Get[float32](16), scratch.Get[uint16](16)
		defer a.Free()
		defer b.Free()
		clear(a.X[copy(a.X, x[n:len(y)]):])
		f(&b.X[0], &a.X[0], 16)
		copy(y[n:], b.X)
	}
}

func (d *Device) widen(y []float32, x []uint16) { split(d, len(y), 6, halves{d, y, x}, halves.widen) }

// halves is numbers in float32 and in half precision.
type halves struct {
	d *Device
	x []float32
	h []uint16
}

func (c halves) narrow(lo, hi int) { c.d.narrow(c.h[lo:hi], c.x[lo:hi]) }

func (c halves) widen(lo, hi int) {
	f := widenRoutine[c.d.width()]
	n := (hi - lo) &^ 15
	if n > 0 {
		f(&c.x[lo], &c.h[lo], n)
	}
	if lo += n; lo < hi {
		a, b := scratch.Get[uint16](16), scratch.Get[float32](16)
		defer a.Free()
		defer b.Free()
		clear(a.X[copy(a.X, c.h[lo:hi]):])
		f(&b.X[0], &a.X[0], 16)
		copy(c.x[lo:hi], b.X)
	}
}

// widen copies the keys of x, in half precision or int8, to a cache without room (Batch, KVHeads, Keys, Dim).
func (a *attention) widen(x device.Mem) scratch.Buf[float32] {
	buf := scratch.Get[float32](a.Batch * a.KVHeads * a.Keys * a.Dim)
	f := widening.halves
	if x.Type() == device.I8 {
		f = widening.rows
	}
	par.Each(a.d.Threads, a.Batch*a.KVHeads, 1, widening{*a, buf.X, tableOf(x)}, f)
	return buf
}

type widening struct {
	attention
	to   []float32
	from table
}

func (w widening) halves(lo, hi int) {
	for t := lo; t < hi; t++ {
		from, to := t/w.KVHeads*w.KV()+t%w.KVHeads*w.headKV, w.to[t*w.Keys*w.Dim:][:w.Keys*w.Dim]
		if w.rowKV == w.Dim {
			w.d.widen(to, w.from.h[from:])
			continue
		}
		for j := range w.Keys {
			w.d.widen(to[j*w.Dim:][:w.Dim], w.from.h[from+j*w.rowKV:])
		}
	}
}

func (w widening) rows(lo, hi int) {
	for i := lo * w.Keys; i < hi*w.Keys; i++ {
		row := w.from.from(i/w.Keys*w.headKV + i%w.Keys*w.rowKV)
		w.d.rowMix(w.to[i*w.Dim:][:w.Dim], one, row, w.rowKV)
	}
}

// A table is rows of float32, of half precision, or of int8 with their scales.
type table struct {
	f []float32
	h []uint16
	q []int8
}

func tableOf(m device.Mem) table { return table{m.F32(), m.F16(), m.I8()} }

func (t table) from(i int) table {
	switch {
	case t.h != nil:
		return table{h: t.h[i:]}
	case t.q != nil:
		return table{q: t.q[i:]}
	}
	return table{f: t.f[i:]}
}

// rowDots: s[j] = scale * x . row j for len(s) rows, ld apart, of len(x) elements, a multiple of 16.
func (d *Device) rowDots(s, x []float32, t table, ld int, scale float32) {
	switch {
	case t.h != nil:
		rowDotsHalfRoutine[d.width()](&s[0], &x[0], &t.h[0], ld, len(x), len(s), scale)
	case t.q != nil:
		rowDotsInt8Routine[d.width()](&s[0], &x[0], &t.q[0], ld, len(x), len(s), scale)
	default:
		rowDotsRoutine[d.width()](&s[0], &x[0], &t.f[0], ld, len(x), len(s), scale)
	}
}

// rowMix: y = sum of p[j] * row j.
func (d *Device) rowMix(y, p []float32, t table, ld int) {
	switch {
	case t.h != nil:
		rowMixHalfRoutine[d.width()](&y[0], &p[0], &t.h[0], ld, len(y), len(p))
	case t.q != nil:
		rowMixInt8Routine[d.width()](&y[0], &p[0], &t.q[0], ld, len(y), len(p))
	default:
		rowMixRoutine[d.width()](&y[0], &p[0], &t.f[0], ld, len(y), len(p))
	}
}

// fewQueries is the number up to which keys and values are read in place: packing them would cost more.
const fewQueries = 4

// decode is attention of few queries: one head of one sequence a task.
type decode struct {
	attention
	k, v table
}

func (a decode) run(lo, hi int) {
	buf := scratch.Get[float32](a.Keys)
	defer buf.Free()
	for t := lo; t < hi; t++ {
		b, h := t/a.Heads, t%a.Heads
		kv := a.atKV(b, h)
		for i := range a.Queries {
			at, n := a.atQ(b, i, h), a.Sees(i)
			out := a.out[at:][:a.Dim]
			if n == 0 {
				clear(out)
				if a.lse != nil {
					a.lse[(b*a.Heads+h)*a.Queries+i] = float32(math.Inf(-1))
				}
				continue
			}
			s := buf.X[:n]
			a.d.rowDots(s, a.q[at:][:a.Dim], a.k.from(kv), a.rowKV, a.Scale)
			top := a.d.maxRow(s)
			sum := a.d.expRow(s, s, 1, top)
			a.d.rowMix(out, s, a.v.from(kv), a.rowKV)
			a.d.scale(out, 1/sum, out)
			if a.lse != nil {
				a.lse[(b*a.Heads+h)*a.Queries+i] = float32(float64(top) + math.Log(float64(sum)))
			}
		}
	}
}

// decodeAttention gives each head to a task.
func (d *Device) decodeAttention(a attention, k, v device.Mem) {
	c := decode{a, tableOf(k), tableOf(v)}
	par.Each(d.Threads, a.Batch*a.Heads, 1+serial/(max(a.Keys, 1)*a.Queries*a.Dim), c, decode.run)
}

// gemmHalf is a product with B in half precision: dot products with its rows where A has few, else with a copy, of B' some
// rows at a time.
func (d *Device) gemmHalf(c, a, b, bias device.Mem, s device.GemmShape) {
	if d.Failed() || c.IsZero() || s.M <= 0 || s.N <= 0 {
		return
	}
	if s.M > fewQueries || !s.TransB || s.TransA || s.K%16 != 0 || s.K == 0 || s.Alpha == 0 {
		pieces := 1
		if s.TransB {
			pieces = max(1, ceil(s.N*s.LDB, packBytes/4))
		}
		each := ceil(s.N, pieces)
		for j := 0; j < s.N; j += each {
			p := s
			p.N = min(each, s.N-j)
			from, to := 0, b.Len()
			if pieces > 1 {
				from, to = j*s.LDB, min((j+each)*s.LDB, b.Len())
			}
			buf := scratch.Get[float32](to - from)
			d.widen(buf.X, b.F16()[from:to])
			of := device.Mem{}
			if !bias.IsZero() {
				of = bias.Slice(j, j+p.N)
			}
			d.Gemm(c.Slice(j, c.Len()), a, device.Wrap(buf.X), of, p)
			buf.Free()
		}
		return
	}
	split(d, s.N, 2*s.K, halfDots{d, c.F32(), a.F32(), bias.F32(), tableOf(b), s}, halfDots.run)
}

type halfDots struct {
	d          *Device
	y, x, bias []float32
	t          table
	s          device.GemmShape
}

func (g halfDots) run(lo, hi int) {
	s := &g.s
	buf := scratch.Get[float32](hi - lo)
	defer buf.Free()
	for i := range s.M {
		g.d.rowDots(buf.X, g.x[i*s.LDA:][:s.K], g.t.from(lo*s.LDB), s.LDB, s.Alpha)
		row := g.y[i*s.LDC+lo:][:hi-lo]
		for j, v := range buf.X {
			if s.Beta != 0 {
				v += s.Beta * row[j]
			}
			if g.bias != nil {
				v += g.bias[lo+j]
			}
			row[j] = v
		}
	}
}
