package device

// Type is the element type of a span of memory. Arithmetic is float32; the integers are storage for indices and codes.
type Type uint8

const (
	F32 Type = iota // float32
	I32             // int32: token and class indices
	I8              // int8: quantized activations, weight codes
	U8              // uint8: packed codes
	F16             // IEEE half precision, in a uint16: caches and tables that are read, never summed
)

var typeNames = [...]string{"f32", "i32", "i8", "u8", "f16"}

func (t Type) String() string { return typeNames[t] }

// Size is the size of one element in bytes.
func (t Type) Size() int {
	switch t {
	case I8, U8:
		return 1
	case F16:
		return 2
	}
	return 4
}

// A Buffer is one allocation. Host devices fill the slice of their type, others keep a handle or address in Addr.
// Only devices make and read Buffers, and [WrapTo].
type Buffer struct {
	Type Type
	Len  int
	F32  []float32
	I32  []int32
	I8   []int8
	U8   []uint8
	F16  []uint16
	Addr uintptr
}

// Mem is a span of elements inside a [Buffer]. It is a small value: slicing one allocates nothing. The zero Mem stands
// for "not wanted" wherever a kernel's operand or result is optional.
type Mem struct {
	buf    *Buffer
	off, n int
}

// Span makes the Mem that covers all of b. Only devices call it.
func Span(b *Buffer) Mem { return Mem{b, 0, b.Len} }

// Wrap gives host memory as a Mem without a copy: the source of an Upload or the target of a Download.
func Wrap[T float32 | int32 | int8 | uint8 | uint16](x []T) Mem { return WrapTo(new(Buffer), x) }

// WrapTo is Wrap with a Buffer to use.
func WrapTo[T float32 | int32 | int8 | uint8 | uint16](b *Buffer, x []T) Mem {
	*b = Buffer{Len: len(x)}
	switch x := any(x).(type) {
	case []float32:
		b.Type, b.F32 = F32, x
	case []int32:
		b.Type, b.I32 = I32, x
	case []int8:
		b.Type, b.I8 = I8, x
	case []uint8:
		b.Type, b.U8 = U8, x
	case []uint16:
		b.Type, b.F16 = F16, x
	}
	return Span(b)
}

// HostBuffer allocates zeroed host memory.
func HostBuffer(t Type, n int) *Buffer {
	b := &Buffer{Type: t, Len: n}
	switch t {
	case F32:
		b.F32 = make([]float32, n)
	case I32:
		b.I32 = make([]int32, n)
	case I8:
		b.I8 = make([]int8, n)
	case U8:
		b.U8 = make([]uint8, n)
	case F16:
		b.F16 = make([]uint16, n)
	}
	return b
}

// IsZero reports whether m is the zero Mem, "not wanted". An empty span of a real buffer is not zero.
func (m Mem) IsZero() bool { return m.buf == nil }

// Len is the number of elements.
func (m Mem) Len() int { return m.n }

// Type is the element type; F32 for the zero Mem.
func (m Mem) Type() Type {
	if m.buf == nil {
		return F32
	}
	return m.buf.Type
}

// Slice is the span of elements [lo, hi) of m. The zero Mem stays zero.
func (m Mem) Slice(lo, hi int) Mem {
	if m.buf == nil {
		return m
	}
	if lo < 0 || hi < lo || hi > m.n {
		panic("device: slice bounds out of range")
	}
	return Mem{m.buf, m.off + lo, hi - lo}
}

// Buffer and Offset identify the allocation behind m, for devices.
func (m Mem) Buffer() *Buffer { return m.buf }

// Offset is the index of m's first element in its Buffer.
func (m Mem) Offset() int { return m.off }

// F32 is the span as a host slice; nil for the zero Mem and for memory that is not on the host. Only host devices may
// call it on memory they did not [Wrap].
func (m Mem) F32() []float32 {
	if m.buf == nil || m.buf.F32 == nil {
		return nil
	}
	return m.buf.F32[m.off : m.off+m.n : m.off+m.n]
}

// I32 is F32 for int32.
func (m Mem) I32() []int32 {
	if m.buf == nil || m.buf.I32 == nil {
		return nil
	}
	return m.buf.I32[m.off : m.off+m.n : m.off+m.n]
}

// I8 is F32 for int8.
func (m Mem) I8() []int8 {
	if m.buf == nil || m.buf.I8 == nil {
		return nil
	}
	return m.buf.I8[m.off : m.off+m.n : m.off+m.n]
}

// U8 is F32 for uint8.
func (m Mem) U8() []uint8 {
	if m.buf == nil || m.buf.U8 == nil {
		return nil
	}
	return m.buf.U8[m.off : m.off+m.n : m.off+m.n]
}

// F16 is F32 for the bits of half precision numbers.
func (m Mem) F16() []uint16 {
	if m.buf == nil || m.buf.F16 == nil {
		return nil
	}
	return m.buf.F16[m.off : m.off+m.n : m.off+m.n]
}

// CopyHost copies between two host spans of one type. It is the Upload and Download of every host device.
func CopyHost(dst, src Mem) {
	if dst.IsZero() || src.IsZero() {
		return
	}
	switch dst.buf.Type {
	case F32:
		copy(dst.F32(), src.F32())
	case I32:
		copy(dst.I32(), src.I32())
	case I8:
		copy(dst.I8(), src.I8())
	case U8:
		copy(dst.U8(), src.U8())
	case F16:
		copy(dst.F16(), src.F16())
	}
}
