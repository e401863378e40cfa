//go:build amd64 || arm64

package simd

import (
	"fmt"
	"testing"

	"setun/device"
)

var layers = [][3]int{ // tokens, out, in
	{2048, 1152, 384}, {2048, 384, 1152}, {4096, 768, 256}, {4096, 704, 256}, {4096, 256, 704}, {4096, 1024, 1024},
}

func BenchmarkQLinear(b *testing.B) {
	for _, s := range layers {
		m, n, k := s[0], s[1], s[2]
		for _, threads := range []int{1, 2} {
			for _, tier := range Tiers()[1:] {
				d := NewTier(threads, tier)
				x := newLayer(d, m, n, k)
				for _, c := range []struct {
					name string
					run  func()
				}{
					{"QLinear", func() { d.QLinear(x.y, x.xq, x.xs, x.codes, x.ws, device.Mem{}, m, n, k) }},
					{"QLinearGradX", func() { d.QLinearGradX(x.dx, x.dy, x.codes, x.ws, m, n, k, device.MathInt8, true) }},
					{"QLinearGradW", func() { d.QLinearGradW(x.dw, x.dy, x.xq, x.xs, m, n, k, device.MathInt8, false) }},
				} {
					b.Run(fmt.Sprintf("%dx%d->%d/threads=%d/%s/%s", m, k, n, threads, tier, c.name), func(b *testing.B) {
						for b.Loop() {
							c.run()
						}
						b.ReportMetric(2*float64(m*n*k)*float64(b.N)/b.Elapsed().Seconds()/1e9, "GOP/s")
					})
				}
			}
		}
	}
}

// layer is the operands of one quantized layer.
type layer struct{ y, dy, dx, dw, x, xq, xs, codes, ws device.Mem }

func newLayer(d *Device, m, n, k int) layer {
	f := func(n int) device.Mem { return d.Alloc(device.F32, n) }
	i := func(n int) device.Mem { return d.Alloc(device.I8, n) }
	l := layer{f(m * n), f(m * n), f(m * k), f(n * k), f(m * k), i(m * k), f(m), i(n * k), f(1)}
	d.Normal(l.x, 1, 1)
	d.Normal(l.dy, 2, 1e-4)
	d.Normal(l.dw, 3, 1)
	d.QuantizeRows(l.xq, l.xs, l.x, m, k)
	d.QuantizeWeights(l.codes, l.ws, l.dw, device.WeightQuant{Rows: n, Cols: k, Levels: 1, Factor: 1})
	return l
}

// BenchmarkTile is the bare kernel on operands in cache.
func BenchmarkTile(b *testing.B) {
	if best < VNNI && best != NEON || !NewTier(1, best).dots() {
		b.Skip("needs VNNI or SDOT")
	}
	for _, k := range []int{256, 384, 768, 1152, 2048, 4096} {
		d := NewTier(1, min(best, VNNI))
		p := d.newQProduct(blockRows, panelCols, k)
		p.ownA()
		p.columnScale(one)
		p.c, p.rs = make([]float32, blockRows*panelCols), make([]float32, blockRows)
		for _, turned := range []bool{false, true} {
			p.turned = turned
			b.Run(fmt.Sprintf("k=%d/turned=%t", k, turned), func(b *testing.B) {
				for b.Loop() {
					d.qblock(p, 0, 0)
				}
				b.ReportMetric(2*float64(blockRows*panelCols*k)*float64(b.N)/b.Elapsed().Seconds()/1e9, "GOP/s")
			})
		}
	}
}
