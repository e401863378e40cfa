//go:build linux

package simd

import (
	"runtime/debug"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A guarded slice lies flush against a page that faults: at its end, or with head at its start.
func guarded[T float32 | float64 | int32 | int8 | uint8 | uint16](t *testing.T, n int, head bool) []T {
	t.Helper()
	page := unix.Getpagesize()
	var z T
	size := n * int(unsafe.Sizeof(z))
	body := (size + page - 1) / page * page
	m, err := unix.Mmap(-1, 0, body+2*page, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Munmap(m) })
	for _, edge := range [][]byte{m[:page], m[page+body:]} {
		if err := unix.Mprotect(edge, unix.PROT_NONE); err != nil {
			t.Fatal(err)
		}
	}
	at := page + body - size
	if head {
		at = page
	}
	if n == 0 {
		return nil
	}
	return unsafe.Slice((*T)(unsafe.Pointer(&m[at])), n)
}

// faults runs f and reports a fault in it as an error of the test.
func faults(t *testing.T, what string, f func()) {
	t.Helper()
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			t.Errorf("%s: %v", what, p)
		}
	}()
	f()
}

var sink float32

// TestGuard: the guard itself catches a routine that reads one element too far.
func TestGuard(t *testing.T) {
	x := guarded[float32](t, 5, false)
	caught := false
	func() {
		defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
		defer func() { caught = recover() != nil }()
		sink = *(*float32)(unsafe.Add(unsafe.Pointer(&x[4]), 4))
	}()
	if !caught {
		t.Error("reading past the guard did not fault")
	}
}
