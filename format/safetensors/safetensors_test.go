package safetensors

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"
)

func sample() []Tensor {
	return []Tensor{
		New("codes", []int{3}, []int8{-1, 0, 1}),
		New("wte.weight", []int{2, 2}, []float32{1, -2.5, float32(math.Inf(1)), 0x1p-149}),
		New("scalar", nil, []int64{math.MinInt64}),
		New("none", []int{0, 7}, []float32(nil)),
		{"half", F16, []int{2}, []byte{0, 0x3c, 1, 0}},
		New("ids", []int{1, 2}, []int32{-7, 1 << 30}),
		New("packed", []int{2}, []uint8{0, 242}),
		New("double", []int{1}, []float64{math.Pi}),
		{"brain", BF16, []int{1}, []byte{0xc0, 0x3f}},
	}
}

func write(t testing.TB, tensors []Tensor, meta map[string]string) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := Write(&b, tensors, meta); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func readAll(b []byte) ([]Tensor, map[string]string, error) {
	f, err := Read(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		return nil, nil, err
	}
	var all []Tensor
	for _, in := range f.Tensors() {
		x, err := f.Tensor(in.Name)
		if err != nil {
			return nil, nil, err
		}
		all = append(all, x)
	}
	return all, f.Meta(), nil
}

func equal(a, b []Tensor) bool {
	return slices.EqualFunc(a, b, func(a, b Tensor) bool {
		return a.Name == b.Name && a.DType == b.DType && slices.Equal(a.Shape, b.Shape) && bytes.Equal(a.Data, b.Data)
	})
}

func TestRoundTrip(t *testing.T) {
	for _, c := range []struct {
		name    string
		tensors []Tensor
		meta    map[string]string
	}{
		{"all dtypes", sample(), map[string]string{"format": "pt", "b": "<&>\u2028\"\\", "a": ""}},
		{"no tensors", nil, nil},
		{"only metadata", nil, map[string]string{"k": "v"}},
		{"odd names", []Tensor{
			New("a\"b\\c\n<&>\u2028é", []int{1}, []uint8{1}), New("__metadata", []int{1}, []uint8{2}),
		}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := write(t, c.tensors, c.meta)
			got, meta, err := readAll(b)
			if err != nil {
				t.Fatal(err)
			}
			if !equal(got, c.tensors) {
				t.Errorf("tensors\n got %v\nwant %v", got, c.tensors)
			}
			if !reflect.DeepEqual(meta, c.meta) {
				t.Errorf("metadata %v, want %v", meta, c.meta)
			}
			if !bytes.Equal(b, write(t, got, meta)) {
				t.Error("the second writing differs")
			}
		})
	}
}

// golden is put together by hand from the format's description.
func golden() []byte {
	header := `{"__metadata__":{"format":"pt"},` +
		`"c":{"dtype":"I8","shape":[3],"data_offsets":[24,27]},` +
		`"w":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]}}`
	header += strings.Repeat(" ", 7-(len(header)-1)%8)
	data, err := hex.DecodeString("0000803f" + "000000c0" + "0000003f" + "0000807f" + "00000080" + "db0f4940" + "ff0001")
	if err != nil {
		panic(err)
	}
	return slices.Concat([]byte{byte(len(header)), 0, 0, 0, 0, 0, 0, 0}, []byte(header), data)
}

func TestGolden(t *testing.T) {
	w := []float32{1, -2, 0.5, float32(math.Inf(1)), float32(math.Copysign(0, -1)), math.Pi}
	tensors := []Tensor{New("c", []int{3}, []int8{-1, 0, 1}), New("w", []int{2, 3}, w)}
	if got := write(t, tensors, map[string]string{"format": "pt"}); !bytes.Equal(got, golden()) {
		t.Errorf("Write\n got %q\nwant %q", got, golden())
	}
	f, err := Read(bytes.NewReader(golden()), int64(len(golden())))
	if err != nil {
		t.Fatal(err)
	}
	if f.Meta()["format"] != "pt" {
		t.Errorf("metadata %v", f.Meta())
	}
	got, err := f.ReadF32("w")
	if err != nil {
		t.Fatal(err)
	}
	for i := range w {
		if math.Float32bits(got[i]) != math.Float32bits(w[i]) {
			t.Errorf("w[%d] = %v, want %v", i, got[i], w[i])
		}
	}
	if in, ok := f.Info("w"); !ok || in.DType != F32 || !slices.Equal(in.Shape, []int{2, 3}) {
		t.Errorf("Info = %v, %v", in, ok)
	}
	x, err := f.Tensor("c")
	if err != nil {
		t.Fatal(err)
	}
	if c, err := Values[int8](x); err != nil || !slices.Equal(c, []int8{-1, 0, 1}) {
		t.Errorf("c = %v, %v", c, err)
	}
}

// TestOthersLayout reads what other writers may produce: data in another order than the header, metadata last, spaces,
// keys in another order, an unpadded header.
func TestOthersLayout(t *testing.T) {
	b := file(` { "never": 1 }`, "")
	if _, _, err := readAll(b); err == nil {
		t.Error("a header that begins with a space was accepted")
	}
	b = file(`{ "b" : {"data_offsets":[2,4], "shape":[], "dtype":"U16"},
		"a":{"dtype":"U8","shape":[2,1],"data_offsets":[0,2]}, "__metadata__":{}}`, "\x01\x02\x03\x04")
	got, _, err := readAll(b)
	want := []Tensor{{"b", U16, nil, []byte{3, 4}}, {"a", U8, []int{2, 1}, []byte{1, 2}}}
	if err != nil || !equal(got, want) {
		t.Errorf("got %v, %v", got, err)
	}
}

func TestDataIsAligned(t *testing.T) {
	f, err := Read(bytes.NewReader(write(t, sample(), nil)), int64(len(write(t, sample(), nil))))
	if err != nil {
		t.Fatal(err)
	}
	for _, in := range f.Tensors() {
		if (f.data+in.begin)%int64(in.DType.Size()) != 0 {
			t.Errorf("%s of %s begins at %d", in.Name, in.DType, f.data+in.begin)
		}
	}
}

func file(header, data string) []byte {
	return append(binary.LittleEndian.AppendUint64(nil, uint64(len(header))), header+data...)
}

func TestReadErrors(t *testing.T) {
	one := func(fields string) []byte { return file(`{"x":{`+fields+`}}`, "abcdefgh") }
	deep := `"dtype":"U8","data_offsets":[0,8],"shape":[8` + strings.Repeat(",1", 64) + `]`
	for _, c := range []struct {
		name string
		b    []byte
		want string // part of the error
	}{
		{"empty", nil, "0 bytes are too few"},
		{"short", []byte("abc"), "3 bytes are too few"},
		{"header past the end", file("{}", "")[:9], "header of 2 bytes is longer than the file of 9"},
		{"header length 2^64-1", bytes.Repeat([]byte{255}, 32), "longer than the file"},
		{"no header", file("", ""), "does not begin with {"},
		{"array", file("[]", ""), "does not begin with {"},
		{"not json", file("{]", ""), "header is not JSON"},
		{"cut json", file(`{"x":`, ""), "header ends early"},
		{"cut json 2", file(`{"x":{"dtype":"U8"`, ""), `tensor "x"`},
		{"not utf-8", file("{\"\xff\":{}}", ""), "not UTF-8"},
		{"text after json", file("{} {}", ""), "text after the end"},
		{"comma", file(`{"x":{"dtype":"U8","shape":[],"data_offsets":[0,1]},}`, "a"), "not JSON"},
		{"bytes after the data", file("{}", "abc"), "last 3 bytes of the data belong to no tensor"},
		{"metadata no object", file(`{"__metadata__":1}`, ""), "__metadata__: 1 where { should be"},
		{"metadata no string", file(`{"__metadata__":{"a":1}}`, ""), "1 where a string should be"},
		{"metadata twice", file(`{"__metadata__":{},"__metadata__":{}}`, ""), "repeated key"},
		{"metadata key twice", file(`{"__metadata__":{"a":"","a":""}}`, ""), `repeated key "a"`},
		{"info no object", file(`{"x":[]}`, ""), `tensor "x": [ where { should be`},
		{"empty name", file(`{"":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}`, ""), "empty name"},
		{"name twice", file(`{"x":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},"\u0078":{}}`, ""), "second tensor"},
		{"no dtype", one(`"shape":[8],"data_offsets":[0,8]`), "no dtype"},
		{"no shape", one(`"dtype":"U8","data_offsets":[0,8]`), "no shape"},
		{"no offsets", one(`"dtype":"U8","shape":[8]`), "data_offsets [] are not"},
		{"one offset", one(`"dtype":"U8","shape":[8],"data_offsets":[8]`), "data_offsets [8] are not"},
		{"three offsets", one(`"dtype":"U8","shape":[8],"data_offsets":[0,8,8]`), "more than 2 numbers"},
		{"offsets backwards", one(`"dtype":"U8","shape":[8],"data_offsets":[8,0]`), "are not a begin and an end"},
		{"negative offset", one(`"dtype":"U8","shape":[8],"data_offsets":[-1,7]`), "-1 where a number"},
		{"fraction", one(`"dtype":"U8","shape":[8.0],"data_offsets":[0,8]`), "8.0 where a number"},
		{"exponent", one(`"dtype":"U8","shape":[8e0],"data_offsets":[0,8]`), "8e0 where a number"},
		{"string for a number", one(`"dtype":"U8","shape":["8"],"data_offsets":[0,8]`), "8 where a number"},
		{"2^64", one(`"dtype":"U8","shape":[18446744073709551616],"data_offsets":[0,8]`), "where a number"},
		{"negative shape", one(`"dtype":"U8","shape":[-8],"data_offsets":[0,8]`), "-8 where a number"},
		{"unknown dtype", one(`"dtype":"F4","shape":[8],"data_offsets":[0,8]`), `tensor "x": dtype: unknown dtype "F4"`},
		{"dtype in small letters", one(`"dtype":"u8","shape":[8],"data_offsets":[0,8]`), `unknown dtype "u8"`},
		{"key in capitals", one(`"DType":"U8","shape":[8],"data_offsets":[0,8]`), `unknown key "DType"`},
		{"key twice", one(`"dtype":"U8","shape":[8],"shape":[8],"data_offsets":[0,8]`), `repeated key "shape"`},
		{"size does not match", one(`"dtype":"F32","shape":[3],"data_offsets":[0,8]`), "[3] takes 12 bytes"},
		{"product overflows int64", one(`"dtype":"U8","shape":[4294967296,4294967296],"data_offsets":[0,8]`), "too large"},
		{"product overflows to 8", one(`"dtype":"F64","shape":[4611686018427387905,4],"data_offsets":[0,8]`), "too large"},
		{"product overflows to 0", one(`"dtype":"U8","shape":[9223372036854775807,9223372036854775807,0],` +
			`"data_offsets":[0,0]`), "too large"},
		{"too many dimensions", one(deep), "more than 64 numbers"},
		{"data past the end", one(`"dtype":"U8","shape":[9],"data_offsets":[0,9]`), "exceed the 8 bytes of data"},
		{"far past the end", one(`"dtype":"U8","shape":[9223372036854775807],"data_offsets":[0,9223372036854775807]`),
			"exceed the 8 bytes"},
		{"gap at the end", one(`"dtype":"U8","shape":[7],"data_offsets":[0,7]`), "last 1 bytes of the data"},
		{"gap at the start", one(`"dtype":"U8","shape":[7],"data_offsets":[1,8]`), "bytes 0 to 1 of the data"},
		{"overlap", file(`{"x":{"dtype":"U8","shape":[5],"data_offsets":[0,5]},`+
			`"y":{"dtype":"U8","shape":[4],"data_offsets":[4,8]}}`, "abcdefgh"),
			`tensor "y": data_offsets [4, 8] overlap tensor "x"`},
		{"same bytes twice", file(`{"x":{"dtype":"U8","shape":[8],"data_offsets":[0,8]},`+
			`"y":{"dtype":"U8","shape":[8],"data_offsets":[0,8]}}`, "abcdefgh"), "overlap"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := Read(bytes.NewReader(c.b), int64(len(c.b)))
			if err == nil {
				t.Fatal("accepted")
			}
			if !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %q lacks %q", err, c.want)
			}
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("error %q is no single line", err)
			}
		})
	}
}

// sparse is head followed by zeros without end; it counts what is read.
type sparse struct {
	head []byte
	read int64
}

func (s *sparse) ReadAt(p []byte, off int64) (int, error) {
	s.read += int64(len(p))
	clear(p)
	if off < int64(len(s.head)) {
		copy(p, s.head[off:])
	}
	return len(p), nil
}

func TestHeaderLimit(t *testing.T) {
	r := &sparse{head: binary.LittleEndian.AppendUint64(nil, maxHeader+1)}
	_, err := Read(r, 1<<40)
	if err == nil || !strings.Contains(err.Error(), "exceeds the limit") {
		t.Errorf("error %v", err)
	}
	if r.read > 8 {
		t.Errorf("%d bytes were read", r.read)
	}
}

// TestBigFileListsCheaply opens a file of 1 TB without touching its data.
func TestBigFileListsCheaply(t *testing.T) {
	if math.MaxInt == math.MaxInt32 {
		t.Skip("needs 64-bit int")
	}
	head := file(`{"x":{"dtype":"F32","shape":[274877906944],"data_offsets":[0,1099511627776]}}`, "")
	r := &sparse{head: head}
	if _, err := Read(r, int64(len(head))+1<<40); err != nil {
		t.Fatal(err)
	}
	if r.read > int64(len(head)) {
		t.Errorf("%d bytes were read, the header has %d", r.read, len(head))
	}
}

// TestSmallFileAllocatesLittle feeds headers made to blow up memory.
func TestSmallFileAllocatesLittle(t *testing.T) {
	for name, header := range map[string]string{
		"long shape":  `{"x":{"dtype":"U8","shape":[` + strings.Repeat("1,", 1<<19) + `1],"data_offsets":[0,1]}}`,
		"deep":        `{"x":` + strings.Repeat("[", 1<<20),
		"many braces": strings.Repeat(`{"x":`, 1<<18),
		"huge tensor": `{"x":{"dtype":"U8","shape":[1099511627776],"data_offsets":[0,1099511627776]}}`,
	} {
		b := file(header, "")
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := Read(bytes.NewReader(b), int64(len(b)))
		runtime.ReadMemStats(&after)
		if err == nil {
			t.Errorf("%s: accepted", name)
		}
		if got, limit := after.TotalAlloc-before.TotalAlloc, uint64(8*len(b)+1<<20); got > limit {
			t.Errorf("%s: %d bytes allocated for a file of %d", name, got, len(b))
		}
	}
}

func TestWriteErrors(t *testing.T) {
	x := New("x", []int{1}, []uint8{1})
	for _, c := range []struct {
		name    string
		tensors []Tensor
		meta    map[string]string
		want    string
	}{
		{"empty name", []Tensor{x, {DType: U8, Shape: []int{0}}}, nil, "tensor 1: empty name"},
		{"same name", []Tensor{x, x}, nil, `second tensor with the name "x"`},
		{"reserved", []Tensor{New("__metadata__", []int{1}, []uint8{1})}, nil, "reserved"},
		{"name not utf-8", []Tensor{New("\xff", []int{1}, []uint8{1})}, nil, "not UTF-8"},
		{"too few bytes", []Tensor{New("x", []int{2, 3}, []float32{1})}, nil, "takes 24 bytes, Data has 4"},
		{"dtype", []Tensor{{"x", "Q4", []int{0}, nil}}, nil, `tensor "x": unknown dtype "Q4"`},
		{"negative shape", []Tensor{{"x", U8, []int{-1, -1}, []byte{0}}}, nil, "negative dimension"},
		{"overflow", []Tensor{{"x", U8, []int{math.MaxInt, 2}, nil}}, nil, "too large"},
		{"rank", []Tensor{{"x", U8, make([]int, 65), nil}}, nil, "65 dimensions"},
		{"metadata not utf-8", nil, map[string]string{"k": "\xff"}, "not UTF-8"},
	} {
		var b bytes.Buffer
		err := Write(&b, c.tensors, c.meta)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v lacks %q", c.name, err, c.want)
		}
		if b.Len() > 0 {
			t.Errorf("%s: %d bytes were written", c.name, b.Len())
		}
	}
}

type limitWriter struct{ n int }

var errFull = errors.New("full")

func (w *limitWriter) Write(p []byte) (int, error) {
	if len(p) > w.n {
		return w.n, errFull
	}
	w.n -= len(p)
	return len(p), nil
}

func TestWriterError(t *testing.T) {
	all := len(write(t, sample(), nil))
	for n := range all {
		if err := Write(&limitWriter{n}, sample(), nil); !errors.Is(err, errFull) {
			t.Fatalf("room for %d of %d bytes: error %v", n, all, err)
		}
	}
}

func TestOpen(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "m.safetensors")
	if _, err := Open(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing file: %v", err)
	}
	if _, err := Open(dir); err == nil || !strings.Contains(err.Error(), "is not a file") {
		t.Errorf("directory: %v", err)
	}
	b := golden()
	if err := os.WriteFile(path, b[:len(b)-1], 0o666); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(path); err == nil || !strings.Contains(err.Error(), path+`: tensor "c": data_offsets [24, 27]`) {
		t.Errorf("cut file: %v", err)
	}
	if err := os.WriteFile(path, b, 0o666); err != nil {
		t.Fatal(err)
	}
	f, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.Tensor("v"); err == nil || !strings.Contains(err.Error(), `"v": not in the file`) {
		t.Errorf("missing tensor: %v", err)
	}
	if _, err := f.ReadF32("c"); err == nil || !strings.Contains(err.Error(), `tensor "c": dtype I8`) {
		t.Errorf("ReadF32 of int8: %v", err)
	}
	if err := os.Truncate(path, int64(len(b)-20)); err != nil {
		t.Fatal(err)
	}
	if _, err := f.ReadF32("w"); err == nil || !strings.Contains(err.Error(), "became shorter") {
		t.Errorf("file cut while open: %v", err)
	}
}

func TestReadF32(t *testing.T) {
	const n = 100_001 // several buffers and a rest
	x := make([]float32, n)
	h := make([]byte, 2*n)
	for i := range x {
		x[i] = float32(i) / 3
		binary.LittleEndian.PutUint16(h[2*i:], uint16(i))
	}
	b := write(t, []Tensor{New("f", []int{n}, x), {"h", F16, []int{n}, h}, {"b", BF16, []int{n}, h}}, nil)
	f, err := Read(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := f.ReadF32("f"); err != nil || !slices.Equal(got, x) {
		t.Errorf("F32 differs, %v", err)
	}
	got, err := f.ReadF32("b")
	if err != nil {
		t.Fatal(err)
	}
	for i, v := range got {
		if math.Float32bits(v) != uint32(uint16(i))<<16 {
			t.Fatalf("BF16 %#x = %v", uint16(i), v)
		}
	}
	got, err = f.ReadF32("h")
	if err != nil {
		t.Fatal(err)
	}
	for i := range 1 << 16 {
		// The definition: (-1)^s * 2^(e-15) * 1.m, subnormal 2^-14 * 0.m.
		e, m := i>>10&31, float64(i&1023)
		want := math.Ldexp(1+m/1024, e-15)
		switch {
		case e == 0:
			want = math.Ldexp(m/1024, -14)
		case e == 31 && m == 0:
			want = math.Inf(1)
		case e == 31:
			want = math.NaN()
		}
		if i&0x8000 != 0 {
			want = -want
		}
		v := float64(got[i])
		if v != want && !(math.IsNaN(v) && math.IsNaN(want)) || math.Signbit(v) != (i&0x8000 != 0) {
			t.Fatalf("F16 %#x = %v, want %v", i, v, want)
		}
	}
}

func TestValues(t *testing.T) {
	x := []int32{1, -2}
	tt := New("x", []int{2}, x)
	got, err := Values[int32](tt)
	if err != nil || !slices.Equal(got, x) {
		t.Errorf("got %v, %v", got, err)
	}
	if got[0] = 9; x[0] != 1 {
		t.Error("Values shares memory")
	}
	if !bytes.Equal(bytesCopy(x), tt.Data) {
		t.Errorf("the copy for big-endian machines %x differs from the view %x", bytesCopy(x), tt.Data)
	}
	if _, err := Values[float32](tt); err == nil || !strings.Contains(err.Error(), "dtype is I32, not F32") {
		t.Errorf("wrong type: %v", err)
	}
	if _, err := Values[int32](Tensor{"x", I32, nil, make([]byte, 5)}); err == nil {
		t.Error("5 bytes of I32 accepted")
	}
}

func FuzzRead(f *testing.F) {
	f.Add(golden())
	f.Add(write(f, sample(), map[string]string{"a": "b"}))
	f.Add(file("{}", ""))
	f.Add(file(`{"x":{"dtype":"U8","shape":[1099511627776],"data_offsets":[0,1099511627776]}}`, "abc"))
	f.Fuzz(func(t *testing.T, b []byte) {
		tensors, meta, err := readAll(b)
		if err != nil {
			return
		}
		total := 0
		for _, x := range tensors {
			total += len(x.Data)
		}
		if n := int(binary.LittleEndian.Uint64(b)); 8+n+total != len(b) {
			t.Fatalf("header %d and tensors %d do not fill the file of %d", n, total, len(b))
		}
		again, meta2, err := readAll(write(t, tensors, meta))
		if err != nil || !equal(again, tensors) || len(meta) != len(meta2) {
			t.Fatalf("round trip: %v", err)
		}
	})
}

func BenchmarkWrite(b *testing.B) {
	x := New("x", []int{1 << 20}, make([]float32, 1<<20))
	b.SetBytes(1 << 22)
	for b.Loop() {
		if err := Write(io.Discard, []Tensor{x}, nil); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkReadF32(b *testing.B) {
	data := write(b, []Tensor{New("x", []int{1 << 20}, make([]float32, 1<<20))}, nil)
	b.SetBytes(1 << 22)
	for b.Loop() {
		f, err := Read(bytes.NewReader(data), int64(len(data)))
		if err == nil {
			_, err = f.ReadF32("x")
		}
		if err != nil {
			b.Fatal(err)
		}
	}
}
