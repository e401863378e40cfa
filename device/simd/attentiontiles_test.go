//go:build amd64 && linux

package simd

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"setun/device"
	"setun/internal/scratch"
)

// TestAttentionTiles is the same in bfloat16, with all remainders of queries and keys.
func TestAttentionTiles(t *testing.T) {
	if best < AMX {
		t.Skip("no AMX")
	}
	shapes := []device.AttentionShape{
		{Batch: 1, Queries: 600, Keys: 600, Heads: 2, KVHeads: 1, Dim: 32, Causal: true, Scale: 0.18},
		{Batch: 1, Queries: 290, Keys: 530, Heads: 1, KVHeads: 1, Dim: 64, Causal: true, Scale: 0.125},
		{Batch: 1, Queries: 530, Keys: 290, Heads: 1, KVHeads: 1, Dim: 64, Scale: 0.125},
		{Batch: 1, Queries: 330, Keys: 65, Heads: 2, KVHeads: 2, Dim: 32, Causal: true, Scale: 0.18}, // some see nothing
		{Batch: 2, Queries: 64, Keys: 64, Heads: 4, KVHeads: 2, Dim: 128, Causal: true, Scale: 0.09},
		{Batch: 1, Queries: 40, Keys: 90, Heads: 2, KVHeads: 2, Dim: 48, Causal: true, Scale: 0.14}, // stays float32
	}
	for i := range 32 {
		shapes = append(shapes,
			device.AttentionShape{Batch: 1, Queries: 33 + i, Keys: 65 + i*5%32, Heads: 2, KVHeads: 1, Dim: 32, Causal: true,
				Scale: 0.18},
			device.AttentionShape{Batch: 1, Queries: 16 + i, Keys: 47 - i, Heads: 1, KVHeads: 1, Dim: 32, Causal: i%2 > 0,
				Scale: 0.18})
	}
	for i := range 2 * len(shapes) {
		s := shapes[i/2]
		s.Math, s.Acc = device.MathBF16, i%2 > 0
		for c := 10; c < 20; c++ { // what padding must not take over
			b := scratch.Get[float32](1 << c)
			for i := range b.X {
				b.X[i] = float32(math.NaN())
			}
			b.Free()
		}
		testAttention(t, s, []Tier{AMX}, 0.02)
	}
}

// TestAttentionRoutines: the vector routines against their definitions, flush against pages that fault.
func TestAttentionRoutines(t *testing.T) {
	if best < AMX {
		t.Skip("no AMX")
	}
	r := rand.New(rand.NewPCG(5, 6))
	fill := func(x []float32) []float32 {
		for i := range x {
			x[i] = 4*r.Float32() - 2
		}
		return x
	}
	near := func(what string, got, want, tol float64) {
		t.Helper()
		if !(math.Abs(got-want) <= tol*(1+math.Abs(want))) && got != want {
			t.Errorf("%s: %g, want %g", what, got, want)
		}
	}
	for range 30 {
		head := r.IntN(2) == 0
		rows, cols := 4*(1+r.IntN(8)), 32*(1+r.IntN(4))
		ld := cols + 16
		x, y := fill(guarded[float32](t, (rows-1)*ld+cols, head)), guarded[uint16](t, (rows-1)*ld+cols, head)
		top, sum := guarded[float32](t, rows, head), guarded[float32](t, rows, head)
		seen := guarded[int32](t, rows, head)
		sure := cols
		for i := range seen {
			seen[i], top[i] = int32(r.IntN(cols+1)), float32(math.Inf(-1))
			if i%3 == 0 {
				top[i] = 1
			}
			sure = min(sure, int(seen[i])&^15)
		}
		old := slices.Clone(top)
		faults(t, "softmaxRound", func() {
			softmaxRoundAVX512(&y[0], 2*ld, &x[0], 4*ld, &seen[0], &top[0], &sum[0], rows/4, sure, cols, 0.7)
		})
		for i, n := range seen {
			m, s := max(old[i], -1e30), 0.0
			for j := range int(n) {
				m = max(m, x[i*ld+j]*0.7)
			}
			near("top", float64(top[i]), float64(m), 1e-6)
			for j := range cols {
				p := 0.0
				if j < int(n) {
					p = math.Exp2(float64(x[i*ld+j])*0.7 - float64(m))
				}
				s += p
				near("p", rounded(y[i*ld+j]), p, 0x1p-8)
			}
			near("sum", float64(sum[i]), s, 1e-5)
		}

		n := 16 * (1 + r.IntN(cols/16))
		s, dp := fill(guarded[float32](t, ld+n, head)), fill(guarded[float32](t, ld+n, head))
		lse, delta := fill(guarded[float32](t, n, head)), fill(guarded[float32](t, n, head))
		lse[0], s[1] = float32(math.Inf(1)), float32(math.Inf(-1))
		p, ds, pairs := guarded[uint16](t, ld+n, head), guarded[uint16](t, ld+n, head), guarded[float32](t, n, head)
		faults(t, "softmaxPair", func() {
			softmaxPairAVX512(&p[0], &ds[0], 2*ld, &pairs[0], &s[0], &dp[0], 4*ld, &lse[0], &delta[0], n, 0.5, 0.7)
		})
		for i := range n {
			for k := range 2 {
				v := math.Exp2(float64(s[k*ld+i])*0.7 - float64(lse[i]))
				near("p", rounded(p[k*ld+i]), v, 0x1p-8)
				near("ds", rounded(ds[k*ld+i]), v*(float64(dp[k*ld+i])*0.5-float64(delta[i])), 0x1p-8)
			}
			if got, want := math.Float32bits(pairs[i]), uint32(ds[i])|uint32(ds[ld+i])<<16; got != want {
				t.Errorf("pairs: %x, want %x", got, want)
			}
		}

		n = 2 * (1 + r.IntN(9))
		src, words := fill(guarded[float32](t, (n-1)*ld+cols, head)), guarded[float32](t, n*cols/2, head)
		each := guarded[uint16](t, n*cols, head)
		faults(t, "roundHead", func() { roundHeadAVX512(&each[0], &words[0], &src[0], 4*ld, n, cols) })
		for i := range n {
			for j := range cols {
				b := bfloat16(src[i*ld+j])
				if got := uint16(math.Float32bits(words[i/2*cols+j]) >> (i % 2 * 16)); each[i*cols+j] != b || got != b {
					t.Fatalf("roundHead: %x and %x, want %x", each[i*cols+j], got, b)
				}
			}
		}

		a, f := fill(guarded[float32](t, n*cols, head)), fill(guarded[float32](t, n, head))
		dots := guarded[float32](t, n, head)
		other := fill(guarded[float32](t, len(src), head))
		before := slices.Clone(src)
		faults(t, "addHead", func() { addHeadAVX512(&src[0], 4*ld, &a[0], n, cols) })
		faults(t, "dotHead", func() { dotHeadAVX512(&dots[0], &src[0], &other[0], 4*ld, n, cols, 0.5) })
		for i := range n {
			sum := 0.0
			for j := range cols {
				at := i*ld + j
				near("addHead", float64(src[at]), float64(before[at]+a[i*cols+j]), 0)
				sum += 0.5 * float64(src[at]) * float64(other[at])
			}
			near("dotHead", float64(dots[i]), sum, 1e-5)
		}
		faults(t, "scaleHead", func() { scaleHeadAVX512(&src[0], 4*ld, &a[0], &f[0], n, cols) })
		for i := range n {
			for j := range cols {
				near("scaleHead", float64(src[i*ld+j]), float64(a[i*cols+j]*f[i]), 0)
			}
		}
	}
}

// TestProduct: the routine of tiles, its sides in rows, in pairs of rows and turned.
func TestProduct(t *testing.T) {
	if best < AMX {
		t.Skip("no AMX")
	}
	r := rand.New(rand.NewPCG(7, 8))
	small := func(n int) []float32 { // exact in bfloat16, and their sums in float32
		x := make([]float32, n)
		for i := range x {
			x[i] = float32(r.IntN(17) - 8)
		}
		return x
	}
	pack := func(x []float32, n, k int) []float32 { // rows of pairs
		y := guarded[float32](t, n*k/2, r.IntN(2) == 0)
		for i := range y {
			y[i] = math.Float32frombits(uint32(bfloat16(x[2*i])) | uint32(bfloat16(x[2*i+1]))<<16)
		}
		return y
	}
	across := func(x []float32, n, k int) []float32 { // x' in pairs of rows
		y := guarded[float32](t, n*k/2, r.IntN(2) == 0)
		for i := range n {
			for l := range k / 2 {
				y[l*n+i] = math.Float32frombits(uint32(bfloat16(x[i*k+2*l])) | uint32(bfloat16(x[i*k+2*l+1]))<<16)
			}
		}
		return y
	}
	for _, d := range [][3]int{{32, 32, 32}, {64, 32, 96}, {32, 96, 64}, {96, 64, 128}} {
		m, n, k := d[0], d[1], d[2]
		x, y := small(m*k), small(n*k) // c = x y'
		lefts, rights := []side{rowsOf(pack(x, m, k), k/2)}, []side{pairsOf(across(y, n, k), n)}
		turned := guarded[float32](t, m*k/2, false)
		turnTiles(turned, across(x, m, k), k/2, m, m)
		lefts = append(lefts, leftOf(turned, m))
		turned = guarded[float32](t, n*k/2, false)
		turnTiles(turned, pack(y, n, k), n, k/2, k/2)
		rights = append(rights, rightOf(turned, k/2))
		for i, a := range lefts {
			for j, b := range rights {
				for _, more := range []bool{false, true} {
					ldc := n + 3
					c := guarded[float32](t, (m-1)*ldc+n, i == j)
					for i := range c {
						c[i] = 1
					}
					faults(t, "product", func() { product(c, ldc, a, b, m, n, k/2, more) })
					for at, got := range c {
						want := float32(1)
						if at%ldc < n {
							if !more {
								want = 0
							}
							for l := range k {
								want += x[at/ldc*k+l] * y[at%ldc*k+l]
							}
						}
						if got != want {
							t.Fatalf("%v, sides %d and %d, more %t: element %d is %g, want %g", d, i, j, more, at, got, want)
						}
					}
				}
			}
		}
	}
}
