package scratch

import (
	"testing"
	"unsafe"
)

func TestGet(t *testing.T) {
	for _, n := range []int{0, 1, 63, 64, 65, 1000, 1 << 16} {
		var lent []Buf[float32]
		for i := range 3 {
			b := Get[float32](n)
			if len(b.X) != n {
				t.Fatalf("Get(%d): %d elements", n, len(b.X))
			}
			if uintptr(unsafe.Pointer(unsafe.SliceData(b.X)))%Align != 0 {
				t.Errorf("Get(%d) does not start on a boundary of %d bytes", n, Align)
			}
			for j := range b.X {
				b.X[j] = float32(i)
			}
			lent = append(lent, b)
		}
		for i, b := range lent {
			for j, v := range b.X {
				if v != float32(i) {
					t.Fatalf("Get(%d): buffer %d shares element %d with another", n, i, j)
				}
			}
			b.Free()
		}
	}
	Buf[int8]{}.Free()
	if n := testing.AllocsPerRun(100, func() { Get[int8](5000).Free() }); n > 0.5 {
		t.Errorf("%.1f allocations to lend memory again, want 0", n)
	}
}
