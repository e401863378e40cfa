package scratch

import (
	"math/bits"
	"sync"
	"unsafe"
)

// Align is the boundary in bytes on which every Buf starts: a cache line and a 512-bit vector.
const Align = 64

// Number is what kernels compute with.
type Number interface {
	float32 | float64 | int32 | int8 | uint8 | uint16
}

// Buf is lent memory. X may be used until Free.
type Buf[T Number] struct {
	X   []T
	all *[]byte
}

var pools [64]sync.Pool

// Get lends n elements.
func Get[T Number](n int) Buf[T] {
	var z T
	c := max(8, bits.Len(uint(max(n*int(unsafe.Sizeof(z)), 1)-1)))
	p, _ := pools[c].Get().(*[]byte)
	if p == nil {
		b := make([]byte, 1<<c+Align)
		at := -uintptr(unsafe.Pointer(&b[0])) & (Align - 1)
		b = b[at : at+1<<c : at+1<<c]
		p = &b
	}
	return Buf[T]{unsafe.Slice((*T)(unsafe.Pointer(&(*p)[0])), n), p}
}

// Free gives the memory back. The zero Buf has nothing to give.
func (b Buf[T]) Free() {
	if b.all != nil {
		pools[bits.Len(uint(len(*b.all)-1))].Put(b.all)
	}
}
