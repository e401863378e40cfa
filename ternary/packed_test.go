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

func TestPacked(t *testing.T) {
	for _, c := range configs() {
		for _, size := range [][2]int{{7, 33}, {1, 1}, {3, 5}, {2, 2}} {
			rows, cols := size[0], size[1]
			l := ternary.NewLinear(tensor.NewMaker(cpu.New(0), 1), cols, rows, false, c)
			p, err := l.Pack()
			if err != nil {
				t.Fatal(err)
			}
			codes, scale := l.Quantized()
			want := codes.Codes()
			book, format, other := ternary.Ternary, "base3", "2bit"
			if c.Codebook == ternary.Five {
				book, format, other = ternary.Five, "base5", "base5"
			}
			if p.Rows != rows || p.Cols != cols || p.Format != format || p.Codebook() != book ||
				!slices.Equal(p.Scales, scale.Floats()) {
				t.Errorf("%s: packed as %v", name(c), p)
			}
			got, err := p.Unpack()
			if err != nil || !slices.Equal(got, want) {
				t.Errorf("%s: Unpack gave other codes, %v", name(c), err)
			}
			q, err := p.As(other)
			if err != nil || q.Format != other || !slices.Equal(q.Scales, p.Scales) {
				t.Fatalf("%s: As(%q): %v, %v", name(c), other, q, err)
			}
			if got, err := q.Unpack(); err != nil || !slices.Equal(got, want) {
				t.Errorf("%s: other codes in %s, %v", name(c), other, err)
			}
			if back, err := q.As(format); err != nil || !slices.Equal(back.Data, p.Data) {
				t.Errorf("%s: As and back gave other bytes, %v", name(c), err)
			}
		}
	}
}

func TestBitsPerWeight(t *testing.T) {
	for _, tt := range []struct {
		format string
		scales int
		want   float64
	}{
		{"base3", 1, (8*20 + 32) / 100.}, {"2bit", 1, (8*25 + 32) / 100.}, {"base3", 10, (8*20 + 320) / 100.},
		{"base5", 1, (8*34 + 32) / 100.},
	} {
		p, err := ternary.NewPacked(ternary.Ternary, make([]int8, 100), 10, 10, make([]float32, tt.scales))
		if err != nil {
			t.Fatal(err)
		}
		if p, err = p.As(tt.format); err != nil {
			t.Fatal(err)
		}
		if got := p.BitsPerWeight(); math.Abs(got-tt.want) > 1e-12 {
			t.Errorf("%v: %g bits, want %g", p, got, tt.want)
		}
		if want := fmt.Sprintf("10 x 10, %s, %.3f bits per weight", tt.format, tt.want); !strings.HasSuffix(p.String(),
			want) {
			t.Errorf("prints %q, want %q at the end", p, want)
		}
	}
}

func TestPackedErrors(t *testing.T) {
	one := []float32{1}
	good := func() *ternary.Packed {
		return &ternary.Packed{Format: "base3", Rows: 2, Cols: 5, Scales: one, Data: []byte{121, 121}}
	}
	change := func(f func(p *ternary.Packed)) func() error {
		return func() error {
			p := good()
			f(p)
			_, err := ternary.FromPacked(cpu.New(0), p, ternary.Config{})
			if err == nil {
				return nil
			}
			if p.Scales == nil || len(p.Scales) == 1 { // the data is at fault: Unpack and As say so too
				if _, e := p.Unpack(); e == nil {
					t.Errorf("FromPacked fails (%v), Unpack does not", err)
				}
				if _, e := p.As("2bit"); e == nil {
					t.Errorf("FromPacked fails (%v), As does not", err)
				}
			}
			return err
		}
	}
	for _, tt := range []struct {
		name string
		f    func() error
		want string
	}{
		{"good", change(func(*ternary.Packed) {}), ""},
		{"format", change(func(p *ternary.Packed) { p.Format = "zip" }), `unknown format "zip"`},
		{"empty format", change(func(p *ternary.Packed) { p.Format = "" }), `unknown format ""`},
		{"short", change(func(p *ternary.Packed) { p.Data = p.Data[:1] }),
			"ternary: 1 bytes of base3 do not hold 2 x 5 codes"},
		{"long", change(func(p *ternary.Packed) { p.Data = make([]byte, 3) }), "3 bytes of base3 do not hold 2 x 5"},
		{"none", change(func(p *ternary.Packed) { p.Data = nil }), "0 bytes of base3"},
		{"damaged", change(func(p *ternary.Packed) { p.Data[1] = 255 }), "byte 255 at 1 is invalid"},
		{"negative", change(func(p *ternary.Packed) { p.Rows, p.Cols = -2, -5 }), "do not hold -2 x -5"},
		{"zero", change(func(p *ternary.Packed) { p.Rows, p.Data = 0, nil }), "do not hold 0 x 5"},
		{"overflow", change(func(p *ternary.Packed) { p.Rows, p.Cols, p.Data = 1<<32, 1<<32, nil }),
			"do not hold 4294967296 x 4294967296"},
		{"scales", change(func(p *ternary.Packed) { p.Scales = make([]float32, 3) }), "3 scales for 2 rows"},
		{"no scales", change(func(p *ternary.Packed) { p.Scales = []float32{} }), "0 scales for 2 rows"},
		{"rule", func() error {
			_, err := ternary.FromPacked(cpu.New(0), good(), ternary.Config{Rule: "median"})
			return err
		}, `unknown rule "median"`},
		{"five-level rule", func() error {
			p, err := ternary.NewPacked(ternary.Five, []int8{2, -2, 1}, 1, 3, one)
			if err != nil {
				return err
			}
			_, err = ternary.FromPacked(cpu.New(0), p, ternary.Config{Rule: ternary.TWN})
			return err
		}, "no five-level form"},
		{"code", func() error { _, err := ternary.NewPacked(ternary.Ternary, []int8{0, 2}, 1, 2, one); return err },
			"code 2 at 1 is outside [-1, 1]"},
		{"number of codes", func() error {
			_, err := ternary.NewPacked(ternary.Ternary, []int8{0, 1}, 2, 2,
				one)
			return err
		},
			"ternary: 2 codes for a weight of 2 x 2"},
		{"negative size", func() error {
			_, err := ternary.NewPacked(ternary.Ternary, []int8{0, 1}, -1, -2,
				one)
			return err
		},
			"2 codes for a weight of -1 x -2"},
		{"size that overflows", func() error {
			_, err := ternary.NewPacked(ternary.Ternary, make([]int8, 4), 1<<62+1, 4, one)
			return err
		}, "4 codes for a weight of 4611686018427387905 x 4"},
		{"five as ternary", func() error {
			p, err := ternary.NewPacked(ternary.Five, []int8{2, -2, 1}, 1, 3, one)
			if err != nil {
				return err
			}
			_, err = p.As("base3")
			return err
		}, "code 2 at 0 is outside [-1, 1]"},
	} {
		err := tt.f()
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: error %v, want %q", tt.name, err, tt.want)
		}
		if err != nil && (strings.Contains(err.Error(), "\n") || !strings.HasPrefix(err.Error(), "ternary: ")) {
			t.Errorf("%s: the error is no line of this package: %v", tt.name, err)
		}
	}
}

func FuzzFromPacked(f *testing.F) {
	f.Add("base3", 2, 5, 1, []byte{121, 121})
	f.Add("base5", 1, 3, 1, []byte{62})
	f.Add("2bit", 1<<32, 1<<32, 0, []byte{})
	dev := cpu.New(1)
	f.Fuzz(func(t *testing.T, format string, rows, cols, scales int, data []byte) {
		p := &ternary.Packed{Format: format, Rows: rows, Cols: cols, Scales: make([]float32, min(max(scales, 0), 1000)),
			Data: data}
		l, err := ternary.FromPacked(dev, p, ternary.Config{})
		if err != nil {
			return
		}
		q, err := l.Pack()
		if err != nil {
			t.Fatal(err)
		}
		if q, err = q.As(format); err != nil || string(q.Data) != string(data) {
			t.Fatalf("%v came back as %v, %v", p, q, err)
		}
	})
}
