//go:build linux && (amd64 || arm64)

package simd

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"setun/device"
	"setun/device/cpu"
)

// TestAttentionBlocks: several blocks of keys and queries against device/cpu, operands flush against pages that fault.
func TestAttentionBlocks(t *testing.T) {
	for _, s := range []device.AttentionShape{
		{Batch: 1, Queries: 700, Keys: 700, Heads: 2, KVHeads: 1, Dim: 16, Causal: true, Scale: 0.25},
		{Batch: 2, Queries: 40, Keys: 1300, Heads: 2, KVHeads: 2, Dim: 24, Causal: true, Scale: 0.2},
		{Batch: 1, Queries: 103, Keys: 600, Heads: 1, KVHeads: 1, Dim: 72, Scale: 0.1},
		{Batch: 1, Queries: 30, Keys: 7, Heads: 2, KVHeads: 1, Dim: 8, Causal: true, Scale: 0.3},
		{Batch: 1, Queries: 1, Keys: 577, Heads: 4, KVHeads: 2, Dim: 64, Causal: true, Scale: 0.125},
		{Batch: 1, Queries: 5, Keys: 20, Heads: 1, KVHeads: 1, Dim: 10, Scale: 0.3},
	} {
		testAttention(t, s, Tiers()[1:], 2e-5)
	}
}

// testAttention compares with device/cpu, and threads with each other to the bit.
func testAttention(t *testing.T, s device.AttentionShape, tiers []Tier, tol float64) {
	t.Helper()
	q, kv, l := s.Batch*s.Queries*s.Heads*s.Dim, s.Batch*s.Keys*s.KVHeads*s.Dim, s.Batch*s.Heads*s.Queries
	sizes := []int{q, kv, kv, q, q, l, q, kv, kv} // q k v dout out lse dq dk dv
	run := func(d device.Device, x [][]float32) {
		m := make([]device.Mem, len(x))
		for i := range x {
			m[i] = device.Wrap(x[i])
		}
		for i := range 4 {
			d.Normal(m[i], uint64(i), 1)
		}
		for _, g := range m[6:] {
			d.Fill(g, 0.5)
		}
		d.Attention(m[4], m[5], m[0], m[1], m[2], s)
		d.AttentionGrad(m[6], m[7], m[8], m[3], m[4], m[5], m[0], m[1], m[2], s)
	}
	want := make([][]float32, len(sizes))
	for i, n := range sizes {
		want[i] = make([]float32, n)
	}
	run(cpu.New(0), want)
	for _, tier := range tiers {
		var first [][]float32
		for _, head := range []bool{false, true} {
			what := fmt.Sprintf("%s %+v", tier, s)
			got := make([][]float32, len(sizes))
			for i, n := range sizes {
				got[i] = guarded[float32](t, n, head)
			}
			threads := 3
			if head {
				threads = 1
			}
			faults(t, what, func() { run(NewTier(threads, tier), got) })
			if first == nil {
				first = got
			}
			for i := range got {
				for j, v := range got[i] {
					w := want[i][j]
					if d := math.Abs(float64(v - w)); !(d <= tol*(1+math.Abs(float64(w)))) && v != w {
						t.Fatalf("%s: operand %d, element %d is %g, want %g", what, i, j, v, w)
					}
				}
				if !slices.Equal(got[i], first[i]) {
					t.Errorf("%s: operand %d has other bits on 1 thread than on 3", what, i)
				}
			}
		}
	}
}
