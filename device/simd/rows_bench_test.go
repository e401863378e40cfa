package simd

import (
	"fmt"
	"slices"
	"testing"

	"setun/device"
	"setun/device/cpu"
)

// BenchmarkRows times the tiers with one thread and with two. Bytes count every operand and result once, d += twice.
func BenchmarkRows(b *testing.B) {
	var zero device.Mem
	type kernel struct {
		name  string
		bytes int
		run   func(d device.Device)
	}
	var all []kernel
	add := func(name string, rows, cols, bytes int, run func(d device.Device)) {
		all = append(all, kernel{fmt.Sprintf("%s/%dx%d", name, rows, cols), bytes * rows * cols, run})
	}
	host := cpu.New(0)
	floats := func(n int, std float32) device.Mem {
		m := host.Alloc(device.F32, n)
		host.Normal(m, uint64(n), std)
		return m
	}
	for _, s := range [][2]int{{4096, 256}, {4096, 1024}, {16384, 64}} {
		rows, cols := s[0], s[1]
		n := rows * cols
		x, y, z := floats(n, 1), floats(n, 1), floats(n, 1)
		inv, mean, stats, gain, bias := floats(rows, 1), floats(rows, 1), floats(rows+1, 1), floats(cols, 1), floats(cols, 1)
		scale, one, q, targets := floats(rows, 1), floats(1, 1), host.Alloc(device.I8, n), host.Alloc(device.I32, rows)
		add("Copy", rows, cols, 8, func(d device.Device) { d.Copy(z, x) })
		add("Softmax", rows, cols, 8, func(d device.Device) { d.Softmax(z, x, rows, cols) })
		add("SoftmaxGrad", rows, cols, 16, func(d device.Device) { d.SoftmaxGrad(z, x, y, rows, cols) })
		add("RMSNorm", rows, cols, 8, func(d device.Device) { d.RMSNorm(z, inv, x, gain, rows, cols, 1e-5) })
		add("RMSNormGrad", rows, cols, 16, func(d device.Device) { d.RMSNormGrad(z, bias, y, x, gain, inv, rows, cols, true) })
		add("LayerNorm", rows, cols, 8, func(d device.Device) { d.LayerNorm(z, mean, inv, x, gain, bias, rows, cols, 1e-5) })
		add("LayerNormGrad", rows, cols, 16, func(d device.Device) {
			d.LayerNormGrad(z, bias, bias, y, x, gain, mean, inv, rows, cols)
		})
		add("CrossEntropy", rows, cols, 4, func(d device.Device) { d.CrossEntropy(one, zero, stats, x, targets, rows, cols) })
		add("CrossEntropyGrad", rows, cols, 12, func(d device.Device) {
			d.CrossEntropyGrad(z, one, stats, x, targets, rows, cols)
		})
		add("SumRows", rows, cols, 4, func(d device.Device) { d.SumRows(bias, x, 1, 1, rows, cols) })
		add("SumSquares", rows, cols, 4, func(d device.Device) { d.SumSquares(one, x) })
		add("QuantizeRows", rows, cols, 5, func(d device.Device) { d.QuantizeRows(q, scale, x, rows, cols) })
		add("Dequantize", rows, cols, 5, func(d device.Device) { d.Dequantize(z, q, scale, rows, cols) })
	}
	const rows, cols = 4096, 4096
	w, dq, q, ws := floats(rows*cols, 0.02), floats(rows*cols, 1), host.Alloc(device.I8, rows*cols), host.Alloc(device.F32, rows)
	host.Fill(ws, 0.02)
	for rule, name := range []string{"AbsMean", "TWN", "Given"} {
		for _, groups := range []int{1, rows} {
			for levels := 1; levels <= 2; levels++ {
				s := device.WeightQuant{Rows: rows, Cols: cols, Levels: levels, Rule: device.WeightRule(rule), Factor: 0.7,
					PerRow: groups > 1}
				if s.Rule == device.TWN && levels > 1 {
					continue
				}
				add(fmt.Sprintf("QuantizeWeights/%s,levels=%d,scales=%d", name, levels, groups), rows, cols, 5,
					func(d device.Device) { d.QuantizeWeights(q, ws.Slice(0, groups), w, s) })
			}
		}
	}
	add("LSQGrad", rows, cols, 8, func(d device.Device) {
		d.LSQGrad(ws.Slice(1, 2), dq, w, ws.Slice(0, 1), rows, cols, 1, 1e-9)
	})
	add("Copy", rows, cols, 8, func(d device.Device) { d.Copy(dq, w) })
	for _, k := range all {
		for _, tier := range []Tier{None, AVX2, best} {
			if !slices.Contains(Tiers(), tier) {
				continue
			}
			for _, threads := range []int{1, 2} {
				b.Run(fmt.Sprintf("%s/%v,threads=%d", k.name, tier, threads), func(b *testing.B) {
					d := NewTier(threads, tier)
					k.run(d)
					b.ReportAllocs()
					b.SetBytes(int64(k.bytes))
					for b.Loop() {
						k.run(d)
					}
				})
			}
		}
	}
}
