package safetensors

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/bits"
	"unsafe"
)

// DType is the element type of a tensor, named as in the file.
type DType string

const (
	Bool   DType = "BOOL"
	U8     DType = "U8"
	I8     DType = "I8"
	F8E4M3 DType = "F8_E4M3"
	F8E5M2 DType = "F8_E5M2"
	I16    DType = "I16"
	U16    DType = "U16"
	F16    DType = "F16"
	BF16   DType = "BF16"
	I32    DType = "I32"
	U32    DType = "U32"
	F32    DType = "F32"
	I64    DType = "I64"
	U64    DType = "U64"
	F64    DType = "F64"
)

// Size is the size of one element in bytes, 0 for a dtype this package does not know.
func (d DType) Size() int {
	switch d {
	case Bool, U8, I8, F8E4M3, F8E5M2:
		return 1
	case I16, U16, F16, BF16:
		return 2
	case I32, U32, F32:
		return 4
	case I64, U64, F64:
		return 8
	}
	return 0
}

// Tensor is one named tensor. Data holds the elements row-major, little endian.
type Tensor struct {
	Name  string
	DType DType
	Shape []int
	Data  []byte
}

// Elem is a Go type with a dtype of the same meaning. F16 and BF16 have none: their Data is raw (see [File.ReadF32]).
type Elem interface {
	float32 | float64 | int8 | uint8 | int32 | int64
}

// New makes a tensor of x without a copy where the machine is little endian: leave x alone until the tensor is written.
// [Write] checks that shape and x agree.
func New[T Elem](name string, shape []int, x []T) Tensor {
	return Tensor{Name: name, DType: dtypeOf[T](), Shape: shape, Data: bytesOf(x)}
}

// Values copies the elements of t. It fails if T is not t's dtype or Data is not a whole number of elements.
func Values[T Elem](t Tensor) ([]T, error) {
	d := dtypeOf[T]()
	if t.DType != d {
		return nil, fmt.Errorf("safetensors: tensor %q: dtype is %s, not %s", t.Name, t.DType, d)
	}
	if len(t.Data)%d.Size() != 0 {
		return nil, fmt.Errorf("safetensors: tensor %q: %d bytes of data are no whole number of %s", t.Name, len(t.Data), d)
	}
	x := make([]T, len(t.Data)/d.Size())
	if _, err := binary.Decode(t.Data, binary.LittleEndian, x); err != nil {
		return nil, fmt.Errorf("safetensors: tensor %q: %w", t.Name, err)
	}
	return x, nil
}

func dtypeOf[T Elem]() DType {
	switch any(*new(T)).(type) {
	case float32:
		return F32
	case float64:
		return F64
	case int8:
		return I8
	case uint8:
		return U8
	case int32:
		return I32
	}
	return I64
}

var littleEndian = binary.NativeEndian.Uint16([]byte{1, 0}) == 1

// bytesOf is x in little endian: its own memory if the machine agrees, else a copy.
func bytesOf[T Elem](x []T) []byte {
	if len(x) == 0 {
		return nil
	}
	if !littleEndian {
		return bytesCopy(x)
	}
	return unsafe.Slice((*byte)(unsafe.Pointer(&x[0])), len(x)*int(unsafe.Sizeof(x[0])))
}

func bytesCopy[T Elem](x []T) []byte {
	b, err := binary.Append(nil, binary.LittleEndian, x)
	if err != nil {
		panic(err) // Elem holds fixed-size types only
	}
	return b
}

// maxRank bounds what a hostile header can make the reader allocate. NumPy stops at 64, too.
const maxRank = 64

// dataSize is the number of bytes of a tensor, or the reason why there is none.
func dataSize(d DType, shape []int) (int64, error) {
	size := d.Size()
	if size == 0 {
		return 0, fmt.Errorf("unknown dtype %q", string(d))
	}
	if len(shape) > maxRank {
		return 0, fmt.Errorf("%d dimensions, more than %d", len(shape), maxRank)
	}
	n := uint64(size)
	for _, s := range shape {
		if s < 0 {
			return 0, fmt.Errorf("negative dimension in shape %v", shape)
		}
		hi, lo := bits.Mul64(n, uint64(s))
		if hi != 0 || lo > math.MaxInt {
			return 0, fmt.Errorf("shape %v is too large", shape)
		}
		n = lo
	}
	return int64(n), nil
}
