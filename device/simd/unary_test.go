//go:build amd64 || arm64

package simd

import (
	"math"
	"testing"

	"setun/device"
)

// TestUlp: the error of each activation and slope over the float32 numbers, in units of the last place of the result
// but not below a least one: denormals come up on the way, and sums cross 0.
func TestUlp(t *testing.T) {
	sigmoid := func(x float64) float64 { return 1 / (1 + math.Exp(-x)) }
	phi := func(x float64) float64 { return math.Erfc(-x/math.Sqrt2) / 2 }
	pdf := func(x float64) float64 { return math.Exp(-x*x/2) / math.Sqrt(2*math.Pi) }
	sech2 := func(x float64) float64 { return 4 * sigmoid(2*x) * sigmoid(-2*x) }
	const tiny, sum = 0x1p-143, 0x1p-24
	type check struct {
		f     func(x float64) float64
		least float64
		most  float64 // ulp
	}
	for _, tt := range []struct {
		op           device.UnaryOp
		value, slope check
	}{
		{device.SiLU, check{func(x float64) float64 { return x * sigmoid(x) }, tiny, 3},
			check{func(x float64) float64 { return sigmoid(x) * (1 + x*sigmoid(-x)) }, sum, 3}},
		{device.GELU, check{func(x float64) float64 { return x * phi(x) }, tiny, 8},
			check{func(x float64) float64 { return phi(x) + x*pdf(x) }, sum, 5}},
		{device.Sigmoid, check{sigmoid, tiny, 2.5},
			check{func(x float64) float64 { return sigmoid(x) * sigmoid(-x) }, tiny, 5}},
		{device.Tanh, check{math.Tanh, tiny, 3}, check{sech2, 0x1p-124, 5}},
		{device.Exp, check{math.Exp, 0x1p-149, 1}, check{math.Exp, 0x1p-149, 1}},
	} {
		stride := uint32(1009)
		if testing.Short() {
			stride = 10007
		}
		x := []float32{}
		for b := uint32(0); b < math.Float32bits(math.MaxFloat32); b += stride {
			x = append(x, math.Float32frombits(b), math.Float32frombits(b|1<<31))
		}
		one, y, s := make([]float32, len(x)), make([]float32, len(x)), make([]float32, len(x))
		for i := range one {
			one[i] = 1
		}
		for _, tier := range Tiers()[1:] {
			d := NewTier(1, tier)
			d.Unary(tt.op, device.Wrap(y), device.Wrap(x))
			clear(s)
			d.UnaryGrad(tt.op, device.Wrap(s), device.Wrap(one), device.Wrap(x), true)
			for what, got := range map[string][]float32{"f": y, "f'": s} {
				c := tt.value
				if what == "f'" {
					c = tt.slope
				}
				worst, at := 0.0, float32(0)
				for i, v := range x {
					want := c.f(float64(v))
					if float64(got[i]) == float64(float32(want)) { // Inf, too
						continue
					}
					unit := max(math.Ldexp(1, math.Ilogb(want)-23), c.least)
					if e := math.Abs(float64(got[i])-want) / unit; !(e <= worst) {
						worst, at = e, v
					}
				}
				t.Logf("%s: %s of %s: %.2f ulp at %g", tier, what, tt.op, worst, at)
				if !(worst <= c.most) {
					t.Errorf("%s: %s of %s is off by %.2f ulp at %g, more than %g", tier, what, tt.op, worst, at, c.most)
				}
			}
		}
	}
}
