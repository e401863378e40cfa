//go:build linux && amd64

package simd

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"unsafe"

	"setun/device"
)

func rounded(b uint16) float64 { return float64(math.Float32frombits(uint32(b) << 16)) }

// TestRoundBF16: the routines round as the Go function does, and that to the nearest.
func TestRoundBF16(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	values := []float32{0, float32(math.Copysign(0, -1)), 1, -1, 1 + 1./256, 1 + 3./256, 1 + 1./256 + 1e-6, math.MaxFloat32,
		-math.MaxFloat32, float32(math.Inf(1)), float32(math.Inf(-1)), float32(math.NaN()), math.Float32frombits(0x7f800001),
		math.Float32frombits(0xffffffff), 0x1p-126, 0x1p-140}
	for range 200 {
		values = append(values, math.Float32frombits(r.Uint32()))
	}
	for _, v := range values {
		got, x := rounded(bfloat16(v)), float64(v)
		if math.IsNaN(x) {
			if !math.IsNaN(got) {
				t.Errorf("bfloat16(%x) = %g", math.Float32bits(v), got)
			}
			continue
		}
		if math.Abs(x) < 0x1p-126 {
			if got != 0 {
				t.Errorf("bfloat16(%g) = %g: subnormal numbers become 0", v, got)
			}
			continue
		}
		if _, e := math.Frexp(x); x != 0 && !math.IsInf(x, 0) && math.Abs(x) < 0x1.ffp127 &&
			math.Abs(got-x) > math.Ldexp(1, max(e, -125)-9) {
			t.Errorf("bfloat16(%g) = %g, further than half a unit", x, got)
		}
	}
	if bfloat16(1+1./256) != 0x3f80 || bfloat16(1+3./256) != 0x3f82 {
		t.Error("a tie is not rounded to even")
	}
	if !NewTier(1, best).bf16 {
		t.Skip("no AVX512_BF16")
	}
	for n := 0; n < 70; n++ {
		head := n%2 == 0
		src := guarded[float32](t, n, head)
		for i := range src {
			src[i] = values[(n*31+i)%len(values)]
		}
		dst := guarded[float32](t, (n+1)/2, head)
		if n > 0 {
			to := unsafe.Slice((*uint16)(unsafe.Pointer(&dst[0])), n)
			faults(t, "roundRow", func() { roundRowAVX512(&to[0], &src[0], n) })
			for i, v := range src {
				if to[i] != bfloat16(v) {
					t.Fatalf("n = %d: %d is %x, want %x", n, i, to[i], bfloat16(v))
				}
			}
		}
		const pairs = 3
		rows := guarded[float32](t, 2*pairs*n, head)
		for i := range rows {
			rows[i] = values[(n*17+i)%len(values)]
		}
		if dst = guarded[float32](t, pairs*n, head); n > 0 {
			faults(t, "roundPairs", func() { roundPairsAVX512(&dst[0], 4*n, &rows[0], 4*n, pairs, n) })
		}
		for i, v := range dst {
			l, j := i/n, i%n
			want := uint32(bfloat16(rows[2*l*n+j])) | uint32(bfloat16(rows[(2*l+1)*n+j]))<<16
			if math.Float32bits(v) != want {
				t.Fatalf("n = %d: pair %d, %d is %x, want %x", n, l, j, math.Float32bits(v), want)
			}
		}
	}
}

// TestGemmBF16: every tile with every remainder, operands flush against pages that fault.
func TestGemmBF16(t *testing.T) {
	d := NewTier(1, best)
	if !d.bf16 {
		t.Skip("no AVX512_BF16")
	}
	r := rand.New(rand.NewPCG(1, 2))
	fill := func(x []float32) []float32 {
		for i := range x {
			x[i] = r.Float32()*2 - 1
		}
		return x
	}
	check := func(m, n, k int) {
		ta, tb, head := r.IntN(2) == 0, r.IntN(2) == 0, r.IntN(2) == 0
		g := gemm{m: m, n: n, k: k, ldc: n + 3, alpha: 0.5, beta: float32(r.IntN(3)) / 2}
		g.a = matrix{fill(guarded[float32](t, m*k, head)), k, 1}
		if ta {
			g.a.rs, g.a.cs = 1, m
		}
		g.b = matrix{fill(guarded[float32](t, k*n, head)), n, 1}
		if tb {
			g.b.rs, g.b.cs = 1, k
		}
		g.c = fill(guarded[float32](t, (m-1)*g.ldc+n, head))
		bias := make([]float32, n)
		if r.IntN(2) == 0 {
			bias = fill(guarded[float32](t, n, head))
			g.bias = bias
		}
		want := slices.Clone(g.c)
		what := fmt.Sprintf("%dx%dx%d ta=%t tb=%t beta=%g bias=%t", m, n, k, ta, tb, g.beta, g.bias != nil)
		faults(t, what, func() { d.multiplyBF16(g, 1) })
		for i := range m {
			for j := range n {
				sum := 0.0
				for l := range k {
					sum += rounded(bfloat16(g.a.at(i, l).x[0])) * rounded(bfloat16(g.b.at(l, j).x[0]))
				}
				w := 0.5*sum + float64(g.beta*want[i*g.ldc+j]) + float64(bias[j])
				if got := float64(g.c[i*g.ldc+j]); !(math.Abs(got-w) <= 1e-6*(1+math.Sqrt(float64(k)))) {
					t.Fatalf("%s: C[%d][%d] = %g, want %g", what, i, j, got, w)
				}
			}
		}
	}
	for _, k := range []int{1, 2, 3, 5, 8, 17} {
		for m := 1; m <= 14; m++ {
			check(m, 1+r.IntN(140), k)
		}
		for n := 1; n <= 70; n++ {
			check(1+r.IntN(20), n, k)
		}
	}
	for _, k := range []int{2*blockK - 1, 2 * blockK, 2*blockK + 1} {
		check(101, 67, k)
		check(67, 131, k)
	}
}

// TestGemmSymmetric: the half that is copied has the bits that it would have computed.
func TestGemmSymmetric(t *testing.T) {
	for _, tier := range Tiers() {
		for _, math := range []device.Math{device.MathFP32, device.MathBF16} {
			for _, n := range []int{1, 5, 16, 63, 64, 65, 130, 257} {
				for _, s := range []device.GemmShape{{K: 33, TransA: true, Alpha: 1}, {K: 700, TransB: true, Alpha: 0.5},
					{K: n, Alpha: 2, Beta: -1}, {K: n, Alpha: 0, Beta: 2}} {
					s.M, s.N, s.Math = n, n, math
					run := func(threads int, symmetric bool) []float32 {
						d := NewTier(threads, tier)
						a, c := d.Alloc(device.F32, n*s.K), d.Alloc(device.F32, n*n)
						d.Uniform(a, 1, -1, 1)
						if s.Beta != 0 { // of a symmetric A
							for i, x := 0, a.F32(); i < n; i++ {
								for j := range i {
									x[j*n+i] = x[i*n+j]
								}
							}
							d.Copy(c, a)
						}
						s.Symmetric = symmetric
						d.Gemm(c, a, a, device.Mem{}, s)
						return c.F32()
					}
					want := run(1, false)
					for _, threads := range []int{1, 3} {
						if !slices.Equal(run(threads, true), want) {
							t.Errorf("%s, %+v: other bits on %d threads", tier, s, threads)
						}
					}
				}
			}
		}
	}
}
