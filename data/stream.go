package data

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"sort"
	"sync"
)

// A Stream is a sequence of bytes read on demand: the files of one side of a [Text], end to end in their order.
// It may be read from several goroutines.
type Stream struct {
	files  *files
	parts  []part  // none empty
	ends   []int64 // ends[i] is the offset in the stream after part i
	count  int
	digest string
	mem    []byte // instead of files
}

// A part is n bytes of file number file, from offset from.
type part struct {
	file    int
	from, n int64
}

// NewStream is the stream of text, which must not change from then on.
func NewStream(text []byte) *Stream {
	h := sha256.Sum256(text)
	return &Stream{mem: text, ends: []int64{int64(len(text))}, digest: hex.EncodeToString(h[:8])}
}

func newStream(fs *files, parts []part) *Stream {
	s := &Stream{files: fs, count: len(parts)}
	h := sha256.New()
	var end int64
	for _, p := range parts {
		f := fs.list[p.file]
		fmt.Fprintf(h, "%s\x00%d %d %d\n", f.name, f.size, p.from, p.n)
		if p.n > 0 {
			end += p.n
			s.parts, s.ends = append(s.parts, p), append(s.ends, end)
		}
	}
	s.digest = hex.EncodeToString(h.Sum(nil)[:8])
	return s
}

// Len is the length in bytes.
func (s *Stream) Len() int64 {
	if len(s.ends) == 0 {
		return 0
	}
	return s.ends[len(s.ends)-1]
}

// Files is the number of files with a part in the stream, empty ones included; 0 for NewStream.
func (s *Stream) Files() int { return s.count }

// Digest is a fingerprint of the names and sizes of the files and of the split (for NewStream: of the text). A resumed
// run compares it to refuse data that changed.
func (s *Stream) Digest() string { return s.digest }

// ReadAt implements [io.ReaderAt].
func (s *Stream) ReadAt(p []byte, off int64) (n int, err error) {
	if off < 0 {
		return 0, errors.New("data: Stream.ReadAt: negative offset")
	}
	if s.files == nil {
		if off < s.Len() {
			n = copy(p, s.mem[off:])
		}
	} else {
		i := sort.Search(len(s.ends), func(i int) bool { return s.ends[i] > off })
		for ; i < len(s.ends) && n < len(p); i++ {
			pt := s.parts[i]
			in := pt.n - (s.ends[i] - off) // offset inside the part
			m := int(min(int64(len(p)-n), pt.n-in))
			if err := s.files.readAt(pt.file, p[n:n+m], pt.from+in); err != nil {
				return n, err
			}
			n, off = n+m, off+int64(m)
		}
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// maxOpen bounds the open files of a Text.
const maxOpen = 64

// files reads from a list of files and keeps the last maxOpen of them open.
type files struct {
	list []file

	mu     sync.Mutex
	open   []openFile // the last used at the end
	closed bool
}

type openFile struct {
	file int
	*os.File
}

// readAt fills p from file i. The file must be as long as when it was listed.
func (fs *files) readAt(i int, p []byte, off int64) error {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	f, err := fs.get(i)
	if err != nil {
		return err
	}
	switch _, err = f.ReadAt(p, off); err {
	case nil:
		return nil
	case io.EOF:
		return fs.changed(i)
	}
	return fmt.Errorf("data: %w; check the disk or leave the file out", err)
}

func (fs *files) changed(i int) error {
	f := fs.list[i]
	return fmt.Errorf("data: %s: no longer the %s it had at the start; restore it or start anew",
		f.path(), count(f.size, "byte"))
}

func (fs *files) get(i int) (*os.File, error) {
	if fs.closed {
		return nil, fmt.Errorf("data: %s: %w; the Text it belongs to was closed", fs.list[i].path(), os.ErrClosed)
	}
	for j := len(fs.open) - 1; j >= 0; j-- {
		if o := fs.open[j]; o.file == i {
			copy(fs.open[j:], fs.open[j+1:])
			fs.open[len(fs.open)-1] = o
			return o.File, nil
		}
	}
	f, err := os.Open(fs.list[i].path())
	if err != nil {
		return nil, fmt.Errorf("data: %w; it was there at the start: restore it or start anew", err)
	}
	if info, err := f.Stat(); err != nil || info.Size() != fs.list[i].size {
		f.Close()
		if err != nil {
			return nil, unreadable(err)
		}
		return nil, fs.changed(i)
	}
	if len(fs.open) == maxOpen {
		fs.open[0].Close()
		fs.open = append(fs.open[:0], fs.open[1:]...)
	}
	fs.open = append(fs.open, openFile{i, f})
	return f, nil
}

func (fs *files) close() error {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	var err error
	for _, f := range fs.open {
		err = errors.Join(err, f.Close())
	}
	fs.open, fs.closed = nil, true
	return err
}
