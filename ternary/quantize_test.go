package ternary_test

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"setun/device/cpu"
	"setun/tensor"
	"setun/ternary"
)

func ExampleQuantize() {
	p, err := ternary.Quantize([]float32{0.9, -0.1, -0.8, 0.2, 0.7, 0}, 2, 3, ternary.Config{})
	if err != nil {
		fmt.Println(err)
		return
	}
	w, err := p.Dequantize()
	fmt.Println(p)
	fmt.Printf("%.1f %v\n", w, err)
	// Output:
	// ternary weight 2 x 3, base3, 8.000 bits per weight
	// [0.8 0.0 -0.8 0.0 0.8 0.0] <nil>
}

// One call gives what a layer with that weight is frozen to.
func TestQuantize(t *testing.T) {
	const rows, cols = 37, 129
	w := normal(3, rows*cols)
	dev := cpu.New(1)
	for _, c := range []ternary.Config{{}, {Rule: ternary.AbsMean}, {PerRow: true}, {Codebook: ternary.Five},
		{Codebook: ternary.Five, PerRow: true}, {Threshold: 1.2}} {
		want, err := ternary.FromWeight(tensor.NewMaker(dev, 1), tensor.FromFloats(dev, w, rows, cols), false, c).Freeze()
		if err != nil {
			t.Fatal(err)
		}
		got, err := ternary.Quantize(w, rows, cols, c)
		if err != nil {
			t.Fatal(err)
		}
		if got.Format != want.Format || !slices.Equal(got.Data, want.Data) || !slices.Equal(got.Scales, want.Scales) {
			t.Errorf("%s: not the codes and scales of the layer", name(c))
		}
		codes, err := got.Unpack()
		if err != nil {
			t.Fatal(err)
		}
		y, err := got.Dequantize()
		if err != nil {
			t.Fatal(err)
		}
		for i, v := range y {
			scale := got.Scales[i/cols%len(got.Scales)]
			if v != float32(codes[i])*scale {
				t.Fatalf("%s: value %d is %v, want %d * %v", name(c), i, v, codes[i], scale)
			}
		}
	}
	nan := slices.Clone(w)
	nan[5*cols+1] = float32(math.Inf(-1))
	for _, c := range []struct {
		w          []float32
		rows, cols int
		cfg        ternary.Config
		want       string
	}{
		{w, rows, cols, ternary.Config{Rule: ternary.LSQ}, `rule "lsq" learns its scale`},
		{w, rows, cols, ternary.Config{Codebook: "six"}, `unknown codebook "six"`},
		{w, rows, cols + 1, ternary.Config{}, "4773 values for a weight of 37 x 130"},
		{nil, 0, 0, ternary.Config{}, "0 values for a weight of 0 x 0"},
		{nil, 1, 0, ternary.Config{}, "0 values for a weight of 1 x 0"},
		{nan, rows, cols, ternary.Config{}, "the weight of 37 x 129 has a NaN or an infinity"},
		{nan, rows, cols, ternary.Config{PerRow: true}, "row 5 of the weight of 37 x 129 has a NaN or an infinity"},
	} {
		if _, err := ternary.Quantize(c.w, c.rows, c.cols, c.cfg); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%d x %d, %s: %v, want %q", c.rows, c.cols, name(c.cfg), err, c.want)
		}
	}
	p, _ := ternary.Quantize(w, rows, cols, ternary.Config{})
	p.Data[7] = 255
	if _, err := p.Dequantize(); err == nil {
		t.Error("a byte that is no five codes was unpacked")
	}
}

// From host floats to a packed weight and back: 16.8 million values, with the copies.
func BenchmarkQuantize(b *testing.B) {
	const rows, cols = 4096, 4096
	w := normal(1, rows*cols)
	for _, rule := range []ternary.Rule{ternary.AbsMean, ternary.TWN} {
		b.Run(string(rule), func(b *testing.B) {
			b.SetBytes(4 * rows * cols)
			for b.Loop() {
				if _, err := ternary.Quantize(w, rows, cols, ternary.Config{Rule: rule}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	p, err := ternary.Quantize(w, rows, cols, ternary.Config{})
	if err != nil {
		b.Fatal(err)
	}
	b.Run("dequantize", func(b *testing.B) {
		b.SetBytes(4 * rows * cols)
		for b.Loop() {
			if _, err := p.Dequantize(); err != nil {
				b.Fatal(err)
			}
		}
	})
}
