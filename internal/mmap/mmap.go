// Package mmap reads files by mapping them into memory, where the system can, and else by plain reads.
package mmap

import (
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"runtime/debug"
	"unsafe"
)

// ErrShort says that a file lost bytes while it was open.
var ErrShort = errors.New("data ends early: the file became shorter after it was opened")

// File is an open file of a size that it must keep. Its methods may be called concurrently, except Close.
type File struct {
	*os.File // for ReadAt

	size int64
	data []byte // nil: not mapped
}

// Open opens and maps a regular file. Another one is an error, and is not opened: a pipe would wait for a writer.
func Open(path string) (*File, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !st.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a file", path)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	if st, err = f.Stat(); err != nil {
		f.Close()
		return nil, err
	}
	m := &File{File: f, size: st.Size()}
	if m.size > 0 && m.size <= math.MaxInt {
		m.data, _ = mapFile(f, int(m.size)) // without it, View reads
	}
	return m, nil
}

// Size is what the file had when it was opened.
func (m *File) Size() int64 { return m.size }

// Close unmaps and closes the file.
func (m *File) Close() error {
	var err error
	if m.data != nil {
		err = unmap(m.data)
		m.data = nil
	}
	return errors.Join(err, m.File.Close())
}

// View calls use with the n bytes from off on, which must not be changed, nor kept after it returns. Their pages then
// count as memory of this process no longer. A file that became shorter is ErrShort: pages that are gone, and would
// otherwise end the program, stop use where it reads them.
func (m *File) View(off, n int64, use func(b []byte) error) (err error) {
	if off < 0 || n < 0 || off > m.size-n {
		return fmt.Errorf("bytes %d to %d do not lie in a file of %d", off, off+n, m.size)
	}
	if m.data == nil {
		return read(m.File, off, n, use)
	}
	b := m.data[off : off+n : off+n]
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		switch r := recover().(type) {
		case nil:
		case interface{ Addr() uintptr }:
			if at := r.Addr() - uintptr(unsafe.Pointer(unsafe.SliceData(m.data))); at >= uintptr(len(m.data)) {
				panic(r)
			}
			err = ErrShort
		default:
			panic(r)
		}
	}()
	err = use(b)
	release(m.data, int(off), int(off+n))
	if st, e := m.Stat(); e != nil || st.Size() < m.size { // what is gone of the last page reads as zeros
		return ErrShort
	}
	return err
}

// View is that of r if it is a File; else it reads the bytes for use.
func View(r io.ReaderAt, off, n int64, use func(b []byte) error) error {
	if m, ok := r.(*File); ok {
		return m.View(off, n, use)
	}
	return read(r, off, n, use)
}

func read(r io.ReaderAt, off, n int64, use func(b []byte) error) error {
	b := make([]byte, n)
	if _, err := io.ReadFull(io.NewSectionReader(r, off, n), b); err != nil {
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			err = ErrShort
		}
		return err
	}
	return use(b)
}

// release tells the system that the whole pages of data[lo:hi] are not needed for now.
func release(data []byte, lo, hi int) {
	page := os.Getpagesize()
	if lo, hi = (lo+page-1)/page*page, hi/page*page; lo < hi {
		dontNeed(data[lo:hi])
	}
}
