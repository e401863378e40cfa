package trit

import (
	"bytes"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

func randomCodes(n, levels int, seed uint64) []int8 {
	r := rand.New(rand.NewPCG(seed, 1))
	c := make([]int8, n)
	for i := range c {
		c[i] = int8(r.IntN(levels) - levels/2)
	}
	return c
}

// TestLayout holds the bytes of the formats, worked out by hand: they are on disk.
func TestLayout(t *testing.T) {
	for _, c := range []struct {
		f     *Format
		codes []int8
		want  []byte
	}{
		{Base3, nil, nil},
		{Base3, []int8{-1, -1, -1, -1, -1}, []byte{0}},
		{Base3, []int8{0, 0, 0, 0, 0}, []byte{121}},
		{Base3, []int8{1, 1, 1, 1, 1}, []byte{242}},
		{Base3, []int8{1, -1, -1, -1, -1}, []byte{2}},
		{Base3, []int8{-1, -1, -1, -1, 1}, []byte{162}},
		{Base3, []int8{-1, 0, 1, 0, -1, 1}, []byte{0 + 3 + 18 + 27 + 0, 2 + 3 + 9 + 27 + 81}},
		{TwoBit, []int8{-1, 0, 1, -1}, []byte{0b00_10_01_00}},
		{TwoBit, []int8{1, 1, 1, 1, -1}, []byte{0b10_10_10_10, 0b01_01_01_00}},
		{Base5, []int8{-2, -2, -2}, []byte{0}},
		{Base5, []int8{2, 2, 2}, []byte{124}},
		{Base5, []int8{-2, -1, 0, 1}, []byte{0 + 5 + 50, 3 + 10 + 50}},
	} {
		got := make([]byte, c.f.Bytes(len(c.codes)))
		if err := c.f.Pack(got, c.codes); err != nil || !bytes.Equal(got, c.want) {
			t.Errorf("%s %v packs to %v, want %v (%v)", c.f.Name, c.codes, got, c.want, err)
		}
		back := make([]int8, len(c.codes))
		if err := c.f.Unpack(back, c.want); err != nil || !slices.Equal(back, c.codes) {
			t.Errorf("%s %v unpacks to %v, want %v (%v)", c.f.Name, c.want, back, c.codes, err)
		}
	}
}

func TestRoundTrip(t *testing.T) {
	for _, f := range Formats {
		for n := range 70 {
			for seed := range uint64(8) {
				codes := randomCodes(n, f.Levels, seed)
				packed := make([]byte, f.Bytes(n))
				if err := f.Pack(packed, codes); err != nil {
					t.Fatal(err)
				}
				// Bytes behind the slices must stay untouched.
				room := slices.Repeat([]int8{77}, n+16)
				if err := f.Unpack(room[:n:n+16], packed); err != nil {
					t.Fatal(err)
				}
				if !slices.Equal(room[:n], codes) {
					t.Fatalf("%s: %v came back as %v", f.Name, codes, room[:n])
				}
				if !slices.Equal(room[n:], slices.Repeat([]int8{77}, 16)) {
					t.Fatalf("%s: %d codes were written past the end", f.Name, n)
				}
			}
		}
	}
}

// TestEveryByte tries all 256 bytes: those with a digit form round-trip, the others are refused, at any position and
// with any number of codes in the last byte.
func TestEveryByte(t *testing.T) {
	for _, f := range Formats {
		for b := range 256 {
			digits, v := make([]int8, f.PerByte), b
			ok := true
			for i := range digits {
				d := v % f.Radix
				v /= f.Radix
				digits[i] = int8(d - f.Levels/2)
				ok = ok && d < f.Levels
			}
			ok = ok && v == 0
			for _, size := range []int{1, 2, 9, 30} {
				for pos := range size {
					for cut := range f.PerByte {
						src := make([]byte, size)
						if err := f.Pack(src, make([]int8, size*f.PerByte)); err != nil {
							t.Fatal(err)
						}
						src[pos] = byte(b)
						dst := make([]int8, size*f.PerByte-cut)
						padded := pos == size-1 && slices.ContainsFunc(digits[f.PerByte-cut:], func(c int8) bool { return c != 0 })
						err := f.Unpack(dst, src)
						if (err == nil) != (ok && !padded) {
							t.Fatalf("%s: byte %d at %d of %d, %d digits of padding: error %v", f.Name, b, pos, size, cut, err)
						}
						if err != nil {
							if !strings.Contains(err.Error(), fmt.Sprintf("%d at %d", b, pos)) {
								t.Fatalf("%q does not name byte %d at %d", err, b, pos)
							}
							continue
						}
						again := make([]byte, size)
						if err := f.Pack(again, dst); err != nil || !bytes.Equal(again, src) {
							t.Fatalf("%s: %v came back as %v (%v)", f.Name, src, again, err)
						}
					}
				}
			}
		}
	}
}

func TestPackErrors(t *testing.T) {
	for _, f := range Formats {
		for c := -128; c < 128; c++ {
			valid := c >= -f.Levels/2 && c <= f.Levels/2
			for n := 1; n < 12; n++ {
				for pos := range n {
					codes := make([]int8, n)
					codes[pos] = int8(c)
					err := f.Pack(make([]byte, f.Bytes(n)), codes)
					if (err == nil) != valid {
						t.Fatalf("%s: code %d at %d of %d: error %v", f.Name, c, pos, n, err)
					}
					if err != nil && !strings.Contains(err.Error(), fmt.Sprintf("code %d at %d is outside", c, pos)) {
						t.Fatalf("%q does not name code %d at %d", err, c, pos)
					}
				}
			}
		}
	}
}

func TestLengths(t *testing.T) {
	for _, f := range Formats {
		if got := f.Bytes(math.MaxInt); got <= 0 {
			t.Errorf("%s: Bytes(MaxInt) = %d", f.Name, got)
		}
		n := 2*f.PerByte + 1
		for _, d := range []int{-1, 1} {
			if err := f.Pack(make([]byte, f.Bytes(n)+d), make([]int8, n)); err == nil {
				t.Errorf("%s: Pack into %d bytes of %d accepted", f.Name, f.Bytes(n)+d, f.Bytes(n))
			}
			if err := f.Unpack(make([]int8, n), make([]byte, f.Bytes(n)+d)); err == nil {
				t.Errorf("%s: Unpack of %d bytes of %d accepted", f.Name, f.Bytes(n)+d, f.Bytes(n))
			}
		}
	}
}

func TestByName(t *testing.T) {
	for _, f := range Formats {
		if got, err := ByName(f.Name); got != f || err != nil {
			t.Errorf("ByName(%q) = %v, %v", f.Name, got, err)
		}
	}
	if _, err := ByName("base4"); err == nil || !strings.Contains(err.Error(), "use base3, 2bit, base5") {
		t.Errorf("error %v", err)
	}
}

func TestEntropy(t *testing.T) {
	for _, c := range []struct {
		codes  []int8
		bits   float64
		counts map[int8]int
	}{
		{nil, 0, map[int8]int{}},
		{[]int8{1, 1, 1}, 0, map[int8]int{1: 3}},
		{[]int8{-1, 0, 1}, math.Log2(3), map[int8]int{-1: 1, 0: 1, 1: 1}},
		{[]int8{0, 0, -1, 1}, 1.5, map[int8]int{-1: 1, 0: 2, 1: 1}},
		{[]int8{-2, -1, 0, 1, 2}, math.Log2(5), map[int8]int{-2: 1, -1: 1, 0: 1, 1: 1, 2: 1}},
	} {
		bits, counts := Entropy(c.codes)
		if math.Abs(bits-c.bits) > 1e-15 || math.Signbit(bits) || !maps.Equal(counts, c.counts) {
			t.Errorf("Entropy(%v) = %v, %v, want %v, %v", c.codes, bits, counts, c.bits, c.counts)
		}
	}
}

// FuzzUnpack: whatever is accepted packs to the same bytes again.
func FuzzUnpack(f *testing.F) {
	f.Add(uint8(0), uint8(0), []byte{0, 121, 242})
	f.Add(uint8(1), uint8(3), []byte{0, 0x55})
	f.Add(uint8(2), uint8(1), []byte{124, 62})
	f.Fuzz(func(t *testing.T, which, cut uint8, src []byte) {
		f := Formats[int(which)%len(Formats)]
		n := len(src) * f.PerByte
		if n > 0 {
			n -= int(cut) % f.PerByte
		}
		codes := make([]int8, n)
		if f.Unpack(codes, src) != nil {
			return
		}
		again := make([]byte, len(src))
		if err := f.Pack(again, codes); err != nil || !bytes.Equal(again, src) {
			t.Fatalf("%s: %v came back as %v (%v)", f.Name, src, again, err)
		}
	})
}

// FuzzPack: codes in range come back, others are refused.
func FuzzPack(f *testing.F) {
	f.Add(uint8(0), []byte{0, 1, 255, 0, 1, 2})
	f.Add(uint8(2), []byte{254, 2, 1, 0})
	f.Fuzz(func(t *testing.T, which uint8, raw []byte) {
		f := Formats[int(which)%len(Formats)]
		codes := make([]int8, len(raw))
		valid := true
		for i, b := range raw {
			codes[i] = int8(b)
			valid = valid && int(codes[i]) <= f.Levels/2 && int(codes[i]) >= -f.Levels/2
		}
		packed := make([]byte, f.Bytes(len(codes)))
		if err := f.Pack(packed, codes); (err == nil) != valid {
			t.Fatalf("%s: pack %v: error %v", f.Name, codes, err)
		}
		if !valid {
			return
		}
		back := make([]int8, len(codes))
		if err := f.Unpack(back, packed); err != nil || !slices.Equal(back, codes) {
			t.Fatalf("%s: %v came back as %v (%v)", f.Name, codes, back, err)
		}
	})
}

func bench(b *testing.B, do func(f *Format, packed []byte, codes []int8) error) {
	const n = 1 << 20
	for _, f := range Formats {
		codes := randomCodes(n, f.Levels, 1)
		packed := make([]byte, f.Bytes(n))
		if err := f.Pack(packed, codes); err != nil {
			b.Fatal(err)
		}
		b.Run(f.Name, func(b *testing.B) {
			for b.Loop() {
				if err := do(f, packed, codes); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(n*float64(b.N)/b.Elapsed().Seconds(), "codes/s")
		})
	}
}

func BenchmarkPack(b *testing.B) {
	bench(b, func(f *Format, packed []byte, codes []int8) error { return f.Pack(packed, codes) })
}

func BenchmarkUnpack(b *testing.B) {
	bench(b, func(f *Format, packed []byte, codes []int8) error { return f.Unpack(codes, packed) })
}
