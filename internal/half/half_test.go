package half

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
)

// Every binary16 there and back, against its definition.
func TestF16(t *testing.T) {
	for i := range 1 << 16 {
		h := uint16(i)
		exp, frac := int(h>>10&31), float64(h&0x3ff)
		want := math.Ldexp(1+frac/1024, exp-15)
		switch {
		case exp == 0:
			want = math.Ldexp(frac, -24)
		case exp == 31 && frac == 0:
			want = math.Inf(1)
		case exp == 31:
			want = math.NaN()
		}
		if h>>15 == 1 {
			want = -want
		}
		got := FromF16(h)
		if float64(got) != want && !(got != got && want != want) || math.Signbit(float64(got)) != (h>>15 == 1) {
			t.Fatalf("FromF16(%#x) = %v, want %v", h, got, want)
		}
		back := F16(got)
		if quiet := h | 0x200; back != h && !(got != got && back == quiet) {
			t.Fatalf("F16(FromF16(%#x)) = %#x", h, back)
		}
	}
}

// Rounding is to the nearest, and to the even one of two.
func TestRounding(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 1 << 18 {
		lo := uint16(rng.IntN(0x7c00))
		a, b := float64(FromF16(lo)), float64(FromF16(lo+1))
		if lo+1 == 0x7c00 {
			b = 65536 // where rounding takes Inf to be
		}
		mid := (a + b) / 2
		even := lo + lo&1
		for x, want := range map[float64]uint16{a: lo, mid: even, math.Nextafter(mid, 0): lo, math.Nextafter(mid, b): lo + 1} {
			f := float32(x)
			if x != mid && float64(f) == mid { // float32 has no number in between
				continue
			}
			if got := F16(f); got != want {
				t.Fatalf("F16(%v) = %#x, want %#x", f, got, want)
			}
			if got := F16(-f); got != want|0x8000 {
				t.Fatalf("F16(%v) = %#x, want %#x", -f, got, want|0x8000)
			}
		}
		x := math.Float32frombits(rng.Uint32())
		if y := FromBF16(BF16(x)); x == x && math.Abs(float64(y-x)) > math.Abs(float64(x))/256 && math.Abs(float64(x)) > 2e-38 && math.Abs(float64(x)) < 3e38 ||
			(x != x) != (y != y) {
			t.Fatalf("BF16(%v) is %v", x, y)
		}
	}
	for x, want := range map[float32]uint16{1 + 0x1p-8: 0x3f80, 1 + 3*0x1p-8: 0x3f82, -1: 0xbf80, math.MaxFloat32: 0x7f80} {
		if got := BF16(x); got != want {
			t.Errorf("BF16(%v) = %#x, want %#x", x, got, want)
		}
	}
}

func ExampleF16() {
	h := F16(0.1)
	fmt.Printf("%#04x %v\n", h, FromF16(h))
	// Output: 0x2e66 0.099975586
}
