//go:build amd64

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
		y, x := dst.F16(), src.F32()
		d.split(n, 6, func(lo, hi int) { d.narrow(y[lo:hi], x[lo:hi]) })
	} else {
		d.widen(dst.F32()[:n], src.F16())
	}
	if n < dst.Len() {
		d.Device.Copy(dst.Slice(n, dst.Len()), src.Slice(n, src.Len()))
	}
}

// narrow and widen convert whole vectors; par cuts anywhere, so what is left over goes through a vector of its own.
func (d *Device) narrow(y []uint16, x []float32) {
	f := wide(d, narrowAVX512, narrowAVX2)
	n := len(y) &^ 15
	if n > 0 {
		f(&y[0], &x[0], n)
	}
	if n < len(y) {
		var a [16]float32
		var b [16]uint16
		copy(a[:], x[n:len(y)])
		f(&b[0], &a[0], 16)
		copy(y[n:], b[:])
	}
}

func (d *Device) widen(y []float32, x []uint16) {
	f := wide(d, widenAVX512, widenAVX2)
	d.split(len(y), 6, func(lo, hi int) {
		n := (hi - lo) &^ 15
		if n > 0 {
			f(&y[lo], &x[lo], n)
		}
		if lo += n; lo < hi {
			var a [16]uint16
			var b [16]float32
			copy(a[:], x[lo:hi])
			f(&b[0], &a[0], 16)
			copy(y[lo:hi], b[:])
		}
	})
}

// widen copies the keys of x, in half precision, to a cache without room (Batch, KVHeads, Keys, Dim).
func (a *attention) widen(x device.Mem) scratch.Buf[float32] {
	buf := scratch.Get[float32](a.Batch * a.KVHeads * a.Keys * a.Dim)
	h := x.F16()
	par.For(a.d.Threads, a.Batch*a.KVHeads, 1, func(lo, hi int) {
		for t := lo; t < hi; t++ {
			from, to := t/a.KVHeads*a.KV()+t%a.KVHeads*a.headKV, buf.X[t*a.Keys*a.Dim:][:a.Keys*a.Dim]
			if a.rowKV == a.Dim {
				a.d.widen(to, h[from:])
				continue
			}
			for j := range a.Keys {
				a.d.widen(to[j*a.Dim:][:a.Dim], h[from+j*a.rowKV:])
			}
		}
	})
	return buf
}

// widenRows copies the first keys of a cache in int8, see device.Int8Row, to one without room.
func (a *attention) widenRows(x device.Mem) scratch.Buf[float32] {
	buf := scratch.Get[float32](a.Batch * a.KVHeads * a.Keys * a.Dim)
	t := tableOf(x)
	par.For(a.d.Threads, a.Batch*a.KVHeads, 1, func(lo, hi int) {
		for i := lo * a.Keys; i < hi*a.Keys; i++ {
			row := t.from(i/a.Keys*a.headKV + i%a.Keys*a.rowKV)
			a.d.rowMix(buf.X[i*a.Dim:][:a.Dim], one, row, a.rowKV)
		}
	})
	return buf
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
		wide(d, rowDotsHalfAVX512, rowDotsHalfAVX2)(&s[0], &x[0], &t.h[0], ld, len(x), len(s), scale)
	case t.q != nil:
		wide(d, rowDotsInt8AVX512, rowDotsInt8AVX2)(&s[0], &x[0], &t.q[0], ld, len(x), len(s), scale)
	default:
		wide(d, rowDotsAVX512, rowDotsAVX2)(&s[0], &x[0], &t.f[0], ld, len(x), len(s), scale)
	}
}

// rowMix: y = sum of p[j] * row j.
func (d *Device) rowMix(y, p []float32, t table, ld int) {
	switch {
	case t.h != nil:
		wide(d, rowMixHalfAVX512, rowMixHalfAVX2)(&y[0], &p[0], &t.h[0], ld, len(y), len(p))
	case t.q != nil:
		wide(d, rowMixInt8AVX512, rowMixInt8AVX2)(&y[0], &p[0], &t.q[0], ld, len(y), len(p))
	default:
		wide(d, rowMixAVX512, rowMixAVX2)(&y[0], &p[0], &t.f[0], ld, len(y), len(p))
	}
}

// fewQueries is the number up to which keys and values are read in place: packing them would cost more.
const fewQueries = 4

// decode is attention of few queries: one head of one sequence a task.
type decode struct {
	attention
	k, v table
}

func (a *decode) run(lo, hi int) {
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
	par.For(d.Threads, a.Batch*a.Heads, 1+serial/(max(a.Keys, 1)*a.Queries*a.Dim), c.run)
}

// gemmHalf is a product with B in half precision: dot products with its rows where A has few, else with a copy.
func (d *Device) gemmHalf(c, a, b, bias device.Mem, s device.GemmShape) {
	if d.Failed() || c.IsZero() || s.M <= 0 || s.N <= 0 {
		return
	}
	if s.M > fewQueries || !s.TransB || s.TransA || s.K%16 != 0 || s.K == 0 || s.Alpha == 0 {
		buf := scratch.Get[float32](b.Len())
		defer buf.Free()
		d.widen(buf.X, b.F16())
		d.Gemm(c, a, device.Wrap(buf.X), bias, s)
		return
	}
	y, x, t, bias0 := c.F32(), a.F32(), tableOf(b), bias.F32()
	d.split(s.N, 2*s.K, func(lo, hi int) {
		buf := scratch.Get[float32](hi - lo)
		defer buf.Free()
		for i := range s.M {
			d.rowDots(buf.X, x[i*s.LDA:][:s.K], t.from(lo*s.LDB), s.LDB, s.Alpha)
			row := y[i*s.LDC+lo:][:hi-lo]
			for j, v := range buf.X {
				if s.Beta != 0 {
					v += s.Beta * row[j]
				}
				if bias0 != nil {
					v += bias0[lo+j]
				}
				row[j] = v
			}
		}
	})
}
