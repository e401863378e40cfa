package data

import (
	"bytes"
	"fmt"
	"hash/fnv"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
)

// tree writes files (name, contents) under a new folder.
func tree(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		write(t, filepath.Join(dir, filepath.FromSlash(name)), text)
	}
	return dir
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func open(t *testing.T, cfg TextConfig) *Text {
	t.Helper()
	x, err := OpenText(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { x.Close() })
	return x
}

func all(t *testing.T, s *Stream) string {
	t.Helper()
	b := make([]byte, s.Len())
	if _, err := s.ReadAt(b, 0); err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// many is a corpus of 200 files in several folders; file i holds i times its own name.
func many() map[string]string {
	m := map[string]string{}
	for i := range 200 {
		name := fmt.Sprintf("d%d/f%03d.txt", i%7, i)
		m[name] = strings.Repeat(name+"\n", i)
	}
	return m
}

func TestSplitByFile(t *testing.T) {
	files := many()
	var names []string
	for name := range files {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, every := range []uint64{20, 3} {
		var train, val string
		for _, name := range names {
			h := fnv.New64a()
			io.WriteString(h, name)
			if h.Sum64()%every == 0 {
				val += files[name]
			} else {
				train += files[name]
			}
		}
		cfg := TextConfig{Paths: []string{tree(t, files)}, ValFraction: 1 / float64(every)}
		if every == 20 {
			cfg.ValFraction = 0
		}
		x := open(t, cfg)
		if got := all(t, x.Train()); got != train {
			t.Errorf("1/%d: train has %d bytes, want %d", every, len(got), len(train))
		}
		if got := all(t, x.Val()); got != val {
			t.Errorf("1/%d: val has %d bytes, want %d", every, len(got), len(val))
		}
		if x.SplitByPosition() || x.Train().Files()+x.Val().Files() != len(files) {
			t.Errorf("1/%d: by position %v, %d + %d files", every, x.SplitByPosition(), x.Train().Files(), x.Val().Files())
		}
		moved := open(t, TextConfig{Paths: []string{tree(t, files)}, ValFraction: 1 / float64(every)})
		if moved.Train().Digest() != x.Train().Digest() || moved.Val().Digest() != x.Val().Digest() {
			t.Errorf("1/%d: the digest depends on the folder's place", every)
		}
	}
}

func TestSplitByPosition(t *testing.T) {
	text := string(ramp(1010))
	dir := tree(t, map[string]string{"one.txt": text})
	x := open(t, TextConfig{Paths: []string{filepath.Join(dir, "one.txt")}})
	if !x.SplitByPosition() || all(t, x.Train()) != text[:960] || all(t, x.Val()) != text[960:] {
		t.Errorf("one file: %d and %d bytes", x.Train().Len(), x.Val().Len())
	}
	if x.Train().Digest() == x.Val().Digest() {
		t.Error("both sides have the same digest")
	}
	dir = tree(t, map[string]string{"a": text, "b": text[:100], "empty": ""})
	x = open(t, TextConfig{Paths: []string{dir}, ValFraction: 0.1})
	if !x.SplitByPosition() {
		t.Fatal("these names happen to split by file; take others")
	}
	if got, want := all(t, x.Train()), text[:909]+text[:90]; got != want {
		t.Errorf("train %d bytes, want %d", len(got), len(want))
	}
	if got, want := all(t, x.Val()), text[909:]+text[90:100]; got != want {
		t.Errorf("val %d bytes, want %d", len(got), len(want))
	}
}

func TestPaths(t *testing.T) {
	dir := tree(t, map[string]string{
		"b.go": "bbbb", "a.go": "aa", "x/c.go": "cccccccc", "x/not_a_file.go/d.go": "d", "x/e.md": "e",
		".git/f.go": "f", "odd[1].go": "odd",
	})
	names := func(x *Text) string {
		var s []string
		for _, f := range x.files.list {
			s = append(s, f.name)
		}
		return strings.Join(s, " ")
	}
	in := func(names ...string) []string {
		var p []string
		for _, n := range names {
			p = append(p, filepath.Join(dir, filepath.FromSlash(n)))
		}
		return p
	}
	tests := []struct {
		name  string
		paths []string
		ext   []string
		want  string
	}{
		{"folder", in("."), []string{".go"}, "a.go b.go odd[1].go x/c.go x/not_a_file.go/d.go"},
		{"folder, all", in("x"), nil, "c.go e.md not_a_file.go/d.go"},
		{"folder, two endings", in("x"), []string{".md", "c.go"}, "c.go e.md"},
		{"file despite its ending", in("x/e.md", "b.go"), []string{".go"}, "b.go e.md"},
		{"pattern", in("?.go"), nil, "a.go b.go"},
		{"pattern of folders", in("*"), []string{".go"}, "a.go b.go odd[1].go x/c.go x/not_a_file.go/d.go"},
		{"pattern in a folder", in("*/c.go"), nil, "x/c.go"},
		{"brackets in a name", in("odd[1].go"), nil, "odd[1].go"},
		{"twice", in("x", ".", "x/*.go", "b.go"), []string{".go"}, "a.go b.go c.go not_a_file.go/d.go odd[1].go"},
		{"hidden, by name", in(".git", "b.go"), nil, "b.go f.go"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cfg := TextConfig{Paths: tt.paths, Ext: tt.ext, ValFraction: 0.5}
			l := lister{ext: cfg.Ext, seen: map[string]bool{}}
			for _, p := range cfg.Paths {
				if err := l.path(p); err != nil {
					t.Fatal(err)
				}
			}
			x := &Text{files: &files{list: l.files}}
			slices.SortStableFunc(x.files.list, func(a, b file) int { return strings.Compare(a.name, b.name) })
			if got := names(x); got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
		})
	}
}

func TestSymlinks(t *testing.T) {
	dir := tree(t, map[string]string{"in/a.txt": strings.Repeat("a", 40), "out/b.txt": strings.Repeat("b", 40)})
	links := map[string]string{"in/link": "out", "in/link.txt": "out/b.txt", "in/dangling": "nowhere", "root": "in"}
	for from, to := range links {
		if err := os.Symlink(filepath.Join(dir, to), filepath.Join(dir, from)); err != nil {
			t.Skip("no symbolic links here: ", err)
		}
	}
	for _, roots := range [][]string{{"in"}, {"root"}, {"root/a.txt", "in"}, {"root/*.txt", "in"}} {
		cfg := TextConfig{Ext: []string{"a.txt"}}
		for _, r := range roots {
			cfg.Paths = append(cfg.Paths, filepath.Join(dir, r))
		}
		x := open(t, cfg)
		if got := all(t, x.Train()) + all(t, x.Val()); got != strings.Repeat("a", 40) {
			t.Errorf("%v: got %q", roots, got)
		}
	}
}

func TestTextErrors(t *testing.T) {
	dir := tree(t, map[string]string{"a.go": "package a", "empty/z": "", "tiny": "x"})
	p := func(name string) []string { return []string{filepath.Join(dir, name)} }
	tests := []struct {
		name string
		cfg  TextConfig
		want []string
	}{
		{"nothing", TextConfig{}, []string{"no text given"}},
		{"empty path", TextConfig{Paths: []string{""}}, []string{"an empty path"}},
		{"missing", TextConfig{Paths: p("no.txt")}, []string{"no.txt", "no such file", "check the path"}},
		{"no match", TextConfig{Paths: p("*.rs")}, []string{"*.rs", "check the pattern"}},
		{"ending", TextConfig{Paths: p("."), Ext: []string{".rs", ".c"}}, []string{dir, "no file ending in .rs, .c"}},
		{"pattern ending", TextConfig{Paths: p("*"), Ext: []string{".rs"}}, []string{"no file ending in .rs"}},
		{"bad pattern", TextConfig{Paths: p("[a")}, []string{"[a", "syntax error in pattern"}},
		{"two stars", TextConfig{Paths: p("**/*.go")}, []string{"** is not supported"}},
		{"empty files", TextConfig{Paths: p("empty")}, []string{"no text in 1 file"}},
		{"tiny", TextConfig{Paths: p("tiny")}, []string{"tiny", "1 byte in 1 file are too few"}},
		{"fraction", TextConfig{Paths: p("."), ValFraction: 0.9}, []string{"0.9"}},
		{"negative", TextConfig{Paths: p("."), ValFraction: -0.1}, []string{"-0.1"}},
		{"not a number", TextConfig{Paths: p("."), ValFraction: math.NaN()}, []string{"NaN"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := OpenText(tt.cfg)
			if err == nil {
				t.Fatal("no error")
			}
			for _, want := range tt.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error %q does not say %q", err, want)
				}
			}
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("more than one line: %q", err)
			}
		})
	}
}

func TestUnreadable(t *testing.T) {
	dir := tree(t, map[string]string{"a.txt": "aaaa"})
	path := filepath.Join(dir, "a.txt")
	if err := os.Chmod(path, 0); err != nil {
		t.Fatal(err)
	}
	if f, err := os.Open(path); err == nil {
		f.Close()
		t.Skip("this user may read every file")
	}
	if _, err := OpenText(TextConfig{Paths: []string{dir}}); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("error %v", err)
	}
}

// Files that change between listing and reading.
func TestChangedFiles(t *testing.T) {
	tests := []struct {
		name   string
		change func(path string) error
		want   string
	}{
		{"vanished", os.Remove, "it was there at the start"},
		{"shrunk", func(p string) error { return os.Truncate(p, 10) }, "no longer the 1000 bytes"},
		{"grown", func(p string) error { return os.WriteFile(p, make([]byte, 2000), 0o644) }, "no longer the 1000 bytes"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(tree(t, map[string]string{"a.txt": strings.Repeat("a", 1000)}), "a.txt")
			x := open(t, TextConfig{Paths: []string{path}})
			w := mustWindows(t, x.Train(), 2, 8, 1)
			if err := tt.change(path); err != nil {
				t.Fatal(err)
			}
			_, err := w.Next(t.Context())
			if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), path) {
				t.Errorf("error %v, want %q", err, tt.want)
			}
			if pos := w.State().Position; pos != 0 {
				t.Errorf("position %d after an error", pos)
			}
		})
	}
	t.Run("shrunk while open", func(t *testing.T) {
		path := filepath.Join(tree(t, map[string]string{"a.txt": strings.Repeat("a", 1000)}), "a.txt")
		x := open(t, TextConfig{Paths: []string{path}})
		all(t, x.Train())
		if err := os.Truncate(path, 10); err != nil {
			t.Fatal(err)
		}
		if _, err := x.Train().ReadAt(make([]byte, 100), 0); err == nil || !strings.Contains(err.Error(), "no longer") {
			t.Errorf("error %v", err)
		}
	})
	t.Run("closed", func(t *testing.T) {
		x := open(t, TextConfig{Paths: []string{tree(t, map[string]string{"a.txt": strings.Repeat("a", 1000)})}})
		x.Close()
		if _, err := x.Train().ReadAt(make([]byte, 1), 0); err == nil || !strings.Contains(err.Error(), "was closed") {
			t.Errorf("error %v", err)
		}
	})
}

func TestStreamReadAt(t *testing.T) {
	x := open(t, TextConfig{Paths: []string{tree(t, many())}, ValFraction: 0.3})
	for name, s := range map[string]*Stream{"files": x.Train(), "memory": NewStream(ramp(5000)), "empty": NewStream(nil)} {
		want := []byte(all(t, s))
		if err := iotest.TestReader(io.NewSectionReader(s, 0, s.Len()), want); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := s.ReadAt(make([]byte, 1), -1); err == nil {
			t.Errorf("%s: a negative offset is accepted", name)
		}
		if n, err := s.ReadAt(make([]byte, 1), s.Len()+5); n != 0 || err != io.EOF {
			t.Errorf("%s: past the end: %d, %v", name, n, err)
		}
	}
}

func TestStreamParallel(t *testing.T) {
	x := open(t, TextConfig{Paths: []string{tree(t, many())}})
	s := x.Train()
	want := all(t, s)
	var wg sync.WaitGroup
	for seed := range uint64(4) {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(seed, 0))
			buf := make([]byte, 3000)
			for range 500 {
				off := rng.IntN(len(want))
				n, err := s.ReadAt(buf, int64(off))
				if err != nil && err != io.EOF || !bytes.Equal(buf[:n], []byte(want[off:min(off+len(buf), len(want))])) {
					t.Errorf("ReadAt(%d) = %d, %v", off, n, err)
				}
			}
		})
	}
	wg.Wait()
	if n := len(x.files.open); n > maxOpen {
		t.Errorf("%d files open", n)
	}
}

// goSource is the folder of the Go library's source, or skips.
func goSource(t *testing.T) string {
	t.Helper()
	out, err := exec.Command("go", "env", "GOROOT").Output()
	src := filepath.Join(strings.TrimSpace(string(out)), "src")
	if info, serr := os.Stat(src); err != nil || serr != nil || !info.IsDir() {
		t.Skipf("no Go source here (%v, %v)", err, serr)
	}
	return src
}

func TestGoSource(t *testing.T) {
	src := goSource(t)
	x := open(t, TextConfig{Paths: []string{src}, Ext: []string{".go"}})
	train, val := x.Train(), x.Val()
	t.Logf("train %d files, %d bytes; val %d files, %d bytes", train.Files(), train.Len(), val.Files(), val.Len())
	version, err := os.ReadFile(filepath.Join(filepath.Dir(src), "VERSION"))
	if err != nil || !bytes.HasPrefix(version, []byte("go1.26.8\n")) || runtime.GOOS != "linux" {
		if x.SplitByPosition() || train.Files() < 1000 || train.Len() < 10*val.Len() || val.Len() == 0 {
			t.Error("not a split of 20 to 1")
		}
		return
	}
	if train.Files() != 7305 || train.Len() != 86588036 || val.Files() != 406 || val.Len() != 3775944 {
		t.Error("want train 7305 files, 86588036 bytes; val 406 files, 3775944 bytes")
	}
	w := mustWindows(t, train, 16, 256, 1)
	for range 20 {
		mustNext(t, w)
	}
}
