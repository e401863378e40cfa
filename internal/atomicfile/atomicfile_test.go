package atomicfile

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
)

func text(s string) func(io.Writer) error {
	return func(w io.Writer) error {
		_, err := io.WriteString(w, s)
		return err
	}
}

// names lists a folder; a temporary file that was left behind shows.
func names(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var s []string
	for _, e := range entries {
		s = append(s, e.Name())
	}
	return s
}

func content(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestWrite(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a.json")
	long := strings.Repeat("0123456789", 100_000)
	for _, s := range []string{"first", long, "", "last"} {
		if err := Write(path, text(s)); err != nil {
			t.Fatal(err)
		}
		if content(t, path) != s {
			t.Fatalf("%d bytes came back as %d others", len(s), len(content(t, path)))
		}
	}
	if got := names(t, dir); len(got) != 1 {
		t.Errorf("folder holds %v", got)
	}
	// The mode is that of any new file, not a temporary one's 0600.
	plain := filepath.Join(dir, "plain")
	if err := os.WriteFile(plain, nil, 0o666); err != nil {
		t.Fatal(err)
	}
	a, _ := os.Stat(path)
	b, _ := os.Stat(plain)
	if a.Mode() != b.Mode() {
		t.Errorf("mode %v, want %v", a.Mode(), b.Mode())
	}
}

func TestRelativePath(t *testing.T) {
	t.Chdir(t.TempDir())
	if err := Write("a", text("x")); err != nil {
		t.Fatal(err)
	}
	if content(t, "a") != "x" {
		t.Error("wrong content")
	}
}

func TestOldFileStaysUntilTheEnd(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a")
	if err := Write(path, text("old")); err != nil {
		t.Fatal(err)
	}
	err := Write(path, func(w io.Writer) error {
		if err := text(strings.Repeat("new", 1<<20))(w); err != nil {
			return err
		}
		if got := content(t, path); got != "old" {
			t.Errorf("while writing: %.10q", got)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(content(t, path), "newnew") {
		t.Error("the new content did not arrive")
	}
}

func TestFailureLeavesTheOldFile(t *testing.T) {
	boom := errors.New("boom")
	for _, c := range []struct {
		name string
		f    func(io.Writer) error
	}{
		{"at once", func(io.Writer) error { return boom }},
		{"after some data", func(w io.Writer) error {
			return errors.Join(text(strings.Repeat("new", 1<<20))(w), boom)
		}},
		{"panic", func(io.Writer) error { panic(boom) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "a")
			if err := Write(path, text("old")); err != nil {
				t.Fatal(err)
			}
			err := func() (err error) {
				defer func() {
					if r := recover(); r != nil {
						err = r.(error)
					}
				}()
				return Write(path, c.f)
			}()
			if !errors.Is(err, boom) {
				t.Errorf("error %v", err)
			}
			if content(t, path) != "old" || len(names(t, dir)) != 1 {
				t.Errorf("content %.10q, folder %v", content(t, path), names(t, dir))
			}
		})
	}
}

func TestErrors(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o666); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, path, want string
	}{
		{"folder in place of the file", dir, "give the name of a file"},
		{"no folder", filepath.Join(dir, "none", "a"), "create the folder first"},
		{"file in place of the folder", filepath.Join(file, "a"), "a part of the path is a file"},
		{"long name", filepath.Join(dir, strings.Repeat("x", 255)), "choose a shorter name"},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := Write(c.path, text("x"))
			if err == nil {
				t.Fatal("no error")
			}
			if !strings.HasPrefix(err.Error(), "write "+c.path+": ") || strings.Contains(err.Error(), "tmp-") {
				t.Errorf("error %q does not name the path alone", err)
			}
			if runtime.GOOS != "windows" && !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %q lacks %q", err, c.want)
			}
		})
	}
	if got := names(t, dir); len(got) != 1 {
		t.Errorf("folder holds %v", got)
	}
}

func TestPermission(t *testing.T) {
	if runtime.GOOS == "windows" || os.Getuid() <= 0 {
		t.Skip("folder permissions do not bind this user")
	}
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o555); err != nil {
		t.Fatal(err)
	}
	err := Write(filepath.Join(dir, "a"), text("x"))
	if !errors.Is(err, fs.ErrPermission) || !strings.Contains(err.Error(), "change its permissions") {
		t.Errorf("error %v", err)
	}
}

func TestExplain(t *testing.T) {
	if Explain("write", "p", nil) != nil {
		t.Error("nil became an error")
	}
	full := &fs.PathError{Op: "write", Path: "/other", Err: syscall.ENOSPC}
	for _, c := range []struct {
		err  error
		want string
	}{
		{full, "save p: " + syscall.ENOSPC.Error() + ": free some space or choose another disk"},
		{fmt.Errorf("tensor x: %w", full), "save p: tensor x: " + full.Error() + ": free some space or choose another disk"},
		{&os.LinkError{Op: "rename", Old: "a", New: "b", Err: syscall.EROFS},
			"save p: " + syscall.EROFS.Error() + ": choose a folder on a disk that can be written"},
		{io.ErrUnexpectedEOF, "save p: unexpected EOF"},
	} {
		err := Explain("save", "p", c.err)
		if err.Error() != c.want || !errors.Is(err, c.err) {
			t.Errorf("got  %v\nwant %v", err, c.want)
		}
		if twice := Explain("load", "q", err); strings.Count(twice.Error(), "free some") > 1 {
			t.Errorf("advice given twice: %v", twice)
		}
	}
}

func ExampleWrite() {
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "config.json")
	err = Write(path, func(w io.Writer) error {
		_, err := fmt.Fprintln(w, `{"depth": 12}`)
		return err
	})
	b, _ := os.ReadFile(path)
	fmt.Printf("%v %s", err, b)
	// Output: <nil> {"depth": 12}
}
