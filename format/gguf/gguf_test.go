package gguf

import (
	"bytes"
	"encoding/binary"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"

	"setun/internal/half"
)

func randomCodes(n int) []int8 {
	rng := rand.New(rand.NewPCG(1, uint64(n)))
	codes := make([]int8, n)
	for i := range codes {
		codes[i] = int8(rng.IntN(3) - 1)
	}
	return codes
}

var everyValue = []KV{
	{"general.architecture", "bitnet"}, {"u8", uint8(200)}, {"i8", int8(-3)}, {"u16", uint16(60000)}, {"i16", int16(-9)},
	{"u32", uint32(1 << 31)}, {"i32", int32(-7)}, {"f32", float32(0.1)}, {"yes", true}, {"u64", uint64(1 << 63)},
	{"i64", int64(-1 << 40)}, {"f64", math.Pi}, {"empty", ""}, {"texts", []string{"a", "", "ü"}}, {"none", []string{}},
	{"floats", []float32{1, -2}}, {"ints", []int32{3, -4}}, {"bytes", []uint8{1, 2, 3}}, {"i8s", []int8{-1}},
	{"u16s", []uint16{5}}, {"i16s", []int16{-5}}, {"u32s", []uint32{6, 7}}, {"bools", []bool{true, false}},
	{"u64s", []uint64{8}}, {"i64s", []int64{-8}}, {"f64s", []float64{math.E}},
}

func everyTensor(t testing.TB) []Tensor {
	t.Helper()
	rng := rand.New(rand.NewPCG(1, 2))
	x := make([]float32, 3*512)
	for i := range x {
		x[i] = float32(rng.NormFloat64())
	}
	var ts []Tensor
	for _, typ := range []Type{F32, F16, BF16, Q8_0} {
		y, err := Encode("x."+typ.String(), typ, []int{512, 3}, x)
		if err != nil {
			t.Fatal(err)
		}
		ts = append(ts, y)
	}
	for _, typ := range []Type{TQ1_0, TQ2_0, I2_S} {
		y, err := EncodeCodes("c."+typ.String(), typ, []int{512, 3}, randomCodes(3*512), 0.75)
		if err != nil {
			t.Fatal(err)
		}
		ts = append(ts, y)
	}
	odd, err := Encode("odd", F16, []int{3, 1, 2}, x[:6])
	if err != nil {
		t.Fatal(err)
	}
	return append(ts, odd)
}

func file(t testing.TB) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := Write(&b, everyValue, everyTensor(t)); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestFile(t *testing.T) {
	raw := file(t)
	f, err := Read(bytes.NewReader(raw), int64(len(raw)))
	if err != nil {
		t.Fatal(err)
	}
	var keys []string
	for _, kv := range everyValue {
		keys = append(keys, kv.Key)
		if got, ok := f.Value(kv.Key); !ok || !reflect.DeepEqual(got, kv.Value) {
			t.Errorf("%s is %v, want %v", kv.Key, got, kv.Value)
		}
	}
	if !slices.Equal(f.Keys(), keys) {
		t.Errorf("keys %v", f.Keys())
	}
	for i, want := range everyTensor(t) {
		in := f.Tensors()[i]
		got, err := f.Tensor(want.Name)
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got, want) || in.Name != want.Name || in.Type != want.Type || !slices.Equal(in.Dims, want.Dims) {
			t.Errorf("tensor %d is %s %s %v, want %s", i, in.Name, in.Type, in.Dims, want.Name)
		}
	}
	for key, want := range map[string]int{"u8": 200, "i8": -3, "u16": 60000, "i16": -9, "i32": -7, "no such key": 42} {
		if got, err := f.Int(key, 42); err != nil || got != want {
			t.Errorf("Int(%s) = %d, %v", key, got, err)
		}
	}
	for _, key := range []string{"u32", "u64", "i64", "f32", "texts"} {
		if _, err := f.Int(key, 0); err == nil {
			t.Errorf("Int(%s) should fail", key)
		}
	}
	if v, err := f.Float("f32", 0); err != nil || v != float64(float32(0.1)) {
		t.Errorf("Float: %v, %v", v, err)
	}
	if v, err := f.Float("f64", 0); err != nil || v != math.Pi {
		t.Errorf("Float: %v, %v", v, err)
	}
	if v, err := f.Text("general.architecture", ""); err != nil || v != "bitnet" {
		t.Errorf("Text: %v, %v", v, err)
	}
	if _, err := f.Text("u8", ""); err == nil {
		t.Error("Text of a number should fail")
	}
	if _, err := f.Float("u8", 0); err == nil {
		t.Error("Float of an integer should fail")
	}
	if _, err := f.Tensor("nothing"); err == nil {
		t.Error("a tensor that is not there")
	}
}

// The file by hand: what stands where.
func TestLayout(t *testing.T) {
	var b bytes.Buffer
	err := Write(&b, []KV{{"k", uint32(7)}}, []Tensor{{"a", F32, []int{1}, []byte{1, 2, 3, 4}}, {"b", F32, []int{1, 1}, []byte{5, 6, 7, 8}}})
	if err != nil {
		t.Fatal(err)
	}
	var w bytes.Buffer
	put := func(v ...any) {
		for _, v := range v {
			if s, ok := v.(string); ok {
				w.WriteString(s)
			} else {
				binary.Write(&w, binary.LittleEndian, v)
			}
		}
	}
	put("GGUF", uint32(3), uint64(2), uint64(1), uint64(1), "k", uint32(4), uint32(7))
	put(uint64(1), "a", uint32(1), uint64(1), uint32(0), uint64(0))
	put(uint64(1), "b", uint32(2), uint64(1), uint64(1), uint32(0), uint64(32))
	for w.Len()%32 != 0 {
		w.WriteByte(0)
	}
	put("\x01\x02\x03\x04", make([]byte, 28), "\x05\x06\x07\x08", make([]byte, 28))
	if !bytes.Equal(b.Bytes(), w.Bytes()) {
		t.Errorf("got %q\nwant %q", b.Bytes(), w.Bytes())
	}
}

// Blocks, bit by bit as the formats define them.
func TestBlocks(t *testing.T) {
	codes := randomCodes(512)
	digit := func(i int) int { return int(codes[i]) + 1 }
	for _, typ := range []Type{TQ2_0, TQ1_0, I2_S} {
		var want []byte
		switch typ {
		case TQ2_0:
			for b := range 2 {
				for h := range 2 {
					for m := range 32 {
						at := 256*b + 128*h + m
						want = append(want, byte(digit(at)+4*digit(at+32)+16*digit(at+64)+64*digit(at+96)))
					}
				}
				want = append(want, 0x00, 0x38) // 0.5
			}
		case TQ1_0:
			pack := func(at ...int) {
				v := 0
				for _, i := range at {
					v = 3*v + digit(i)
				}
				if len(at) == 4 {
					v *= 3
				}
				want = append(want, byte(math.Ceil(float64(v)*256/243)))
			}
			for b := 0; b < 512; b += 256 {
				for m := b; m < b+32; m++ {
					pack(m, m+32, m+64, m+96, m+128)
				}
				for m := b + 160; m < b+176; m++ {
					pack(m, m+16, m+32, m+48, m+64)
				}
				for m := b + 240; m < b+244; m++ {
					pack(m, m+4, m+8, m+12)
				}
				want = append(want, 0x00, 0x38)
			}
		case I2_S:
			for b := 0; b < 512; b += 128 {
				for m := b; m < b+32; m++ {
					want = append(want, byte(digit(m)<<6|digit(m+32)<<4|digit(m+64)<<2|digit(m+96)))
				}
			}
			want = append(want, 0, 0, 0, 0x3f)
			want = append(want, make([]byte, 28)...)
		}
		got, err := EncodeCodes("w", typ, []int{256, 2}, codes, 0.5)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got.Data, want) {
			t.Errorf("%s: other bytes", typ)
		}
		back, scales, err := Codes(got)
		if again, err := Scales(got); err != nil || !slices.Equal(again, scales) {
			t.Errorf("%s: scales %v, %v; those of Codes are %v", got.Type, again, err, scales)
		}
		if err != nil || !slices.Equal(back, codes) || slices.ContainsFunc(scales, func(s float32) bool { return s != 0.5 }) {
			t.Errorf("%s: other codes, %v, %v", typ, scales, err)
		}
		x, err := Floats(got)
		if err != nil {
			t.Fatal(err)
		}
		for i, c := range codes {
			if x[i] != float32(c)/2 {
				t.Fatalf("%s: value %d is %v", typ, i, x[i])
			}
		}
	}
	// Every value that a byte of TQ1_0 can have, and those it cannot.
	good := 0
	for b := range 256 {
		if d, ok := fraction(byte(b)); ok {
			good++
			v := 0
			for _, x := range d {
				v = 3*v + int(x)
			}
			if byte(math.Ceil(float64(v)*256/243)) != byte(b) {
				t.Errorf("byte %d is %v", b, d)
			}
		}
	}
	if good != 243 {
		t.Errorf("%d bytes have codes", good)
	}
}

func TestFloats(t *testing.T) {
	x := []float32{1, -0.5, 65504, 1e-8, 0, -3.14159}
	for typ, tol := range map[Type]float64{F32: 0, F16: 0x1p-11, BF16: 0x1p-8} {
		y, err := Encode("x", typ, []int{6}, x)
		if err != nil {
			t.Fatal(err)
		}
		back, err := Floats(y)
		if err != nil {
			t.Fatal(err)
		}
		for i, v := range back {
			if math.Abs(float64(v-x[i])) > tol*math.Abs(float64(x[i]))+1e-7 {
				t.Errorf("%s: %v became %v", typ, x[i], v)
			}
		}
	}
	q := make([]float32, 64)
	for i := range q {
		q[i] = float32(i - 20)
	}
	y, err := Encode("q", Q8_0, []int{64}, q)
	if err != nil {
		t.Fatal(err)
	}
	if d := half.FromF16(le.Uint16(y.Data)); d != half.FromF16(half.F16(20.0/127)) || int8(y.Data[2]) != -127 || int8(y.Data[2+31]) != 70 {
		t.Errorf("Q8_0 block: scale %v, codes %d, %d", d, int8(y.Data[2]), int8(y.Data[2+31]))
	}
	back, err := Floats(y)
	if err != nil {
		t.Fatal(err)
	}
	for i, v := range back {
		if math.Abs(float64(v-q[i])) > 43.0/127 {
			t.Errorf("Q8_0: %v became %v", q[i], v)
		}
	}
}

func TestErrors(t *testing.T) {
	one := []byte{0, 0, 0, 0}
	for want, call := range map[string]func() error{
		"blocks of 256 elements, which do not divide 384": func() error {
			_, err := EncodeCodes("w", TQ2_0, []int{384, 2}, make([]int8, 768), 1)
			return err
		},
		"code 5 is 2, not ternary": func() error {
			_, err := EncodeCodes("w", I2_S, []int{128}, append(make([]int8, 5), append([]int8{2}, make([]int8, 122)...)...), 1)
			return err
		},
		"TQ1_0 takes codes":          func() error { _, err := Encode("w", TQ1_0, []int{256}, make([]float32, 256)); return err },
		"F16 does not take ternary":  func() error { _, err := EncodeCodes("w", F16, []int{1}, make([]int8, 1), 1); return err },
		"3 values for [2]":           func() error { _, err := Encode("w", F32, []int{2}, make([]float32, 3)); return err },
		"F16 has no ternary codes":   func() error { _, _, err := Codes(Tensor{"w", F16, []int{2}, one}); return err },
		"takes 8 bytes, Data has 4":  func() error { _, err := Floats(Tensor{"w", F32, []int{2}, one}); return err },
		"type 99 is not one":         func() error { _, err := Floats(Tensor{"w", 99, []int{2}, one}); return err },
		"out of range":               func() error { _, err := Floats(Tensor{"w", F32, []int{1 << 40, 1 << 40}, one}); return err },
		"5 dimensions":               func() error { _, err := Floats(Tensor{"w", F32, []int{1, 1, 1, 1, 1}, one}); return err },
		"empty name":                 func() error { return Write(&bytes.Buffer{}, nil, []Tensor{{"", F32, []int{1}, one}}) },
		"no dimensions":              func() error { return Write(&bytes.Buffer{}, nil, []Tensor{{"a", F32, nil, one}}) },
		`"a" twice`:                  func() error { return Write(&bytes.Buffer{}, []KV{{"a", true}, {"a", true}}, nil) },
		"Go type int cannot":         func() error { return Write(&bytes.Buffer{}, []KV{{"a", 1}}, nil) },
		"is Write's to choose":       func() error { return Write(&bytes.Buffer{}, []KV{{"general.alignment", uint32(64)}}, nil) },
		`unknown type "TQ3"`:         func() error { _, err := TypeByName("TQ3"); return err },
		"no such file":               func() error { _, err := Open("no such file"); return err },
		"byte 3 of its data is 0xff": func() error { _, _, err := Codes(Tensor{"w", TQ2_0, []int{256}, badByte(66, 0xff)}); return err },
		"0x1: no five ternary codes": func() error { _, _, err := Codes(Tensor{"w", TQ1_0, []int{256}, badByte(54, 1)}); return err },
	} {
		if err := call(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q, got %v", want, err)
		}
	}
}

func badByte(n int, v byte) []byte {
	b := make([]byte, n)
	b[3] = v
	return b
}

// Cut and changed files are errors or files, never a panic, and take no memory that they do not fill.
func TestHostile(t *testing.T) {
	raw := file(t)
	for cut := range len(raw) {
		if cut > 2048 && cut%97 != 0 {
			continue
		}
		f, err := Read(bytes.NewReader(raw[:cut]), int64(cut))
		if err == nil {
			t.Fatalf("read %d tensors of a file cut to %d bytes", len(f.Tensors()), cut)
		}
	}
	var header bytes.Buffer
	put := func(v ...any) []byte {
		header.Reset()
		header.WriteString("GGUF")
		for _, v := range v {
			if s, ok := v.(string); ok {
				v = append(le.AppendUint64(nil, uint64(len(s))), s...)
			}
			binary.Write(&header, le, v)
		}
		return bytes.Clone(header.Bytes())
	}
	v3, none, one, big := uint32(3), uint64(0), uint64(1), uint64(1<<40)
	for want, b := range map[string][]byte{
		"version 4":           put(uint32(4), none, none),
		"items do not fit":    put(v3, big, none),
		"1099511627776 items": put(v3, none, big),
		"a text of":           put(v3, none, one, big, uint32(0), none),
		"an array of type 9":  put(v3, none, one, "k", uint32(9), uint32(9), one, none),
		"value type 13":       put(v3, none, one, "k", uint32(13), none, none),
		"a bool of 2":         put(v3, none, one, "k", uint32(7), uint8(2)),
		`"k" twice`:           put(v3, none, uint64(2), "k", uint32(0), uint8(2), "k", uint32(0), uint8(2), none, none),
		"general.alignment":   put(v3, none, one, "general.alignment", uint32(4), uint32(3), none),
		"5 dimensions":        put(v3, one, none, "t", uint32(5), one, one, one, one, one, uint32(0), none),
		"a dimension of":      put(v3, one, none, "t", uint32(1), big, uint32(0), none),
		"does not lie":        put(v3, one, none, "t", uint32(2), uint64(1<<30), uint64(1<<20), uint32(0), none),
		"out of range":        put(v3, one, none, "t", uint32(4), uint64(1<<30), uint64(1<<30), uint64(1<<30), one, uint32(0), none),
		"at offset 7":         put(v3, one, none, "t", uint32(1), one, uint32(0), uint64(7), make([]byte, 64)),
		"\"t\" and \"u\" overlap": put(v3, uint64(2), none, "t", uint32(1), uint64(16), uint32(0), none, "u", uint32(1), one,
			uint32(0), uint64(32), make([]byte, 192)),
		"is not UTF-8":         put(v3, one, none, "\xff", uint32(1), one, uint32(0), none, make([]byte, 64)),
		"begins with \"GGML\"": []byte("GGML\x03\x00\x00\x00"),
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := Read(bytes.NewReader(b), int64(len(b)))
		runtime.ReadMemStats(&after)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q, got %v", want, err)
		}
		if grown := after.TotalAlloc - before.TotalAlloc; grown > 1<<20 {
			t.Errorf("%q: %d bytes allocated for a file of %d", want, grown, len(b))
		}
	}
}

func FuzzRead(f *testing.F) {
	f.Add(file(f))
	var small bytes.Buffer
	if err := Write(&small, []KV{{"general.alignment.not", uint32(1)}, {"a", []string{"x"}}}, []Tensor{{"t", F16, []int{2}, make([]byte, 4)}}); err != nil {
		f.Fatal(err)
	}
	f.Add(small.Bytes())
	f.Fuzz(func(t *testing.T, b []byte) {
		g, err := Read(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			return
		}
		for _, in := range g.Tensors() {
			x, err := g.Tensor(in.Name)
			if err != nil {
				continue
			}
			if _, err := Floats(x); err != nil {
				continue
			}
			if codes, scales, err := Codes(x); err == nil && len(scales) > 0 {
				again, err := EncodeCodes(x.Name, x.Type, x.Dims, codes, scales[0])
				if err != nil || len(again.Data) != len(x.Data) {
					t.Fatalf("%s does not encode again: %v", x.Type, err)
				}
			}
		}
	})
}

// TestCutWhileOpen: a file that becomes shorter after it was opened is an error at the next tensor.
func TestCutWhileOpen(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("Windows does not cut files that are mapped")
	}
	path := filepath.Join(t.TempDir(), "x.gguf")
	var b bytes.Buffer
	if err := Write(&b, nil, []Tensor{{"x", F32, []int{4096}, make([]byte, 4*4096)}}); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, b.Bytes(), 0o666); err != nil {
		t.Fatal(err)
	}
	f, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := os.Truncate(path, 5000); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Tensor("x"); err == nil || !strings.Contains(err.Error(), "became shorter") {
		t.Errorf("the tensor of a file that was cut: %v", err)
	}
	if err := f.View("x", func(v Tensor) error { _, err := Floats(v); return err }); err == nil ||
		!strings.Contains(err.Error(), "became shorter") {
		t.Errorf("a view of a file that was cut: %v", err)
	}
}
