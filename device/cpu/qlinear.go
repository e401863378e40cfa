package cpu

import (
	"setun/device"
	"setun/internal/par"
)

// QLinear multiplies codes as float32: a sum over tileK products of int8 is at most 2^23, so every partial sum is exact
// whatever its order. Sums over deeper k add up in float64, just as exact.
func (d *Device) QLinear(y, xq, xs, codes, ws, bias device.Mem, m, n, k int) {
	q := qlinear{y.F32(), xs.F32(), ws.F32(), bias.F32(), xq.I8(), codes.I8(), m, n, k}
	if d.Failed() || q.y == nil || m <= 0 || n <= 0 {
		return
	}
	tm, tn := taskSize(d.Threads, 1, m, n)
	rows, cols := (m+tm-1)/tm, (n+tn-1)/tn
	par.For(d.Threads, rows*cols, 1, func(lo, hi int) {
		for t := lo; t < hi; t++ {
			i, j := t/cols*tm, t%cols*tn
			q.tile(i, min(tm, m-i), j, min(tn, n-j))
		}
	})
}

type qlinear struct {
	y, xs, ws, bias []float32
	x, codes        []int8
	m, n, k         int
}

// put scales the sum of element (i, j), in the one order that gives the same bits everywhere.
func (q *qlinear) put(i, j int, sum float32) {
	v := float32(float32(sum*q.xs[i]) * column(q.ws, j))
	if q.bias != nil {
		v += q.bias[j]
	}
	q.y[i*q.n+j] = v
}

// tile computes rows [i, i+m), columns [j, j+n).
func (q *qlinear) tile(i, m, j, n int) {
	sa, sb := borrow[float32](tileM*packed(tileK)), borrow[float32](tileN*packed(tileK))
	defer sa.giveBack()
	defer sb.giveBack()
	ss, st := borrow[float32](tileM*n), borrow[float64](m*n)
	defer ss.giveBack()
	defer st.giveBack()
	total := st.x
	clear(total)
	a, b := operand{q: q.x, ld: q.k}, operand{q: q.codes, ld: q.k}
	for l := 0; l < q.k; l += tileK {
		k := min(tileK, q.k-l)
		bt, ldb := b.rows(sb.x, j, n, l, k, true)
		for r := 0; r < m; r += tileM {
			tm := min(tileM, m-r)
			at, lda := a.rows(sa.x, i+r, tm, l, k, false)
			sum := ss.x[:tm*n]
			clear(sum)
			sgemm(tm, n, k, 1, at, lda, bt, ldb, sum, n)
			for e, v := range sum {
				total[r*n+e] += float64(v)
			}
		}
	}
	for e, v := range total {
		q.put(i+e/n, j+e%n, float32(v))
	}
}

// QLinearGradX is dx += (dy*ws) @ codes, without codes in float32 beyond a tile.
func (d *Device) QLinearGradX(dx, dy, codes, ws device.Mem, m, n, k int) {
	dx0, dy0, q0, s0 := dx.F32(), dy.F32(), codes.I8(), ws.F32()
	if d.Failed() || dx0 == nil || len(s0) == 0 {
		return
	}
	g := product{m: m, n: k, k: n, alpha: 1, beta: 1, c: dx0, ldc: k, batch: 1,
		a: operand{f: dy0, ld: n}, b: operand{q: q0, ld: k, trans: true}}
	if len(s0) == 1 {
		g.alpha = s0[0]
	} else {
		g.a.depth = s0
	}
	g.run(d.Threads)
}

// QLinearGradW is dw += (dy*xs)' @ xq.
func (d *Device) QLinearGradW(dw, dy, xq, xs device.Mem, m, n, k int) {
	dw0, dy0, x0, s0 := dw.F32(), dy.F32(), xq.I8(), xs.F32()
	if d.Failed() || dw0 == nil {
		return
	}
	product{m: n, n: k, k: m, alpha: 1, beta: 1, c: dw0, ldc: k, batch: 1,
		a: operand{f: dy0, ld: n, trans: true, depth: s0}, b: operand{q: x0, ld: k, trans: true}}.run(d.Threads)
}
