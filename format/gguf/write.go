package gguf

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"unicode/utf8"
)

const (
	magic     = "GGUF"
	version   = 3
	alignment = 32
)

// Value types of the file.
const (
	kindU8 = iota
	kindI8
	kindU16
	kindI16
	kindU32
	kindI32
	kindF32
	kindBool
	kindString
	kindArray
	kindU64
	kindI64
	kindF64
)

// Write writes a file of pairs and tensors in the given order.
func Write(w io.Writer, meta []KV, tensors []Tensor) error {
	fail := func(err error) error { return fmt.Errorf("gguf: %w", err) }
	h := append([]byte(nil), magic...)
	h = le.AppendUint32(h, version)
	h = le.AppendUint64(h, uint64(len(tensors)))
	h = le.AppendUint64(h, uint64(len(meta)))
	keys := map[string]bool{}
	for _, kv := range meta {
		if err := checkName(kv.Key, keys); err != nil {
			return fail(fmt.Errorf("key: %w", err))
		}
		if kv.Key == "general.alignment" {
			return fail(errors.New("general.alignment is Write's to choose"))
		}
		h = appendText(h, kv.Key)
		var err error
		if h, err = appendValue(h, kv.Value); err != nil {
			return fail(fmt.Errorf("key %q: %w", kv.Key, err))
		}
	}
	names, offset := map[string]bool{}, int64(0)
	for _, t := range tensors {
		if err := checkName(t.Name, names); err != nil {
			return fail(fmt.Errorf("tensor: %w", err))
		}
		size, err := t.Type.Size(t.Dims)
		if err == nil && size != int64(len(t.Data)) {
			err = fmt.Errorf("%s of %v takes %d bytes, Data has %d", t.Type, t.Dims, size, len(t.Data))
		}
		if err == nil && len(t.Dims) == 0 {
			err = errors.New("it has no dimensions")
		}
		if err != nil {
			return fail(fmt.Errorf("tensor %q: %w", t.Name, err))
		}
		h = appendText(h, t.Name)
		h = le.AppendUint32(h, uint32(len(t.Dims)))
		for _, d := range t.Dims {
			h = le.AppendUint64(h, uint64(d))
		}
		h = le.AppendUint32(h, uint32(t.Type))
		h = le.AppendUint64(h, uint64(offset))
		offset += padded(size, alignment)
	}
	var zeros [alignment]byte
	h = append(h, zeros[:padded(int64(len(h)), alignment)-int64(len(h))]...)
	if _, err := w.Write(h); err != nil {
		return fail(err)
	}
	for _, t := range tensors {
		if _, err := w.Write(t.Data); err != nil {
			return fail(fmt.Errorf("tensor %q: %w", t.Name, err))
		}
		n := int64(len(t.Data))
		if _, err := w.Write(zeros[:padded(n, alignment)-n]); err != nil {
			return fail(fmt.Errorf("tensor %q: %w", t.Name, err))
		}
	}
	return nil
}

var le = binary.LittleEndian

func padded(n, to int64) int64 { return (n + to - 1) / to * to }

func checkName(name string, seen map[string]bool) error {
	switch {
	case name == "":
		return errors.New("empty name")
	case len(name) > maxName:
		return fmt.Errorf("a name of %d bytes; %d is the most", len(name), maxName)
	case !utf8.ValidString(name):
		return fmt.Errorf("name %q is not UTF-8", name)
	case seen[name]:
		return fmt.Errorf("%q twice", name)
	}
	seen[name] = true
	return nil
}

func appendText(b []byte, s string) []byte { return append(le.AppendUint64(b, uint64(len(s))), s...) }

func appendValue(b []byte, v any) ([]byte, error) {
	one := func(kind uint32, v any) ([]byte, error) {
		return binary.Append(le.AppendUint32(b, kind), le, v)
	}
	many := func(kind uint32, n int, v any) ([]byte, error) {
		b := le.AppendUint32(b, kindArray)
		b = le.AppendUint32(b, kind)
		return binary.Append(le.AppendUint64(b, uint64(n)), le, v)
	}
	switch v := v.(type) {
	case uint8:
		return one(kindU8, v)
	case int8:
		return one(kindI8, v)
	case uint16:
		return one(kindU16, v)
	case int16:
		return one(kindI16, v)
	case uint32:
		return one(kindU32, v)
	case int32:
		return one(kindI32, v)
	case float32:
		return one(kindF32, v)
	case bool:
		return one(kindBool, v)
	case uint64:
		return one(kindU64, v)
	case int64:
		return one(kindI64, v)
	case float64:
		return one(kindF64, v)
	case string:
		return appendText(le.AppendUint32(b, kindString), v), nil
	case []uint8:
		return many(kindU8, len(v), v)
	case []int8:
		return many(kindI8, len(v), v)
	case []uint16:
		return many(kindU16, len(v), v)
	case []int16:
		return many(kindI16, len(v), v)
	case []uint32:
		return many(kindU32, len(v), v)
	case []int32:
		return many(kindI32, len(v), v)
	case []float32:
		return many(kindF32, len(v), v)
	case []bool:
		return many(kindBool, len(v), v)
	case []uint64:
		return many(kindU64, len(v), v)
	case []int64:
		return many(kindI64, len(v), v)
	case []float64:
		return many(kindF64, len(v), v)
	case []string:
		b, _ := many(kindString, len(v), []byte(nil))
		for _, s := range v {
			b = appendText(b, s)
		}
		return b, nil
	}
	return b, fmt.Errorf("a value of Go type %T cannot be written", v)
}

// Limits of what is read, far beyond what files have.
const (
	maxName  = 1 << 10
	maxItems = math.MaxInt32
)
