package tensor_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"setun/device"
	"setun/device/cpu"
	"setun/device/devicetest"
	"setun/tensor"
)

// npy is a file of version 1 with the given header and data.
func npy(header string, data ...float32) string {
	b := append([]byte("\x93NUMPY\x01\x00"), byte(len(header)), byte(len(header)>>8))
	b = append(b, header...)
	for _, v := range data {
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(v))
	}
	return string(b)
}

// npy4 is npy of another version, with a length of four bytes.
func npy4(major byte, length uint32, rest string) string {
	return string(binary.LittleEndian.AppendUint32([]byte{0x93, 'N', 'U', 'M', 'P', 'Y', major, 0}, length)) + rest
}

const header12 = "{'descr': '<f4', 'fortran_order': False, 'shape': (1, 2), }"

func TestNPYRoundTrip(t *testing.T) {
	for _, dev := range []device.Device{cpu.New(0), devicetest.Opaque(cpu.New(1))} {
		for _, shape := range [][]int{{1}, {5}, {2, 3}, {1, 1}, {3, 1}, {2, 3, 4}, {1, 2, 1, 2, 1, 2}, {600, 1000}} {
			n := 1
			for _, d := range shape {
				n *= d
			}
			x := count(n)
			x[0] = float32(math.Copysign(0, -1))
			x[n-1] = float32(math.Inf(1))
			var b bytes.Buffer
			if err := tensor.FromFloats(dev, x, shape...).WriteNPY(&b); err != nil {
				t.Fatal(err)
			}
			b.WriteString("what follows")
			y, err := tensor.ReadNPY(dev, iotest.HalfReader(&b))
			if err != nil {
				t.Errorf("shape %v: %v", shape, err)
				continue
			}
			if !slices.Equal(y.Shape(), shape) || !slices.Equal(y.Floats(), x) || b.String() != "what follows" {
				t.Errorf("shape %v came back as %v, %q is left", shape, y.Shape(), b.String())
			}
		}
	}
	dev := cpu.New(0)
	var b bytes.Buffer
	if err := tensor.FromFloats(dev, []float32{3}).WriteNPY(&b); err != nil {
		t.Fatal(err)
	}
	if y, err := tensor.ReadNPY(dev, &b); err != nil || !slices.Equal(y.Shape(), []int{1}) || y.Float() != 3 {
		t.Errorf("a scalar came back as %v, %v", y, err)
	}
	if err := tensor.FromInts(dev, []int32{1}, 1).WriteNPY(io.Discard); err == nil {
		t.Error("an int32 tensor was written")
	}
	if err := tensor.Zeros(dev, 0, 2).WriteNPY(io.Discard); err == nil {
		t.Error("an empty tensor was written")
	}
	fail := errors.New("disk full")
	if err := tensor.Zeros(dev, 2).WriteNPY(failing{fail}); !errors.Is(err, fail) {
		t.Errorf("the writer's error became %v", err)
	}
}

type failing struct{ err error }

func (f failing) Write([]byte) (int, error) { return 0, f.err }

func TestReadNPY(t *testing.T) {
	dev := cpu.New(0)
	for _, tt := range []struct {
		file  string
		shape []int
		want  string // part of the error, "" for none
	}{
		{npy(header12, 3, 4), []int{1, 2}, ""},
		{npy("{'descr': '<f4', 'fortran_order': False, 'shape': ()}\n", 3), []int{}, ""},
		{npy("{'descr': '<f4', 'fortran_order': False, 'shape': (2,)}", 3, 4), []int{2}, ""},
		{npy(`{"shape":(2,1),"fortran_order":False,"descr":"<f4"}`+strings.Repeat(" ", 60)+"\n", 3, 4), []int{2, 1}, ""},
		{npy("{'descr': '<f4', 'fortran_order': False, 'shape': (0, 7)}"), []int{0, 7}, ""},
		{npy4(2, uint32(len(header12)), header12+"\x00\x00\x80?\x00\x00\x00@"), []int{1, 2}, ""},
		{npy4(3, uint32(len(header12)), header12+"\x00\x00\x80?\x00\x00\x00@"), []int{1, 2}, ""},

		{"", nil, "npy: cannot read the magic: unexpected EOF"},
		{"\x93NUM", nil, "npy: cannot read the magic: unexpected EOF"},
		{"GIF89a..", nil, `npy: starts with "GIF89a": not a NumPy file`},
		{"\x93NUMPY\x04\x00....", nil, "npy: version 4.0 is unknown; use 1.0, 2.0 or 3.0"},
		{"\x93NUMPY\x01\x01....", nil, "npy: version 1.1 is unknown"},
		{"\x93NUMPY\x02\x00..", nil, "npy: cannot read the length of the header"},
		{npy4(2, 1<<31, "{"), nil, "npy: a header of 2147483648 bytes is too long; at most 65536 are read"},
		{npy4(2, 60000, "{"), nil, "npy: cannot read the header of 60000 bytes: unexpected EOF"},
		{npy("{'descr': '<f4', 'fortran_order': False, 'shape': (1, 2)}", 3), nil,
			"npy: data of shape [1 2] ends after 4 of 8 bytes: unexpected EOF"},
		{npy(header12), nil, "npy: data of shape [1 2] ends after 0 of 8 bytes: unexpected EOF"},
		{npy("{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000,1000000000)}", 3), nil,
			"ends after 4 of 4000000000000000000 bytes"},
		{npy("{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000,1000000000,10)}", 3), nil, "is too large"},
		{npy("{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999,)}", 3), nil,
			`found "99999999999999999999...", want a dimension`},
		{npy("{'descr': '<f4', 'fortran_order': False, 'shape': (-1, 2)}", 3), nil, `found "-1, 2)}", want a dimension`},
		{npy("{'descr': '<f4', 'fortran_order': False, 'shape': (1,1,1,1,1,1,1)}", 3), nil, "more than 6 dimensions"},
		{npy("{'descr': '<f4', 'fortran_order': False, 'shape': (3)}", 3), nil, "want ','"},
		{npy("{'descr': '<f4', 'fortran_order': False, 'shape': (1, 2}", 3), nil, "want ','"},
		{npy("{'descr': '<f4', 'fortran_order': False, 'shape': [1, 2]}", 3), nil, "want '('"},
		{npy("{'descr': '<f4', 'fortran_order': False, 'shape': (,)}", 3), nil, "want a dimension"},
		{npy("{'descr': '>f4', 'fortran_order': False, 'shape': (1,)}", 3), nil,
			`elements are ">f4", want "<f4"; save x.astype('<f4')`},
		{npy("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,)}", 3), nil, "want a quoted name"},
		{npy("{'descr': '<f4', 'fortran_order': True, 'shape': (1,)}", 3), nil, "save numpy.ascontiguousarray(x)"},
		{npy("{'descr': '<f4', 'fortran_order': 0, 'shape': (1,)}", 3), nil, "want True or False"},
		{npy("{'descr': '<f4', 'fortran_order': False}", 3), nil, `"shape" is missing`},
		{npy("{'fortran_order': False, 'shape': (1,)}", 3), nil, `"descr" is missing`},
		{npy("{'descr': '<f4', 'shape': (1,)}", 3), nil, `"fortran_order" is missing`},
		{npy("{'descr': '<f4', 'descr': '<f4', 'fortran_order': False, 'shape': (1,)}", 3), nil, `"descr" comes twice`},
		{npy("{'descr': '<f4', 'fortran_order': False, 'shape': (1,), 'x': 1}", 3), nil, `unknown key "x"`},
		{npy("{'descr': '<f4' 'fortran_order': False, 'shape': (1,)}", 3), nil, "want ',' or '}'"},
		{npy("{'descr' '<f4', 'fortran_order': False, 'shape': (1,)}", 3), nil, "want ':'"},
		{npy("{'descr: 1}", 3), nil, "want a closing quote"},
		{npy("descr", 3), nil, "want '{'"},
		{npy("{'descr': '<f4', 'fortran_order': False, 'shape': (1,)} {", 3), nil, "want the end"},
		{npy("{", 3), nil, "want a quoted name"},
		{npy("", 3), nil, "want '{'"},
	} {
		y, err := tensor.ReadNPY(dev, strings.NewReader(tt.file))
		switch {
		case tt.want == "" && err != nil:
			t.Errorf("%q: %v", tt.file, err)
		case tt.want == "" && !slices.Equal(y.Shape(), tt.shape):
			t.Errorf("%q: shape %v, want %v", tt.file, y.Shape(), tt.shape)
		case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want) ||
			!strings.HasPrefix(err.Error(), "tensor: npy: ")):
			t.Errorf("%q: error %v, want %q", tt.file, err, tt.want)
		}
	}
	if _, err := tensor.ReadNPY(dev, iotest.ErrReader(io.ErrClosedPipe)); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("the reader's error became %v", err)
	}
	for n := range len(npy(header12, 3, 4)) { // cut anywhere
		if _, err := tensor.ReadNPY(dev, strings.NewReader(npy(header12, 3, 4)[:n])); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("cut after %d bytes: %v", n, err)
		}
	}
}

// A header that promises much takes no memory.
func TestReadNPYMemory(t *testing.T) {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	file := npy("{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000,)}", 1, 2)
	if _, err := tensor.ReadNPY(cpu.New(0), strings.NewReader(file)); err == nil {
		t.Error("a cut file was read")
	}
	runtime.ReadMemStats(&after)
	if got := after.TotalAlloc - before.TotalAlloc; got > 8<<20 {
		t.Errorf("%d bytes allocated for a file of %d", got, len(file))
	}
}

func FuzzReadNPY(f *testing.F) {
	f.Add([]byte(npy(header12, 3, 4)))
	f.Add([]byte(npy4(2, uint32(len(header12)), header12+"\x00\x00\x80?\x00\x00\x00@")))
	f.Add([]byte(npy("{'descr': '<f4', 'fortran_order': False, 'shape': (), }", 1)))
	f.Add([]byte(npy(`{"shape":(0,3,),"fortran_order":False,"descr":"<f4"}`)))
	dev := cpu.New(1)
	f.Fuzz(func(t *testing.T, file []byte) {
		r := bytes.NewReader(file)
		x, err := tensor.ReadNPY(dev, r)
		if err != nil {
			return
		}
		if x.Len() > len(file)/4 {
			t.Fatalf("%d elements from %d bytes", x.Len(), len(file))
		}
		if x.Len() == 0 {
			return
		}
		var b bytes.Buffer // what was read comes back the same
		if err := x.WriteNPY(&b); err != nil {
			t.Fatal(err)
		}
		y, err := tensor.ReadNPY(dev, &b)
		if err != nil {
			t.Fatal(err)
		}
		same := func(a, b float32) bool { return math.Float32bits(a) == math.Float32bits(b) }
		if fmt.Sprint(y.Shape()) != fmt.Sprint(x.Shape()) && x.Dims() != 0 ||
			!slices.EqualFunc(x.Floats(), y.Floats(), same) {
			t.Fatalf("shape %v came back as %v", x.Shape(), y.Shape())
		}
	})
}
