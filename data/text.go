package data

import (
	"cmp"
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// TextConfig says which files make up a corpus and how they are split.
type TextConfig struct {
	// Paths are files, folders and patterns of path/filepath.Match. Folders are walked recursively, without symbolic
	// links and folders whose names begin with a dot (.git). A file reached twice counts once.
	Paths []string `json:"paths"`

	// Ext keeps, of the files found in folders and by patterns, those whose names end so: ".go", ".md". Empty keeps
	// all. A file named in Paths is always kept.
	Ext []string `json:"ext,omitempty"`

	// ValFraction is the part for validation, rounded to one in n; 0 means 1/20. See Text for the split.
	ValFraction float64 `json:"val_fraction,omitempty"`
}

// A Text is a corpus: files sorted by their relative, slash-separated names, split into training and validation.
// A name is relative to the folder in Paths it was found in (for a pattern: the part before the first wildcard; for a
// file: its folder), so that a corpus may be moved.
//
// A file belongs to validation if the FNV-1a 64 hash of its name is divisible by n (n = 1/ValFraction). Where that
// leaves one side without a byte, as a single file must, the last 1/n of the bytes of each file is validation instead.
type Text struct {
	files      *files
	train, val *Stream
	byPosition bool
}

// OpenText lists the files of a corpus. It reads no contents, but opens each file once to see that it can.
func OpenText(cfg TextConfig) (*Text, error) {
	every, err := valEvery(cfg.ValFraction)
	if err != nil {
		return nil, err
	}
	if len(cfg.Paths) == 0 {
		return nil, errors.New("data: no text given; name files, folders or patterns")
	}
	l := lister{ext: cfg.Ext, seen: map[string]bool{}}
	for _, p := range cfg.Paths {
		if err := l.path(p); err != nil {
			return nil, err
		}
	}
	slices.SortStableFunc(l.files, func(a, b file) int { return cmp.Compare(a.name, b.name) })
	t := &Text{files: &files{list: l.files}}
	if err := t.split(every); err != nil {
		return nil, err
	}
	return t, nil
}

func valEvery(fraction float64) (uint64, error) {
	if fraction == 0 {
		return 20, nil
	}
	if !(fraction >= 1e-9 && fraction <= 0.5) {
		return 0, fmt.Errorf("data: validation fraction %v; give a number from 0 (meaning 0.05) to 0.5", fraction)
	}
	return uint64(math.Round(1 / fraction)), nil
}

func (t *Text) split(every uint64) error {
	var val, total int64
	list := t.files.list
	for _, f := range list {
		total += f.size
		if isVal(f.name, every) {
			val += f.size
		}
	}
	t.byPosition = val == 0 || val == total
	var tp, vp []part
	for i, f := range list {
		switch {
		case t.byPosition:
			n := f.size / int64(every)
			tp = append(tp, part{i, 0, f.size - n})
			vp = append(vp, part{i, f.size - n, n})
		case isVal(f.name, every):
			vp = append(vp, part{i, 0, f.size})
		default:
			tp = append(tp, part{i, 0, f.size})
		}
	}
	t.train, t.val = newStream(t.files, tp), newStream(t.files, vp)
	if total == 0 {
		return fmt.Errorf("data: %s: no text in %s; give files with contents",
			list[0].path(), count(int64(len(list)), "file"))
	}
	if t.val.Len() == 0 {
		return fmt.Errorf("data: %s: %s in %s are too few to keep 1 in %d for validation; give more text",
			list[0].path(), count(total, "byte"), count(int64(len(list)), "file"), every)
	}
	return nil
}

func isVal(name string, every uint64) bool {
	h := fnv.New64a()
	h.Write([]byte(name))
	return h.Sum64()%every == 0
}

// Train is the stream to train on.
func (t *Text) Train() *Stream { return t.train }

// Val is the stream to validate on; it shares no byte of a file with Train.
func (t *Text) Val() *Stream { return t.val }

// SplitByPosition reports whether the files were split by position, for want of enough files.
func (t *Text) SplitByPosition() bool { return t.byPosition }

// Close closes the files. The streams give errors from then on.
func (t *Text) Close() error { return t.files.close() }

// A file is root/name on disk; name is slash-separated.
type file struct {
	root, name string
	size       int64
}

func (f file) path() string { return filepath.Join(f.root, filepath.FromSlash(f.name)) }

type lister struct {
	ext   []string
	seen  map[string]bool // by absolute path without links
	hits  int             // files found, seen or not
	files []file
}

// path adds what one entry of TextConfig.Paths stands for. A file may have wildcards in its name.
func (l *lister) path(p string) error {
	if p == "" {
		return errors.New("data: an empty path; name a file, folder or pattern")
	}
	before := l.hits
	info, err := os.Stat(p)
	switch {
	case err == nil && info.IsDir():
		root, err := filepath.EvalSymlinks(p)
		if err != nil {
			return unreadable(err)
		}
		err = l.walk(root, root)
		if err == nil && l.hits == before {
			err = fmt.Errorf("data: folder %s: no file%s; check the path and the extensions", p, l.ending())
		}
		return err
	case err == nil && info.Mode().IsRegular():
		return l.add(filepath.Dir(p), p)
	case err == nil:
		return fmt.Errorf("data: %s: neither a regular file nor a folder; copy it into a file", p)
	case strings.ContainsAny(p, wildcards):
		err := l.pattern(p)
		if err == nil && l.hits == before {
			err = fmt.Errorf("data: pattern %s: no file%s; check the pattern and the extensions", p, l.ending())
		}
		return err
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("data: %s: no such file or folder; check the path", p)
	}
	return unreadable(err)
}

const wildcards = `*?[`

func (l *lister) pattern(p string) error {
	if strings.Contains(p, "**") {
		return fmt.Errorf("data: pattern %s: ** is not supported; name the folder and the extensions", p)
	}
	matches, err := filepath.Glob(p)
	if err != nil {
		return fmt.Errorf("data: pattern %s: %w; close the bracket or escape it", p, err)
	}
	root := filepath.Dir(p[:strings.IndexAny(p, wildcards)] + "x")
	for _, m := range matches {
		if hidden(m) && !hidden(p) && isDir(m) {
			continue
		}
		if err := l.walk(root, m); err != nil {
			return err
		}
	}
	return nil
}

// walk adds the wanted files at and below p, named relative to root.
func (l *lister) walk(root, p string) error {
	return filepath.WalkDir(p, func(q string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return unreadable(err)
		case d.IsDir() && q != p && hidden(q):
			return fs.SkipDir
		case d.Type().IsRegular() && l.wanted(q):
			return l.add(root, q)
		}
		return nil
	})
}

func hidden(p string) bool { return strings.HasPrefix(filepath.Base(p), ".") }

func isDir(p string) bool {
	info, err := os.Lstat(p)
	return err == nil && info.IsDir()
}

func (l *lister) wanted(p string) bool {
	return len(l.ext) == 0 || slices.ContainsFunc(l.ext, func(e string) bool { return strings.HasSuffix(p, e) })
}

func (l *lister) ending() string {
	if len(l.ext) == 0 {
		return ""
	}
	return " ending in " + strings.Join(l.ext, ", ")
}

func (l *lister) add(root, p string) error {
	l.hits++
	abs, err := filepath.Abs(p)
	if err == nil {
		abs, err = filepath.EvalSymlinks(abs)
	}
	if err != nil {
		return unreadable(err)
	}
	if l.seen[abs] {
		return nil
	}
	l.seen[abs] = true
	name, err := filepath.Rel(root, p)
	if err != nil {
		return unreadable(err)
	}
	f, err := os.Open(p)
	if err != nil {
		return unreadable(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return unreadable(err)
	}
	l.files = append(l.files, file{root, filepath.ToSlash(name), info.Size()})
	return nil
}

func unreadable(err error) error {
	return fmt.Errorf("data: %w; make it readable or leave it out", err)
}

// count is "1 file", "2 files".
func count(n int64, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprint(n, " ", noun, "s")
}
