package cpu

import (
	"gonum.org/v1/gonum/blas"
	"gonum.org/v1/gonum/blas/gonum"

	"setun/device"
	"setun/internal/par"
)

// Every product is dot products of rows: op(A) by rows (m, k) and op(B) by columns (n, k), gonum's fastest form and the
// one that spreads NaN. A tile of 64x128 stays below the four blocks at which Sgemm starts goroutines of its own; a
// depth of 512 keeps its operands in the second-level cache.
const (
	tileM = 64
	tileN = 128
	tileK = 512
	taskM = 256 // rows that share a packed tile of B
)

// An operand gives rows of k elements: element (i, l) is [i*ld+l], or [l*ld+i] if trans. It holds floats or codes.
// depth, if given, multiplies element (i, l) by depth[l].
type operand struct {
	f     []float32
	q     []int8
	ld    int
	trans bool
	depth []float32
}

func (o operand) at(i int) operand {
	if o.f != nil {
		o.f = o.f[i:]
	} else {
		o.q = o.q[i:]
	}
	return o
}

func (d *Device) Gemm(c, a, b, bias device.Mem, s device.GemmShape) {
	c0, a0, bias0 := c.F32(), a.F32(), bias.F32()
	if d.Failed() || c0 == nil {
		return
	}
	b0, giveBack := d.floats(b)
	defer giveBack()
	s = s.Tight()
	if s.Batch > 1 && s.StrideC == 0 {
		one := s
		one.Batch = 1
		for i := range s.Batch {
			d.Gemm(c, a.Slice(i*s.StrideA, a.Len()), b.Slice(i*s.StrideB, b.Len()), bias, one)
		}
		return
	}
	g := product{
		m: s.M, n: s.N, k: s.K, alpha: s.Alpha, beta: s.Beta,
		a: operand{f: a0, ld: s.LDA, trans: s.TransA},
		b: operand{f: b0, ld: s.LDB, trans: !s.TransB},
		c: c0, ldc: s.LDC, bias: bias0,
		batch: s.Batch, strideA: s.StrideA, strideB: s.StrideB, strideC: s.StrideC,
	}
	g.run(d.Threads)
}

// product is C = alpha*A*B' + beta*C + bias with A (m, k) and B (n, k) as operands.
type product struct {
	m, n, k                   int
	alpha, beta               float32
	a, b                      operand
	c                         []float32
	ldc                       int
	bias                      []float32
	batch                     int
	strideA, strideB, strideC int
	tm, tn                    int // size of a task
}

func (g product) run(threads int) {
	if g.m <= 0 || g.n <= 0 || g.batch <= 0 {
		return
	}
	if g.alpha == 0 {
		g.k = 0
	}
	g.tm, g.tn = taskSize(threads, g.batch, g.m, g.n)
	work := 2*min(g.tm, g.m)*min(g.tn, g.n)*max(g.k, 1)/8 + 1
	rows, cols := g.tasks()
	par.Each(threads, g.batch*rows*cols, max(1, task/work), g, product.compute)
}

// tasks is how many a product is cut into, down and across.
func (g product) tasks() (rows, cols int) { return (g.m + g.tm - 1) / g.tm, (g.n + g.tn - 1) / g.tn }

// compute does tasks [lo, hi).
func (g product) compute(lo, hi int) {
	rows, cols := g.tasks()
	for t := lo; t < hi; t++ {
		z, i, j := t/(rows*cols), t/cols%rows*g.tm, t%cols*g.tn
		g.tile(z, i, min(g.tm, g.m-i), j, min(g.tn, g.n-j))
	}
}

// taskSize is taskM x tileN, less while that makes too few tasks for the threads.
func taskSize(threads, batch, m, n int) (tm, tn int) {
	tm, tn = taskM, tileN
	if threads == 1 {
		return tm, tn
	}
	count := func() int { return batch * ((m + tm - 1) / tm) * ((n + tn - 1) / tn) }
	for tm > tileM && count() < 8 {
		tm /= 2
	}
	for tn > 32 && count() < 4 {
		tn /= 2
	}
	return tm, tn
}

// tile computes rows [i, i+m), columns [j, j+n) of product z of the batch.
func (g product) tile(z, i, m, j, n int) {
	c := g.c[z*g.strideC+i*g.ldc+j:]
	for r := range m {
		row := c[r*g.ldc:][:n]
		switch {
		case g.beta == 0 && g.bias == nil:
			clear(row)
		case g.beta == 0:
			copy(row, g.bias[j:j+n])
		case g.bias == nil:
			if g.beta != 1 {
				for x := range row {
					row[x] *= g.beta
				}
			}
		default:
			for x, b := range g.bias[j : j+n] {
				row[x] = row[x]*g.beta + b
			}
		}
	}
	if g.k <= 0 {
		return
	}
	a, b := g.a.at(z*g.strideA), g.b.at(z*g.strideB)
	// Few rows, or short dot products, do not pay for turning B around.
	if (g.m < 8 || g.k < 16) && b.trans {
		g.tileRows(a, b, c, i, m, j, n)
		return
	}
	sa, sb := borrow[float32](tileM*packed(tileK)), borrow[float32](tileN*packed(tileK))
	defer sa.giveBack()
	defer sb.giveBack()
	for l := 0; l < g.k; l += tileK {
		k := min(tileK, g.k-l)
		bt, ldb := b.rows(sb.x, j, n, l, k, true)
		for r := 0; r < m; r += tileM {
			tm := min(tileM, m-r)
			at, lda := a.rows(sa.x, i+r, tm, l, k, false)
			sgemm(tm, n, k, g.alpha, at, lda, bt, ldb, c[r*g.ldc:], g.ldc)
		}
	}
}

// tileRows adds to the tile, at c, rows of a turned B times the elements of A.
func (g product) tileRows(a, b operand, c []float32, i, m, j, n int) {
	step, next := a.ld, 1
	if a.trans {
		step, next = 1, a.ld
	}
	var buf lent[float32]
	if b.f == nil || a.depth != nil {
		buf = borrow[float32](min(g.k, tileK) * n)
		defer buf.giveBack()
	}
	for l := 0; l < g.k; l += tileK {
		k := min(tileK, g.k-l)
		bt, ldb := buf.x, n
		if bt == nil {
			bt, ldb = b.f[l*b.ld+j:], b.ld
		} else {
			for r := range k {
				y, at := bt[r*n:][:n], (l+r)*b.ld+j
				if b.f != nil {
					copy(y, b.f[at:])
				} else {
					widen(y, b.q[at:])
				}
				if a.depth != nil {
					s := a.depth[l+r]
					for x := range y {
						y[x] *= s
					}
				}
			}
		}
		for r := range m {
			addRows(c[r*g.ldc:][:n], g.alpha, a.f[(i+r)*step+l*next:], next, bt, ldb, k)
		}
	}
}

// sgemm: C += alpha*A*B' on one goroutine, for at most tileM rows and tileN columns.
func sgemm(m, n, k int, alpha float32, a []float32, lda int, b []float32, ldb int, c []float32, ldc int) {
	gonum.Implementation{}.Sgemm(blas.NoTrans, blas.Trans, m, n, k, alpha, a, lda, b, ldb, 1, c, ldc)
}

// matmul is sgemm for any size. Rows of b must be aligned.
func matmul(m, n, k int, alpha float32, a []float32, lda int, b []float32, ldb int, c []float32, ldc int) {
	for l := 0; l < k; l += tileK {
		tk := min(tileK, k-l)
		for j := 0; j < n; j += tileN {
			tn := min(tileN, n-j)
			for i := 0; i < m; i += tileM {
				sgemm(min(tileM, m-i), tn, tk, alpha, a[i*lda+l:], lda, b[j*ldb+l:], ldb, c[i*ldc+j:], ldc)
			}
		}
	}
}

// addRows: y += alpha * sum over l < k of a[l*next] * b[l*ld:], four rows of b at a time.
func addRows(y []float32, alpha float32, a []float32, next int, b []float32, ld, k int) {
	n := len(y)
	l := 0
	for ; l+4 <= k; l += 4 {
		a0, a1, a2, a3 := alpha*a[l*next], alpha*a[(l+1)*next], alpha*a[(l+2)*next], alpha*a[(l+3)*next]
		b0, b1, b2, b3 := b[l*ld:][:n], b[(l+1)*ld:][:n], b[(l+2)*ld:][:n], b[(l+3)*ld:][:n]
		for j := range y {
			y[j] += (a0*b0[j] + a1*b1[j]) + (a2*b2[j] + a3*b3[j])
		}
	}
	for ; l < k; l++ {
		axpy(y, alpha*a[l*next], b[l*ld:][:n])
	}
}

// packed is the row length of a packed tile of depth k: whole 16-byte units, and off the powers of two, at which the
// rows would compete for one set of cache lines.
func packed(k int) int { return (k+15)&^15 + 16 }

// rows gives rows [i, i+n), depth [l, l+k) of o as dense rows ld apart, in place if they lie so (on 16-byte boundaries
// if align) and else in buf.
func (o operand) rows(buf []float32, i, n, l, k int, align bool) (x []float32, ld int) {
	if o.f != nil && !o.trans && o.depth == nil {
		x = o.f[i*o.ld+l:]
		if !align || aligned(x, o.ld) {
			return x, o.ld
		}
	}
	ld = packed(k)
	switch {
	case o.f != nil && o.trans:
		turn(buf, ld, o.f[l*o.ld+i:], o.ld, k, n)
	case o.f != nil:
		for r := range n {
			copy(buf[r*ld:][:k], o.f[(i+r)*o.ld+l:])
		}
	case o.trans:
		turn(buf, ld, o.q[l*o.ld+i:], o.ld, k, n)
	default:
		for r := range n {
			widen(buf[r*ld:][:k], o.q[(i+r)*o.ld+l:])
		}
	}
	if o.depth != nil {
		s := o.depth[l : l+k]
		for r := range n {
			y := buf[r*ld:][:k]
			for j, s := range s {
				y[j] *= s
			}
		}
	}
	return buf, ld
}

// float[uint8(c)] is code c: a load is faster than a conversion.
var float = func() (t [256]float32) {
	for i := range t {
		t[i] = float32(int8(i))
	}
	return
}()

// widen: y = x.
func widen(y []float32, x []int8) {
	x = x[:len(y)]
	i := 0
	for ; i+4 <= len(x); i += 4 {
		x, y := x[i:i+4:i+4], y[i:i+4:i+4]
		y[0], y[1], y[2], y[3] = float[uint8(x[0])], float[uint8(x[1])], float[uint8(x[2])], float[uint8(x[3])]
	}
	for ; i < len(x); i++ {
		y[i] = float[uint8(x[i])]
	}
}

// turn: y[j*ldy+i] = x[i*ldx+j] for i < rows, j < cols.
func turn[T float32 | int8](y []float32, ldy int, x []T, ldx, rows, cols int) {
	i := 0
	for ; i+8 <= rows; i += 8 {
		x0, x1, x2, x3 := x[i*ldx:][:cols], x[(i+1)*ldx:][:cols], x[(i+2)*ldx:][:cols], x[(i+3)*ldx:][:cols]
		x4, x5, x6, x7 := x[(i+4)*ldx:][:cols], x[(i+5)*ldx:][:cols], x[(i+6)*ldx:][:cols], x[(i+7)*ldx:][:cols]
		for j := range x0 {
			y := y[j*ldy+i:][:8:8]
			y[0], y[1], y[2], y[3] = float32(x0[j]), float32(x1[j]), float32(x2[j]), float32(x3[j])
			y[4], y[5], y[6], y[7] = float32(x4[j]), float32(x5[j]), float32(x6[j]), float32(x7[j])
		}
	}
	for ; i < rows; i++ {
		for j, v := range x[i*ldx:][:cols] {
			y[j*ldy+i] = float32(v)
		}
	}
}
