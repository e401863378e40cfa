//go:build amd64 || arm64

package simd

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"setun/device"
	"setun/device/cpu"
)

// hard fills x with numbers of one scale and, some, of any bits: denormals, huge ones and, with special, NaN and Inf.
func hard(g *rand.Rand, x []float32, scale float32, special bool) {
	for i := range x {
		switch v := math.Float32frombits(g.Uint32()); {
		case g.IntN(100) > 0:
			x[i] = scale * float32(g.NormFloat64())
		case special || finite(math.Float32bits(v)):
			x[i] = v
		}
	}
}

func equal(a, b []float32) bool {
	return slices.EqualFunc(a, b, func(a, b float32) bool { return a == b || a != a && b != b })
}

// TestQuantizeRowsBits: codes and scales of a few million hard numbers are device/cpu's, also halves of the step.
func TestQuantizeRowsBits(t *testing.T) {
	const rows, cols = 600, 1025
	n := rows * cols
	g, ref := rand.New(rand.NewPCG(3, 4)), cpu.New(0)
	for _, scale := range []float32{1, 1e-41, 1e-7, 1e30} {
		x := make([]float32, n)
		hard(g, x, scale, false)
		for i := 0; i < n; i += 3 * cols { // a row of halves, one with a NaN or Inf
			for j := range cols {
				x[i+j] = float32(g.IntN(255)-127) / 2
			}
			x[i] = 127
			x[min(i+cols+g.IntN(cols), n-1)] = [...]float32{float32(math.NaN()), float32(math.Inf(1)), 0}[i/cols%3]
		}
		want, wantScale := make([]int8, n), make([]float32, rows)
		ref.QuantizeRows(device.Wrap(want), device.Wrap(wantScale), device.Wrap(x), rows, cols)
		for _, tier := range Tiers()[1:] {
			got, gotScale := make([]int8, n), make([]float32, rows)
			NewTier(0, tier).QuantizeRows(device.Wrap(got), device.Wrap(gotScale), device.Wrap(x), rows, cols)
			if !slices.Equal(got, want) || !equal(gotScale, wantScale) {
				t.Errorf("%v, scale %v: not device/cpu's", tier, scale)
			}
		}
	}
}

// TestQuantizeWeightsBits: codes and scales of hard numbers are device/cpu's, whatever the rule and the scale.
func TestQuantizeWeightsBits(t *testing.T) {
	const n = 1 << 18
	g, ref := rand.New(rand.NewPCG(5, 6)), cpu.New(0)
	w := make([]float32, n+77)
	check := func(name string, w []float32, given float32, s device.WeightQuant) {
		t.Helper()
		scales := 1
		if s.PerRow {
			scales = s.Rows
		}
		want, wantScale := make([]int8, len(w)), slices.Repeat([]float32{given}, scales)
		ref.QuantizeWeights(device.Wrap(want), device.Wrap(wantScale), device.Wrap(w), s)
		for _, tier := range Tiers()[1:] {
			got, gotScale := make([]int8, len(w)), slices.Repeat([]float32{given}, scales)
			NewTier(0, tier).QuantizeWeights(device.Wrap(got), device.Wrap(gotScale), device.Wrap(w), s)
			if !equal(gotScale, wantScale) {
				t.Errorf("%v %s %+v: scale %v, want %v", tier, name, s, gotScale[0], wantScale[0])
			}
			for i, c := range got {
				if c != want[i] {
					t.Errorf("%v %s %+v: code of %v is %d, want %d (scale %v)", tier, name, s, w[i], c, want[i], wantScale[0])
					break
				}
			}
		}
	}
	for _, scale := range []float32{0.02, 1, 1e-8, 1e-42, 1e30} {
		for rule := device.AbsMean; rule <= device.Given; rule++ {
			for levels := 1; levels <= 3; levels++ {
				for _, rows := range []int{1, 256} {
					hard(g, w, scale, false)
					w := w[:n]
					if rows == 1 {
						w = w[:n+77-levels] // a tail
					}
					s := device.WeightQuant{Rows: rows, Cols: len(w) / rows, Levels: levels, Rule: rule, Factor: 0.9, PerRow: rows > 1}
					check("random", w[:s.Rows*s.Cols], scale, s)
					for _, v := range []float32{float32(math.NaN()), float32(math.Inf(-1))} {
						w[g.IntN(s.Rows*s.Cols)] = v
						check("special", w[:s.Rows*s.Cols], scale, s)
					}
				}
			}
		}
	}
	// Quotients at and next to every border of the codes.
	for range 300 {
		given := math.Float32frombits(g.Uint32())
		if g.IntN(3) > 0 {
			given = float32(math.Exp(40 * g.NormFloat64()))
		}
		for levels := 1; levels <= 3; levels++ {
			w := w[:1200]
			for i := range w {
				v := (float32(i%8) - 4 + 0.5) * given
				w[i] = math.Float32frombits(math.Float32bits(v) + uint32(i/8%21) - 10)
				if !finite(math.Float32bits(w[i])) {
					w[i] = 0
				}
			}
			check("borders", w, given, device.WeightQuant{Rows: 1, Cols: len(w), Levels: levels, Rule: device.Given})
		}
	}
	for _, given := range []float32{0, -1, float32(math.Copysign(0, -1)), float32(math.NaN()), float32(math.Inf(1)), 1e-45,
		math.MaxFloat32} {
		hard(g, w, 1, false)
		for levels := 1; levels <= 2; levels++ {
			check("odd scale", w, given, device.WeightQuant{Rows: 1, Cols: len(w), Levels: levels, Rule: device.Given})
		}
	}
}

// TestCut: the thresholds are where the codes of the division change.
func TestCut(t *testing.T) {
	g := rand.New(rand.NewPCG(8, 9))
	for range 100_000 {
		scale := math.Float32frombits(g.Uint32() & math.MaxInt32)
		for k := range 2 {
			cut1, cut2, ok := cuts(scale, 2)
			if !ok {
				break
			}
			x := [...]float32{cut1, cut2}[k]
			code := func(x float32) float64 { return math.RoundToEven(float64(x / scale)) }
			if code(x) > float64(k) || x < math.MaxFloat32 && code(math.Nextafter32(x, math.MaxFloat32)) <= float64(k) {
				t.Fatalf("scale %v: the last code %d is not at %v", scale, k, x)
			}
		}
	}
}
