package mmap

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"setun/internal/rss"
)

func open(t *testing.T, content []byte) (*File, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, content, 0o666); err != nil {
		t.Fatal(err)
	}
	m, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	return m, path
}

// text is n bytes that are all but random.
func text(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i*i>>7 + i)
	}
	return b
}

func TestView(t *testing.T) {
	want := text(100_000)
	m, _ := open(t, want)
	if m.data == nil && runtime.GOOS == "linux" {
		t.Error("the file is not mapped")
	}
	for _, kind := range []string{"mapped", "read"} {
		if kind == "read" && m.data != nil {
			unmap(m.data)
			m.data = nil
		}
		for _, c := range [][2]int64{{0, 100_000}, {0, 0}, {100_000, 0}, {1, 99_999}, {4096, 8192}, {99_999, 1}} {
			if err := View(m, c[0], c[1], func(b []byte) error {
				if !bytes.Equal(b, want[c[0]:c[0]+c[1]]) {
					t.Errorf("%s: bytes %v differ", kind, c)
				}
				return nil
			}); err != nil {
				t.Errorf("%s: bytes %v: %v", kind, c, err)
			}
		}
		for _, c := range [][2]int64{{0, 100_001}, {-1, 1}, {1, -1}, {100_001, 0}, {1 << 62, 1 << 62}} {
			if err := m.View(c[0], c[1], func([]byte) error { return nil }); err == nil || !strings.Contains(err.Error(), "lie in") {
				t.Errorf("%s: bytes %v: %v, want an error", kind, c, err)
			}
		}
		mine := errors.New("mine")
		if err := m.View(5, 5, func([]byte) error { return mine }); err != mine {
			t.Errorf("%s: %v, want the error of use", kind, err)
		}
	}
	if err := View(bytes.NewReader(want), 7, 9, func(b []byte) error {
		if !bytes.Equal(b, want[7:16]) {
			t.Error("bytes of a reader differ")
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
	if err := View(bytes.NewReader(want), 99_999, 2, func(b []byte) error { return nil }); err != ErrShort {
		t.Errorf("past the end of a reader: %v, want ErrShort", err)
	}
}

// TestTruncated: a file that is cut while it is mapped gives ErrShort, whether what is read lies in pages that are gone, in
// the last one, or before.
func TestTruncated(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("Windows does not cut files that are mapped")
	}
	want := text(64 << 10)
	for _, size := range []int64{0, 100, 4096, 40_000, 64<<10 - 1} {
		for _, c := range [][2]int64{{0, 64 << 10}, {60_000, 5}, {0, 10}, {200, 4096}} {
			m, path := open(t, want)
			if err := os.Truncate(path, size); err != nil {
				t.Fatal(err)
			}
			var got []byte
			err := m.View(c[0], c[1], func(b []byte) error {
				got = append(got, b...)
				return nil
			})
			if err != ErrShort {
				t.Errorf("cut to %d, bytes %v: %v, want ErrShort", size, c, err)
			}
		}
	}
}

// TestPanics: other panics of use go on, faults outside the file among them.
func TestPanics(t *testing.T) {
	m, _ := open(t, text(10_000))
	var null *[1 << 20]byte
	for _, f := range []func(b []byte) error{func([]byte) error { panic("mine") },
		func(b []byte) error { return fmt.Errorf("byte %d", null[len(b)+1<<16]) },
		func(b []byte) error { return fmt.Errorf("byte %d", b[len(b)-10_001]) }} {
		func() {
			defer func() {
				if recover() == nil {
					t.Error("the panic is lost")
				}
			}()
			t.Error(m.View(0, 10_000, f))
		}()
	}
}

// TestRelease: what was viewed does not stay in this process's memory.
func TestRelease(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("not known exactly elsewhere")
	}
	const size = 64 << 20
	m, _ := open(t, make([]byte, size))
	sum := 0
	count := func(b []byte) error {
		for _, c := range b {
			sum += int(c)
		}
		return nil
	}
	if err := m.View(0, size, count); err != nil {
		t.Fatal(err)
	}
	before := rss.Now()
	for off := int64(0); off < size; off += 1<<20 + 4000 {
		if err := m.View(off, min(1<<20+4000, size-off), count); err != nil {
			t.Fatal(err)
		}
	}
	if d := rss.Now() - before; d > size/4 {
		t.Errorf("%d bytes stay after %d were viewed", d, size)
	}
}

func TestClosed(t *testing.T) {
	m, _ := open(t, text(10))
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	if err := m.View(0, 10, func([]byte) error { return nil }); !errors.Is(err, os.ErrClosed) {
		t.Errorf("%v, want os.ErrClosed", err)
	}
	e, _ := open(t, nil)
	if err := e.View(0, 0, func(b []byte) error { return nil }); err != nil {
		t.Errorf("an empty file: %v", err)
	}
}
