//go:build amd64 || arm64

package simd

import (
	"math"

	"setun/device"
	"setun/internal/par"
	"setun/internal/scratch"
)

// Attention runs by tiles of tileM queries. A tile sees keyBlock keys at a time, with an online softmax (Dao et al. 2022,
// arXiv 2205.14135) over the blocks; keys that no query of a tile sees are not multiplied. K' is packed once, V is read in
// place. The gradient takes gradQueries queries by keyBlock keys at a time: scores of that block are all it keeps.
const (
	keyBlock    = 576 // whole panels, whole tiles
	gradQueries = 96
	keyPad      = 16 // rows of scores lie off the powers of two
)

type attention struct {
	device.AttentionShape
	d                   *Device
	out, lse, q, k, v   []float32
	dq, dk, dv, dout    []float32
	rowQ, rowKV, headKV int // elements between queries, between keys, and between key heads
}

func (d *Device) Attention(out, lse, q, k, v device.Mem, s device.AttentionShape) {
	if d.tier == None || !d.direct(s.Dim) || k.Type() == device.I8 && s.Dim%16 != 0 || s.Keys == 0 || s.Dim == 0 {
		d.Device.Attention(out, lse, q, k, v, s)
		return
	}
	a := attention{AttentionShape: s, d: d, out: out.F32(), lse: lse.F32(), q: q.F32(),
		rowQ: s.Heads * s.Dim}
	a.rowKV, a.headKV = s.Strides()
	if d.Failed() || a.out == nil || s.Batch*s.Heads*s.Queries == 0 {
		return
	}
	if s.Queries <= fewQueries && s.Dim%16 == 0 && s.Keys > 0 {
		d.decodeAttention(a, k, v)
		return
	}
	if k.Type() == device.F32 {
		a.k, a.v = k.F32(), v.F32()
	} else {
		kb, vb := a.widen(k), a.widen(v)
		defer kb.Free()
		defer vb.Free()
		a.k, a.v, a.Cache, a.Row, a.rowKV, a.headKV = kb.X, vb.X, s.Keys, 0, s.Dim, s.Keys*s.Dim
	}
	// A task is some queries of one head; few heads share their queries out, each task packing K anew.
	parts := 1
	if heads, threads := s.Batch*s.Heads, par.Threads(d.Threads); heads < 4*threads && threads > 1 {
		parts = min(ceil(4*threads, heads), ceil(s.Queries, gradQueries))
	}
	rows := tileM
	if d.tiles(s) {
		rows = tileRows
	}
	each := ceil(ceil(s.Queries, parts), rows) * rows
	parts = ceil(s.Queries, each)
	grain := 1 + serial/(max(s.Keys, 1)*each*s.Dim)
	par.Each(d.Threads, s.Batch*s.Heads*parts, grain, attentionTasks{a, each, parts}, attentionTasks.run)
}

type attentionTasks struct {
	attention
	each, parts int // queries of a task, tasks of a head
}

func (a attentionTasks) run(lo, hi int) {
	forward := a.forward
	if a.d.tiles(a.AttentionShape) {
		forward = a.forwardTiles
	}
	for t := lo; t < hi; t++ {
		i := t % a.parts * a.each
		forward(t/a.parts/a.Heads, t/a.parts%a.Heads, i, min(i+a.each, a.Queries))
	}
}

// atQ and atKV are where query i of head h, and key 0 of its key head, lie in sequence b.
func (a *attention) atQ(b, i, h int) int { return ((b*a.Queries+i)*a.Heads + h) * a.Dim }
func (a *attention) atKV(b, h int) int   { return b*a.KV() + h*a.KVHeads/a.Heads*a.headKV }

// turned packs the first keys of x, K or V, as the right side (Dim, keys) of a product.
func (a *attention) turned(x []float32, keys int) scratch.Buf[float32] {
	w := a.d.panel()
	buf := scratch.Get[float32](ceil(keys, w) * w * a.Dim)
	if keys > 0 {
		a.d.pack(buf.X, matrix{x, 1, a.rowKV}, a.Dim, keys, 1)
	}
	return buf
}

// scores: s = scale * x y' for m rows of x and keys [c, c+n) of y, turned.
func (a *attention) scores(s []float32, ld, m, c, n int, scale float32, x, y []float32) {
	w := a.d.panel()
	t := a.d.tiler(a.Dim, scale, 0)
	t.setA(matrix{x, a.rowQ, 1})
	t.bs, t.cs = 4*w, 4*ld
	for j := 0; j < n; j += w {
		t.b = &y[(c+j)*a.Dim]
		t.run(&s[j], 0, m, min(w, n-j))
	}
}

// mix: y = alpha * s x + beta*y for m rows of s and k of x, which lie ldx apart.
func (a *attention) mix(y []float32, ldy, m, k int, alpha, beta float32, s matrix, x []float32, ldx int) {
	w := a.d.panel()
	t := a.d.tiler(k, alpha, beta)
	t.setA(s)
	t.bs, t.cs = 4*ldx, 4*ldy
	for j := 0; j < a.Dim; j += w {
		t.b = &x[j]
		t.run(&y[j], 0, m, min(w, a.Dim-j))
	}
}

// forward computes queries [i, end) of head h in sequence b.
func (a *attention) forward(b, h, i, end int) {
	d, kv := a.d, a.atKV(b, h)
	keys := a.Sees(end - 1)
	kt := a.turned(a.k[kv:], keys)
	defer kt.Free()
	const ld = keyBlock + keyPad
	buf := scratch.Get[float32](tileM * ld)
	defer buf.Free()
	s := buf.X
	for ; i < end; i += tileM {
		m := min(tileM, end-i)
		n, at := a.Sees(i+m-1), a.atQ(b, i, h)
		var top, sum [tileM]float32
		for r := range m {
			top[r] = float32(math.Inf(-1))
			if n == 0 {
				clear(a.out[at+r*a.rowQ:][:a.Dim])
			}
		}
		for c := 0; c < n; c += keyBlock {
			cn := min(keyBlock, n-c)
			a.scores(s, ld, m, c, cn, a.Scale, a.q[at:], kt.X)
			for r := range m {
				seen := max(0, min(a.Sees(i+r)-c, cn))
				row := s[r*ld:][:cn]
				clear(row[seen:])
				if seen == 0 {
					continue
				}
				t := max(top[r], d.maxRow(row[:seen]))
				if c > 0 && t != top[r] {
					f := float32(math.Exp(float64(top[r] - t)))
					sum[r] *= f
					a.scaleOut(at+r*a.rowQ, f)
				}
				top[r] = t
				sum[r] += d.expRow(row[:seen], row[:seen], 1, t)
			}
			beta := float32(0)
			if c > 0 {
				beta = 1
			}
			a.mix(a.out[at:], a.rowQ, m, cn, 1, beta, matrix{s, ld, 1}, a.v[kv+c*a.rowKV:], a.rowKV)
		}
		for r := range m {
			if a.Sees(i+r) > 0 {
				a.scaleOut(at+r*a.rowQ, 1/sum[r])
			}
			if a.lse != nil {
				a.lse[(b*a.Heads+h)*a.Queries+i+r] = float32(float64(top[r]) + math.Log(float64(sum[r])))
			}
		}
	}
}

// AttentionGrad recomputes p = exp(scores - lse); with delta = sum of dout*out over a query, ds = p * (dout v' - delta),
// and then dq += scale ds k, dk += scale ds' q, dv += p' dout. One goroutine has all the query heads of a key head.
func (d *Device) AttentionGrad(dq, dk, dv, dout, out, lse, q, k, v device.Mem, s device.AttentionShape) {
	if d.tier == None || !d.direct(s.Dim) || s.Keys == 0 || s.Dim == 0 {
		d.Device.AttentionGrad(dq, dk, dv, dout, out, lse, q, k, v, s)
		return
	}
	a := attention{AttentionShape: s, d: d, out: out.F32(), lse: lse.F32(), q: q.F32(), k: k.F32(), v: v.F32(),
		dq: dq.F32(), dk: dk.F32(), dv: dv.F32(), dout: dout.F32(),
		rowQ: s.Heads * s.Dim}
	a.rowKV, a.headKV = s.Strides()
	if d.Failed() || a.dq == nil && a.dk == nil && a.dv == nil || s.Batch*s.KVHeads == 0 {
		return
	}
	grain := 1 + serial/max(1, 4*s.Queries*s.Keys*s.Dim*s.Heads/s.KVHeads)
	par.Each(d.Threads, s.Batch*s.KVHeads, grain, a, attention.backwards)
}

func (a attention) backwards(lo, hi int) {
	group, backward := a.Heads/a.KVHeads, a.backward
	if a.d.tiles(a.AttentionShape) {
		backward = a.backwardTiles
	}
	for t := lo; t < hi; t++ {
		b, h := t/a.KVHeads, t%a.KVHeads*group
		if a.Keys*a.Queries == 0 {
			a.clearGrads(b, h, group)
		} else {
			backward(b, h, group)
		}
	}
}

// backward does heads [h, h+group) of sequence b, which share a key head.
func (a *attention) backward(b, h, group int) {
	kv := a.atKV(b, h)
	a.clearGrads(b, h, group)
	kt, vt := a.turned(a.k[kv:], a.Keys), a.turned(a.v[kv:], a.Keys)
	defer kt.Free()
	defer vt.Free()
	ld := min(keyBlock, a.Keys+tileM) + keyPad
	p, ds := scratch.Get[float32](gradQueries*ld), scratch.Get[float32](gradQueries*ld)
	defer p.Free()
	defer ds.Free()
	delta := scratch.Get[float32](a.Queries)
	defer delta.Free()
	for end := h + group; h < end; h++ {
		for i := range a.Queries {
			at := a.atQ(b, i, h)
			delta.X[i] = a.d.dot(a.dout[at:at+a.Dim], a.out[at:at+a.Dim])
		}
		for c := 0; c < a.Keys; c += keyBlock {
			for i := 0; i < a.Queries; i += gradQueries {
				a.gradBlock(b, h, i, min(gradQueries, a.Queries-i), c, min(keyBlock, a.Keys-c), ld, p.X, ds.X,
					delta.X[i:], kt.X, vt.X)
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

// gradBlock adds what m queries from i on and n keys from c on give to each other.
func (a *attention) gradBlock(b, h, i, m, c, n, ld int, p, ds, delta, kt, vt []float32) {
	kv, at := a.atKV(b, h)+c*a.rowKV, a.atQ(b, i, h)
	lse := a.lse[(b*a.Heads+h)*a.Queries+i:]
	sees := func(r int) int { return max(0, min(a.Sees(i+r)-c, n)) }
	if sees(m-1) == 0 {
		return
	}
	for r := 0; r < m; r += tileM {
		rows := min(tileM, m-r)
		seen := sees(r + rows - 1)
		if seen == 0 {
			continue
		}
		a.scores(p[r*ld:], ld, rows, c, seen, a.Scale, a.q[at+r*a.rowQ:], kt)
		a.scores(ds[r*ld:], ld, rows, c, seen, 1, a.dout[at+r*a.rowQ:], vt)
		whole := min(ceil(seen, tileM)*tileM, n)
		for x := r; x < r+rows; x++ {
			p, ds, k := p[x*ld:][:whole], ds[x*ld:][:whole], sees(x)
			if k > 0 {
				a.d.probGrad(p[:k], ds[:k], 1, lse[x], delta[x])
			}
			clear(p[k:])
			clear(ds[k:])
		}
		if a.dq != nil {
			a.mix(a.dq[at+r*a.rowQ:], a.rowQ, rows, seen, a.Scale, 1, matrix{ds[r*ld:], ld, 1}, a.k[kv:], a.rowKV)
		}
	}
	first := 0 // tile of queries that sees key j
	for j := 0; j < n; j += tileM {
		for first < m && sees(min(first+tileM, m)-1) <= j {
			first += tileM
		}
		if first >= m {
			break
		}
		keys, from := min(tileM, n-j), at+first*a.rowQ
		if a.dk != nil {
			a.mix(a.dk[kv+j*a.rowKV:], a.rowKV, keys, m-first, a.Scale, 1, matrix{ds[first*ld+j:], 1, ld}, a.q[from:], a.rowQ)
		}
		if a.dv != nil {
			a.mix(a.dv[kv+j*a.rowKV:], a.rowKV, keys, m-first, 1, 1, matrix{p[first*ld+j:], 1, ld}, a.dout[from:], a.rowQ)
		}
	}
}

// scaleOut: out *= f for the row at at.
func (a *attention) scaleOut(at int, f float32) {
	y := a.out[at:][:a.Dim]
	a.d.scale(y, f, y)
}
