package safetensors

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"unicode/utf8"
)

const (
	metaKey   = "__metadata__"
	maxHeader = 100_000_000
)

// Write writes tensors and, unless it is empty, meta. Names must be unique, not empty and not "__metadata__". All
// tensors are checked before the first byte is written; after that only w's errors can occur.
func Write(w io.Writer, tensors []Tensor, meta map[string]string) error {
	order := make([]int, len(tensors))
	sizes := make([]int64, len(tensors))
	seen := make(map[string]bool, len(tensors))
	for i, t := range tensors {
		if err := checkName(t.Name, seen); err != nil {
			return fmt.Errorf("safetensors: tensor %d: %w", i, err)
		}
		n, err := dataSize(t.DType, t.Shape)
		if err == nil && n != int64(len(t.Data)) {
			err = fmt.Errorf("%s of shape %v takes %d bytes, Data has %d", t.DType, t.Shape, n, len(t.Data))
		}
		if err != nil {
			return fmt.Errorf("safetensors: tensor %q: %w", t.Name, err)
		}
		order[i], sizes[i] = i, n
	}
	slices.SortStableFunc(order, func(a, b int) int {
		return cmp.Compare(tensors[b].DType.Size(), tensors[a].DType.Size())
	})
	begin := make([]int64, len(tensors))
	var end int64
	for _, i := range order {
		begin[i] = end
		end += sizes[i]
	}

	h, err := header(tensors, begin, sizes, meta)
	if err != nil {
		return fmt.Errorf("safetensors: %w", err)
	}
	if _, err := w.Write(h); err != nil {
		return fmt.Errorf("safetensors: write header: %w", err)
	}
	for _, i := range order {
		if _, err := w.Write(tensors[i].Data); err != nil {
			return fmt.Errorf("safetensors: write tensor %q: %w", tensors[i].Name, err)
		}
	}
	return nil
}

// header is the first part of the file: length, JSON, padding.
func header(tensors []Tensor, begin, sizes []int64, meta map[string]string) ([]byte, error) {
	h := make([]byte, 8, 1024)
	h = append(h, '{')
	if len(meta) > 0 {
		for k, v := range meta {
			if !utf8.ValidString(k) || !utf8.ValidString(v) {
				return nil, fmt.Errorf("metadata %q: not UTF-8", k)
			}
		}
		m, err := marshal(meta)
		if err != nil {
			return nil, err
		}
		h = append(h, `"`+metaKey+`":`...)
		h = append(h, m...)
	}
	for i, t := range tensors {
		if i > 0 || len(meta) > 0 {
			h = append(h, ',')
		}
		name, err := marshal(t.Name)
		if err != nil {
			return nil, err
		}
		h = append(h, name...)
		h = append(h, `:{"dtype":"`...)
		h = append(h, t.DType...)
		h = append(h, `","shape":[`...)
		for j, s := range t.Shape {
			if j > 0 {
				h = append(h, ',')
			}
			h = strconv.AppendInt(h, int64(s), 10)
		}
		h = append(h, `],"data_offsets":[`...)
		h = strconv.AppendInt(h, begin[i], 10)
		h = append(h, ',')
		h = strconv.AppendInt(h, begin[i]+sizes[i], 10)
		h = append(h, "]}"...)
	}
	h = append(h, '}')
	for len(h)%8 != 0 {
		h = append(h, ' ')
	}
	if n := len(h) - 8; n > maxHeader {
		return nil, fmt.Errorf("header of %d bytes exceeds the limit of %d: put fewer tensors in a file", n, maxHeader)
	}
	binary.LittleEndian.PutUint64(h, uint64(len(h)-8))
	return h, nil
}

// marshal is json.Marshal without HTML escapes. Map keys come out sorted.
func marshal(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

func checkName(name string, seen map[string]bool) error {
	switch {
	case name == "":
		return errors.New("empty name")
	case name == metaKey:
		return fmt.Errorf("name %q is reserved", name)
	case !utf8.ValidString(name):
		return fmt.Errorf("name %q is not UTF-8", name)
	case seen[name]:
		return fmt.Errorf("second tensor with the name %q", name)
	}
	seen[name] = true
	return nil
}
