//go:build linux && (amd64 || arm64)

package simd

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"setun/device"
)

// TestGemmEdges: every tile with every remainder, operands flush against pages that fault, C with gaps left alone.
func TestGemmEdges(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	fill := func(x []float32) []float32 {
		for i := range x {
			x[i] = r.Float32()*2 - 1
		}
		return x
	}
	check := func(d *Device, m, n, k int, ta, tb bool, beta float32, bias, head bool) {
		what := fmt.Sprintf("%s %dx%dx%d ta=%t tb=%t beta=%g bias=%t", d.Tier(), m, n, k, ta, tb, beta, bias)
		s := device.GemmShape{M: m, N: n, K: k, TransA: ta, TransB: tb, Alpha: 0.5, Beta: beta, LDC: n + 3}
		a, b := fill(guarded[float32](t, m*k, head)), fill(guarded[float32](t, k*n, head))
		c := fill(guarded[float32](t, (m-1)*s.LDC+n, head))
		want := append([]float32(nil), c...)
		var bs device.Mem
		bv := make([]float32, n)
		if bias {
			bv = fill(guarded[float32](t, n, head))
			bs = device.Wrap(bv)
		}
		if beta == 0 {
			for i := range m {
				c[i*s.LDC] = float32(math.NaN())
			}
		}
		faults(t, what, func() { d.Gemm(device.Wrap(c), device.Wrap(a), device.Wrap(b), bs, s) })
		for i := range m {
			for j := range s.LDC {
				if j >= n {
					if x := i*s.LDC + j; x < len(c) && c[x] != want[x] {
						t.Fatalf("%s: gap of row %d written", what, i)
					}
					continue
				}
				sum := 0.0
				for l := range k {
					x, y := i*k+l, l*n+j
					if ta {
						x = l*m + i
					}
					if tb {
						y = j*k + l
					}
					sum += float64(a[x]) * float64(b[y])
				}
				w := 0.5*sum + float64(beta*want[i*s.LDC+j]) + float64(bv[j])
				if g := float64(c[i*s.LDC+j]); !(math.Abs(g-w) <= 1e-6*(1+math.Sqrt(float64(k)))) {
					t.Fatalf("%s: C[%d][%d] = %g, want %g", what, i, j, g, w)
				}
			}
		}
	}
	for _, tier := range []Tier{NEON, AVX2, AVX512} {
		if !slices.Contains(Tiers(), tier) {
			t.Logf("%s: this processor does not have it", tier)
			continue
		}
		d := NewTier(1, tier)
		for _, k := range []int{1, 2, 3, 5, 8, 17} {
			for m := 1; m <= 14; m++ {
				n := 1 + r.IntN(140)
				check(d, m, n, k, r.IntN(2) == 0, r.IntN(2) == 0, float32(r.IntN(3))/2, r.IntN(2) == 0, r.IntN(2) == 0)
			}
			for n := 1; n <= 70; n++ {
				m := 1 + r.IntN(20)
				check(d, m, n, k, r.IntN(2) == 0, r.IntN(2) == 0, float32(r.IntN(3))/2, r.IntN(2) == 0, r.IntN(2) == 0)
			}
		}
		for _, k := range []int{0, blockK - 1, blockK, blockK + 1} {
			for _, ta := range []bool{false, true} {
				check(d, 101, 67, k, ta, k%2 == 0, 0.5, true, false)
			}
		}
		for i := range 16 { // as C' = B'A'
			check(d, 21, 131, 90, i&1 != 0, i&2 != 0, float32(i>>2&1)/2, i&8 != 0, i&4 != 0)
		}
	}
}

// TestGemmThreads: the bits do not depend on the number of threads.
func TestGemmThreads(t *testing.T) {
	for _, tier := range Tiers() {
		for _, s := range []device.GemmShape{
			{M: 301, N: 203, K: 1030, Alpha: 1}, {M: 40, N: 900, K: 130, TransA: true, Alpha: 1},
			{M: 700, N: 40, K: 130, TransB: true, Alpha: 1}, {M: 90, N: 700, K: 300, TransB: true, Alpha: 1}, {M: 3, N: 1000, K: 600, TransB: true, Alpha: 1},
			{M: 301, N: 203, K: 2051, Alpha: 1, Math: device.MathBF16},
			{M: 200, N: 300, K: 1030, TransA: true, TransB: true, Alpha: 1, Math: device.MathBF16},
		} {
			run := func(threads int) []float32 {
				d := NewTier(threads, tier)
				a, b, c := d.Alloc(device.F32, s.M*s.K), d.Alloc(device.F32, s.K*s.N), d.Alloc(device.F32, s.M*s.N)
				d.Uniform(a, 1, -1, 1)
				d.Uniform(b, 2, -1, 1)
				d.Gemm(c, a, b, device.Mem{}, s)
				return c.F32()
			}
			want := run(1)
			for _, threads := range []int{2, 3, 8} {
				for i, v := range run(threads) {
					if v != want[i] {
						t.Fatalf("%s %+v: %d threads give %g at %d, one gives %g", tier, s, threads, v, i, want[i])
					}
				}
			}
		}
	}
}

func TestTurn(t *testing.T) {
	if best == None {
		t.Skip("no vectors")
	}
	for rows := 1; rows < 20; rows++ {
		for cols := 1; cols < 20; cols++ {
			src, dst := guarded[float32](t, rows*cols, rows%2 == 0), guarded[float32](t, rows*cols, rows%2 == 1)
			for i := range src {
				src[i] = float32(i)
			}
			faults(t, "turn", func() { turn(dst, rows, src, cols, rows, cols) })
			for j := range rows {
				for l := range cols {
					if dst[l*rows+j] != src[j*cols+l] {
						t.Fatalf("%dx%d: element %d,%d", rows, cols, j, l)
					}
				}
			}
		}
	}
}
