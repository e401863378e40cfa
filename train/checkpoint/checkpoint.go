package checkpoint

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"setun/format/safetensors"
	"setun/internal/atomicfile"
)

// Checkpoint is everything a run needs to go on. Config and State are any JSON, nil for none; Load returns them without
// spaces between tokens. Meta is the metadata of the weights file.
type Checkpoint struct {
	Step           int
	Config, State  json.RawMessage
	Weights, Optim []safetensors.Tensor
	Meta           map[string]string
}

var (
	// ErrNone says that there is no checkpoint: a run starts from the beginning.
	ErrNone = errors.New("no checkpoint")
	// ErrDamaged says that a checkpoint's files are missing, cut or changed.
	ErrDamaged = errors.New("damaged checkpoint")
	// ErrNewer says that a later version of this package wrote the checkpoint.
	ErrNewer = errors.New("newer checkpoint")
)

const (
	modelFile = "model.safetensors"
	optimFile = "optim.safetensors"
	stateFile = "state.json"

	tmpPrefix = ".tmp-"
	oldPrefix = ".old-"
)

// probe is called before each change of the file system. Tests look at the folder there, or fail the change.
var probe = func(op string) error { return nil }

// Save writes c to dir/step-N, making dir if needed and replacing an older checkpoint of the same step; then, with
// keep > 0, it removes the lowest steps until keep are left, never the one just written. When path is not empty, the
// checkpoint is saved, even if err says that an old one could not be removed.
func Save(dir string, c *Checkpoint, keep int) (path string, err error) {
	fail := func(err error) (string, error) {
		return "", fmt.Errorf("checkpoint: save step %d: %w", c.Step, err)
	}
	if c.Step < 0 {
		return fail(errors.New("the step is negative"))
	}
	r := &record{Format: format, Version: version, Step: c.Step, Config: c.Config, State: c.State}
	if _, err := encodeState(r); err != nil { // before anything is written
		return fail(err)
	}
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return fail(atomicfile.Explain("make folder", dir, err))
	}
	if err := Tidy(dir); err != nil {
		return fail(err)
	}

	name := folder(c.Step)
	tmp := filepath.Join(dir, tmpPrefix+name)
	if err := change("make folder", tmp, func() error { return os.Mkdir(tmp, 0o777) }); err != nil {
		return fail(err)
	}
	defer os.RemoveAll(tmp) // gone already unless Save fails
	if r.Model, err = saveTensors(filepath.Join(tmp, modelFile), c.Weights, c.Meta); err != nil {
		return fail(err)
	}
	if r.Optim, err = saveTensors(filepath.Join(tmp, optimFile), c.Optim, nil); err != nil {
		return fail(err)
	}
	text, err := encodeState(r)
	if err != nil {
		return fail(err)
	}
	if err := save(filepath.Join(tmp, stateFile), func(w io.Writer) error {
		_, err := w.Write(text)
		return err
	}); err != nil {
		return fail(err)
	}
	path = filepath.Join(dir, name)
	if err := publish(tmp, path); err != nil {
		return fail(err)
	}
	if err := retain(dir, path, keep); err != nil {
		return path, fmt.Errorf("checkpoint: step %d is saved, but an old one stays: %w", c.Step, err)
	}
	return path, nil
}

// publish renames tmp to path. At every instant one of path and its old name is a complete checkpoint, if path was.
func publish(tmp, path string) error {
	dir, name := filepath.Split(path)
	old := filepath.Join(dir, oldPrefix+name)
	st, err := os.Lstat(path)
	replace := err == nil
	if replace && !st.IsDir() {
		return fmt.Errorf("%s is not a folder: move it away", path)
	}
	if replace {
		if err := change("move", path, func() error { return os.Rename(path, old) }); err != nil {
			return err
		}
	}
	if err := change("rename", tmp, func() error { return os.Rename(tmp, path) }); err != nil {
		if replace && os.Rename(old, path) != nil {
			err = fmt.Errorf("%w (the checkpoint it should replace is in %s)", err, old)
		}
		return err
	}
	if err := change("flush", dir, func() error { return atomicfile.SyncDir(dir) }); err != nil {
		return err
	}
	if replace {
		os.RemoveAll(old) // what stays, Tidy removes
	}
	return nil
}

// Tidy undoes or finishes what a killed Save left in dir. Save does so too; nobody else may be saving there.
func Tidy(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return atomicfile.Explain("read", dir, err)
	}
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		if name, ok := strings.CutPrefix(e.Name(), oldPrefix); ok && isFolder(name) {
			now := filepath.Join(dir, name)
			if _, err := os.Lstat(now); errors.Is(err, fs.ErrNotExist) {
				if err := change("restore", path, func() error { return os.Rename(path, now) }); err != nil {
					return err
				}
			} else {
				os.RemoveAll(path)
			}
		}
		if name, ok := strings.CutPrefix(e.Name(), tmpPrefix); ok && isFolder(name) {
			os.RemoveAll(path) // if it fails and matters, making the folder fails
		}
	}
	return nil
}

// retain removes all but keep checkpoints. A folder loses its name before its files, so that none is seen in part.
func retain(dir, saved string, keep int) error {
	if keep <= 0 {
		return nil
	}
	all, err := list(dir)
	if err != nil {
		return err
	}
	all = slices.DeleteFunc(all, func(s stepFolder) bool { return s.path == saved })
	var first error
	for _, s := range all[min(keep-1, len(all)):] {
		gone := filepath.Join(dir, tmpPrefix+folder(s.step))
		err := change("remove", s.path, func() error {
			if err := os.Rename(s.path, gone); err != nil {
				return err
			}
			return os.RemoveAll(gone)
		})
		first = cmp.Or(first, err)
	}
	return first
}

func change(op, path string, f func() error) error {
	err := probe(op)
	if err == nil {
		err = f()
	}
	return atomicfile.Explain(op, path, err)
}

// save writes a file, flushed to the disk.
func save(path string, f func(w io.Writer) error) error {
	return atomicfile.Write(path, func(w io.Writer) error { return f(probed{w}) })
}

type probed struct{ w io.Writer }

func (p probed) Write(b []byte) (int, error) {
	if err := probe("write"); err != nil {
		return 0, err
	}
	return p.w.Write(b)
}

func saveTensors(path string, tensors []safetensors.Tensor, meta map[string]string) (fileSum, error) {
	h := summer{h: sha256.New()}
	err := save(path, func(w io.Writer) error {
		return safetensors.Write(io.MultiWriter(w, &h), tensors, meta)
	})
	return h.sum(), err
}

// summer computes a fileSum of what is written to it.
type summer struct {
	h hash.Hash
	n int64
}

func (s *summer) Write(b []byte) (int, error) {
	s.n += int64(len(b))
	return s.h.Write(b)
}

func (s *summer) sum() fileSum { return fileSum{s.n, hex.EncodeToString(s.h.Sum(nil))} }

// Load reads the checkpoint in the folder path. Damage, in any byte of its files, is an error that names the file and
// the checkpoints beside it (ErrDamaged); a later format version is ErrNewer; a path that is no checkpoint is ErrNone.
func Load(path string) (*Checkpoint, error) {
	c, err := load(path)
	var d *damage
	if errors.As(err, &d) {
		return nil, fmt.Errorf("%w; %s", err, others(path))
	}
	return c, err
}

// Latest is the folder of the highest step in dir. Without any the error is ErrNone.
func Latest(dir string) (path string, err error) {
	all, err := list(dir)
	if err != nil {
		return "", err
	}
	return all[0].path, nil
}

// LoadLatest loads the checkpoint of the highest step in dir that is not damaged, and returns its folder and what is
// wrong with those it skipped. Without any checkpoint the error is ErrNone, and ErrDamaged if all are. A checkpoint
// that is newer than this program or may not be read is an error and not skipped: training would silently fall behind.
func LoadLatest(dir string) (c *Checkpoint, path string, skipped []error, err error) {
	all, err := list(dir)
	if err != nil {
		return nil, "", nil, err
	}
	for _, s := range all {
		c, err := load(s.path)
		if err == nil {
			return c, s.path, skipped, nil
		}
		if !errors.Is(err, ErrDamaged) {
			return nil, "", skipped, err
		}
		skipped = append(skipped, err)
	}
	return nil, "", skipped, fmt.Errorf("checkpoint: all %d checkpoints in %s are damaged (%w): "+
		"restore a copy, or start a new run in another folder", len(all), dir, skipped[0])
}

// damage is an error that is ErrDamaged.
type damage struct {
	path string
	err  error
}

func (d *damage) Error() string        { return fmt.Sprintf("checkpoint: %s: %v", d.path, d.err) }
func (d *damage) Unwrap() error        { return d.err }
func (d *damage) Is(target error) bool { return target == ErrDamaged }

// spoilt makes err a damage, except where the file may be good.
func spoilt(path string, err error) error {
	if errors.Is(err, ErrNewer) || errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("checkpoint: %w", atomicfile.Explain("read", path, err))
	}
	var pe *fs.PathError
	if errors.As(err, &pe) {
		err = pe.Err
	}
	return &damage{path, err}
}

func load(path string) (*Checkpoint, error) {
	st, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("%w: %s does not exist; %s", errNone, path, others(path))
	case err != nil:
		return nil, fmt.Errorf("checkpoint: %w", atomicfile.Explain("read", path, err))
	case !st.IsDir():
		return nil, fmt.Errorf("%w: %s is a file: give the folder of a checkpoint", errNone, path)
	}
	file := filepath.Join(path, stateFile)
	text, err := readFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		if in, err := list(path); err == nil {
			return nil, fmt.Errorf("%w: %s holds checkpoints and is none: give one of them, as %s", errNone, path, in[0].path)
		}
	}
	if err != nil {
		return nil, spoilt(file, err)
	}
	r, err := decodeState(text)
	if err != nil {
		return nil, spoilt(file, err)
	}
	c := &Checkpoint{Step: r.Step, Config: r.Config, State: r.State}
	file = filepath.Join(path, modelFile)
	if c.Weights, c.Meta, err = loadTensors(file, r.Model); err != nil {
		return nil, spoilt(file, err)
	}
	file = filepath.Join(path, optimFile)
	if c.Optim, _, err = loadTensors(file, r.Optim); err != nil {
		return nil, spoilt(file, err)
	}
	return c, nil
}

// open opens a regular file; opening a pipe would wait forever.
func open(path string) (*os.File, int64, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, 0, err
	}
	if !st.Mode().IsRegular() {
		return nil, 0, errors.New("it is not a file")
	}
	f, err := os.Open(path)
	return f, st.Size(), err
}

func readFile(path string) ([]byte, error) {
	f, _, err := open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(f)
}

func loadTensors(path string, want fileSum) ([]safetensors.Tensor, map[string]string, error) {
	f, size, err := open(path)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	if size != want.Size {
		return nil, nil, fmt.Errorf("it has %d bytes, %s says %d", size, stateFile, want.Size)
	}
	h := summer{h: sha256.New()}
	if _, err := io.Copy(&h, f); err != nil {
		return nil, nil, err
	}
	if h.sum() != want {
		return nil, nil, fmt.Errorf("its SHA-256 is not the one in %s: the file was damaged or changed", stateFile)
	}
	st, err := safetensors.Read(f, size)
	if err != nil {
		return nil, nil, err
	}
	var all []safetensors.Tensor
	for _, in := range st.Tensors() {
		t, err := st.Tensor(in.Name)
		if err != nil {
			return nil, nil, err
		}
		all = append(all, t)
	}
	return all, st.Meta(), nil
}

var errNone = fmt.Errorf("checkpoint: %w", ErrNone)

type stepFolder struct {
	step int
	path string
}

// list gives the checkpoints in dir, highest step first. Without any the error is ErrNone.
func list(dir string) ([]stepFolder, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: the folder %s does not exist", errNone, dir)
	}
	if err != nil {
		return nil, fmt.Errorf("checkpoint: %w", atomicfile.Explain("read", dir, err))
	}
	paths := make(map[int]string)
	for _, e := range entries {
		step, ok := parseFolder(strings.TrimPrefix(e.Name(), oldPrefix))
		if ok && e.IsDir() {
			paths[step] = filepath.Join(dir, e.Name()) // ".old-step-N" comes before "step-N", which replaces it
		}
	}
	if len(paths) == 0 {
		return nil, fmt.Errorf("%w: the folder %s has no step-... folders", errNone, dir)
	}
	var all []stepFolder
	for step, path := range paths {
		all = append(all, stepFolder{step, path})
	}
	slices.SortFunc(all, func(a, b stepFolder) int { return cmp.Compare(b.step, a.step) })
	return all, nil
}

// others tells which checkpoints beside path could serve instead.
func others(path string) string {
	path = filepath.Clean(path)
	dir := filepath.Dir(path)
	all, _ := list(dir)
	var names []string
	for _, s := range all {
		if s.path != path && len(names) < 3 {
			names = append(names, filepath.Base(s.path))
		}
	}
	if len(names) == 0 {
		return fmt.Sprintf("there is no other checkpoint in %s: restore a copy or start a new run", dir)
	}
	return fmt.Sprintf("use another checkpoint in %s: %s", dir, strings.Join(names, ", "))
}

func folder(step int) string { return fmt.Sprintf("step-%08d", step) }

// parseFolder is the inverse of folder.
func parseFolder(name string) (step int, ok bool) {
	digits, ok := strings.CutPrefix(name, "step-")
	if !ok {
		return 0, false
	}
	step, err := strconv.Atoi(digits)
	return step, err == nil && step >= 0 && folder(step) == name
}

func isFolder(name string) bool {
	_, ok := parseFolder(name)
	return ok
}
