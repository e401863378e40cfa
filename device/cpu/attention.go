package cpu

import (
	"math"

	"setun/device"
	"setun/internal/par"
)

// Queries are taken in blocks; scores of one block and all the keys it sees are the only matrix in memory, per worker.
const (
	queryBlock     = 64
	queryBlockGrad = 64
)

// attention is one call: s and its operands.
type attention struct {
	device.AttentionShape
	out, lse, q, k, v   []float32
	dq, dk, dv, dout    []float32
	rowQ, rowKV, headKV int // elements between queries, between keys, and between key heads
}

func (d *Device) Attention(out, lse, q, k, v device.Mem, s device.AttentionShape) {
	a := attention{AttentionShape: s, out: out.F32(), lse: lse.F32(), q: q.F32(),
		rowQ: s.Heads * s.Dim}
	if d.Failed() || a.out == nil {
		return
	}
	read := func(m device.Mem) (x []float32, giveBack func()) {
		if m.Type() == device.I8 {
			a.Row = 0
			return d.rowsOf(m, s)
		}
		return d.floats(m)
	}
	var giveBack func()
	a.k, giveBack = read(k)
	defer giveBack()
	a.v, giveBack = read(v)
	defer giveBack()
	a.rowKV, a.headKV = a.Strides()
	blocks := (s.Queries + queryBlock - 1) / queryBlock
	work := min(s.Queries, queryBlock) * s.Keys * (s.Dim/2 + costly)
	d.par(s.Batch*s.Heads*blocks, work, func(lo, hi int) {
		for t := lo; t < hi; t++ {
			i := t % blocks * queryBlock
			a.forward(t/blocks/s.Heads, t/blocks%s.Heads, i, min(queryBlock, s.Queries-i))
		}
	})
}

// atQ and atKV are where query i of head h, and key 0 of its key head, lie in sequence b.
func (a *attention) atQ(b, i, h int) int { return ((b*a.Queries+i)*a.Heads + h) * a.Dim }
func (a *attention) atKV(b, h int) int   { return b*a.KV() + h*a.KVHeads/a.Heads*a.headKV }

// forward computes queries [i, i+m) of head h in sequence b.
func (a *attention) forward(b, h, i, m int) {
	at, kv, keys := a.atQ(b, i, h), a.atKV(b, h), a.Sees(i+m-1)
	ld := packed(keys)
	p := borrow[float32](m * ld)
	defer p.giveBack()
	// All m queries see the first keys: one product. The rest goes row by row, up to what each may see.
	all := a.Sees(i)
	if m < 8 {
		all = 0
	}
	if keys > 0 {
		k := alignRows(a.k[kv:], a.rowKV, keys, a.Dim)
		a.scores(p.x, ld, m, keys, a.Scale, a.q[at:], k)
		k.giveBack()
	}
	for r := range m {
		clear(a.out[at+r*a.rowQ:][:a.Dim])
	}
	var inv [queryBlock]float32
	for r := range m {
		row := p.x[r*ld:][:a.Sees(i+r)]
		top := maxRow(row)
		sum := expRow(row, row, top)
		if len(row) > 0 {
			inv[r] = float32(1 / sum)
		}
		if a.lse != nil {
			a.lse[(b*a.Heads+h)*a.Queries+i+r] = float32(float64(top) + math.Log(sum))
		}
	}
	if all > 0 {
		vt := borrow[float32](a.Dim * packed(all))
		turn(vt.x, packed(all), a.v[kv:], a.rowKV, all, a.Dim)
		matmul(m, a.Dim, all, 1, p.x, ld, vt.x, packed(all), a.out[at:], a.rowQ)
		vt.giveBack()
	}
	for r := range m {
		y := a.out[at+r*a.rowQ:][:a.Dim]
		if rest := a.Sees(i+r) - all; rest > 0 {
			addRows(y, 1, p.x[r*ld+all:], 1, a.v[kv+all*a.rowKV:], a.rowKV, rest)
		}
		for j := range y {
			y[j] *= inv[r]
		}
	}
}

// scores: p = scale * x y' for m rows of x and n of y.
func (a *attention) scores(p []float32, ld, m, n int, scale float32, x []float32, y rows) {
	for r := range m {
		clear(p[r*ld:][:n])
	}
	matmul(m, n, a.Dim, scale, x, a.rowQ, y.x, y.ld, p, ld)
}

// AttentionGrad recomputes p = exp(scores - lse) block by block; with delta = sum of dout*out over a query,
// ds = p * (dout v' - delta), and then dq += scale ds k, dk += scale ds' q, dv += p' dout. One goroutine has all the
// query heads of a key head, in order.
func (d *Device) AttentionGrad(dq, dk, dv, dout, out, lse, q, k, v device.Mem, s device.AttentionShape) {
	a := attention{AttentionShape: s, out: out.F32(), lse: lse.F32(), q: q.F32(), k: k.F32(), v: v.F32(),
		dq: dq.F32(), dk: dk.F32(), dv: dv.F32(), dout: dout.F32(),
		rowQ: s.Heads * s.Dim}
	a.rowKV, a.headKV = s.Strides()
	if d.Failed() || a.dq == nil && a.dk == nil && a.dv == nil || s.KVHeads == 0 {
		return
	}
	group := s.Heads / s.KVHeads
	par.For(d.Threads, s.Batch*s.KVHeads, 1, func(lo, hi int) {
		for t := lo; t < hi; t++ {
			a.backward(t/s.KVHeads, t%s.KVHeads*group, group)
		}
	})
}

// backward does heads [h, h+group) of sequence b, which share a key head.
func (a *attention) backward(b, h, group int) {
	kv := a.atKV(b, h)
	a.clearGrads(b, h, group)
	if a.Keys == 0 {
		return
	}
	k := alignRows(a.k[kv:], a.rowKV, a.Keys, a.Dim)
	defer k.giveBack()
	v := alignRows(a.v[kv:], a.rowKV, a.Keys, a.Dim)
	defer v.giveBack()
	ld, ldt := packed(a.Keys), packed(queryBlockGrad)
	kt := borrow[float32](a.Dim * ld)
	defer kt.giveBack()
	turn(kt.x, ld, k.x, k.ld, a.Keys, a.Dim)
	p, ds := borrow[float32](queryBlockGrad*ld), borrow[float32](queryBlockGrad*ld)
	defer p.giveBack()
	defer ds.giveBack()
	left, right := borrow[float32](a.Keys*ldt), borrow[float32](a.Dim*ldt)
	defer left.giveBack()
	defer right.giveBack()

	for end := h + group; h < end; h++ {
		for i := 0; i < a.Queries; i += queryBlockGrad {
			m := min(queryBlockGrad, a.Queries-i)
			at, keys := a.atQ(b, i, h), a.Sees(i+m-1)
			if keys == 0 {
				continue
			}
			q, dout := a.q[at:], a.dout[at:]
			a.scores(p.x, ld, m, keys, a.Scale, q, k)
			a.scores(ds.x, ld, m, keys, 1, dout, v)
			for r := range m {
				n := a.Sees(i + r)
				p, ds := p.x[r*ld:][:keys], ds.x[r*ld:][:keys]
				delta := float32(dot(dout[r*a.rowQ:][:a.Dim], a.out[at+r*a.rowQ:][:a.Dim]))
				expRow(p[:n], p[:n], a.lse[(b*a.Heads+h)*a.Queries+i+r])
				for j, v := range p[:n] {
					ds[j] = v * (ds[j] - delta)
				}
				clear(p[n:])
				clear(ds[n:])
			}
			if a.dq != nil {
				matmul(m, a.Dim, keys, a.Scale, ds.x, ld, kt.x, ld, a.dq[at:], a.rowQ)
			}
			if a.dk != nil {
				turn(left.x, ldt, ds.x, ld, m, keys)
				turn(right.x, ldt, q, a.rowQ, m, a.Dim)
				matmul(keys, a.Dim, m, a.Scale, left.x, ldt, right.x, ldt, a.dk[kv:], a.rowKV)
			}
			if a.dv != nil {
				turn(left.x, ldt, p.x, ld, m, keys)
				turn(right.x, ldt, dout, a.rowQ, m, a.Dim)
				matmul(keys, a.Dim, m, 1, left.x, ldt, right.x, ldt, a.dv[kv:], a.rowKV)
			}
		}
	}
}

// clearGrads clears what heads [h, h+group) of sequence b add to, unless that is to stay.
func (a *attention) clearGrads(b, h, group int) {
	if a.Acc {
		return
	}
	for i := 0; a.dq != nil && i < a.Queries; i++ {
		clear(a.dq[a.atQ(b, i, h):][:group*a.Dim])
	}
	for _, x := range [][]float32{a.dk, a.dv} {
		for j := 0; x != nil && j < a.Keys; j++ {
			clear(x[a.atKV(b, h)+j*a.rowKV:][:a.Dim])
		}
	}
}

// rows is a matrix by rows that start on 16-byte boundaries, in place or in scratch.
type rows struct {
	x  []float32
	ld int
	s  lent[float32]
}

func alignRows(x []float32, ld, n, cols int) rows {
	if aligned(x, ld) {
		return rows{x: x, ld: ld}
	}
	r := rows{ld: packed(cols)}
	r.s = borrow[float32](n * r.ld)
	r.x = r.s.x
	for i := range n {
		copy(r.x[i*r.ld:][:cols], x[i*ld:])
	}
	return r
}

func (r rows) giveBack() { r.s.giveBack() }
