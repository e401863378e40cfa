package cpu

import (
	"unsafe"

	"setun/internal/scratch"
)

// lent is memory with undefined contents. It starts on a cache line, and with it the order in which gonum's dot product
// adds is fixed.
type lent[T scratch.Number] struct {
	x   []T
	buf scratch.Buf[T]
}

func borrow[T scratch.Number](n int) lent[T] {
	b := scratch.Get[T](n)
	return lent[T]{b.X, b}
}

func (l lent[T]) giveBack() { l.buf.Free() }

// aligned reports whether rows of x, ld apart, all start on a 16-byte boundary.
func aligned(x []float32, ld int) bool {
	return ld%4 == 0 && uintptr(unsafe.Pointer(unsafe.SliceData(x)))%16 == 0
}
