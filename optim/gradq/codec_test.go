package gradq_test

import (
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"setun/optim/gradq"
)

var codecNames = []string{"int8", "2bit", "base3", "rans"}

func codec(t testing.TB, name string) *gradq.Codec {
	c, err := gradq.CodecByName(name)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func randomCodes(r *rand.Rand, n, levels int) []int8 {
	codes := make([]int8, n)
	for i := range codes {
		if r.IntN(3) == 0 {
			codes[i] = int8(r.IntN(2*levels+1) - levels)
		}
	}
	return codes
}

func TestCodecs(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	for _, name := range codecNames {
		c := codec(t, name)
		for _, n := range []int{0, 1, 3, 4, 5, 6, 127, 5000, 100_000} {
			for _, scales := range []int{1, 3} {
				codes, scale := randomCodes(r, n, c.Levels), []float32{0.5, 0, 1e-30}[:scales]
				src, err := c.Append([]byte{9}, codes, scale)
				if err != nil || src[0] != 9 {
					t.Fatalf("%s: %v, %v", name, src[:1], err)
				}
				src = src[1:]
				if size, fixed := c.Size(n, scales); len(src) > size || fixed && len(src) != size {
					t.Errorf("%s: %d bytes for %d codes, Size says %d, %t", name, len(src), n, size, fixed)
				}
				back, s := make([]int8, n), make([]float32, scales)
				if err := c.Decode(back, s, src); err != nil || !slices.Equal(back, codes) || !slices.Equal(s, scale) {
					t.Errorf("%s: %d codes do not come back: %v", name, n, err)
				}
			}
		}
		if _, err := c.Append(nil, []int8{0, int8(c.Levels), 2}, nil); c.Levels == 1 &&
			(err == nil || !strings.Contains(err.Error(), "code 2 at 2")) {
			t.Errorf("%s: error %v for a code out of range", name, err)
		}
	}
	if _, err := gradq.CodecByName("zip"); err == nil ||
		err.Error() != `gradq: unknown codec "zip"; use int8, 2bit, base3, rans` {
		t.Errorf("error %v", err)
	}
}

func TestDecodeRefuses(t *testing.T) {
	nan := []byte{0, 0, 0xc0, 0x7f}
	for _, tt := range []struct {
		codec string
		n     int
		src   []byte
		want  string
	}{
		{"int8", 3, []byte{0, 0, 0, 0, 1, 2}, "6 bytes for 3 codes and 1 scales as int8; want 7"},
		{"int8", 1, []byte{0, 0, 0, 0, 1, 2}, "want 5"},
		{"int8", 1, []byte{0, 0, 0, 0, 0x80}, "code -128 at 0"},
		{"int8", 1, append(slices.Clone(nan), 1), "scale 0 is NaN"},
		{"int8", 0, []byte{0, 0}, "2 bytes"},
		{"2bit", 4, []byte{0, 0, 0, 0, 3}, "byte 3 at 0 is invalid"},
		{"base3", 5, []byte{0, 0, 0, 0, 250}, "byte 250 at 0 is invalid"},
		{"base3", 1, []byte{0, 0, 0, 0, 0}, "nonzero padding"},
		{"rans", 5, []byte{0, 0, 0, 0}, "no bytes"},
		{"rans", 5, []byte{0, 0, 0, 0, 0, 250}, "byte 250 at 0 is invalid"},
		{"rans", 5, []byte{0, 0, 0, 0, 7, 1}, "unknown model 7"},
		{"rans", 5, make([]byte, 100), "100 bytes for 5 codes"},
	} {
		err := codec(t, tt.codec).Decode(make([]int8, tt.n), make([]float32, 1), tt.src)
		if err == nil || !strings.HasPrefix(err.Error(), "gradq: ") || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s %v: error %v, want %q", tt.codec, tt.src, err, tt.want)
		}
	}
}

// FuzzDecode: what is accepted is in range, and its own encoding comes back.
func FuzzDecode(f *testing.F) {
	r := rand.New(rand.NewPCG(2, 2))
	for i, name := range codecNames {
		c := codec(f, name)
		src, err := c.Append(nil, randomCodes(r, 3000, c.Levels), []float32{1, 2})
		if err != nil {
			f.Fatal(err)
		}
		f.Add(uint8(i), uint16(3000), uint8(2), src)
	}
	f.Fuzz(func(t *testing.T, which uint8, n uint16, scales uint8, src []byte) {
		c := codec(t, codecNames[int(which)%len(codecNames)])
		codes, scale := make([]int8, n), make([]float32, scales)
		if c.Decode(codes, scale, src) != nil {
			return
		}
		for i, q := range codes {
			if int(q) > c.Levels || int(q) < -c.Levels {
				t.Fatalf("%s: code %d at %d", c.Name, q, i)
			}
		}
		again, err := c.Append(nil, codes, scale)
		if err != nil || c.Name != "rans" && !bytes.Equal(again, src) {
			t.Fatalf("%s: %v came back as %v (%v)", c.Name, src, again, err)
		}
	})
}

func TestConfig(t *testing.T) {
	for _, tt := range []struct {
		c    gradq.Config
		want string
	}{
		{gradq.Config{}, ""},
		{gradq.Config{Kind: "int8", PerRow: true}, ""},
		{gradq.Config{Kind: "ternary", Clip: -1, Codec: "2bit"}, ""},
		{gradq.Config{Kind: "ternary-ef", Codec: "base3"}, ""},
		{gradq.Config{Kind: "ternary-ef", Codec: "int8"}, ""},
		{gradq.Config{Kind: "int4"}, `unknown kind of gradients "int4"; use fp32, int8, ternary, ternary-ef`},
		{gradq.Config{Kind: "ternary", Codec: "zip"}, `unknown codec "zip"; use int8, 2bit, base3, rans`},
		{gradq.Config{Kind: "int8", Codec: "rans"}, "codec rans holds codes up to 1, int8 gradients have 127"},
		{gradq.Config{Codec: "rans"}, `fp32 gradients have no codec "rans"`},
		{gradq.Config{Kind: "int8", Clip: 2}, "clip is 2; only ternary gradients are clipped"},
		{gradq.Config{Kind: "ternary-ef", Clip: 2}, "clip is 2"},
		{gradq.Config{Kind: "ternary", Clip: float32(math.NaN())}, "clip is NaN"},
	} {
		err := tt.c.Validate()
		if fmt.Sprint(err) != "<nil>" && (tt.want == "" || !strings.Contains(err.Error(), tt.want)) || err == nil && tt.want != "" {
			t.Errorf("%+v: error %v, want %q", tt.c, err, tt.want)
		}
		if _, err := gradq.New(tt.c, nil); (err == nil) != (tt.want == "") {
			t.Errorf("New(%+v): %v", tt.c, err)
		}
	}
}
