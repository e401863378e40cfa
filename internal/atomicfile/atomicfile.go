package atomicfile

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"
)

// Write replaces the file at path by what f writes. Writes are buffered. If f fails, its error is returned as it is,
// wrapped by [Explain]. A symbolic link at path is replaced, not followed; but a device or a pipe is written to.
func Write(path string, f func(w io.Writer) error) (err error) {
	defer func() {
		if err != nil {
			err = Explain("write", path, err)
		}
	}()
	if st, err := os.Stat(path); err == nil && st.IsDir() {
		return errIsDir
	} else if err == nil && !st.Mode().IsRegular() {
		return stream(path, f)
	}
	dir, base := filepath.Split(path)
	tmp, err := create(dir, base)
	if err != nil {
		return err
	}
	done := false
	defer func() { // also when f panics
		if !done {
			tmp.Close()
			os.Remove(tmp.Name())
		}
	}()
	w := bufio.NewWriterSize(bare{tmp}, 1<<16)
	if err := f(w); err != nil {
		return err
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if err := tmp.Sync(); err != nil {
		return err
	}
	if err := tmp.Close(); err != nil {
		return err
	}
	if err := os.Rename(tmp.Name(), path); err != nil {
		return err
	}
	done = true
	return SyncDir(dir)
}

// stream writes to what is no regular file.
func stream(path string, f func(w io.Writer) error) error {
	out, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	w := bufio.NewWriterSize(out, 1<<16)
	if err = f(w); err == nil {
		err = w.Flush()
	}
	if cerr := out.Close(); err == nil {
		err = cerr
	}
	return err
}

// bare leaves the temporary name out of errors.
type bare struct{ w io.Writer }

func (b bare) Write(p []byte) (int, error) {
	n, err := b.w.Write(p)
	if pe, ok := err.(*fs.PathError); ok {
		err = pe.Err
	}
	return n, err
}

// create is os.CreateTemp, but with the mode the umask gives to ordinary files.
func create(dir, base string) (*os.File, error) {
	for try := 0; ; try++ {
		name := filepath.Join(dir, "."+base+".tmp-"+strconv.FormatUint(uint64(rand.Uint32()), 36))
		f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
		if !errors.Is(err, fs.ErrExist) || try == 100 {
			return f, err
		}
	}
}

// SyncDir flushes the names in a folder to the disk. It does nothing where the operating system has no such call.
func SyncDir(dir string) error {
	switch runtime.GOOS {
	case "windows", "plan9", "js", "wasip1":
		return nil
	}
	if dir == "" {
		dir = "."
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := d.Sync(); err != nil && !errors.Is(err, syscall.EINVAL) && !errors.Is(err, errors.ErrUnsupported) {
		return err // EINVAL: a file system without the call
	}
	return nil
}

var errIsDir = errors.New("is a folder")

// Explain makes one line of err: op, path, the cause and, where it is known, what to do. It wraps err; nil stays nil.
func Explain(op, path string, err error) error {
	if err == nil {
		return nil
	}
	cause := err
	// The operating system's part of a path error; the path may be a temporary one that means nothing to the user.
	if pe, ok := err.(*fs.PathError); ok {
		cause = pe.Err
	}
	if le, ok := err.(*os.LinkError); ok {
		cause = le.Err
	}
	if a := advice(op, err); a != "" {
		return &explained{fmt.Sprintf("%s %s: %v: %s", op, path, cause, a), err}
	}
	return &explained{fmt.Sprintf("%s %s: %v", op, path, cause), err}
}

type explained struct {
	text string
	err  error
}

func (e *explained) Error() string { return e.text }
func (e *explained) Unwrap() error { return e.err }

func advice(op string, err error) string {
	var inner *explained
	switch {
	case errors.As(err, &inner):
		return "" // given already
	case errors.Is(err, errIsDir), errors.Is(err, syscall.EISDIR):
		return "give the name of a file"
	case errors.Is(err, syscall.ENOSPC), isWindows(err, 39, 112): // ERROR_HANDLE_DISK_FULL, ERROR_DISK_FULL
		return "free some space or choose another disk"
	case errors.Is(err, syscall.EDQUOT):
		return "your quota is used up: free some space or choose another disk"
	case errors.Is(err, syscall.ENOTDIR):
		return "a part of the path is a file: choose a folder"
	case errors.Is(err, syscall.EROFS):
		return "choose a folder on a disk that can be written"
	case errors.Is(err, syscall.ENAMETOOLONG):
		return "choose a shorter name"
	case errors.Is(err, fs.ErrPermission):
		return "choose a place you have access to, or change its permissions"
	case errors.Is(err, fs.ErrNotExist) && op != "read":
		return "create the folder first"
	}
	return ""
}

func isWindows(err error, codes ...syscall.Errno) bool {
	var no syscall.Errno
	if runtime.GOOS != "windows" || !errors.As(err, &no) {
		return false
	}
	for _, c := range codes {
		if no == c {
			return true
		}
	}
	return false
}
