package tensor

import (
	"fmt"
	"math"
	"sync"

	"setun/device"
)

// MaxDims is the largest number of dimensions.
const MaxDims = 6

// Tensor is a contiguous, row-major array on a device.
type Tensor struct {
	dev   device.Device
	mem   device.Mem
	typ   device.Type // also of memory that the device could not give
	shape [MaxDims]int
	dims  int
}

// New allocates a tensor with undefined contents. It does not belong to a [Pool]; give it back with Free.
func New(dev device.Device, typ device.Type, shape ...int) *Tensor {
	t := &Tensor{dev: dev, typ: typ}
	t.setShape(shape)
	t.mem = dev.Alloc(typ, size(shape))
	return t
}

// Zeros allocates a float32 tensor filled with 0.
func Zeros(dev device.Device, shape ...int) *Tensor {
	t := New(dev, device.F32, shape...)
	dev.Fill(t.mem, 0)
	return t
}

// FromFloats copies host floats to a new tensor on dev.
func FromFloats(dev device.Device, x []float32, shape ...int) *Tensor {
	t := New(dev, device.F32, shape...)
	t.SetFloats(x)
	return t
}

// FromInts copies host integers to a new I32 tensor on dev.
func FromInts(dev device.Device, x []int32, shape ...int) *Tensor {
	t := New(dev, device.I32, shape...)
	t.SetInts(x)
	return t
}

// FromHalves copies bits of half precision numbers to a new tensor of type F16.
func FromHalves(dev device.Device, x []uint16, shape ...int) *Tensor {
	t := New(dev, device.F16, shape...)
	upload(t, x)
	return t
}

// FromCodes copies host codes to a new I8 tensor on dev.
func FromCodes(dev device.Device, x []int8, shape ...int) *Tensor {
	t := New(dev, device.I8, shape...)
	upload(t, x)
	return t
}

func (t *Tensor) setShape(shape []int) {
	if len(shape) > MaxDims {
		panic(&ShapeError{Op: "New", Why: fmt.Sprintf("has more than %d dimensions", MaxDims),
			Shapes: [][]int{append([]int(nil), shape...)}})
	}
	t.dims = copy(t.shape[:], shape)
}

func size(shape []int) int {
	n := 1
	for _, d := range shape {
		if d < 0 {
			panic(&ShapeError{Op: "New", Why: "has a negative dimension", Shapes: [][]int{append([]int(nil), shape...)}})
		}
		if d > 0 && n > math.MaxInt/d {
			panic(&ShapeError{Op: "New", Why: "has more elements than an int counts", Shapes: [][]int{append([]int(nil), shape...)}})
		}
		n *= d
	}
	return n
}

// Shape is the list of dimensions. The caller must not change it.
func (t *Tensor) Shape() []int { return t.shape[:t.dims:t.dims] }

// Dims is the number of dimensions.
func (t *Tensor) Dims() int { return t.dims }

// Dim is the size of dimension i; negative i counts from the end.
func (t *Tensor) Dim(i int) int {
	j := i
	if i < 0 {
		j += t.dims
	}
	if j < 0 || j >= t.dims {
		panic(&ShapeError{Op: "Dim", Why: fmt.Sprintf("has no dimension %d", i), Shapes: shapes(t)})
	}
	return t.shape[j]
}

// Len is the number of elements.
func (t *Tensor) Len() int { return size(t.shape[:t.dims]) }

// Bytes is the size of the elements in bytes.
func (t *Tensor) Bytes() int64 { return int64(t.Len()) * int64(t.Type().Size()) }

// Type is the element type.
func (t *Tensor) Type() device.Type { return t.typ }

// Device is where the tensor lives.
func (t *Tensor) Device() device.Device { return t.dev }

// Mem is the memory behind t, zero for a nil tensor: what kernels take.
func (t *Tensor) Mem() device.Mem {
	if t == nil {
		return device.Mem{}
	}
	return t.mem
}

// Free gives the memory back to the device. Only for tensors made with New and its like, never for views or tensors of
// a Pool.
func (t *Tensor) Free() {
	t.dev.Free(t.mem)
	t.mem = device.Mem{}
}

// Floats copies a tensor of float32 or half precision to the host.
func (t *Tensor) Floats() []float32 {
	x := make([]float32, t.Len())
	t.ReadFloats(x)
	return x
}

// ReadFloats copies a tensor of float32 or half precision to x, which must have its length.
func (t *Tensor) ReadFloats(x []float32) {
	if t.typ == device.F16 {
		wide := New(t.dev, device.F32, t.Len())
		defer wide.Free()
		Copy(wide, t)
		t = wide
	}
	download(t, x)
}

// Float is the first element: the value of a scalar.
func (t *Tensor) Float() float32 {
	var x [1]float32
	t.dev.Download(device.Wrap(x[:]), t.mem.Slice(0, 1))
	return x[0]
}

// Ints copies an I32 tensor to the host.
func (t *Tensor) Ints() []int32 {
	x := make([]int32, t.Len())
	download(t, x)
	return x
}

// Codes copies an I8 tensor to the host.
func (t *Tensor) Codes() []int8 {
	x := make([]int8, t.Len())
	download(t, x)
	return x
}

// SetFloats copies host floats into t.
func (t *Tensor) SetFloats(x []float32) { upload(t, x) }

// SetInts copies host integers into t.
func (t *Tensor) SetInts(x []int32) { upload(t, x) }

func upload[T float32 | int32 | int8 | uint8 | uint16](t *Tensor, x []T) {
	b := hosts.Get().(*device.Buffer)
	m := device.WrapTo(b, x)
	checkHost("upload", t, m)
	t.dev.Upload(t.mem, m)
	putHost(b)
}

func download[T float32 | int32 | int8](t *Tensor, x []T) {
	b := hosts.Get().(*device.Buffer)
	m := device.WrapTo(b, x)
	checkHost("download", t, m)
	t.dev.Download(m, t.mem)
	putHost(b)
}

// hosts are Buffers around host memory, which a device has done with when Upload and Download return.
var hosts = sync.Pool{New: func() any { return new(device.Buffer) }}

func putHost(b *device.Buffer) {
	*b = device.Buffer{}
	hosts.Put(b)
}

func checkHost(op string, t *Tensor, m device.Mem) {
	if m.Len() != t.Len() || m.Type() != t.Type() {
		panic(&ShapeError{Op: op, Why: fmt.Sprintf("of %s does not fit %d host values of %s", t.Type(), m.Len(), m.Type()),
			Shapes: [][]int{t.Shape()}})
	}
}

// Reshape is a view of t with another shape of the same length. One dimension may be -1: what is left.
func (t *Tensor) Reshape(shape ...int) *Tensor { return t.ReshapeTo(new(Tensor), shape...) }

// ReshapeTo is Reshape with a Tensor to use for the view. What was in v is not freed.
func (t *Tensor) ReshapeTo(v *Tensor, shape ...int) *Tensor {
	*v = Tensor{dev: t.dev, mem: t.mem, typ: t.typ}
	v.setShape(shape)
	rest, at, ok := 1, -1, true
	for i, d := range shape {
		if d == -1 && at < 0 {
			at = i
		} else {
			rest *= d
			ok = ok && d >= 0
		}
	}
	if at >= 0 && rest > 0 {
		v.shape[at] = t.Len() / rest
		rest *= v.shape[at]
	}
	if !ok || rest != t.Len() || (at >= 0 && v.shape[at] < 0) {
		panic(&ShapeError{Op: "Reshape", Why: "differ in length", Shapes: shapes(t, v)})
	}
	return v
}

// Rows is a view of the elements [lo, hi) of the first dimension.
func (t *Tensor) Rows(lo, hi int) *Tensor { return t.RowsTo(new(Tensor), lo, hi) }

// RowsTo is Rows with a Tensor to use for the view. What was in v is not freed.
func (t *Tensor) RowsTo(v *Tensor, lo, hi int) *Tensor {
	if t.dims == 0 || lo < 0 || hi < lo || hi > t.shape[0] {
		panic(&ShapeError{Op: "Rows", Why: fmt.Sprintf("has no rows [%d:%d]", lo, hi), Shapes: shapes(t)})
	}
	*v = *t
	v.shape[0] = hi - lo
	n := 1
	for _, d := range t.shape[1:t.dims] {
		n *= d
	}
	v.mem = t.mem.Slice(lo*n, hi*n)
	return v
}

// matrix flattens the leading dimensions: rows and columns of t. A vector is one row, a scalar 1 x 1.
func (t *Tensor) matrix() (rows, cols int) {
	if t.dims == 0 {
		return 1, 1
	}
	rows, cols = 1, t.shape[t.dims-1]
	for _, d := range t.shape[:t.dims-1] {
		rows *= d
	}
	return rows, cols
}
