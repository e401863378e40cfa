//go:build amd64

package simd

import (
	"setun/internal/par"
	"setun/internal/scratch"
)

// Products on AMX: 16 rows of A, 64 bytes each, times 16 groups of B in 16 columns are one instruction. Routines take strips
// of 32 rows and panels of 64 columns, and leave their sums in memory before they are scaled.
const (
	tileRows     = 32  // rows of a strip
	tileBytes    = 64  // of a row of A in one step
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
		kernel := qstrip32AMX
		if high <= 16 {
			kernel = qstrip16AMX
		}
		kernel(&p.c[i*p.n+j], p.n, &p.a[i*p.depth], ars, aks, &p.panel(j / panelCols)[0], 4*panelCols, p.depth/tileBytes,
			&p.comp.X[i], &p.rs[i], &p.cs.X[j], bias, p.mode, cols, high, strips, &shapes[high][0], &buf.X[0])
		i += strips * high
		rows -= strips * high
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
