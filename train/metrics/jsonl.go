package metrics

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync"

	"setun/internal/atomicfile"
)

// JSONL appends records to a file, one JSON object a line.
type JSONL struct {
	path string
	mu   sync.Mutex
	f    *os.File
	err  error // the first failed write; a line after half a line would be lost
}

// OpenJSONL opens path for appending, and creates it when there is none. A run that resumes at resumeStep drops the
// records of later steps and a last line that a kill cut short; it replaces the file in one go or leaves it alone. A
// fresh run passes a negative resumeStep, which empties the file. Records of resumeStep itself stay, so write the
// records of a step before its checkpoint.
func OpenJSONL(path string, resumeStep int) (*JSONL, error) {
	if err := trim(path, resumeStep); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o666)
	if err != nil {
		return nil, atomicfile.Explain("open", path, err)
	}
	return &JSONL{path: path, f: f}, nil
}

// Write appends one record, in one write to the operating system. After a failed write all that follow fail too.
func (j *JSONL) Write(r Record) error {
	line, err := r.MarshalJSON()
	if err != nil {
		return err
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.err != nil {
		return j.err
	}
	if j.f == nil {
		return fmt.Errorf("write %s: closed already", j.path)
	}
	_, err = j.f.Write(append(line, '\n'))
	j.err = atomicfile.Explain("write", j.path, err)
	return j.err
}

// Sync flushes the file to the disk. Call it before a checkpoint is saved, if the file must survive a power cut.
func (j *JSONL) Sync() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.f == nil || j.err != nil {
		return j.err
	}
	return atomicfile.Explain("flush", j.path, j.f.Sync())
}

// Close flushes and closes the file. A second Close does nothing.
func (j *JSONL) Close() error {
	err := j.Sync()
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.f == nil {
		return nil
	}
	cerr := atomicfile.Explain("close", j.path, j.f.Close())
	j.f = nil
	if err != nil {
		return err
	}
	return cerr
}

// trim rewrites the file without the records past step; it reads it twice rather than hold it.
func trim(path string, step int) error {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return atomicfile.Explain("read", path, err)
	}
	defer f.Close()
	if step < 0 {
		f.Close()
		return atomicfile.Write(path, func(io.Writer) error { return nil })
	}
	whole := true
	err = scan(f, func(r Record, line []byte) error {
		whole = whole && r.Step <= step && line[len(line)-1] == '\n'
		return nil
	}, func() { whole = false })
	if err != nil {
		return atomicfile.Explain("read", path, err)
	}
	if whole {
		return nil
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return atomicfile.Explain("read", path, err)
	}
	return atomicfile.Write(path, func(w io.Writer) error {
		err := scan(f, func(r Record, line []byte) error {
			if r.Step > step {
				return nil
			}
			if _, err := w.Write(bytes.TrimSuffix(line, []byte("\n"))); err != nil {
				return err
			}
			_, err := w.Write([]byte("\n"))
			return err
		}, nil)
		f.Close() // Windows does not replace an open file
		return err
	})
}

// ReadJSONL reads a file of records. A last line without its end, which a run may be writing just now, is left out
// unless it is complete; any other line that is no record is an error that names the line.
func ReadJSONL(path string) ([]Record, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, atomicfile.Explain("read", path, err)
	}
	defer f.Close()
	var out []Record
	err = scan(f, func(r Record, _ []byte) error {
		out = append(out, r)
		return nil
	}, nil)
	if err != nil {
		return nil, atomicfile.Explain("read", path, err)
	}
	return out, nil
}

// maxLine bounds the memory that a file which is no metrics file can take.
const maxLine = 1 << 20

// scan calls record for each line that is not blank, with its bytes as they stand in the file, and torn (if not nil)
// when the last line is incomplete and broken.
func scan(r io.Reader, record func(r Record, line []byte) error, torn func()) error {
	s := bufio.NewScanner(r)
	s.Buffer(make([]byte, 0, 1<<16), maxLine)
	s.Split(func(data []byte, atEOF bool) (int, []byte, error) {
		if i := bytes.IndexByte(data, '\n'); i >= 0 {
			return i + 1, data[:i+1], nil
		}
		if atEOF && len(data) > 0 {
			return len(data), data, nil
		}
		return 0, nil, nil
	})
	n := 0
	for s.Scan() {
		n++
		line := s.Bytes()
		ended := line[len(line)-1] == '\n'
		if len(bytes.TrimSpace(line)) == 0 {
			if !ended && torn != nil {
				torn()
			}
			continue
		}
		var rec Record
		if err := json.Unmarshal(line, &rec); err != nil {
			if !ended {
				if torn != nil {
					torn()
				}
				return nil
			}
			return fmt.Errorf("line %d: %w: repair or remove the line", n, plain(err))
		}
		if err := record(rec, line); err != nil {
			return err
		}
	}
	if errors.Is(s.Err(), bufio.ErrTooLong) {
		return fmt.Errorf("line %d: longer than %d bytes: not a file of metrics", n+1, maxLine)
	}
	return s.Err()
}

// plain words a syntax error like the rest.
func plain(err error) error {
	var syntax *json.SyntaxError
	if errors.As(err, &syntax) {
		return fmt.Errorf("not a JSON object (%w)", err)
	}
	return err
}
