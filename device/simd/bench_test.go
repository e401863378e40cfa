package simd

import (
	"testing"

	"setun/device"
)

// BenchmarkElementwise is one call on 1<<20 elements, rows of 256, with the bytes of all operands; /none is device/cpu.
func BenchmarkElementwise(b *testing.B) {
	const n, rows, cols = 1 << 20, 1 << 12, 256
	for _, tier := range Tiers() {
		if tier == VNNI { // AVX512's routines
			continue
		}
		d := NewTier(0, tier)
		random := func(n int, seed uint64) device.Mem {
			m := d.Alloc(device.F32, n)
			d.Normal(m, seed, 1)
			return m
		}
		x, y, z, w := random(n, 1), random(n, 2), random(n, 3), random(n, 4)
		v, row, table := random(n, 5), random(cols, 6), random(512*64, 7)
		ids := make([]int32, rows)
		for i := range ids {
			ids[i] = int32(i * 7 % 256)
		}
		d.Unary(device.ReLU, v, v)
		type run struct {
			name  string
			bytes int // an element
			f     func()
		}
		runs := []run{
			{"Copy", 8, func() { d.Copy(z, x) }},
			{"Fill", 4, func() { d.Fill(z, 1) }},
			{"CopyRows/acc", 12, func() { d.CopyRows(z, cols, x, cols-1, rows, cols-1, true) }},
			{"Add", 12, func() { d.Add(z, x, y) }},
			{"Mul", 12, func() { d.Mul(z, x, y) }},
			{"MulAdd", 16, func() { d.MulAdd(z, x, y) }},
			{"Scale", 8, func() { d.Scale(z, 0.5, x) }},
			{"Axpy", 12, func() { d.Axpy(z, 0.5, x) }},
			{"AddRows", 8, func() { d.AddRows(z, x, row, 1, 1, rows, cols) }},
			{"RoPE", 8, func() { d.RoPE(z, x, table, device.RoPEShape{Rows: rows, Seq: 512, Heads: 4, Dim: 64}) }},
			{"ScatterAdd", 12, func() { d.ScatterAdd(z, x, device.Wrap(ids), rows, cols) }},
			{"Gather", 8, func() { d.Gather(z, x, device.Wrap(ids), rows, cols) }},
			{"AdamW", 28, func() {
				d.AdamW(w, y, v, x, device.AdamWStep{LR: 1e-9, Beta1: 0.9, Beta2: 0.99, Corr1: 1, Corr2: 1, Eps: 1, GradScale: 1})
			}},
			{"Uniform", 4, func() { d.Uniform(z, 1, -1, 1) }},
			{"Normal", 4, func() { d.Normal(z, 1, 1) }},
			{"Dropout", 8, func() { d.Dropout(z, x, 0.1, 1, false) }},
		}
		for _, f := range device.UnaryOps {
			runs = append(runs,
				run{"Unary/" + f.String(), 8, func() { d.Unary(f, z, x) }},
				run{"UnaryGrad/" + f.String(), 16, func() { d.UnaryGrad(f, z, x, y, true) }},
				run{"Gated/" + f.String(), 12, func() { d.Gated(f, z, x, y) }},
				run{"GatedGrad/" + f.String(), 28, func() { d.GatedGrad(f, z, w, x, x, y, true) }})
		}
		for _, r := range runs {
			b.Run(r.name+"/"+tier.String(), func(b *testing.B) {
				b.SetBytes(int64(r.bytes) * n)
				for b.Loop() {
					r.f()
				}
			})
		}
	}
}
