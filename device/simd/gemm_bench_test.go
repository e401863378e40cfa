//go:build amd64 || arm64

package simd

import "testing"

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
