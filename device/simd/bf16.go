//go:build amd64

package simd

import (
	"math"
	"unsafe"

	"setun/device"
	"setun/internal/par"
	"setun/internal/scratch"
)

// product computes g on at most threads goroutines, in bfloat16 where that is allowed and pays.
func (d *Device) product(g gemm, math device.Math, threads int) {
	if math == device.MathBF16 && d.bf16 && min(g.m, g.n, g.k) >= tileM && g.m*g.n*g.k >= serial {
		d.multiplyBF16(g, threads)
	} else {
		d.multiply(g, threads)
	}
}

// multiplyBF16 computes g in bfloat16. VDPBF16PS multiplies pairs along k: a pair is a word of 32 bits, which all but the
// tile moves as the float32 that it is not.
func (d *Device) multiplyBF16(g gemm, threads int) {
	if d.tier == AMX {
		d.multiplyTiles(g, threads)
		return
	}
	k := ceil(g.k, 2)
	a, b := scratch.Get[float32](g.m*k), scratch.Get[float32](g.n*k)
	defer a.Free()
	defer b.Free()
	p := g
	p.k, p.pairs = k, true
	p.a = pairUp(a.X, g.a, g.m, g.k, threads)
	bt := pairUp(b.X, matrix{g.b.x, g.b.cs, g.b.rs}, g.n, g.k, threads)
	p.b = matrix{bt.x, bt.cs, bt.rs}
	d.multiply(p, threads)
}

// pairUp rounds x (m, k) to pairs (m, k/2), the last of an odd k with 0, in dst: rows stay rows, columns columns.
func pairUp(dst []float32, x matrix, m, k, threads int) matrix {
	words := ceil(k, 2)
	if x.cs == 1 {
		par.Each(threads, m, 1+taskBytes/4/k, pairing{dst, x, m, k}, pairing.rows)
		return matrix{dst, words, 1}
	}
	par.Each(threads, words, 1+taskBytes/8/m, pairing{dst, x, m, k}, pairing.columns)
	return matrix{dst, 1, m}
}

type pairing struct {
	dst  []float32
	x    matrix
	m, k int
}

func (p pairing) rows(lo, hi int) {
	words := ceil(p.k, 2)
	for i := lo; i < hi; i++ {
		to := unsafe.Slice((*uint16)(unsafe.Pointer(&p.dst[i*words])), 2*words)
		to[2*words-1] = 0
		roundRowAVX512(&to[0], &p.x.x[i*p.x.rs], p.k)
	}
}

func (p pairing) columns(lo, hi int) {
	step := max(1, callBytes/8/p.m)
	for ; lo < hi; lo += step {
		n := min(step, hi-lo, p.k/2-lo)
		if n > 0 {
			roundPairsAVX512(&p.dst[lo*p.m], 4*p.m, &p.x.x[2*lo*p.x.cs], 4*p.x.cs, n, p.m)
		}
	}
	if p.k%2 != 0 && hi == ceil(p.k, 2) {
		for i, v := range p.x.x[(p.k-1)*p.x.cs:][:p.m] {
			p.dst[(hi-1)*p.m+i] = math.Float32frombits(uint32(bfloat16(v)))
		}
	}
}

// bfloat16 is the nearest bfloat16, ties to even; a NaN stays one, and a subnormal number becomes 0.
func bfloat16(f float32) uint16 {
	b := math.Float32bits(f)
	switch {
	case f != f:
		return uint16(b>>16 | 1<<6)
	case b<<1 < 1<<24:
		return uint16(b >> 31 << 15)
	}
	return uint16((b + 0x7fff + b>>16&1) >> 16)
}
