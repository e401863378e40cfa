//go:build amd64 || arm64

package simd

import (
	"unsafe"

	"setun/device"
	"setun/internal/par"
	"setun/internal/scratch"
)

// The product of a block of A by a panel of B is a grid of register tiles. B is packed in panels of one tile's columns,
// each k after k; A is read in place. blockK rows of a panel and blockM rows of A of that depth fit the second-level
// cache together.
const (
	tileM  = 6
	blockM = 192
	blockK = 512
	// packBytes is the most of B that is packed at a time.
	packBytes = 16 << 20
)

// panel is the columns of a tile.
func (d *Device) panel() int {
	if d.tier >= AVX512 {
		return 64
	}
	return 16
}

// matrix is a view of float32: element (i, j) is x[i*rs+j*cs].
type matrix struct {
	x      []float32
	rs, cs int
}

func (a matrix) at(i, j int) matrix { return matrix{a.x[i*a.rs+j*a.cs:], a.rs, a.cs} }

// gemm is C = alpha*A*B + beta*C + bias, A (m, k), B (k, n), rows of C ldc apart.
type gemm struct {
	m, n, k     int
	a, b        matrix
	c           []float32
	ldc         int
	alpha, beta float32
	bias        []float32 // by columns, or nil
	pairs       bool      // elements of A and B are two of bfloat16
	symmetric   bool      // C is
}

func (d *Device) Gemm(c, a, b, bias device.Mem, s device.GemmShape) {
	if d.tier == None {
		d.Device.Gemm(c, a, b, bias, s)
		return
	}
	s = s.Tight()
	if b.Type() == device.F16 {
		d.gemmHalf(c, a, b, bias, s)
		return
	}
	g := gemm{m: s.M, n: s.N, k: s.K, a: matrix{a.F32(), s.LDA, 1}, b: matrix{b.F32(), s.LDB, 1}, c: c.F32(),
		ldc: s.LDC, alpha: s.Alpha, beta: s.Beta, bias: bias.F32(), symmetric: s.Symmetric && s.M == s.N}
	if d.Failed() || g.c == nil || g.m <= 0 || g.n <= 0 {
		return
	}
	if s.TransA {
		g.a.rs, g.a.cs = 1, s.LDA
	}
	if s.TransB {
		g.b.rs, g.b.cs = 1, s.LDB
	}
	if g.alpha == 0 || g.k < 0 {
		g.k = 0
	}
	if s.Batch == 1 {
		d.product(g, s.Math, d.Threads)
		return
	}
	d.batched(g, s)
}

// batched computes the products of a batch.
func (d *Device) batched(g gemm, s device.GemmShape) {
	b := batch{d, g, s, 1}
	if s.StrideC == 0 || s.Batch < 4 {
		b.threads = d.Threads
		b.run(0, s.Batch)
		return
	}
	par.Each(d.Threads, s.Batch, 1+(1<<18)/(s.M*s.N*max(s.K, 1)), b, batch.run)
}

type batch struct {
	d       *Device
	g       gemm
	s       device.GemmShape
	threads int // of a product
}

func (b batch) run(lo, hi int) {
	for z := lo; z < hi; z++ {
		p := b.g
		p.a.x, p.b.x, p.c = p.a.x[z*b.s.StrideA:], p.b.x[z*b.s.StrideB:], p.c[z*b.s.StrideC:]
		b.d.product(p, b.s.Math, b.threads)
	}
}

// serial is the number of multiplications below which threads do not pay.
const serial = 1 << 17

// multiply computes g on at most threads goroutines.
func (d *Device) multiply(g gemm, threads int) {
	if g.m*g.n*g.k < serial {
		threads = 1
	}
	if g.m <= 4 && g.b.rs == 1 && g.a.cs == 1 && g.k >= 16 && !g.pairs {
		d.gemmDots(g, threads)
		return
	}
	if g.k == 0 || g.b.cs == 1 && (g.m <= 2*tileM || g.n <= d.panel()) && d.direct(g.n) {
		g.symmetric = false
		d.gemmBlocks(g, nil, threads)
		return
	}
	if g.swaps() {
		d.swapped(g, threads)
		return
	}
	w := d.panel()
	nc := min(g.n, max(w, packBytes/4/g.k/w*w))
	g.symmetric = g.symmetric && nc == g.n && g.bias == nil
	for j := 0; j < g.n; j += nc {
		p := g
		p.n = min(nc, g.n-j)
		p.c = g.c[j:]
		if g.bias != nil {
			p.bias = g.bias[j:]
		}
		p.b = g.b.at(0, j)
		buf := scratch.Get[float32](ceil(p.n, w) * w * g.k)
		d.pack(buf.X, p.b, p.k, p.n, threads)
		d.gemmBlocks(p, buf.X, threads)
		buf.Free()
	}
	g.mirror(w, threads)
}

// swaps reports whether C' = B'A' is faster: A is packed instead of B, which is so much larger that turning C costs less.
// Where rows of A and of B lie as they are read, packing is cheap.
func (g *gemm) swaps() bool {
	return (g.a.cs != 1 || g.b.cs != 1) && g.k*(g.n-g.m) >= 2*g.m*g.n && !g.pairs && !g.symmetric &&
		(g.bias == nil || g.beta == 0)
}

func (d *Device) swapped(g gemm, threads int) {
	buf := scratch.Get[float32](g.n * g.m)
	defer buf.Free()
	p := gemm{m: g.n, n: g.m, k: g.k, a: matrix{g.b.x, g.b.cs, g.b.rs}, b: matrix{g.a.x, g.a.cs, g.a.rs}, c: buf.X, ldc: g.m,
		alpha: g.alpha, beta: g.beta}
	switch {
	case g.bias != nil:
		p.beta = 1
		for j := range g.n {
			row := p.c[j*g.m:][:g.m]
			for i := range row {
				row[i] = g.bias[j]
			}
		}
	case g.beta != 0:
		par.Each(threads, ceil(g.n, turnRows), 1, turning{p.c, g.m, g.c, g.ldc, g.n, g.m}, turning.run)
	}
	d.multiply(p, threads)
	par.Each(threads, ceil(g.m, turnRows), 1, turning{g.c, g.ldc, p.c, g.m, g.m, g.n}, turning.run)
}

// turning: dst[i*ds+j] = src[j*ss+i] for i < rows, j < cols, turnRows rows of dst at a time.
type turning struct {
	dst        []float32
	ds         int
	src        []float32
	ss         int
	rows, cols int
}

const turnRows = 32

func (t turning) run(lo, hi int) {
	for i := lo * turnRows; i < min(hi*turnRows, t.rows); i += turnRows {
		turn(t.dst[i*t.ds:], t.ds, t.src[i:], t.ss, t.cols, min(turnRows, t.rows-i))
	}
}

// mirror completes a symmetric C that was computed up to panels of w columns.
func (g gemm) mirror(w, threads int) {
	if g.symmetric {
		par.Each(threads, ceil(g.n, w), 1+serial/(w*g.n), mirror{w, g}, mirror.run)
	}
}

// mirror copies what lies below the diagonal to above it, in blocks of w.
type mirror struct {
	w int
	g gemm
}

func (m mirror) run(lo, hi int) {
	g, w := &m.g, m.w
	for ; lo < hi; lo++ {
		for i, j := lo*w, (lo+1)*w; j < g.n; j += w {
			turn(g.c[i*g.ldc+j:], g.ldc, g.c[j*g.ldc+i:], g.ldc, min(w, g.n-j), w)
		}
	}
}

// direct reports whether tiles may read rows of B in place: without masks they would read past the last column.
func (d *Device) direct(n int) bool { return d.tier >= AVX512 || n%8 == 0 }

// pack copies B (k, n) to panels: element (l, j) goes to [j/w][l][j%w]. Columns past n of the last panel are zero.
func (d *Device) pack(dst []float32, b matrix, k, n, threads int) {
	w := d.panel()
	panels := ceil(n, w)
	par.Each(threads, panels, 1+(taskBytes/4)/(w*max(k, 1)), packing{d, dst, b, k, n}, packing.run)
}

type packing struct {
	d    *Device
	dst  []float32
	b    matrix
	k, n int
}

func (j packing) run(lo, hi int) {
	w, k := j.d.panel(), j.k
	for p := lo; p < hi; p++ {
		j.d.packPanel(j.dst[p*w*k:(p+1)*w*k], j.b.at(0, p*w), k, min(w, j.n-p*w))
	}
}

func (d *Device) packPanel(dst []float32, b matrix, k, n int) {
	w := d.panel()
	if n < w {
		clear(dst)
	}
	switch {
	case b.cs == 1 && n == w:
		copyPanelRoutine[d.width()](&dst[0], &b.x[0], 4*b.rs, k)
	case b.cs == 1:
		for l := range k {
			copy(dst[l*w:][:n], b.x[l*b.rs:])
		}
	default:
		turn(dst, w, b.x, b.cs, n, k)
	}
}

// turn: dst[l*ds+j] = src[j*ss+l] for j < rows, l < cols.
func turn(dst []float32, ds int, src []float32, ss, rows, cols int) {
	whole := cols &^ 7
	j := 0
	if whole > 0 {
		for ; j+8 <= rows; j += 8 {
			turn8(&dst[j], 4*ds, &src[j*ss], 4*ss, whole/8)
			for r := j; r < j+8; r++ {
				for l := whole; l < cols; l++ {
					dst[l*ds+r] = src[r*ss+l]
				}
			}
		}
	}
	for ; j < rows; j++ {
		for l, v := range src[j*ss:][:cols] {
			dst[l*ds+j] = v
		}
	}
}

// gemmBlocks multiplies A with packed panels of B, or with B in place if packed is nil.
func (d *Device) gemmBlocks(g gemm, packed []float32, threads int) {
	w := d.panel()
	panels := ceil(g.n, w)
	threads = par.Threads(threads)
	bm, bn := blockSizes(g.m, panels, threads)
	par.Each(threads, ceil(g.m, bm)*ceil(panels, bn), 1, blocking{d, g, packed, panels, bm, bn}, blocking.run)
}

type blocking struct {
	d              *Device
	g              gemm
	packed         []float32
	panels, bm, bn int
}

func (j blocking) run(lo, hi int) {
	cols := ceil(j.panels, j.bn)
	for t := lo; t < hi; t++ {
		i, p := t/cols*j.bm, t%cols*j.bn
		j.d.gemmBlock(&j.g, j.packed, i, min(j.bm, j.g.m-i), p, min(j.bn, j.panels-p))
	}
}

// blockSizes gives the rows and panels of a block: blocks of rows, and of columns too when the rows are too few to share
// out evenly.
func blockSizes(m, panels, threads int) (bm, bn int) {
	bm, bn = blockM, panels
	if threads > 1 {
		rows := ceil(m, blockM)
		if rows >= 4*threads {
			rows = ceil(rows, threads) * threads
		} else {
			for bn > 1 && rows*ceil(panels, bn) < 4*threads {
				bn = (bn + 1) / 2
			}
			for bm > tileM && ceil(m, bm)*ceil(panels, bn) < 2*threads {
				bm -= tileM
			}
			rows = ceil(m, bm)
		}
		bm = ceil(ceil(m, rows), tileM) * tileM
	}
	return bm, bn
}

// gemmBlock computes rows [i, i+m) of n panels from panel p on.
func (d *Device) gemmBlock(g *gemm, packed []float32, i, m, p, n int) {
	w := d.panel()
	a := g.a
	var buf scratch.Buf[float32]
	if a.cs != 1 && g.k > 0 { // rows of A' are far apart: bring the block together
		buf = scratch.Get[float32](min(blockK, g.k) * blockM)
		defer buf.Free()
	}
	for l := 0; l < max(g.k, 1); l += blockK {
		k := min(blockK, g.k-l)
		t := d.tiler(k, g.alpha, g.beta)
		t.pairs = g.pairs
		bias := g.bias
		if l > 0 {
			t.beta, bias = 1, nil
		}
		if k > 0 {
			t.setA(g.a.at(i, l))
		}
		if buf.X != nil {
			src := g.a.at(i, l)
			compactRoutine[d.width()](&buf.X[0], &src.x[0], 4*src.cs, k, m)
			t.setA(matrix{buf.X, 1, m})
		}
		t.cs = 4 * g.ldc
		for j := p; j < p+n; j++ {
			cols, skip := min(w, g.n-j*w), 0
			if g.symmetric { // tiles above the diagonal
				if skip = max(0, j*w-i) / tileM * tileM; skip >= m {
					continue
				}
			}
			if packed != nil {
				if k > 0 {
					t.b, t.bs = &packed[(j*g.k+l)*w], 4*w
				}
			} else if k > 0 {
				t.b, t.bs = &g.b.x[l*g.b.rs+j*w], 4*g.b.rs
			}
			t.bias = nil
			if bias != nil {
				t.bias = &bias[j*w]
			}
			t.run(&g.c[(i+skip)*g.ldc+j*w], skip, m-skip, cols)
		}
	}
}

// tiler calls the tile routines for one panel of B.
type tiler struct {
	wide, pairs bool
	k           int
	a           *float32
	ars, acs    int
	b           *float32
	bs          int
	cs          int
	alpha, beta float32
	bias        *float32
}

func (d *Device) tiler(k int, alpha, beta float32) tiler {
	return tiler{wide: d.tier >= AVX512, k: max(k, 0), alpha: alpha, beta: beta}
}

func (t *tiler) setA(a matrix) { t.a, t.ars, t.acs = &a.x[0], 4*a.rs, 4*a.cs }

// run computes m rows from row i of A on and n columns, at most a panel, at c.
func (t *tiler) run(c *float32, i, m, n int) {
	a := (*float32)(unsafe.Add(unsafe.Pointer(t.a), i*t.ars))
	for {
		rows := t.tile(a, c, m, n)
		if m -= rows; m == 0 {
			return
		}
		a = (*float32)(unsafe.Add(unsafe.Pointer(a), rows*t.ars))
		c = (*float32)(unsafe.Add(unsafe.Pointer(c), rows*t.cs))
	}
}

type tileFunc func(k int, a *float32, ars, acs int, b *float32, bs int, c *float32, cs, last int, alpha, beta float32,
	bias *float32)

type dotsFunc func(k int, a *float32, as int, b *float32, bs int, sum *float32)

var tileIndex = [7]int{1: 0, 2: 1, 4: 2, 6: 3}

// gemmDots computes few rows as dot products with rows of B' in place: packing B would cost more than the product.
func (d *Device) gemmDots(g gemm, threads int) {
	par.Each(threads, ceil(g.n, 4), 1+serial/(16*g.k*g.m), gemmDots{d, g}, gemmDots.run)
}

type gemmDots struct {
	d *Device
	g gemm
}

func (j gemmDots) run(lo, hi int) {
	d, g := j.d, &j.g
	buf := scratch.Get[float32](8)
	defer buf.Free()
	sum := buf.X
	for j := 4 * lo; j < min(4*hi, g.n); j += 4 {
		first := min(j, max(0, g.n-4)) // the last group overlaps the one before
		for i := 0; i < g.m; i += 2 {
			rows := min(2, g.m-i)
			if g.n < 4 {
				for r := range rows {
					for c := range g.n {
						sum[4*r+c] = dotScalar(g.a.x[(i+r)*g.a.rs:][:g.k], g.b.x[c*g.b.cs:])
					}
				}
			} else {
				d.dots4(rows, g.k, &g.a.x[i*g.a.rs], 4*g.a.rs, &g.b.x[first*g.b.cs], 4*g.b.cs, &sum[0])
			}
			for r := range rows {
				row := g.c[(i+r)*g.ldc:]
				for c := j; c < min(j+4, g.n); c++ {
					v := g.alpha * sum[4*r+c-first]
					if g.beta != 0 {
						v += g.beta * row[c]
					}
					if g.bias != nil {
						v += g.bias[c]
					}
					row[c] = v
				}
			}
		}
	}
}

// dots4 multiplies one row of A, or two, with four of B': 8 sums.
func (d *Device) dots4(rows, k int, a *float32, as int, b *float32, bs int, sum *float32) {
	f := dots1x4Routine[d.width()]
	if rows == 2 {
		f = dots2x4Routine[d.width()]
	}
	f(k, a, as, b, bs, sum)
}

func ceil(a, b int) int { return (a + b - 1) / b }

func dotScalar(a, b []float32) float32 {
	s := float32(0)
	for i, v := range a {
		s += v * b[i]
	}
	return s
}
