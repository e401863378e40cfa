//go:build (amd64 || arm64) && linux

package simd

import (
	"math"
	"math/rand/v2"
	"testing"
)

var (
	nan = float32(math.NaN())
	inf = float32(math.Inf(1))
)

// vectors calls f with n floats at both ends of guarded pages, for every vector tier and n = 0..70 and some more.
func vectors(t *testing.T, from int, f func(t *testing.T, d *Device, n int, fresh func(n int) []float32)) {
	for _, tier := range Tiers()[1:] {
		t.Run(tier.String(), func(t *testing.T) {
			d := NewTier(1, tier)
			for n := from; n < 300; n++ {
				if n == 70 {
					n = 255
				}
				for _, head := range []bool{false, true} {
					rng := rand.New(rand.NewPCG(uint64(n), 1))
					fresh := func(n int) []float32 {
						x := guarded[float32](t, n, head)
						for i := range x {
							x[i] = float32(rng.NormFloat64())
						}
						return x
					}
					faults(t, tier.String(), func() { f(t, d, n, fresh) })
				}
			}
		})
	}
}

func TestExpRow(t *testing.T) {
	vectors(t, 1, func(t *testing.T, d *Device, n int, fresh func(int) []float32) {
		x, y := fresh(n), fresh(n)
		const scale, top = 1.5, 0.25
		sum := d.expRow(y, x, scale, top)
		want := 0.0
		for i, v := range x {
			e := math.Exp(float64(v)*scale - top)
			want += e
			if !near(y[i], e, 3e-7) {
				t.Fatalf("n %d: y[%d] = %v, want %v", n, i, y[i], e)
			}
		}
		if !near(sum, want, 1e-6) {
			t.Fatalf("n %d: sum %v, want %v", n, sum, want)
		}
		if again := d.expRow(x, x, scale, top); again != sum {
			t.Fatalf("n %d: sum %v in place, %v apart", n, again, sum)
		}
		for i := range x {
			if x[i] != y[i] {
				t.Fatalf("n %d: y[%d] = %v in place, %v apart", n, i, x[i], y[i])
			}
		}
		x[n-1] = -inf
		if d.expRow(y, x, 1, 0); y[n-1] != 0 {
			t.Fatalf("exp(-Inf) = %v", y[n-1])
		}
		x[n-1] = nan
		if sum := d.expRow(y, x, 1, 0); sum == sum || y[n-1] == y[n-1] {
			t.Fatalf("n %d: NaN is lost", n)
		}
	})
}

func TestMaxRow(t *testing.T) {
	vectors(t, 1, func(t *testing.T, d *Device, n int, fresh func(int) []float32) {
		x := fresh(n)
		for i := range x {
			x[i] -= 10 // masked lanes would be larger
		}
		want := -inf
		for _, v := range x {
			want = max(want, v)
		}
		if got := d.maxRow(x); got != want {
			t.Fatalf("n %d: %v, want %v", n, got, want)
		}
		for i := range x {
			x[i] = nan
		}
		if got := d.maxRow(x); got != -inf {
			t.Fatalf("n %d: the largest of NaN is %v", n, got)
		}
		for i := range x {
			x[i] = -3
			if got := d.maxRow(x); got != -3 {
				t.Fatalf("n %d: %v among NaN, want -3", n, got)
			}
			x[i] = nan
		}
	})
}

func TestProbGrad(t *testing.T) {
	vectors(t, 1, func(t *testing.T, d *Device, n int, fresh func(int) []float32) {
		p, ds := fresh(n), fresh(n)
		const scale, lse, delta = 0.5, 1.25, 0.75
		wantP, wantDS := make([]float64, n), make([]float64, n)
		for i := range p {
			wantP[i] = math.Exp(float64(p[i])*scale - lse)
			wantDS[i] = wantP[i] * (float64(ds[i]) - delta)
		}
		d.probGrad(p, ds, scale, lse, delta)
		for i := range p {
			if !near(p[i], wantP[i], 3e-7) || !near(ds[i], wantDS[i], 4e-7) {
				t.Fatalf("n %d: p[%d] = %v, ds = %v; want %v, %v", n, i, p[i], ds[i], wantP[i], wantDS[i])
			}
		}
	})
}

func TestDot(t *testing.T) {
	vectors(t, 1, func(t *testing.T, d *Device, n int, fresh func(int) []float32) {
		a, b := fresh(n), fresh(n)
		want := 0.0
		for i := range a {
			want += float64(a[i]) * float64(b[i])
		}
		if got := d.dot(a, b); !near(got, want, 2e-6) {
			t.Fatalf("n %d: %v, want %v", n, got, want)
		}
		b[n-1] = nan
		if got := d.dot(a, b); got == got {
			t.Fatalf("n %d: NaN is lost", n)
		}
	})
}
