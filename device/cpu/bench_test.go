package cpu

import (
	"fmt"
	"testing"

	"setun/device"
)

func random(d *Device, n int, seed uint64) device.Mem {
	m := d.Alloc(device.F32, n)
	d.Normal(m, seed, 1)
	return m
}

// perSecond reports flops as GFLOP/s.
func perSecond(b *testing.B, flops int) {
	b.ReportMetric(float64(flops)*float64(b.N)/b.Elapsed().Seconds()/1e9, "GFLOP/s")
}

func BenchmarkGemm(b *testing.B) {
	d := New(0)
	forms := []struct {
		name           string
		transA, transB bool
	}{{"NT", false, true}, {"NN", false, false}, {"TN", true, false}}
	for _, s := range [][3]int{{1024, 512, 128}, {1024, 128, 512}, {512, 128, 1024}, {64, 10, 784}, {1, 512, 512}} {
		m, n, k := s[0], s[1], s[2]
		x, y, c := random(d, m*k, 1), random(d, n*k, 2), random(d, m*n, 3)
		for _, f := range forms {
			b.Run(fmt.Sprintf("m=%d,n=%d,k=%d/%s", m, n, k, f.name), func(b *testing.B) {
				g := device.GemmShape{M: m, N: n, K: k, TransA: f.transA, TransB: f.transB, Alpha: 1}
				b.ReportAllocs()
				for b.Loop() {
					d.Gemm(c, x, y, device.Mem{}, g)
				}
				perSecond(b, 2*m*n*k)
			})
		}
	}
}

func BenchmarkAttention(b *testing.B) {
	d := New(0)
	for _, c := range []struct {
		name string
		s    device.AttentionShape
	}{
		{"train", device.AttentionShape{Batch: 8, Queries: 128, Keys: 128, Heads: 4, KVHeads: 4, Dim: 32}},
		{"long", device.AttentionShape{Batch: 1, Queries: 1024, Keys: 1024, Heads: 4, KVHeads: 2, Dim: 64}},
		{"decode", device.AttentionShape{Batch: 1, Queries: 1, Keys: 1024, Heads: 8, KVHeads: 4, Dim: 64}},
	} {
		s := c.s
		s.Causal, s.Scale = true, 0.2
		n, kv := s.Batch*s.Queries*s.Heads*s.Dim, s.Batch*s.KV()
		q, k, v := random(d, n, 1), random(d, kv, 2), random(d, kv, 3)
		out, dout, lse := random(d, n, 4), random(d, n, 5), random(d, s.Batch*s.Heads*s.Queries, 6)
		dq, dk, dv := random(d, n, 7), random(d, kv, 8), random(d, kv, 9)
		b.Run(c.name+"/forward", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				d.Attention(out, lse, q, k, v, s)
			}
		})
		b.Run(c.name+"/backward", func(b *testing.B) {
			b.ReportAllocs()
			d.Attention(out, lse, q, k, v, s)
			for b.Loop() {
				d.AttentionGrad(dq, dk, dv, dout, out, lse, q, k, v, s)
			}
		})
	}
}

// BenchmarkTernary is a layer of ternary weights on int8 activations: both quantizers, the product, both gradients.
func BenchmarkTernary(b *testing.B) {
	d := New(0)
	for _, s := range [][3]int{{1024, 512, 128}, {1, 512, 512}} {
		m, n, k := s[0], s[1], s[2]
		x, w, y := random(d, m*k, 1), random(d, n*k, 2), random(d, m*n, 3)
		dx, dw := random(d, m*k, 4), random(d, n*k, 5)
		xq, codes := d.Alloc(device.I8, m*k), d.Alloc(device.I8, n*k)
		xs, ws := d.Alloc(device.F32, m), d.Alloc(device.F32, 1)
		wq := device.WeightQuant{Rows: n, Cols: k, Levels: 1, Factor: 1}
		d.QuantizeRows(xq, xs, x, m, k)
		d.QuantizeWeights(codes, ws, w, wq)
		flops := 2 * m * n * k
		for _, c := range []struct {
			name  string
			flops int
			f     func()
		}{
			{"QuantizeRows", 2 * m * k, func() { d.QuantizeRows(xq, xs, x, m, k) }},
			{"QuantizeWeights", 2 * n * k, func() { d.QuantizeWeights(codes, ws, w, wq) }},
			{"QLinear", flops, func() { d.QLinear(y, xq, xs, codes, ws, device.Mem{}, m, n, k) }},
			{"QLinearGradX", flops, func() { d.QLinearGradX(dx, y, codes, ws, m, n, k, device.MathFP32, true) }},
			{"QLinearGradW", flops, func() { d.QLinearGradW(dw, y, xq, xs, m, n, k, device.MathFP32, false) }},
			{"QLinearGradX/int8", flops, func() { d.QLinearGradX(dx, y, codes, ws, m, n, k, device.MathInt8, true) }},
			{"QLinearGradW/int8", flops, func() { d.QLinearGradW(dw, y, xq, xs, m, n, k, device.MathInt8, false) }},
		} {
			b.Run(fmt.Sprintf("m=%d,n=%d,k=%d/%s", m, n, k, c.name), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					c.f()
				}
				perSecond(b, c.flops)
			})
		}
	}
}

// BenchmarkElementwise is one call on 1<<18 elements, rows of 128.
func BenchmarkElementwise(b *testing.B) {
	d := New(0)
	const n, rows, cols = 1 << 18, 1 << 11, 128
	x, y, z, w := random(d, n, 1), random(d, n, 2), random(d, n, 3), random(d, n, 4)
	r, one := random(d, rows, 5), random(d, 1, 6)
	gain := random(d, cols, 7)
	var none device.Mem
	for _, c := range []struct {
		name string
		f    func()
	}{
		{"Add", func() { d.Add(z, x, y) }},
		{"SiLU", func() { d.Unary(device.SiLU, z, x) }},
		{"GELU", func() { d.Unary(device.GELU, z, x) }},
		{"GatedGrad", func() { d.GatedGrad(device.SiLU, z, w, x, x, y, true) }},
		{"Dropout", func() { d.Dropout(z, x, 0.1, 1, false) }},
		{"Normal", func() { d.Normal(z, 1, 1) }},
		{"SumSquares", func() { d.SumSquares(one, x) }},
		{"SumRows", func() { d.SumRows(gain, x, 1, 1, rows, cols) }},
		{"Softmax", func() { d.Softmax(z, x, rows, cols) }},
		{"RMSNorm", func() { d.RMSNorm(z, r, x, gain, rows, cols, 1e-6) }},
		{"RMSNormGrad", func() { d.RMSNormGrad(z, gain, y, x, none, r, rows, cols, true) }},
		{"AdamW", func() { d.AdamW(z, w, y, x, device.AdamWStep{LR: 1e-3, Corr1: 1, Corr2: 1, Eps: 1}) }},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(4 * n)
			for b.Loop() {
				c.f()
			}
		})
	}
}
