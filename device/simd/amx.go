//go:build amd64

package simd

import (
	"math"
	"unsafe"

	"setun/internal/par"
	"setun/internal/scratch"
)

// Products on AMX: 16 rows of A, 64 bytes each, times 16 groups of B in 16 columns are one instruction. Routines take strips
// of 32 rows and panels of 64 columns, and leave their sums in memory before they are scaled.
const (
	tileRows     = 32  // rows of a strip
	tileBytes    = 64  // of a row of A in one step
	stepWords    = 16  // the same in pairs of bfloat16
	blockRowsAMX = 128 // rows of A a task
	tileSums     = tileRows * 32
)

// shapes configure the tile registers for strips of so many rows: sums, A and B, 64 bytes a row, B of 16 rows.
var shapes = func() (shapes [tileRows + 1][64]uint8) {
	for rows := 1; rows <= tileRows; rows++ {
		s := &shapes[rows]
		s[0] = 1
		upper, lower := uint8(min(rows, 16)), uint8(max(rows-16, 1))
		for t, r := range [8]uint8{upper, upper, lower, lower, upper, lower, 16, 16} {
			s[16+2*t], s[48+t] = tileBytes, r
		}
	}
	return
}()

// byHeight is the routine for strips of so many rows.
func byHeight[F any](high int, half, whole F) F {
	if high <= tileRows/2 {
		return half
	}
	return whole
}

// blockAMX computes rows [i, i+p.rows), columns [j, j+panelCols).
func (p *qproduct) blockAMX(i, j int) {
	buf := scratch.Get[int32](tileSums)
	defer buf.Free()
	rows, cols := min(p.rows, p.m-i), min(panelCols, p.n-j)
	ars, aks, together := p.depth, tileBytes, rows/tileRows
	if p.turned {
		ars, aks, together = tileBytes, tileBytes*tileRows, 1
	}
	bias := (*float32)(nil)
	if p.mode == addBias {
		bias = &p.bias.X[j]
	}
	together = min(max(together, 1), max(1, callGroups/p.depth))
	for rows > 0 {
		strips, high := together, tileRows
		if rows < strips*tileRows {
			strips, high = max(1, rows/tileRows), min(rows, tileRows)
		}
		byHeight(high, qstrip16AMX, qstrip32AMX)(&p.c[i*p.n+j], p.n, &p.a[i*p.depth], ars, aks, &p.panel(j / panelCols)[0], 4*panelCols, p.depth/tileBytes,
			&p.comp.X[i], &p.rs[i], &p.cs.X[j], bias, p.mode, cols, high, strips, &shapes[high][0], &buf.X[0])
		i += strips * high
		rows -= strips * high
	}
}

// tiledGemm is a product in bfloat16: pairs along k are words, B is packed in panels of words.
type tiledGemm struct {
	gemm
	words          int // k in pairs, in whole steps
	packed         []float32
	panels, bm, bn int
}

const (
	blockWords = 16 * stepWords // of A and B that pass before the next columns
	turnedRows = 512            // of a block, at most, where A is transposed
)

// multiplyTiles computes g in bfloat16. A is rounded block by block, which stays in the cache for all columns.
func (d *Device) multiplyTiles(g gemm, threads int) {
	const w = panelCols
	words := ceil(g.k, 2*stepWords) * stepWords
	nc := min(g.n, max(w, packBytes/4/words/w*w))
	g.symmetric = g.symmetric && nc == g.n && g.bias == nil
	for j := 0; j < g.n; j += nc {
		t := tiledGemm{gemm: g, words: words}
		t.n, t.c, t.b = min(nc, g.n-j), g.c[j:], g.b.at(0, j)
		if g.bias != nil {
			t.bias = g.bias[j:]
		}
		t.panels = ceil(t.n, w)
		buf := scratch.Get[float32](t.panels * w * words)
		t.packed = buf.X
		if t.b.cs == 1 {
			par.Each(threads, words/stepWords, 1+taskBytes/(8*stepWords*t.n), t, tiledGemm.packSteps)
		} else {
			par.Each(threads, t.panels, 1+(taskBytes/4)/(w*words), t, tiledGemm.packPanels)
		}
		t.bm, t.bn = blockSizes(t.m, t.panels, par.Threads(threads))
		if t.a.cs != 1 { // rows of A' are far apart: a block takes as much of each as stays in the cache
			pieces := ceil(ceil(t.m, turnedRows), par.Threads(threads)) * par.Threads(threads)
			t.bm, t.bn = ceil(ceil(t.m, pieces), tileRows)*tileRows, t.panels
		}
		par.Each(threads, ceil(t.m, t.bm)*ceil(t.panels, t.bn), 1, t, tiledGemm.blocks)
		buf.Free()
	}
	g.mirror(w, threads)
}

// packSteps rounds steps [lo, hi) of all panels of B, row by row.
func (t tiledGemm) packSteps(lo, hi int) {
	const w = panelCols
	for ; lo < hi; lo++ {
		l := lo * stepWords
		for p := range t.panels {
			pairRows(t.packed[(p*t.words+l)*w:], w, t.b.at(2*l, p*w).x, t.b.rs, min(2*stepWords, t.k-2*l), min(w, t.n-p*w),
				stepWords)
		}
	}
}

// packPanels rounds panels [lo, hi) of B, whose columns are rows in memory.
func (t tiledGemm) packPanels(lo, hi int) {
	const w = panelCols
	rows := scratch.Get[float32](w * t.words)
	defer rows.Free()
	for ; lo < hi; lo++ {
		b, n := t.b.at(0, lo*w), min(w, t.n-lo*w)
		for j := range n {
			roundRow(rows.X[j*t.words:][:t.words], b.x[j*b.cs:][:t.k])
		}
		turn(t.packed[lo*w*t.words:], w, rows.X, t.words, n, t.words)
	}
}

// roundRow rounds a row to pairs, 0 beyond its end.
func roundRow(dst, src []float32) {
	to := unsafe.Slice((*uint16)(unsafe.Pointer(&dst[0])), 2*len(dst))
	clear(to[len(src):])
	roundRowAVX512(&to[0], &src[0], len(src))
}

// pairRows rounds k rows of n elements, ss apart, and puts two of them into one of words, ds apart; 0 beyond.
func pairRows(dst []float32, ds int, src []float32, ss, k, n, words int) {
	if k > 1 {
		roundPairsAVX512(&dst[0], 4*ds, &src[0], 4*ss, k/2, n)
	}
	for l := k / 2; l < words; l++ {
		row := dst[l*ds:][:n]
		clear(row)
		if 2*l < k {
			for j, v := range src[2*l*ss:][:n] {
				row[j] = math.Float32frombits(uint32(bfloat16(v)))
			}
		}
	}
}

func (t tiledGemm) blocks(lo, hi int) {
	cols := ceil(t.panels, t.bn)
	rows, turned := scratch.Get[float32](t.bm*blockWords), scratch.Get[float32](t.bm*stepWords)
	sums := scratch.Get[float32](tileSums)
	defer rows.Free()
	defer turned.Free()
	defer sums.Free()
	for ; lo < hi; lo++ {
		i, p := lo/cols*t.bm, lo%cols*t.bn
		t.block(i, min(t.bm, t.m-i), p, min(t.bn, t.panels-p), rows.X, turned.X, &sums.X[0])
	}
}

// block computes rows [i, i+m) of n panels from panel p on.
func (t *tiledGemm) block(i, m, p, n int, rows, turned []float32, sums *float32) {
	const w = panelCols
	for l := 0; l < t.words; l += blockWords {
		words := min(blockWords, t.words-l)
		a, k := t.a.at(i, 2*l), min(2*words, t.k-2*l)
		if a.cs == 1 {
			for r := range m {
				roundRow(rows[r*words:][:words], a.x[r*a.rs:][:k])
			}
		} else {
			for s := 0; s < words; s += stepWords {
				pairRows(turned, m, a.at(0, 2*s).x, a.cs, min(2*stepWords, k-2*s), m, stepWords)
				turn(rows[s:], words, turned, m, stepWords, m)
			}
		}
		beta, bias := t.beta, t.bias
		if l > 0 {
			beta, bias = 1, nil
		}
		for j := p; j < p+n; j++ {
			first, b := 0, (*float32)(nil)
			if t.symmetric { // strips above the diagonal
				first = max(0, j*w-i) / tileRows * tileRows
			}
			if bias != nil {
				b = &bias[j*w]
			}
			for r := first; r < m; {
				strips, high := max(1, (m-r)/tileRows), min(m-r, tileRows)
				byHeight(high, bstrip16AMX, bstrip32AMX)(&t.c[(i+r)*t.ldc+j*w], t.ldc, &rows[r*words], 4*words, &t.packed[(j*t.words+l)*w], 4*w, words/stepWords,
					t.alpha, beta, b, min(w, t.n-j*w), high, strips, &shapes[high][0], sums)
				r += strips * high
			}
		}
	}
}

// gradTiles fills A with the codes of the columns of dy * xs, and p.comp. Sixteen groups of four rows at a time are
// quantized in the order of the other tiers, and then turned.
func (d *Device) gradTiles(p *qproduct, dy, xs, s []float32) {
	n, m := p.m, p.k
	blocks := ceil(n, blockRows)
	par.For(d.Threads, p.depth/tileBytes, max(1, taskBytes/(4*tileBytes*n)), func(lo, hi int) {
		sums, buf := scratch.Get[int32](n), scratch.Get[int8](blocks*blockRows*tileBytes)
		defer sums.Free()
		defer buf.Free()
		q := qproduct{depth: tileBytes, a: buf.X}
		clear(sums.X)
		for t := lo; t < hi; t++ {
			i, end := t*tileBytes, min((t+1)*tileBytes, m)
			if end-i < tileBytes {
				clear(buf.X)
			}
			for ; i < end; i += 4 {
				d.gradGroup(&q, i%tileBytes/4, sums.X, dy[i*n:], xs[i:min(i+4, end)], s)
			}
			for j := 0; j < n; j += 16 {
				turnWordsAVX512(&p.a[j/tileRows*tileRows*p.depth+(t*tileRows+j%tileRows)*tileBytes], &q.word(j, 0)[0], 4*blockRows)
			}
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		for j, v := range sums.X {
			p.comp.X[j] -= 128 * v
		}
	})
}
