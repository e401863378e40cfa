package gguf

import (
	"fmt"
	"math"
)

// Type is the element type of a tensor, numbered as in the file.
type Type uint32

const (
	F32   Type = 0
	F16   Type = 1
	Q8_0  Type = 8
	BF16  Type = 30
	TQ1_0 Type = 34
	TQ2_0 Type = 35
	I2_S  Type = 36
)

// layout is a type's name and its blocks along the innermost dimension.
type layout struct {
	name            string
	elements, bytes int
}

var layouts = map[Type]layout{
	F32: {"F32", 1, 4}, F16: {"F16", 1, 2}, BF16: {"BF16", 1, 2}, Q8_0: {"Q8_0", 32, 34},
	TQ1_0: {"TQ1_0", 256, 54}, TQ2_0: {"TQ2_0", 256, 66}, I2_S: {"I2_S", 128, 32},
}

func (t Type) String() string {
	if l, ok := layouts[t]; ok {
		return l.name
	}
	return fmt.Sprintf("type %d", uint32(t))
}

// TypeByName finds the type that a flag names.
func TypeByName(name string) (Type, error) {
	for t, l := range layouts {
		if l.name == name {
			return t, nil
		}
	}
	return 0, fmt.Errorf("gguf: unknown type %q; use F32, F16, BF16, Q8_0, TQ1_0, TQ2_0 or I2_S", name)
}

// Known reports whether this package decodes the type.
func (t Type) Known() bool { _, ok := layouts[t]; return ok }

// Size is the number of bytes of a tensor, or why there is none of these Dims.
func (t Type) Size(dims []int) (int64, error) {
	l, ok := layouts[t]
	if !ok {
		return 0, fmt.Errorf("%s is not one that this package knows", t)
	}
	n, err := elements(dims)
	if err != nil {
		return 0, err
	}
	along := n // I2_S does not know rows
	if t != I2_S && len(dims) > 0 {
		along = int64(dims[0])
	}
	if along%int64(l.elements) != 0 {
		return 0, fmt.Errorf("%s has blocks of %d elements, which do not divide %d", t, l.elements, along)
	}
	size := n / int64(l.elements) * int64(l.bytes)
	if t == I2_S {
		size += 32
	}
	return size, nil
}

const maxDims = 4 // as in llama.cpp

func elements(dims []int) (int64, error) {
	if len(dims) > maxDims {
		return 0, fmt.Errorf("%d dimensions, more than %d", len(dims), maxDims)
	}
	n := int64(1)
	for _, d := range dims {
		if d < 0 || d > 0 && n > math.MaxInt64/16/int64(d) {
			return 0, fmt.Errorf("dimensions %v are out of range", dims)
		}
		n *= int64(d)
	}
	return n, nil
}

// Tensor is one named tensor.
type Tensor struct {
	Name string
	Type Type
	Dims []int // innermost first
	Data []byte
}

// KV is a pair of the metadata. Value is a bool, string, float or integer of a fixed size, or a slice of one of them.
type KV struct {
	Key   string
	Value any
}
