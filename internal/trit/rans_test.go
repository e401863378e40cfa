package trit

import (
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
)

// skewed gives codes that are 0 with probability zero; with rows, whole runs of 100 are 0 in half of the cases.
func skewed(n, levels int, zero float64, rows bool) []int8 {
	r := rand.New(rand.NewPCG(uint64(n), math.Float64bits(zero)))
	c := make([]int8, n)
	for i := range c {
		if rows && i%100 == 0 && r.IntN(2) == 0 {
			i += 100
		}
		if r.Float64() >= zero {
			c[i%n] = int8(r.IntN(levels) - levels/2)
		}
	}
	if rows {
		for i := 0; i+100 <= n; i += 200 {
			clear(c[i : i+100])
		}
	}
	return c
}

func pack(t testing.TB, f *Format, codes []int8) []byte {
	packed := make([]byte, f.Bytes(len(codes)))
	if err := f.Pack(packed, codes); err != nil {
		t.Fatal(err)
	}
	return packed
}

// byteEntropy is the size of packed at the entropy of its bytes.
func byteEntropy(packed []byte) float64 {
	var hist [256]float64
	for _, b := range packed {
		hist[b]++
	}
	n := 0.0
	for _, h := range hist {
		if h > 0 {
			n += h * math.Log2(float64(len(packed))/h)
		}
	}
	return n / 8
}

func TestCompress(t *testing.T) {
	for _, f := range Formats {
		for _, n := range []int{0, 1, 4, 5, 6, 100, 1000, 16384, 250_000} {
			for _, zero := range []float64{0, 1. / 3, 0.8, 0.99, 1} {
				for _, rows := range []bool{false, true} {
					codes := skewed(n, f.Levels, zero, rows)
					packed := pack(t, f, codes)
					got := f.Compress([]byte("head"), packed)
					name := fmt.Sprintf("%s n=%d zero=%g rows=%t", f.Name, n, zero, rows)
					if string(got[:4]) != "head" {
						t.Fatalf("%s: does not append", name)
					}
					got = got[4:]
					if len(got) > len(packed)+1 {
						t.Errorf("%s: %d bytes became %d", name, len(packed), len(got))
					}
					// states, model, and what rare bytes lose: their frequencies are at least 2^-14
					bits, _ := Entropy(codes)
					if limit := 1.03*min(bits*float64(n)/8, byteEntropy(packed)+600) + 50; float64(len(got)) > limit && n > 0 {
						t.Errorf("%s: %d bytes, more than %.0f", name, len(got), limit)
					}
					back := make([]byte, len(packed))
					if err := f.Expand(back, got); err != nil || !bytes.Equal(back, packed) {
						t.Fatalf("%s: does not come back: %v", name, err)
					}
				}
			}
		}
	}
}

// Every frequency that a byte can have, from 1 to all, survives; so do bytes that no format packs.
func TestCompressAnyBytes(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		packed := make([]byte, r.IntN(5000))
		top, rare := 1+r.IntN(256), r.Float64()
		for i := range packed {
			if r.Float64() < rare*rare {
				packed[i] = byte(r.IntN(top))
			}
		}
		code := Base3.Compress(nil, packed)
		back := make([]byte, len(packed))
		if err := Base3.Expand(back, code); err != nil || !bytes.Equal(back, packed) {
			t.Fatalf("%d bytes below %d do not come back: %v", len(packed), top, err)
		}
	}
}

// Every cut and almost every changed byte is noticed: bytes of the same frequency may stand for each other.
func TestExpandDamage(t *testing.T) {
	for _, rows := range []bool{false, true} { // digits, then a table
		codes := skewed(40_000, 3, 0.4, rows)
		if rows {
			clear(codes[:25_000])
		}
		packed := pack(t, Base3, codes)
		code := Base3.Compress(nil, packed)
		if want := map[bool]byte{false: digits, true: table}[rows]; code[0] != want {
			t.Fatalf("model %d, want %d", code[0], want)
		}
		back := make([]byte, len(packed))
		for n := 0; n < len(code); n += 3 {
			if Base3.Expand(back, code[:n]) == nil {
				t.Fatalf("accepted when cut to %d of %d bytes", n, len(code))
			}
		}
		if Base3.Expand(back, append(bytes.Clone(code), 0, 0, 0, 0)) == nil {
			t.Error("accepted with a word too many")
		}
		if Base3.Expand(back[1:], code) == nil || Base3.Expand(make([]byte, len(back)+1), code) == nil {
			t.Error("accepted for another length")
		}
		missed := 0
		for i := range code {
			code[i] ^= 1 << (i % 8)
			if Base3.Expand(back, code) == nil {
				missed++
			}
			code[i] ^= 1 << (i % 8)
		}
		if missed > len(code)/50 {
			t.Errorf("%d of %d changed bytes were not noticed", missed, len(code))
		}
	}
}

// FuzzExpand: what is accepted packs to something that Compress and Expand agree on.
func FuzzExpand(f *testing.F) {
	for i, format := range Formats {
		for _, zero := range []float64{0.5, 0.95} {
			packed := pack(f, format, skewed(2000, format.Levels, zero, i == 0))
			f.Add(uint8(i), uint16(len(packed)), format.Compress(nil, packed))
		}
	}
	f.Add(uint8(0), uint16(0), []byte{raw})
	f.Add(uint8(0), uint16(9), append([]byte{table, 0, 254, 0x80, 0x80, 1}, make([]byte, 32)...))
	f.Fuzz(func(t *testing.T, which uint8, n uint16, src []byte) {
		f := Formats[int(which)%len(Formats)]
		packed := make([]byte, n)
		if f.Expand(packed, src) != nil {
			return
		}
		back := make([]byte, n)
		if err := f.Expand(back, f.Compress(nil, packed)); err != nil || !bytes.Equal(back, packed) {
			t.Fatalf("%s: %v came back as %v (%v)", f.Name, packed, back, err)
		}
	})
}

// FuzzCompress: any bytes come back.
func FuzzCompress(f *testing.F) {
	f.Add(uint8(0), []byte{121, 121, 121, 0, 242})
	f.Add(uint8(1), bytes.Repeat([]byte{1, 2, 0, 255}, 200))
	f.Fuzz(func(t *testing.T, which uint8, packed []byte) {
		f := Formats[int(which)%len(Formats)]
		code := f.Compress(nil, packed)
		back := make([]byte, len(packed))
		if err := f.Expand(back, code); err != nil || !bytes.Equal(back, packed) || len(code) > len(packed)+1 {
			t.Fatalf("%s: %v came back as %v from %d bytes (%v)", f.Name, packed, back, len(code), err)
		}
	})
}

func benchCompressed(b *testing.B, do func(packed, code []byte)) {
	const n = 1 << 22
	packed := pack(b, Base3, skewed(n, 3, 0.5, false))
	code := Base3.Compress(nil, packed)
	for b.Loop() {
		do(packed, code)
	}
	b.ReportMetric(n*float64(b.N)/b.Elapsed().Seconds(), "codes/s")
	b.ReportMetric(8*float64(len(code))/n, "bits/code")
}

func BenchmarkCompress(b *testing.B) {
	benchCompressed(b, func(packed, code []byte) { Base3.Compress(code[:0], packed) })
}

func BenchmarkExpand(b *testing.B) {
	benchCompressed(b, func(packed, code []byte) {
		if err := Base3.Expand(packed, code); err != nil {
			b.Fatal(err)
		}
	})
}
