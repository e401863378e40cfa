package safetensors

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strconv"
	"unicode/utf8"

	"setun/internal/half"
	"setun/internal/mmap"
)

// Info describes one tensor of a File.
type Info struct {
	Name  string
	DType DType
	Shape []int

	begin, end int64 // data_offsets
}

// Bytes is the length of the tensor's data.
func (in Info) Bytes() int64 { return in.end - in.begin }

// File is an open safetensors file. Its methods may be called concurrently if its reader allows it, as files do.
type File struct {
	name   string // for errors, empty if unknown
	r      io.ReaderAt
	closer io.Closer
	data   int64 // where the data begins
	infos  []Info
	index  map[string]int
	meta   map[string]string
}

// Open opens the file at path and checks its header.
func Open(path string) (*File, error) {
	m, err := mmap.Open(path)
	if err != nil {
		return nil, fmt.Errorf("safetensors: %w", err)
	}
	file, err := read(path, m, m.Size())
	if err != nil {
		m.Close()
		return nil, err
	}
	file.closer = m
	return file, nil
}

// Read checks the header of the size bytes in r and keeps r for reading tensors.
func Read(r io.ReaderAt, size int64) (*File, error) { return read("", r, size) }

// Close closes what Open opened.
func (f *File) Close() error {
	if f.closer == nil {
		return nil
	}
	return f.closer.Close()
}

// Tensors lists the tensors in the order of the header.
func (f *File) Tensors() []Info { return slices.Clone(f.infos) }

// Info describes the tensor name, if there is one.
func (f *File) Info(name string) (Info, bool) {
	i, ok := f.index[name]
	if !ok {
		return Info{}, false
	}
	return f.infos[i], true
}

// Meta is the text of "__metadata__", nil if there is none.
func (f *File) Meta() map[string]string { return maps.Clone(f.meta) }

// Tensor reads one tensor.
func (f *File) Tensor(name string) (t Tensor, err error) {
	err = f.View(name, func(v Tensor) error {
		t = v
		t.Data = bytes.Clone(v.Data)
		return nil
	})
	return t, err
}

// View calls use with a tensor whose Data lies in the file, mapped into memory where [Open] could: it must not be changed,
// nor kept after use returns. That the file became shorter meanwhile is an error.
func (f *File) View(name string, use func(Tensor) error) error {
	in, err := f.find(name)
	if err != nil {
		return err
	}
	var wrong error
	if err := mmap.View(f.r, f.data+in.begin, in.end-in.begin, func(b []byte) error {
		wrong = use(Tensor{Name: name, DType: in.DType, Shape: slices.Clone(in.Shape), Data: b})
		return nil
	}); err != nil {
		return f.errorf(name, "%w", err)
	}
	return wrong
}

// ReadF32 reads one tensor of dtype F32, F16 or BF16 as float32; the conversions are exact.
func (f *File) ReadF32(name string) (x []float32, err error) {
	err = f.View(name, func(t Tensor) error {
		switch t.DType {
		case F32:
			x = make([]float32, len(t.Data)/4)
			for i := range x {
				x[i] = math.Float32frombits(binary.LittleEndian.Uint32(t.Data[4*i:]))
			}
		case F16:
			x = make([]float32, len(t.Data)/2)
			for i := range x {
				x[i] = half.FromF16(binary.LittleEndian.Uint16(t.Data[2*i:]))
			}
		case BF16:
			x = make([]float32, len(t.Data)/2)
			for i := range x {
				x[i] = half.FromBF16(binary.LittleEndian.Uint16(t.Data[2*i:]))
			}
		default:
			return f.errorf(name, "dtype %s is not F32, F16 or BF16: read it with Tensor", t.DType)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return x, nil
}

func (f *File) find(name string) (Info, error) {
	if i, ok := f.index[name]; ok {
		return f.infos[i], nil
	}
	if len(f.infos) == 0 {
		return Info{}, f.errorf(name, "not in the file, which has no tensors")
	}
	return Info{}, f.errorf(name, "not in the file, which has %d others, the first %q", len(f.infos), f.infos[0].Name)
}

func (f *File) errorf(tensor, format string, args ...any) error {
	where := "safetensors: "
	if f.name != "" {
		where += f.name + ": "
	}
	if tensor != "" {
		where += "tensor " + strconv.Quote(tensor) + ": "
	}
	return fmt.Errorf(where+"%w", fmt.Errorf(format, args...))
}

// invalid is errorf for files that break the format.
func (f *File) invalid(tensor, format string, args ...any) error {
	return f.errorf(tensor, format+"; the file is damaged or not safetensors, get or save it again", args...)
}

func read(name string, r io.ReaderAt, size int64) (*File, error) {
	f := &File{name: name, r: r}
	if size < 8 {
		return nil, f.invalid("", "%d bytes are too few for a header", size)
	}
	var first [8]byte
	if _, err := io.ReadFull(io.NewSectionReader(r, 0, 8), first[:]); err != nil {
		return nil, f.errorf("", "read header length: %w", err)
	}
	n := binary.LittleEndian.Uint64(first[:])
	if n > uint64(size-8) {
		return nil, f.invalid("", "header of %d bytes is longer than the file of %d", n, size)
	}
	if n > maxHeader {
		return nil, f.invalid("", "header of %d bytes exceeds the limit of %d", n, maxHeader)
	}
	h := make([]byte, n)
	if _, err := io.ReadFull(io.NewSectionReader(r, 8, int64(n)), h); err != nil {
		return nil, f.errorf("", "read header: %w", err)
	}
	f.data = 8 + int64(n)
	if tensor, err := f.parse(h); err != nil {
		return nil, f.invalid(tensor, "%w", err)
	}
	if tensor, err := f.cover(size - f.data); err != nil {
		return nil, f.invalid(tensor, "%w", err)
	}
	return f, nil
}

// cover checks that the tensors are exactly the size bytes of data, each byte in one tensor.
func (f *File) cover(size int64) (tensor string, err error) {
	order := make([]int, len(f.infos))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int {
		x, y := &f.infos[a], &f.infos[b]
		return cmp.Or(cmp.Compare(x.begin, y.begin), cmp.Compare(x.end, y.end), cmp.Compare(a, b))
	})
	var pos int64
	var last string
	for _, i := range order {
		in := &f.infos[i]
		switch {
		case in.end > size:
			return in.Name, fmt.Errorf("data_offsets [%d, %d] exceed the %d bytes of data", in.begin, in.end, size)
		case in.begin < pos:
			return in.Name, fmt.Errorf("data_offsets [%d, %d] overlap tensor %q, which ends at %d",
				in.begin, in.end, last, pos)
		case in.begin > pos:
			return in.Name, fmt.Errorf("bytes %d to %d of the data before it belong to no tensor", pos, in.begin)
		}
		pos, last = in.end, in.Name
	}
	if pos != size {
		return "", fmt.Errorf("the last %d bytes of the data belong to no tensor", size-pos)
	}
	return "", nil
}

// parse reads the JSON header. An error in a tensor comes with its name.
func (f *File) parse(h []byte) (tensor string, err error) {
	if len(h) == 0 || h[0] != '{' {
		return "", errors.New("header does not begin with {")
	}
	if !utf8.Valid(h) {
		return "", errors.New("header is not UTF-8")
	}
	p := parser{json.NewDecoder(bytes.NewReader(h))}
	p.UseNumber()
	seen := make(map[string]bool)
	hasMeta := false
	err = p.object(func(key string) error {
		if key == metaKey {
			if hasMeta {
				return fmt.Errorf("repeated key %q", key)
			}
			hasMeta = true
			m, err := p.meta()
			if err != nil {
				return fmt.Errorf("%s: %w", key, err)
			}
			f.meta = m
			return nil
		}
		tensor = key
		if err := checkName(key, seen); err != nil {
			return err
		}
		in, err := p.info(key)
		if err != nil {
			return err
		}
		f.infos = append(f.infos, in)
		tensor = ""
		return nil
	})
	if err != nil {
		return tensor, err
	}
	if _, err := p.Token(); err != io.EOF {
		return "", errors.New("text after the end of the header's JSON")
	}
	f.index = make(map[string]int, len(f.infos))
	for i := range f.infos {
		f.index[f.infos[i].Name] = i
	}
	return "", nil
}

// parser walks JSON token by token: unlike json.Unmarshal it sees repeated keys, and it allocates only what is kept.
type parser struct{ *json.Decoder }

func (p parser) next() (json.Token, error) {
	t, err := p.Token()
	if err == io.EOF {
		return nil, errors.New("header ends early")
	}
	if err != nil {
		return nil, fmt.Errorf("header is not JSON: %w", err)
	}
	return t, nil
}

func (p parser) delim(d json.Delim) error {
	t, err := p.next()
	if err == nil && t != d {
		err = fmt.Errorf("%v where %v should be", t, d)
	}
	return err
}

// object calls value for each key, with the decoder at the key's value.
func (p parser) object(value func(key string) error) error {
	if err := p.delim('{'); err != nil {
		return err
	}
	for p.More() {
		t, err := p.next()
		if err != nil {
			return err
		}
		key, ok := t.(string)
		if !ok {
			return fmt.Errorf("%v where a key should be", t)
		}
		if err := value(key); err != nil {
			return err
		}
	}
	return p.delim('}')
}

func (p parser) text() (string, error) {
	t, err := p.next()
	if err != nil {
		return "", err
	}
	s, ok := t.(string)
	if !ok {
		return "", fmt.Errorf("%v where a string should be", t)
	}
	return s, nil
}

// counts reads an array of at most limit integers >= 0.
func (p parser) counts(limit int) ([]int64, error) {
	if err := p.delim('['); err != nil {
		return nil, err
	}
	a := []int64{}
	for p.More() {
		t, err := p.next()
		if err != nil {
			return nil, err
		}
		num, _ := t.(json.Number)
		n, err := strconv.ParseUint(string(num), 10, 63)
		if err != nil {
			return nil, fmt.Errorf("%v where a number from 0 to 2^63-1 should be", t)
		}
		if len(a) == limit {
			return nil, fmt.Errorf("more than %d numbers", limit)
		}
		a = append(a, int64(n))
	}
	return a, p.delim(']')
}

func (p parser) meta() (map[string]string, error) {
	m := make(map[string]string)
	err := p.object(func(key string) error {
		if _, ok := m[key]; ok {
			return fmt.Errorf("repeated key %q", key)
		}
		s, err := p.text()
		m[key] = s
		return err
	})
	return m, err
}

func (p parser) info(name string) (Info, error) {
	in := Info{Name: name}
	var offsets []int64
	err := p.object(func(key string) error {
		var again bool
		var err error
		switch key {
		case "dtype":
			again = in.DType != ""
			var s string
			s, err = p.text()
			in.DType = DType(s)
			if err == nil && in.DType.Size() == 0 {
				err = errors.New("unknown dtype " + strconv.Quote(s))
			}
		case "shape":
			again = in.Shape != nil
			var shape []int64
			shape, err = p.counts(maxRank)
			in.Shape = make([]int, len(shape))
			for i, s := range shape {
				if s > math.MaxInt {
					return fmt.Errorf("shape %v is too large for this machine", shape)
				}
				in.Shape[i] = int(s)
			}
		case "data_offsets":
			again = offsets != nil
			offsets, err = p.counts(2)
		default:
			return fmt.Errorf("unknown key %q", key)
		}
		if again {
			return fmt.Errorf("repeated key %q", key)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
		return nil
	})
	if err != nil {
		return in, err
	}
	switch {
	case in.DType == "":
		return in, errors.New("no dtype")
	case in.Shape == nil:
		return in, errors.New("no shape")
	case len(offsets) != 2 || offsets[0] > offsets[1]:
		return in, fmt.Errorf("data_offsets %v are not a begin and an end", offsets)
	}
	in.begin, in.end = offsets[0], offsets[1]
	n, err := dataSize(in.DType, in.Shape)
	if err == nil && n != in.end-in.begin {
		err = fmt.Errorf("%s of shape %v takes %d bytes, data_offsets %v hold %d",
			in.DType, in.Shape, n, offsets, in.end-in.begin)
	}
	return in, err
}
