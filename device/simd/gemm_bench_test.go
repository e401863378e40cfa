//go:build amd64 || arm64

package simd

import (
	"fmt"
	"testing"

	"setun/device"
)

// The bare tiles of Gemm on operands in cache: the peak of one core.
func BenchmarkTileF32(b *testing.B)  { benchmarkTile(b, false) }
func BenchmarkTileBF16(b *testing.B) { benchmarkTile(b, true) }

func benchmarkTile(b *testing.B, pairs bool) {
	for _, tier := range Tiers()[1:] {
		d, k, terms := NewTier(1, tier), 256, 1
		if pairs {
			if terms = 2; !d.bf16 {
				continue
			}
		}
		w := d.panel()
		a, p, c := make([]float32, tileM*k), make([]float32, k*w), make([]float32, tileM*w)
		t := d.tiler(k, 1, 0)
		t.pairs = pairs
		t.setA(matrix{a, k, 1})
		t.b, t.bs, t.cs = &p[0], 4*w, 4*w
		b.Run(tier.String(), func(b *testing.B) {
			for b.Loop() {
				t.run(&c[0], 0, tileM, w)
			}
			b.ReportMetric(2*float64(terms*tileM*w*k)*float64(b.N)/b.Elapsed().Seconds()/1e9, "GFLOP/s")
		})
	}
}

// BenchmarkAttention is a layer of 16 causal sequences of 256 tokens, or one head, which stays in the cache; one thread.
func BenchmarkAttention(b *testing.B) {
	for _, heads := range []int{1, 4, 6} {
		batch := 16
		if heads == 1 {
			batch = 1
		}
		s := device.AttentionShape{Batch: batch, Queries: 256, Keys: 256, Heads: heads, KVHeads: heads, Dim: 64, Causal: true,
			Scale: 0.125}
		n := s.Batch * s.Queries * heads * s.Dim
		for _, how := range []device.Math{device.MathFP32, device.MathBF16} {
			s.Math = how
			d := NewTier(1, best)
			m := make([]device.Mem, 8)
			for i := range m {
				m[i] = d.Alloc(device.F32, n)
				d.Normal(m[i], uint64(i), 1)
			}
			lse := d.Alloc(device.F32, n/s.Dim)
			name := []string{"fp32", "bf16"}[how]
			run := func(name string, products int, f func()) {
				b.Run(name, func(b *testing.B) {
					for b.Loop() {
						f()
					}
					flops := float64(products * s.Batch * s.Heads * s.Queries * s.Keys * s.Dim)
					b.ReportMetric(flops*float64(b.N)/b.Elapsed().Seconds()/1e9, "GFLOP/s")
				})
			}
			forward := func() { d.Attention(m[4], lse, m[0], m[1], m[2], s) }
			forward()
			run(fmt.Sprintf("forward/heads=%d/%s", heads, name), 2, forward)
			run(fmt.Sprintf("gradient/heads=%d/%s", heads, name), 5, func() {
				d.AttentionGrad(m[5], m[6], m[7], m[3], m[4], lse, m[0], m[1], m[2], s)
			})
		}
	}
}
