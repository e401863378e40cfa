//go:build amd64

package simd

import (
	"math"
	"unsafe"

	"setun/device"
	"setun/internal/scratch"
)

// Attention in bfloat16 on AMX. What is multiplied is padded to whole tiles, 32 queries or keys, so that one routine does
// all products. Words are two bfloat16. In the gradient keys are rows: p' and ds', as they are written, are the left sides
// of dv = p' dout and dk = ds' q; pairs of rows of ds', turned, are that of dq = ds k. Results are added up in place.
const (
	tileKeys = 256 // keys, and queries of the gradient, of a block
	wordPad  = 16  // rows of words and of scores lie off the powers of two
)

// tiles reports whether s is computed in bfloat16.
func (d *Device) tiles(s device.AttentionShape) bool {
	return s.Math == device.MathBF16 && d.tier == AMX && s.Dim%tileRows == 0 && s.Scale > 0 && min(s.Queries, s.Keys) >= 16
}

// A side is one operand of a product of tiles: row, or column, 16*n and word 16*l of it are the tile at n*far + l*step,
// with rows line apart.
type side struct {
	x               []float32
	line, far, step int
}

func (o side) at(n, l int) side { return side{o.x[n/16*o.far+l/16*o.step:], o.line, o.far, o.step} }

// rowsOf and pairsOf are operands in rows of ld words: a left side, and pairs of rows as a right side.
func rowsOf(x []float32, ld int) side  { return side{x, ld, 16 * ld, 16} }
func pairsOf(x []float32, ld int) side { return side{x, ld, 16, 16 * ld} }

// rightOf and leftOf are operands that turnTiles has transposed, from rows of so many words.
func rightOf(x []float32, words int) side { return side{x, 16, 16 * words, 256} }
func leftOf(x []float32, words int) side  { return side{x, 16, 256, 16 * words} }

// turnTiles transposes the words of n rows of x, ld apart, tile by tile.
func turnTiles(dst, x []float32, n, words, ld int) {
	for i := 0; i < n; i += 16 {
		for l := 0; l < words; l += 16 {
			turnWordsAVX512(bytesOf(dst[i*words+16*l:]), bytesOf(x[i*ld+l:]), 4*ld)
		}
	}
}

func bytesOf(x []float32) *int8 { return (*int8)(unsafe.Pointer(&x[0])) }

func uint16s(x []float32) []uint16 { return unsafe.Slice((*uint16)(unsafe.Pointer(&x[0])), 2*len(x)) }

// product: c = a b, or += if more, for whole tiles: m rows, n columns, k words.
func product(c []float32, ldc int, a, b side, m, n, k int, more bool) {
	acc := 0
	if more {
		acc = 1
	}
	tilesAMX(&c[0], 4*ldc, &a.x[0], 4*a.line, 4*a.far, 4*a.step, &b.x[0], 4*b.line, 4*b.far, 4*b.step, k/stepWords,
		m/tileRows, n/32, acc, &shapes[tileRows][0])
}

func whole(n int) int { return ceil(n, tileRows) * tileRows }

// round rounds n rows of x, ld apart, to what is not nil: rows, pairs of rows and rows as a right side. They have whole
// tiles, 0 from n on.
func (a *attention) round(x []float32, n, ld int, rows, pairs, right []float32) {
	words := a.Dim / 2
	buf := scratch.Get[float32](2*tileRows*words + 2*a.Dim)
	defer buf.Free()
	r, p, last := buf.X[:tileRows*words], buf.X[tileRows*words:2*tileRows*words], buf.X[2*tileRows*words:][:2*a.Dim]
	for i := 0; i < n; i += tileRows {
		at, m := i*words, min(tileRows, n-i)
		if rows != nil {
			r = rows[at:][:tileRows*words]
		}
		if pairs != nil {
			p = pairs[at:][:tileRows*words]
		}
		if even := m &^ 1; even > 0 {
			roundHeadAVX512(&uint16s(r)[0], &p[0], &x[i*ld], 4*ld, even, a.Dim)
		}
		if m < tileRows {
			y := m &^ 1 * words
			clear(r[y:])
			clear(p[y:])
			if m%2 > 0 {
				clear(last[copy(last, x[(n-1)*ld:][:a.Dim]):])
				roundHeadAVX512(&uint16s(r[y:])[0], &p[y], &last[0], 4*a.Dim, 2, a.Dim)
			}
		}
		if right != nil {
			turnTiles(right[at:], r, tileRows, words, words)
		}
	}
}

// carve takes slices of these lengths, each in whole tiles, out of borrowed memory.
func carve(parts []*[]float32, lengths ...int) scratch.Buf[float32] {
	all := 0
	for _, n := range lengths {
		all += ceil(n, 256) * 256
	}
	buf := scratch.Get[float32](all)
	at := 0
	for i, n := range lengths {
		*parts[i] = buf.X[at : at+n : at+n]
		at += ceil(n, 256) * 256
	}
	return buf
}

// forwardTiles is forward in bfloat16.
func (a *attention) forwardTiles(b, h, i, end int) {
	kv, words := a.atKV(b, h), a.Dim/2
	keys := a.Sees(end - 1)
	padded, block := whole(keys), min(whole(keys), tileKeys)
	lds, ldp := block+wordPad, block/2+wordPad
	var right, vp, q, s, p, o []float32
	buf := carve([]*[]float32{&right, &vp, &q, &s, &p, &o}, padded*words, padded*words, tileRows*words, tileRows*lds,
		tileRows*ldp, tileRows*a.Dim)
	defer buf.Free()
	a.round(a.k[kv:], keys, a.rowKV, nil, nil, right)
	a.round(a.v[kv:], keys, a.rowKV, nil, vp, nil)
	kt := rightOf(right, words)
	for ; i < end; i += tileRows {
		m := min(tileRows, end-i)
		n, at := a.Sees(i+m-1), a.atQ(b, i, h)
		a.round(a.q[at:], m, a.rowQ, q, nil, nil)
		var top, sum, part [tileRows]float32
		var seen [tileRows]int32 // 0 beyond m
		for r := range top {
			top[r] = float32(math.Inf(-1))
		}
		for c := 0; c < n; c += block {
			cn := min(block, n-c)
			wide := whole(cn)
			product(s, lds, rowsOf(q, words), kt.at(c, 0), tileRows, wide, words, false)
			old := top
			for r := range m {
				seen[r] = int32(max(0, min(a.Sees(i+r)-c, cn)))
			}
			all := int(seen[0]) &^ 15 // see all rows, but for the padding
			softmaxRoundAVX512(&uint16s(p)[0], 4*ldp, &s[0], 4*lds, &seen[0], &top[0], &part[0], ceil(m, 4), all, wide,
				a.Scale*math.Log2E)
			for r := range m {
				if c > 0 && top[r] != old[r] {
					f := float32(math.Exp2(float64(old[r] - top[r])))
					sum[r] *= f
					a.d.scale(o[r*a.Dim:][:a.Dim], f, o[r*a.Dim:])
				}
				sum[r] += part[r]
			}
			product(o, a.Dim, rowsOf(p, ldp), pairsOf(vp, a.Dim).at(0, c/2), tileRows, a.Dim, wide/2, c > 0)
		}
		for r := range m {
			if a.Sees(i+r) == 0 {
				clear(o[r*a.Dim:][:a.Dim])
				top[r], sum[r] = float32(math.Inf(-1)), 1
			}
			if a.lse != nil {
				a.lse[(b*a.Heads+h)*a.Queries+i+r] = float32(float64(top[r])*math.Ln2 + math.Log(float64(sum[r])))
			}
			sum[r] = 1 / sum[r]
		}
		scaleHeadAVX512(&a.out[at], 4*a.rowQ, &o[0], &sum[0], m, a.Dim)
	}
}

// A gradient is what backwardTiles keeps of a key head and, where names end in q or o, of a query head.
type gradient struct {
	*attention
	k, v, kp        side      // rows of k and of v, and k in pairs of keys
	qt, ot, qp, op  side      // q' and dout', and q and dout in pairs of queries
	s, dp, p, ds, w []float32 // of 32 keys: scores, dout v', p and ds; pairs of ds of a block
	turn, last      []float32 // 32 columns of w, and the rows of a result that ends in them
	lse, delta      []float32
	lds, ldp        int
}

// backwardTiles is backward in bfloat16.
func (a *attention) backwardTiles(b, h, group int) {
	kv, words := a.atKV(b, h), a.Dim/2
	keys, queries := whole(a.Keys), whole(a.Queries)
	n := min(queries, tileKeys)
	g := gradient{attention: a, lds: n + wordPad, ldp: n/2 + wordPad}
	var kr, vr, kp, qt, ot, qp, op []float32
	buf := carve([]*[]float32{&kr, &vr, &kp, &qt, &ot, &qp, &op, &g.s, &g.dp, &g.p, &g.ds, &g.w, &g.turn, &g.last, &g.lse,
		&g.delta}, keys*words, keys*words, keys*words, queries*words, queries*words, queries*words, queries*words,
		tileRows*g.lds, tileRows*g.lds, tileRows*g.ldp, tileRows*g.ldp, min(keys, tileKeys)/2*g.lds, tileKeys/2*tileRows,
		tileRows*a.Dim, queries, queries)
	defer buf.Free()
	a.round(a.k[kv:], a.Keys, a.rowKV, kr, kp, nil)
	a.round(a.v[kv:], a.Keys, a.rowKV, vr, nil, nil)
	g.k, g.v, g.kp = rowsOf(kr, words), rowsOf(vr, words), pairsOf(kp, a.Dim)
	g.qp, g.op = pairsOf(qp, a.Dim), pairsOf(op, a.Dim)
	g.qt, g.ot = rightOf(qt, words), rightOf(ot, words)
	for x := h; x < h+group; x++ {
		at := a.atQ(b, 0, x)
		a.round(a.q[at:], a.Queries, a.rowQ, nil, qp, qt)
		a.round(a.dout[at:], a.Queries, a.rowQ, nil, op, ot)
		for i := 0; i < a.Queries; i += tileKeys {
			y := at + i*a.rowQ
			dotHeadAVX512(&g.delta[i], &a.dout[y], &a.out[y], 4*a.rowQ, min(tileKeys, a.Queries-i), a.Dim, a.Scale)
		}
		for i, l := range a.lse[(b*a.Heads+x)*a.Queries:][:a.Queries] {
			g.lse[i] = l * math.Log2E
		}
		for i := a.Queries; i < queries; i++ { // p is 0
			g.lse[i], g.delta[i] = float32(math.Inf(1)), 0
		}
		for c := 0; c < keys; c += tileKeys {
			for i := 0; i < queries; i += tileKeys {
				g.block(at, kv, i, min(tileKeys, queries-i), c, min(tileKeys, keys-c), x > h)
			}
		}
	}
}

// first is the first query that sees key j.
func (a *attention) first(j int) int {
	switch {
	case j >= a.Keys:
		return math.MaxInt
	case !a.Causal:
		return 0
	}
	return max(0, j+a.Queries-a.Keys)
}

// block adds what m queries from i on and n keys from c on give to each other, whole tiles. The rows of the query head and
// of the key head begin at at and kv. The first sum of a row, unless more is true of the key head, overwrites it.
func (g *gradient) block(at, kv, i, m, c, n int, more bool) {
	words := g.Dim / 2
	for j := 0; j < n; j += tileRows {
		from := max(0, g.first(c+j)-i) &^ (tileRows - 1)
		if from >= m {
			break
		}
		product(g.s[from:], g.lds, g.k.at(c+j, 0), g.qt.at(i+from, 0), tileRows, m-from, words, false)
		product(g.dp[from:], g.lds, g.v.at(c+j, 0), g.ot.at(i+from, 0), tileRows, m-from, words, false)
		for r := 0; r < tileRows; r += 2 {
			g.pair(i, m, c+j, r, from, g.w[(j+r)/2*g.lds:][:m])
		}
		more := more || g.Acc || g.first(c+j) < i
		g.add(g.dv, kv, c+j, g.Keys, g.rowKV, rowsOf(g.p[from/2:], g.ldp), g.op.at(0, (i+from)/2), (m-from)/2, more)
		g.add(g.dk, kv, c+j, g.Keys, g.rowKV, rowsOf(g.ds[from/2:], g.ldp), g.qp.at(0, (i+from)/2), (m-from)/2, more)
	}
	for q := 0; q < m && g.dq != nil; q += tileRows {
		seen := min(whole(g.Sees(min(i+q+tileRows, g.Queries)-1)-c), n)
		if seen > 0 {
			turnTiles(g.turn, g.w[q:], seen/2, tileRows, g.lds)
			g.add(g.dq, at, i+q, g.Queries, g.rowQ, leftOf(g.turn, tileRows), g.kp.at(0, c/2), seen/2, g.Acc || c > 0)
		} else if c == 0 && !g.Acc {
			for r := i + q; r < min(i+q+tileRows, g.Queries); r++ {
				clear(g.dq[at+r*g.rowQ:][:g.Dim])
			}
		}
	}
}

// add: rows [r, r+32) of y = a b, or += if more, over so many words. The rows begin at at, ld apart, and end before n.
func (g *gradient) add(y []float32, at, r, n, ld int, a, b side, words int, more bool) {
	if y == nil {
		return
	}
	y = y[at+r*ld:]
	if r+tileRows <= n {
		product(y, ld, a, b, tileRows, g.Dim, words, more)
		return
	}
	product(g.last, g.Dim, a, b, tileRows, g.Dim, words, false)
	for i := 0; !more && i < n-r; i++ {
		clear(y[i*ld:][:g.Dim])
	}
	addHeadAVX512(&y[0], 4*ld, &g.last[0], n-r, g.Dim)
}

// pair computes rows r and r+1 of p and ds, of keys from c on and queries [i+from, i+m), and pairs of ds; 0 where a query
// does not see the key.
func (g *gradient) pair(i, m, c, r, from int, pairs []float32) {
	p, ds := uint16s(g.p[r*g.ldp:][:2*g.ldp]), uint16s(g.ds[r*g.ldp:][:2*g.ldp])
	ld := 2 * g.ldp
	see := [2]int{}
	for x := range see {
		see[x] = min(max(from, g.first(c+r+x)-i), m)
	}
	if at := see[0] &^ 15; at < m {
		y := r*g.lds + at
		softmaxPairAVX512(&p[at], &ds[at], 2*ld, &pairs[at], &g.s[y], &g.dp[y], 4*g.lds, &g.lse[i+at], &g.delta[i+at], m-at,
			g.Scale, g.Scale*math.Log2E)
	}
	for x, end := range see {
		clear(p[x*ld:][from:end])
		clear(ds[x*ld:][from:end])
		both := uint16s(pairs)
		for q := from; q < end; q++ {
			both[2*q+x] = 0
		}
	}
}
