package device_test

import (
	"fmt"
	"slices"
	"sync"
	"testing"

	"setun/device"
)

// Planning one projection of a 7B model: 4096 tokens through a (11008, 4096) weight.
func ExampleNull() {
	d := device.NewNull()
	x := d.Alloc(device.F32, 4096*4096)
	w := d.Alloc(device.F32, 11008*4096)
	y := d.Alloc(device.F32, 4096*11008)
	d.Gemm(y, x, w, device.Mem{}, device.GemmShape{M: 4096, N: 11008, K: 4096, TransB: true, Alpha: 1})
	d.Free(x)
	s := d.Stats()
	fmt.Printf("%d MiB now, %d MiB at most, %.1f GFLOP, %v\n",
		s.Live>>20, s.Peak>>20, 2e-9*float64(s.MulAdds), s.Calls)
	// Output: 344 MiB now, 408 MiB at most, 369.4 GFLOP, map[Gemm:1]
}

func TestNullMulAdds(t *testing.T) {
	var z device.Mem
	att := device.AttentionShape{Batch: 2, Queries: 3, Keys: 5, Heads: 4, KVHeads: 2, Dim: 8}
	causal := att
	causal.Causal = true // queries see 3, 4 and 5 keys
	tests := []struct {
		name string
		run  func(k device.Kernels)
		want int64
	}{
		{"Gemm", func(k device.Kernels) { k.Gemm(z, z, z, z, device.GemmShape{M: 2, N: 3, K: 5}) }, 30},
		{"Gemm/batch", func(k device.Kernels) { k.Gemm(z, z, z, z, device.GemmShape{M: 2, N: 3, K: 5, Batch: 7}) }, 210},
		{"QLinear", func(k device.Kernels) { k.QLinear(z, z, z, z, z, z, 2, 3, 5) }, 30},
		{"QLinearGradX", func(k device.Kernels) { k.QLinearGradX(z, z, z, z, 2, 3, 5, device.MathInt8, true) }, 30},
		{"QLinearGradW", func(k device.Kernels) { k.QLinearGradW(z, z, z, z, 2, 3, 5, device.MathFP32, true) }, 30},
		{"Attention", func(k device.Kernels) { k.Attention(z, z, z, z, z, att) }, 2 * 2 * 4 * 15 * 8},
		{"Attention/causal", func(k device.Kernels) { k.Attention(z, z, z, z, z, causal) }, 2 * 2 * 4 * 12 * 8},
		{"AttentionGrad", func(k device.Kernels) { k.AttentionGrad(z, z, z, z, z, z, z, z, z, causal) }, 5 * 2 * 4 * 12 * 8},
		{"Add", func(k device.Kernels) { k.Add(z, z, z) }, 0},
	}
	for _, tt := range tests {
		d := device.NewNull()
		tt.run(d)
		if got := d.Stats().MulAdds; got != tt.want {
			t.Errorf("%s: %d multiply-adds, want %d", tt.name, got, tt.want)
		}
	}
}

func TestNullMemory(t *testing.T) {
	d := device.NewNull()
	a := d.Alloc(device.F32, 10)
	b := d.Alloc(device.I8, 10)
	if a.F32() != nil || b.I8() != nil || a.Len() != 10 || b.Type() != device.I8 {
		t.Errorf("Alloc gave real memory or the wrong kind: %v %v", a, b)
	}
	d.Free(a)
	d.Reset()
	if s := d.Stats(); s.Live != 10 || s.Peak != 10 {
		t.Errorf("after Reset live %d, peak %d, want 10, 10", s.Live, s.Peak)
	}
	for _, dst := range []device.Mem{
		device.Wrap([]float32{1, 2}), device.Wrap([]int32{1, 2}), device.Wrap([]int8{1, 2}), device.Wrap([]uint8{1, 2}),
	} {
		d.Download(dst, b.Slice(0, 2))
		if slices.ContainsFunc(dst.F32(), func(v float32) bool { return v != 0 }) ||
			slices.Contains(dst.I32(), 2) || slices.Contains(dst.I8(), 2) || slices.Contains(dst.U8(), 2) {
			t.Errorf("Download left %s memory as it was", dst.Type())
		}
	}
	d.Free(device.Mem{})
	if err := d.Sync(); err != nil {
		t.Error(err)
	}
	d.Free(a)
	if d.Sync() == nil {
		t.Error("no error after a double free")
	}
	d = device.NewNull()
	if m := d.Alloc(device.F32, -1); !m.IsZero() || d.Sync() == nil {
		t.Errorf("Alloc of -1 elements: %v, %v", m, d.Sync())
	}
	d = device.NewNull()
	d.Free(d.Alloc(device.F32, 4).Slice(0, 2))
	if d.Sync() == nil {
		t.Error("no error after the free of half an allocation")
	}
}

func TestNullConcurrent(t *testing.T) {
	d := device.NewNull()
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 100 {
				m := d.Alloc(device.F32, 1)
				d.Fill(m, 1)
				d.Free(m)
				d.Stats()
			}
		})
	}
	wg.Wait()
	if s := d.Stats(); s.Live != 0 || s.Peak < 4 || s.Peak > 32 || s.Calls["Fill"] != 800 {
		t.Errorf("got %+v", s)
	}
}
