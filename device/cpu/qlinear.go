package cpu

import (
	"setun/device"
	"setun/internal/par"
)

func (d *Device) QLinear(y, xq, xs, codes, ws, bias device.Mem, m, n, k int) {
	q := qlinear{y: y.F32(), xs: xs.F32(), ws: ws.F32(), bias: bias.F32(), a: operand{q: xq.I8(), ld: k},
		b: operand{q: codes.I8(), ld: k}, m: m, n: n, k: k}
	if d.Failed() || q.y == nil {
		return
	}
	q.run(d.Threads)
}

// PackedLinear unpacks all codes: it is the reference, not the way to be fast.
func (d *Device) PackedLinear(y, xq, xs, panels, ws, bias device.Mem, m, n, k, levels int) {
	q := qlinear{y: y.F32(), xs: xs.F32(), ws: ws.F32(), bias: bias.F32(), a: operand{q: xq.I8(), ld: k}, m: m, n: n, k: k}
	p := panels.U8()
	if d.Failed() || q.y == nil {
		return
	}
	codes := borrow[int8](n * k)
	defer codes.giveBack()
	d.unpack(codes.x, p, n, k, levels)
	q.b = operand{q: codes.x, ld: k}
	q.run(d.Threads)
}

func (d *Device) UnpackPanels(codes, panels device.Mem, n, k, levels int) {
	c, p := codes.I8(), panels.U8()
	if d.Failed() || c == nil {
		return
	}
	d.unpack(c, p, n, k, levels)
}

func (d *Device) unpack(codes []int8, panels []uint8, n, k, levels int) {
	d.par(n, k*cheap, func(lo, hi int) { device.UnpackRows(codes[lo*k:hi*k], panels, lo, hi, k, levels) })
}

// qlinear is y = sums * xs * ws + bias, or y += with acc, with sums the product of the codes in rows of a and of b. It
// multiplies them as float32: a sum over tileK products of int8 is at most 2^23, so every partial sum is exact whatever
// its order. Sums over deeper k add up in float64, just as exact.
type qlinear struct {
	y, xs, ws, bias []float32
	a, b            operand
	m, n, k         int
	acc             bool
}

func (q qlinear) run(threads int) {
	if q.m <= 0 || q.n <= 0 {
		return
	}
	tm, tn := taskSize(threads, 1, q.m, q.n)
	rows, cols := (q.m+tm-1)/tm, (q.n+tn-1)/tn
	par.Each(threads, rows*cols, 1, qtiles{q, tm, tn}, qtiles.compute)
}

// qtiles are the tasks of a product, tm rows and tn columns each.
type qtiles struct {
	qlinear
	tm, tn int
}

func (q qtiles) compute(lo, hi int) {
	cols := (q.n + q.tn - 1) / q.tn
	for t := lo; t < hi; t++ {
		i, j := t/cols*q.tm, t%cols*q.tn
		q.tile(i, min(q.tm, q.m-i), j, min(q.tn, q.n-j))
	}
}

// put scales the sum of element (i, j), in the one order that gives the same bits everywhere.
func (q *qlinear) put(i, j int, sum float32) {
	v := float32(float32(sum*q.xs[i]) * column(q.ws, j))
	if q.bias != nil {
		v += q.bias[j]
	}
	if q.acc {
		v += q.y[i*q.n+j]
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
	for l := 0; l < q.k; l += tileK {
		k := min(tileK, q.k-l)
		bt, ldb := q.b.rows(sb.x, j, n, l, k, true)
		for r := 0; r < m; r += tileM {
			tm := min(tileM, m-r)
			at, lda := q.a.rows(sa.x, i+r, tm, l, k, false)
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

// QLinearGradX is dx = (dy*ws) @ codes, or +=, without codes in float32 beyond a tile.
func (d *Device) QLinearGradX(dx, dy, codes, ws device.Mem, m, n, k int, math device.Math, acc bool) {
	dx0, dy0, q0, s0 := dx.F32(), dy.F32(), codes.I8(), ws.F32()
	if d.Failed() || dx0 == nil {
		return
	}
	if len(s0) == 0 { // n is 0
		if !acc {
			fill(dx0, 0)
		}
		return
	}
	if math == device.MathInt8 {
		d.gradX8(dx0, dy0, q0, s0, m, n, k, acc)
		return
	}
	g := product{m: m, n: k, k: n, alpha: 1, c: dx0, ldc: k, batch: 1,
		a: operand{f: dy0, ld: n}, b: operand{q: q0, ld: k, trans: true}}
	if acc {
		g.beta = 1
	}
	if len(s0) == 1 {
		g.alpha = s0[0]
	} else {
		g.a.depth = s0
	}
	g.run(d.Threads)
}

func (d *Device) gradX8(dx, dy []float32, codes []int8, ws []float32, m, n, k int, acc bool) {
	hq, hs := borrow[int8](m*n), borrow[float32](m)
	defer hq.giveBack()
	defer hs.giveBack()
	par.Each(d.Threads, m, max(1, task/(2*n*cheap+1)), gradRows{hq.x, hs.x, dy, ws, n}, gradRows.quantize)
	if len(ws) > 1 {
		ws = one
	}
	qlinear{y: dx, xs: hs.x, ws: ws, a: operand{q: hq.x, ld: n}, b: operand{q: codes, ld: k, trans: true},
		m: m, n: k, k: n, acc: acc}.run(d.Threads)
}

// gradRows quantizes rows of dy, times ws if it has a scale for each column.
type gradRows struct {
	q         []int8
	s, dy, ws []float32
	n         int
}

func (g gradRows) quantize(lo, hi int) {
	buf := borrow[float32](g.n)
	defer buf.giveBack()
	for i := lo; i < hi; i++ {
		h := g.dy[i*g.n:][:g.n]
		if len(g.ws) > 1 {
			for j, v := range h {
				buf.x[j] = v * g.ws[j]
			}
			h = buf.x
		}
		g.s[i] = quantizeAbove(g.q[i*g.n:][:g.n], h, device.GradFloor)
	}
}

var one = []float32{1}

// QLinearGradW is dw = (dy*xs)' @ xq.
func (d *Device) QLinearGradW(dw, dy, xq, xs device.Mem, m, n, k int, math device.Math, acc bool) {
	dw0, dy0, x0, s0 := dw.F32(), dy.F32(), xq.I8(), xs.F32()
	if d.Failed() || dw0 == nil {
		return
	}
	if math == device.MathInt8 {
		d.gradW8(dw0, dy0, x0, s0, m, n, k, acc)
		return
	}
	p := product{m: n, n: k, k: m, alpha: 1, c: dw0, ldc: k, batch: 1,
		a: operand{f: dy0, ld: n, trans: true, depth: s0}, b: operand{q: x0, ld: k, trans: true}}
	if acc {
		p.beta = 1
	}
	p.run(d.Threads)
}

func (d *Device) gradW8(dw, dy []float32, xq []int8, xs []float32, m, n, k int, acc bool) {
	hq, hs := borrow[int8](n*m), borrow[float32](n) // turned around: (n, m)
	defer hq.giveBack()
	defer hs.giveBack()
	par.Each(d.Threads, n, max(1, task/(4*m*cheap+1)), gradCols{hq.x, hs.x, dy, xs, m, n}, gradCols.quantize)
	qlinear{y: dw, xs: hs.x, ws: one, a: operand{q: hq.x, ld: m}, b: operand{q: xq, ld: k, trans: true},
		m: n, n: k, k: m, acc: acc}.run(d.Threads)
}

// gradCols quantizes columns of dy, the rows of which are times xs.
type gradCols struct {
	q         []int8
	s, dy, xs []float32
	m, n      int
}

func (g gradCols) quantize(lo, hi int) {
	m := g.m
	buf := borrow[float32](tileM * m)
	defer buf.giveBack()
	for ; lo < hi; lo += tileM {
		cols := min(tileM, hi-lo)
		for i := range m {
			for j, v := range g.dy[i*g.n+lo:][:cols] {
				buf.x[j*m+i] = v * g.xs[i]
			}
		}
		for j := range cols {
			g.s[lo+j] = quantizeAbove(g.q[(lo+j)*m:][:m], buf.x[j*m:][:m], device.GradFloor)
		}
	}
}
