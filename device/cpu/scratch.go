package cpu

import (
	"math/bits"
	"sync"
	"unsafe"
)

// Scratch is pooled by powers of two. The smallest, 64 elements, keeps every buffer on a 16-byte boundary, and with it
// the order in which gonum's dot product adds.
var pools [3][64]sync.Pool // of int8, float32, float64

type scratch[T int8 | float32 | float64] struct {
	x   []T // undefined contents
	all *[]T
}

func borrow[T int8 | float32 | float64](n int) scratch[T] {
	c := max(6, bits.Len(uint(max(n, 1)-1)))
	p, _ := pool[T](c).Get().(*[]T)
	if p == nil {
		x := make([]T, 1<<c)
		p = &x
	}
	return scratch[T]{(*p)[:n], p}
}

func (s scratch[T]) giveBack() {
	pool[T](bits.Len(uint(len(*s.all) - 1))).Put(s.all)
}

func pool[T int8 | float32 | float64](class int) *sync.Pool {
	var z T
	return &pools[unsafe.Sizeof(z)>>2][class]
}

// aligned reports whether rows of x, ld apart, all start on a 16-byte boundary.
func aligned(x []float32, ld int) bool {
	return ld%4 == 0 && uintptr(unsafe.Pointer(unsafe.SliceData(x)))%16 == 0
}
