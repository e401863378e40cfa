package data

import (
	"context"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
)

// naive is Baseline written from the formula with maps of strings.
func naive(train, val string, orders int) []float64 {
	var bpb []float64
	p := make([]float64, len(val))
	for i := range p {
		p[i] = 1. / 256
	}
	for n := range orders + 1 {
		count, follow := map[string]map[byte]float64{}, map[string]float64{}
		for i := n; i < len(train); i++ {
			x := train[i-n : i]
			if count[x] == nil {
				count[x] = map[byte]float64{}
			}
			count[x][train[i]]++
			follow[x]++
		}
		var sum float64
		for i := range val {
			if i >= n {
				x := val[i-n : i]
				if u := float64(len(count[x])); u > 0 {
					p[i] = (count[x][val[i]] + u*p[i]) / (follow[x] + u)
				}
			}
			sum -= math.Log2(p[i])
		}
		bpb = append(bpb, sum/float64(len(val)))
	}
	return bpb
}

func TestBaseline(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	// A Markov text over bytes with both ends of the range, and noise.
	text := func(n int) string {
		b := []byte{0, 255}
		for len(b) < n {
			c := b[len(b)-1]*5 + b[len(b)-2] + byte(rng.IntN(2)*251)
			if rng.IntN(50) == 0 {
				c = byte(rng.IntN(256))
			}
			b = append(b, c&0x8f)
		}
		return string(b)
	}
	tests := []struct{ name, train, val string }{
		{"markov", text(20000), text(3000)},
		{"short train", "ab", "abcabcab"},
		{"short val", text(100), "x"},
		{"no train", "", "abc"},
	}
	for _, tt := range tests {
		got, err := Baseline(t.Context(), NewStream([]byte(tt.train)), NewStream([]byte(tt.val)), 6)
		if err != nil {
			t.Fatal(err)
		}
		for n, want := range naive(tt.train, tt.val, 6) {
			if math.Abs(got[n]-want) > 1e-9 {
				t.Errorf("%s, order %d: %v bits, want %v", tt.name, n, got[n], want)
			}
		}
	}
}

// The counting crosses the blocks that train is read in, and a long val is sampled.
func TestBaselineLong(t *testing.T) {
	period := []byte("0123456789abcdefghijklmno") // no divisor of a block
	long := make([]byte, maxScored+readBlock+7)
	for i := range long {
		long[i] = period[i%len(period)]
	}
	s := NewStream(long)
	got, err := Baseline(t.Context(), s, s, 1)
	if err != nil {
		t.Fatal(err)
	}
	if math.Abs(got[0]-math.Log2(25)) > 1e-3 || got[1] > 0.01 {
		t.Errorf("bits %v, want log2(25) = 4.644 and about 0", got)
	}
}

func TestBaselineErrors(t *testing.T) {
	s := NewStream([]byte("abc"))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Baseline(ctx, s, s, 2); err != context.Canceled {
		t.Errorf("cancelled: %v", err)
	}
	for _, n := range []int{-1, 7} {
		if _, err := Baseline(t.Context(), s, s, n); err == nil || !strings.Contains(err.Error(), "give 0 to 6") {
			t.Errorf("order %d: %v", n, err)
		}
	}
	if _, err := Baseline(t.Context(), s, NewStream(nil), 2); err == nil {
		t.Error("empty validation text accepted")
	}
}
