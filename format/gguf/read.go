package gguf

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"unicode/utf8"

	"setun/internal/mmap"
)

// Info describes a tensor of a file.
type Info struct {
	Name string
	Type Type
	Dims []int // innermost first

	offset, size int64 // in the file; size of a type that is not Known is 0
}

// File is the list of what a file holds. Its methods may be called from several goroutines.
type File struct {
	name   string // for errors
	r      io.ReaderAt
	close  io.Closer
	meta   map[string]any
	keys   []string
	infos  []Info
	byName map[string]int
}

// Open opens a file on disk.
func Open(path string) (*File, error) {
	m, err := mmap.Open(path)
	if err != nil {
		return nil, fmt.Errorf("gguf: %w", err)
	}
	g, err := read(path, m, m.Size())
	if err != nil {
		m.Close()
		return nil, err
	}
	g.close = m
	return g, nil
}

// Read reads the list of a file of size bytes.
func Read(r io.ReaderAt, size int64) (*File, error) { return read("", r, size) }

// Close closes a file that Open opened.
func (f *File) Close() error {
	if f.close == nil {
		return nil
	}
	return f.close.Close()
}

// Tensors lists the tensors in the order of the file.
func (f *File) Tensors() []Info { return slices.Clone(f.infos) }

// Keys lists the keys of the metadata in the order of the file.
func (f *File) Keys() []string { return slices.Clone(f.keys) }

// Value gives the value of a key; ok is false if there is none. Types are those of [KV].
func (f *File) Value(key string) (v any, ok bool) {
	v, ok = f.meta[key]
	return v, ok
}

// Int gives an integer of any size. Without the key it is def.
func (f *File) Int(key string, def int) (int, error) {
	v, ok := f.meta[key]
	if !ok {
		return def, nil
	}
	n, fits := int64(0), true
	switch v := v.(type) {
	case uint8:
		n = int64(v)
	case int8:
		n = int64(v)
	case uint16:
		n = int64(v)
	case int16:
		n = int64(v)
	case uint32:
		n = int64(v)
	case int32:
		n = int64(v)
	case int64:
		n = v
	case uint64:
		n, fits = int64(v), v <= math.MaxInt64
	default:
		return 0, f.errorf("key %q is %T, not an integer", key, v)
	}
	if !fits || n > math.MaxInt32 || n < math.MinInt32 {
		return 0, f.errorf("key %q is %v, which is out of range", key, v)
	}
	return int(n), nil
}

// Float gives a floating point number. Without the key it is def.
func (f *File) Float(key string, def float64) (float64, error) {
	switch v := f.meta[key].(type) {
	case nil:
		return def, nil
	case float32:
		return float64(v), nil
	case float64:
		return v, nil
	default:
		return 0, f.errorf("key %q is %T, not a floating point number", key, v)
	}
}

// Text gives a string. Without the key it is def.
func (f *File) Text(key, def string) (string, error) {
	switch v := f.meta[key].(type) {
	case nil:
		return def, nil
	case string:
		return v, nil
	default:
		return "", f.errorf("key %q is %T, not a string", key, v)
	}
}

// Info finds a tensor.
func (f *File) Info(name string) (Info, bool) {
	i, ok := f.byName[name]
	if !ok {
		return Info{}, false
	}
	return f.infos[i], true
}

// Tensor reads a tensor.
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
	in, ok := f.Info(name)
	if !ok {
		return f.errorf("no tensor %q", name)
	}
	if !in.Type.Known() {
		return f.errorf("tensor %q: %s cannot be read; convert the file to F16, Q8_0, TQ1_0 or TQ2_0", name, in.Type)
	}
	var wrong error
	if err := mmap.View(f.r, in.offset, in.size, func(b []byte) error {
		wrong = use(Tensor{in.Name, in.Type, slices.Clone(in.Dims), b})
		return nil
	}); err != nil {
		return f.errorf("tensor %q: %w", name, err)
	}
	return wrong
}

func (f *File) errorf(format string, args ...any) error {
	err := fmt.Errorf(format, args...)
	if f.name != "" {
		return fmt.Errorf("gguf: %s: %w", f.name, err)
	}
	return fmt.Errorf("gguf: %w", err)
}

func read(name string, r io.ReaderAt, size int64) (*File, error) {
	f := &File{name: name, r: r, meta: map[string]any{}, byName: map[string]int{}}
	c := cursor{r: bufio.NewReaderSize(io.NewSectionReader(r, 0, size), 1<<16), left: size, size: size}
	if err := f.parse(&c); err != nil {
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			err = errors.New("the file is cut")
		}
		return nil, f.errorf("byte %d: %w", size-c.left, err)
	}
	return f, nil
}

// cursor reads forward and knows how much is left.
type cursor struct {
	r          *bufio.Reader
	left, size int64
}

func (c *cursor) bytes(n int64) ([]byte, error) {
	if n < 0 || n > c.left {
		return nil, io.ErrUnexpectedEOF
	}
	b := make([]byte, n)
	_, err := io.ReadFull(c.r, b)
	c.left -= n
	return b, err
}

func (c *cursor) u32() (uint32, error) {
	b, err := c.bytes(4)
	if err != nil {
		return 0, err
	}
	return le.Uint32(b), nil
}

func (c *cursor) u64() (uint64, error) {
	b, err := c.bytes(8)
	if err != nil {
		return 0, err
	}
	return le.Uint64(b), nil
}

// count reads a number of things that take at least bytes each.
func (c *cursor) count(bytes int64) (int, error) {
	n, err := c.u64()
	if err != nil {
		return 0, err
	}
	if n > maxItems || int64(n) > c.left/bytes {
		return 0, fmt.Errorf("%d items do not fit the %d bytes that are left", n, c.left)
	}
	return int(n), nil
}

func (c *cursor) text(limit int64) (string, error) {
	n, err := c.u64()
	if err != nil {
		return "", err
	}
	if n > uint64(limit) {
		return "", fmt.Errorf("a text of %d bytes; %d is the most", n, limit)
	}
	b, err := c.bytes(int64(n))
	return string(b), err
}

func (f *File) parse(c *cursor) error {
	b, err := c.bytes(4)
	if err != nil {
		return err
	}
	if string(b) != magic {
		return fmt.Errorf("this is no GGUF file: it begins with %q", b)
	}
	v, err := c.u32()
	if err != nil {
		return err
	}
	if v != 2 && v != version {
		return fmt.Errorf("GGUF version %d; this package reads 2 and 3, little endian", v)
	}
	tensors, err := c.count(4 + 8 + 4 + 8 + 1)
	if err != nil {
		return err
	}
	pairs, err := c.count(8 + 1 + 4 + 1)
	if err != nil {
		return err
	}
	for range pairs {
		key, err := c.text(1 << 16)
		if err != nil {
			return err
		}
		if !utf8.ValidString(key) {
			return fmt.Errorf("key %q is not UTF-8", key)
		}
		if _, ok := f.meta[key]; ok {
			return fmt.Errorf("key %q twice", key)
		}
		kind, err := c.u32()
		if err != nil {
			return err
		}
		v, err := c.value(kind)
		if err != nil {
			return fmt.Errorf("key %q: %w", key, err)
		}
		f.meta[key] = v
		f.keys = append(f.keys, key)
	}
	align := int64(alignment)
	if v, ok := f.meta["general.alignment"]; ok {
		n, ok := v.(uint32)
		if !ok || n == 0 || n&(n-1) != 0 || n > 1<<20 {
			return fmt.Errorf("general.alignment is %v, not a power of two up to 2^20", v)
		}
		align = int64(n)
	}
	for range tensors {
		in, err := c.info()
		if err != nil {
			return err
		}
		if _, ok := f.byName[in.Name]; ok {
			return fmt.Errorf("tensor %q twice", in.Name)
		}
		f.byName[in.Name] = len(f.infos)
		f.infos = append(f.infos, in)
	}
	data, byOffset := padded(c.size-c.left, align), make([]*Info, 0, len(f.infos))
	for i := range f.infos {
		in := &f.infos[i]
		if in.offset < 0 || in.offset%align != 0 || in.offset > c.size-data || in.size > c.size-data-in.offset {
			return fmt.Errorf("tensor %q of %d bytes at offset %d does not lie in the file's data of %d bytes", in.Name, in.size,
				in.offset, max(c.size-data, 0))
		}
		in.offset += data
		byOffset = append(byOffset, in)
	}
	slices.SortStableFunc(byOffset, func(a, b *Info) int { return cmp.Compare(a.offset, b.offset) })
	for i, in := range byOffset[:max(len(byOffset)-1, 0)] {
		if next := byOffset[i+1]; in.offset+in.size > next.offset {
			return fmt.Errorf("tensors %q and %q overlap", in.Name, next.Name)
		}
	}
	return nil
}

func (c *cursor) info() (in Info, err error) {
	if in.Name, err = c.text(maxName); err != nil {
		return in, err
	}
	fail := func(err error) (Info, error) { return in, fmt.Errorf("tensor %q: %w", in.Name, err) }
	if !utf8.ValidString(in.Name) {
		return fail(errors.New("its name is not UTF-8"))
	}
	n, err := c.u32()
	if err != nil {
		return in, err
	}
	if n > maxDims {
		return fail(fmt.Errorf("%d dimensions, more than %d", n, maxDims))
	}
	for range n {
		d, err := c.u64()
		if err != nil {
			return in, err
		}
		if d > math.MaxInt32 {
			return fail(fmt.Errorf("a dimension of %d", d))
		}
		in.Dims = append(in.Dims, int(d))
	}
	typ, err := c.u32()
	if err != nil {
		return in, err
	}
	in.Type = Type(typ)
	offset, err := c.u64()
	if err != nil {
		return in, err
	}
	if offset > math.MaxInt64/2 {
		return fail(fmt.Errorf("offset %d", offset))
	}
	in.offset = int64(offset)
	if in.Type.Known() {
		if in.size, err = in.Type.Size(in.Dims); err != nil {
			return fail(err)
		}
	}
	return in, nil
}

// sizes of values by kind; 0: not of a fixed size.
var sizes = [...]int64{1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8}

func (c *cursor) value(kind uint32) (any, error) {
	if kind == kindString {
		return c.text(c.left)
	}
	if kind == kindArray {
		return c.array()
	}
	if kind >= uint32(len(sizes)) {
		return nil, fmt.Errorf("unknown value type %d", kind)
	}
	b, err := c.bytes(sizes[kind])
	if err != nil {
		return nil, err
	}
	switch kind {
	case kindU8:
		return b[0], nil
	case kindI8:
		return int8(b[0]), nil
	case kindU16:
		return le.Uint16(b), nil
	case kindI16:
		return int16(le.Uint16(b)), nil
	case kindU32:
		return le.Uint32(b), nil
	case kindI32:
		return int32(le.Uint32(b)), nil
	case kindF32:
		return math.Float32frombits(le.Uint32(b)), nil
	case kindBool:
		if b[0] > 1 {
			return nil, fmt.Errorf("a bool of %d", b[0])
		}
		return b[0] == 1, nil
	case kindU64:
		return le.Uint64(b), nil
	case kindI64:
		return int64(le.Uint64(b)), nil
	}
	return math.Float64frombits(le.Uint64(b)), nil
}

func (c *cursor) array() (any, error) {
	kind, err := c.u32()
	if err != nil {
		return nil, err
	}
	if kind >= uint32(len(sizes)) || kind == kindArray {
		return nil, fmt.Errorf("an array of type %d", kind)
	}
	n, err := c.count(max(sizes[kind], 1))
	if err != nil {
		return nil, err
	}
	switch kind {
	case kindString:
		if int64(n) > c.left/8 {
			return nil, fmt.Errorf("%d texts do not fit the %d bytes that are left", n, c.left)
		}
		x := make([]string, n)
		for i := range x {
			if x[i], err = c.text(c.left); err != nil {
				return nil, err
			}
		}
		return x, nil
	case kindU8:
		return numbers[uint8](c, n)
	case kindI8:
		return numbers[int8](c, n)
	case kindU16:
		return numbers[uint16](c, n)
	case kindI16:
		return numbers[int16](c, n)
	case kindU32:
		return numbers[uint32](c, n)
	case kindI32:
		return numbers[int32](c, n)
	case kindF32:
		return numbers[float32](c, n)
	case kindBool:
		return numbers[bool](c, n)
	case kindU64:
		return numbers[uint64](c, n)
	case kindI64:
		return numbers[int64](c, n)
	}
	return numbers[float64](c, n)
}

func numbers[T any](c *cursor, n int) (any, error) {
	x := make([]T, n)
	b, err := c.bytes(int64(binary.Size(x)))
	if err != nil {
		return nil, err
	}
	_, err = binary.Decode(b, le, x)
	return x, err
}
