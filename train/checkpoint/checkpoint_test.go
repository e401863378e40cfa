package checkpoint

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"

	"setun/format/safetensors"
)

// at is a checkpoint whose every part depends on step and generation.
func at(step, generation int) *Checkpoint {
	x := float32(step) + float32(generation)/16
	return &Checkpoint{
		Step:   step,
		Config: json.RawMessage(`{"depth":4,"name":"<tiny> & \u2028"}`),
		State:  json.RawMessage(fmt.Sprintf(`{"rng":[18446744073709551615,%d],"generation":%d}`, step, generation)),
		Weights: []safetensors.Tensor{
			safetensors.New("wte", []int{2, 3}, []float32{x, -x, 1, 2, 3, 4}),
			safetensors.New("gain", []int{1}, []float32{x}),
		},
		Optim: []safetensors.Tensor{
			safetensors.New("m/wte", []int{2, 3}, []float32{0, 0, 0, x, 0, 0}),
			safetensors.New("t", nil, []int64{int64(step)}),
		},
		Meta: map[string]string{"format": "pt"},
	}
}

func same(a, b *Checkpoint) bool {
	eq := func(a, b []safetensors.Tensor) bool {
		return slices.EqualFunc(a, b, func(a, b safetensors.Tensor) bool {
			return a.Name == b.Name && a.DType == b.DType && slices.Equal(a.Shape, b.Shape) && bytes.Equal(a.Data, b.Data)
		})
	}
	return a.Step == b.Step && bytes.Equal(a.Config, b.Config) && bytes.Equal(a.State, b.State) &&
		eq(a.Weights, b.Weights) && eq(a.Optim, b.Optim) && reflect.DeepEqual(a.Meta, b.Meta)
}

func mustSave(t testing.TB, dir string, c *Checkpoint, keep int) string {
	t.Helper()
	path, err := Save(dir, c, keep)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func names(t testing.TB, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	s := []string{}
	for _, e := range entries {
		s = append(s, e.Name())
	}
	return s
}

func copyDir(t testing.TB, dst, src string) {
	t.Helper()
	if err := os.CopyFS(dst, os.DirFS(src)); err != nil {
		t.Fatal(err)
	}
}

// setProbe replaces probe for the rest of the test.
func setProbe(t testing.TB, f func(op string) error) {
	old := probe
	t.Cleanup(func() { probe = old })
	probe = f
}

func TestRoundTrip(t *testing.T) {
	for _, c := range []*Checkpoint{
		at(0, 0),
		at(1234, 1),
		at(1_234_567_890, 2),
		{Step: 3},
		{Step: 4, State: json.RawMessage(`"s"`), Weights: at(4, 0).Weights},
	} {
		dir := filepath.Join(t.TempDir(), "run", "checkpoints")
		path := mustSave(t, dir, c, 0)
		if want := filepath.Join(dir, fmt.Sprintf("step-%08d", c.Step)); path != want {
			t.Errorf("path %s, want %s", path, want)
		}
		got, err := Load(path)
		if err != nil {
			t.Fatal(err)
		}
		if !same(got, c) {
			t.Errorf("got  %v\nwant %v", got, c)
		}
		if want := []string{modelFile, optimFile, stateFile}; !slices.Equal(names(t, path), want) {
			t.Errorf("files %v", names(t, path))
		}
	}
}

func TestJSONIsKept(t *testing.T) {
	c := &Checkpoint{Config: json.RawMessage("{ \"a\" :\n[1.50, 1e2 ],\t\"b\":null}"), State: json.RawMessage("null")}
	got, err := Load(mustSave(t, t.TempDir(), c, 0))
	if err != nil {
		t.Fatal(err)
	}
	if string(got.Config) != `{"a":[1.50,1e2],"b":null}` || got.State != nil {
		t.Errorf("config %s, state %s", got.Config, got.State)
	}
}

// TestGolden holds version 1 as bytes: old checkpoints stay readable.
func TestGolden(t *testing.T) {
	model := "\x38\x00\x00\x00\x00\x00\x00\x00" +
		`{"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}  ` + "\x00\x00\x80\x3f\x00\x00\x00\xc0"
	optim := "\x08\x00\x00\x00\x00\x00\x00\x00{}      "
	hash := func(s string) string {
		h := sha256.Sum256([]byte(s))
		return hex.EncodeToString(h[:])
	}
	body := `{
  "format": "setun checkpoint",
  "version": 1,
  "step": 7,
  "config": {
    "depth": 4
  },
  "state": null,
  "model.safetensors": {
    "size": 72,
    "sha256": "` + hash(model) + `"
  },
  "optim.safetensors": {
    "size": 16,
    "sha256": "` + hash(optim) + `"
  },
  "checksum": "`
	files := map[string]string{modelFile: model, optimFile: optim, stateFile: body + hash(body) + "\"\n}\n"}
	path := filepath.Join(t.TempDir(), "step-00000007")
	if err := os.Mkdir(path, 0o777); err != nil {
		t.Fatal(err)
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(path, name), []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	want := &Checkpoint{Step: 7, Config: json.RawMessage(`{"depth":4}`),
		Weights: []safetensors.Tensor{safetensors.New("w", []int{2}, []float32{1, -2})}}
	got, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	if !same(got, want) {
		t.Errorf("got %v", got)
	}
	written := mustSave(t, t.TempDir(), want, 0)
	for name, text := range files {
		b, err := os.ReadFile(filepath.Join(written, name))
		if err != nil || string(b) != text {
			t.Errorf("%s\n got %q\nwant %q (%v)", name, b, text, err)
		}
	}
}

func TestSameContentSameBytes(t *testing.T) {
	read := func(path string) (all []byte) {
		for _, name := range names(t, path) {
			b, err := os.ReadFile(filepath.Join(path, name))
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, b...)
		}
		return all
	}
	first := mustSave(t, t.TempDir(), at(5, 0), 0)
	second := mustSave(t, t.TempDir(), at(5, 0), 0)
	if !bytes.Equal(read(first), read(second)) {
		t.Error("two saves of the same content differ")
	}
	c, err := Load(first)
	if err != nil {
		t.Fatal(err)
	}
	if again := mustSave(t, t.TempDir(), c, 0); !bytes.Equal(read(first), read(again)) {
		t.Error("saving what was loaded differs")
	}
	if other := mustSave(t, t.TempDir(), at(5, 1), 0); bytes.Equal(read(first), read(other)) {
		t.Error("other content gives the same bytes")
	}
}

// TestDamage flips each bit of the small files, cuts them, lengthens them, and takes them away.
func TestDamage(t *testing.T) {
	for _, name := range []string{modelFile, optimFile, stateFile} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			want := at(1, 0)
			mustSave(t, dir, want, 0)
			path := mustSave(t, dir, at(2, 0), 0)
			file := filepath.Join(path, name)
			good, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			broken := func(what string) {
				t.Helper()
				_, err := Load(path)
				if !errors.Is(err, ErrDamaged) {
					t.Fatalf("%s: error %v", what, err)
				}
				for _, part := range []string{file, "use another checkpoint in " + dir, "step-00000001"} {
					if !strings.Contains(err.Error(), part) {
						t.Fatalf("%s: error %q lacks %q", what, err, part)
					}
				}
				if strings.Contains(err.Error(), "\n") {
					t.Fatalf("%s: error %q is no single line", what, err)
				}
				c, from, skipped, err := LoadLatest(dir)
				if err != nil || !same(c, want) || filepath.Base(from) != "step-00000001" {
					t.Fatalf("%s: LoadLatest: %v from %s, %v", what, c, from, err)
				}
				if len(skipped) != 1 || !strings.Contains(skipped[0].Error(), file) {
					t.Fatalf("%s: skipped %v", what, skipped)
				}
			}
			put := func(b []byte) {
				if err := os.WriteFile(file, b, 0o666); err != nil {
					t.Fatal(err)
				}
			}
			r := rand.New(rand.NewPCG(1, 2))
			for i := range good {
				b := bytes.Clone(good)
				b[i] ^= 1 << r.IntN(8)
				put(b)
				broken(fmt.Sprintf("byte %d from %q to %q", i, good[i], b[i]))
			}
			for n := 0; n < len(good); n += 1 + n/16 {
				put(good[:n])
				broken(fmt.Sprintf("cut to %d of %d", n, len(good)))
				size := fmt.Sprintf("it has %d bytes, state.json says %d", n, len(good))
				if _, err := Load(path); name != stateFile && !strings.Contains(err.Error(), size) {
					t.Fatalf("error %q lacks %q", err, size)
				}
			}
			put(append(bytes.Clone(good), 0))
			broken("a byte more")
			put(append(bytes.Clone(good), good...))
			broken("twice")
			if err := os.Remove(file); err != nil {
				t.Fatal(err)
			}
			broken("missing")
			if err := os.Mkdir(file, 0o777); err != nil {
				t.Fatal(err)
			}
			broken("a folder in its place")
			if err := os.Remove(file); err != nil {
				t.Fatal(err)
			}
			put(good)
			if _, err := Load(path); err != nil {
				t.Errorf("the good file again: %v", err)
			}
		})
	}
}

// TestFilesOfAnotherCheckpoint: each file is good, together they are not.
func TestFilesOfAnotherCheckpoint(t *testing.T) {
	for _, name := range []string{modelFile, optimFile, stateFile} {
		dir := t.TempDir()
		a, b := mustSave(t, dir, at(1, 0), 0), mustSave(t, dir, at(2, 0), 0)
		if err := os.Rename(filepath.Join(a, name), filepath.Join(b, name)); err != nil {
			t.Fatal(err)
		}
		if _, err := Load(b); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s of another step: error %v", name, err)
		}
	}
}

func TestAllDamaged(t *testing.T) {
	dir := t.TempDir()
	for step := range 3 {
		path := mustSave(t, dir, at(step, 0), 0)
		if err := os.Remove(filepath.Join(path, optimFile)); err != nil {
			t.Fatal(err)
		}
	}
	c, path, skipped, err := LoadLatest(dir)
	if c != nil || path != "" || len(skipped) != 3 {
		t.Errorf("%v, %q, %v", c, path, skipped)
	}
	if !errors.Is(err, ErrDamaged) || errors.Is(err, ErrNone) || !strings.Contains(err.Error(), "all 3 checkpoints") {
		t.Errorf("error %v", err)
	}
}

func TestNewerVersion(t *testing.T) {
	dir := t.TempDir()
	mustSave(t, dir, at(1, 0), 0)
	path := mustSave(t, dir, at(2, 0), 0)
	for name, body := range map[string]string{
		"more keys":   `{"format": "setun checkpoint", "version": 2, "step": 2, "shards": []`,
		"other types": `{"format": "setun checkpoint", "version": 3, "step": "two"`,
	} {
		if err := os.WriteFile(filepath.Join(path, stateFile), seal([]byte(body)), 0o666); err != nil {
			t.Fatal(err)
		}
		_, err := Load(path)
		if !errors.Is(err, ErrNewer) || errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), "update setun") {
			t.Errorf("%s: Load: %v", name, err)
		}
		if _, _, _, err := LoadLatest(dir); !errors.Is(err, ErrNewer) {
			t.Errorf("%s: LoadLatest: %v", name, err)
		}
	}
}

func TestNone(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o666); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{
		"step-1", "step-0000000x", "step--0000001", "step-+0000001", "step-000000001", ".tmp-step-00000001",
	} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o777); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "step-00000009"), nil, 0o666); err != nil {
		t.Fatal(err)
	}
	for _, d := range []string{dir, filepath.Join(dir, "missing")} {
		_, err := Latest(d)
		if !errors.Is(err, ErrNone) || !strings.Contains(err.Error(), d) {
			t.Errorf("Latest(%s): %v", d, err)
		}
		if _, _, _, err := LoadLatest(d); !errors.Is(err, ErrNone) {
			t.Errorf("LoadLatest(%s): %v", d, err)
		}
	}
	if _, err := Latest(file); err == nil || errors.Is(err, ErrNone) {
		t.Errorf("Latest of a file: %v", err)
	}
	if _, err := Load(file); !errors.Is(err, ErrNone) || !strings.Contains(err.Error(), "is a file: give the folder") {
		t.Errorf("Load of a file: %v", err)
	}
	path := mustSave(t, dir, at(5, 0), 0)
	if _, err := Load(dir); !errors.Is(err, ErrNone) || !strings.Contains(err.Error(), "give one of them, as "+path) {
		t.Errorf("Load of the folder above: %v", err)
	}
	_, err := Load(filepath.Join(dir, "step-00000004"))
	if !errors.Is(err, ErrNone) || !strings.Contains(err.Error(), "step-00000005") {
		t.Errorf("Load of a missing step: %v", err)
	}
}

func TestLatestCountsSteps(t *testing.T) {
	dir := t.TempDir()
	for _, step := range []int{99_999_999, 100_000_000, 7} {
		mustSave(t, dir, at(step, 0), 0)
	}
	if path, err := Latest(dir); err != nil || filepath.Base(path) != "step-100000000" {
		t.Errorf("Latest %s, %v", path, err)
	}
}

func TestRetention(t *testing.T) {
	for _, c := range []struct {
		name  string
		steps []int
		keep  int
		want  []int
	}{
		{"keep all", []int{1, 2, 3}, 0, []int{1, 2, 3}},
		{"negative keeps all", []int{1, 2, 3}, -1, []int{1, 2, 3}},
		{"one", []int{1, 2, 3}, 1, []int{3}},
		{"two", []int{1, 2, 3, 4}, 2, []int{3, 4}},
		{"more than there are", []int{1, 2}, 9, []int{1, 2}},
		{"the one just written is the lowest", []int{5, 6, 2}, 2, []int{2, 6}},
		{"only the one just written", []int{5, 6, 2}, 1, []int{2}},
		{"same step", []int{1, 2, 2, 2}, 2, []int{1, 2}},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			for i, step := range c.steps[:len(c.steps)-1] {
				mustSave(t, dir, at(step, i), 0)
			}
			if err := os.Mkdir(filepath.Join(dir, "best"), 0o777); err != nil { // not ours
				t.Fatal(err)
			}
			last := at(c.steps[len(c.steps)-1], 99)
			path := mustSave(t, dir, last, c.keep)
			want := []string{"best"}
			for _, step := range c.want {
				want = append(want, folder(step))
			}
			if got := names(t, dir); !slices.Equal(got, want) {
				t.Errorf("folder holds %v, want %v", got, want)
			}
			if got, err := Load(path); err != nil || !same(got, last) {
				t.Errorf("the last one: %v, %v", got, err)
			}
		})
	}
}

// start fills dir for a scenario; the next Save is of the checkpoint next with keep 2.
var scenarios = []struct {
	name  string
	start func(t testing.TB, dir string)
	old   *Checkpoint // what LoadLatest gives before, nil for ErrNone
	next  *Checkpoint
}{
	{"first", func(testing.TB, string) {}, nil, at(1, 0)},
	{"retention", func(t testing.TB, dir string) {
		for step := range 4 {
			mustSave(t, dir, at(step, 0), 0)
		}
	}, at(3, 0), at(4, 0)},
	{"same step", func(t testing.TB, dir string) { mustSave(t, dir, at(3, 0), 0) }, at(3, 0), at(3, 1)},
	{"same step, others", func(t testing.TB, dir string) {
		for step := range 4 {
			mustSave(t, dir, at(step, 0), 0)
		}
	}, at(3, 0), at(3, 1)},
	{"left by killed saves", func(t testing.TB, dir string) {
		mustSave(t, dir, at(1, 0), 0)
		copyDir(t, filepath.Join(dir, ".tmp-step-00000003"), mustSave(t, dir, at(3, 0), 0))
		copyDir(t, filepath.Join(dir, ".tmp-step-00000009"), filepath.Join(dir, "step-00000003"))
		copyDir(t, filepath.Join(dir, ".old-step-00000001"), filepath.Join(dir, "step-00000001"))
		if err := os.Remove(filepath.Join(dir, ".old-step-00000001", stateFile)); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(filepath.Join(dir, "step-00000003"), filepath.Join(dir, ".old-step-00000003")); err != nil {
			t.Fatal(err)
		}
	}, at(3, 0), at(3, 1)},
}

// check that dir gives old or next, nothing damaged, and says which.
func oldOrNext(t testing.TB, dir string, old, next *Checkpoint) (isNext bool) {
	t.Helper()
	c, _, skipped, err := LoadLatest(dir)
	if len(skipped) > 0 {
		t.Fatalf("damaged: %v", skipped)
	}
	if old == nil && errors.Is(err, ErrNone) {
		return false
	}
	if err != nil {
		t.Fatal(err)
	}
	path, err := Latest(dir)
	if err != nil {
		t.Fatal(err)
	}
	if d, err := Load(path); err != nil || !same(c, d) {
		t.Fatalf("Latest and LoadLatest differ: %v", err)
	}
	if !same(c, next) && (old == nil || !same(c, old)) {
		t.Fatalf("neither the old nor the new checkpoint, but step %d, %s", c.Step, c.State)
	}
	return same(c, next)
}

// TestKilledAnywhere looks at the folder as a kill before each change of the file system would leave it.
func TestKilledAnywhere(t *testing.T) {
	for _, s := range scenarios {
		t.Run(s.name, func(t *testing.T) {
			dir, snaps := t.TempDir(), t.TempDir()
			s.start(t, dir)
			var ops []string
			snap := func(op string) error {
				copyDir(t, filepath.Join(snaps, fmt.Sprint(len(ops))), dir)
				ops = append(ops, op)
				return nil
			}
			setProbe(t, snap)
			mustSave(t, dir, s.next, 2)
			snap("end")
			probe = func(string) error { return nil }

			wasNext := false
			for i, op := range ops {
				at := filepath.Join(snaps, fmt.Sprint(i))
				isNext := oldOrNext(t, at, s.old, s.next)
				if wasNext && !isNext {
					t.Fatalf("before %s (%d of %d): the new checkpoint is gone again", op, i, len(ops))
				}
				wasNext = isNext
				// The next run saves and leaves nothing behind.
				mustSave(t, at, s.next, 2)
				if !oldOrNext(t, at, s.old, s.next) {
					t.Fatalf("before %s (%d of %d): a save after the kill is not the latest", op, i, len(ops))
				}
				for _, name := range names(t, at) {
					if strings.HasPrefix(name, ".") {
						t.Fatalf("before %s (%d of %d): %s was left behind", op, i, len(ops), name)
					}
				}
			}
			if !wasNext {
				t.Fatal("the new checkpoint never appeared")
			}
			if len(ops) < 10 {
				t.Fatalf("only %d changes seen: %v", len(ops), ops)
			}
		})
	}
}

// TestFailsAnywhere fails each change of the file system once, as a full disk does.
func TestFailsAnywhere(t *testing.T) {
	for _, s := range scenarios {
		t.Run(s.name, func(t *testing.T) {
			for fail := 0; ; fail++ {
				dir := t.TempDir()
				probe = func(string) error { return nil }
				s.start(t, dir)
				n := 0
				var failed string
				setProbe(t, func(op string) error {
					if n++; n == fail+1 {
						failed = op
						return &fs.PathError{Op: "write", Path: "p", Err: syscall.ENOSPC}
					}
					return nil
				})
				path, err := Save(dir, s.next, 2)
				probe = func(string) error { return nil }
				if failed == "" {
					if err != nil {
						t.Fatal(err)
					}
					if fail < 9 {
						t.Fatalf("only %d changes seen", fail)
					}
					return
				}
				if !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), "free some space") {
					t.Fatalf("%s fails: error %v", failed, err)
				}
				if strings.Contains(err.Error(), "\n") {
					t.Fatalf("error %q is no single line", err)
				}
				isNext := oldOrNext(t, dir, s.old, s.next)
				if path != "" && !isNext {
					t.Fatalf("%s fails: Save says the checkpoint is in %s, but it is not the latest", failed, path)
				}
				for _, name := range names(t, dir) {
					if name == tmpPrefix+folder(s.next.Step) && failed != "restore" { // Tidy removes it after that
						t.Fatalf("%s fails: %s was left behind", failed, name)
					}
				}
				mustSave(t, dir, s.next, 2)
			}
		})
	}
}

func TestSaveErrors(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o666); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "step-00000008"), []byte("mine"), 0o666); err != nil {
		t.Fatal(err)
	}
	bad := func(f func(c *Checkpoint)) *Checkpoint {
		c := at(1, 0)
		f(c)
		return c
	}
	for _, c := range []struct {
		name string
		dir  string
		c    *Checkpoint
		want string
	}{
		{"negative step", dir, bad(func(c *Checkpoint) { c.Step = -1 }), "the step is negative"},
		{"config", dir, bad(func(c *Checkpoint) { c.Config = json.RawMessage("{") }), "Config is not valid JSON"},
		{"state", dir, bad(func(c *Checkpoint) { c.State = json.RawMessage("1 2") }), "State is not valid JSON"},
		{"tensors", dir, bad(func(c *Checkpoint) { c.Optim[0].Shape = []int{9} }),
			`optim.safetensors: safetensors: tensor "m/wte"`},
		{"file in place of the folder", file, at(1, 0), file},
		{"file in place of a part of the path", filepath.Join(file, "checkpoints"), at(1, 0), file},
		{"file in place of the checkpoint", dir, at(8, 0), "is not a folder: move it away"},
	} {
		path, err := Save(c.dir, c.c, 0)
		if path != "" || err == nil || !strings.Contains(err.Error(), c.want) ||
			!strings.HasPrefix(err.Error(), "checkpoint: save step ") {
			t.Errorf("%s: %q, error %v lacks %q", c.name, path, err, c.want)
		}
		if got := names(t, dir); len(got) != 2 {
			t.Errorf("%s: folder holds %v", c.name, got)
		}
	}
}

func TestUnwritable(t *testing.T) {
	if runtime.GOOS == "windows" || os.Getuid() <= 0 {
		t.Skip("folder permissions do not bind this user")
	}
	dir := t.TempDir()
	mustSave(t, dir, at(1, 0), 0)
	if err := os.Chmod(dir, 0o555); err != nil {
		t.Fatal(err)
	}
	_, err := Save(dir, at(2, 0), 0)
	if !errors.Is(err, fs.ErrPermission) || !strings.Contains(err.Error(), "change its permissions") {
		t.Errorf("Save: %v", err)
	}
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(dir, "step-00000001", modelFile), 0); err != nil {
		t.Fatal(err)
	}
	_, _, _, err = LoadLatest(dir)
	if !errors.Is(err, fs.ErrPermission) || errors.Is(err, ErrDamaged) {
		t.Errorf("LoadLatest: %v", err)
	}
}

// FuzzState decodes a body under a checksum that fits, so that the fuzzer gets past it, and as it is.
func FuzzState(f *testing.F) {
	text, err := encodeState(&record{Format: format, Version: version, Step: 7, Config: json.RawMessage(`{"a":[1,2]}`)})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add(text[:len(text)-len(sumEnd)-64-len(sumKey)])
	f.Add([]byte(`{"format":"setun checkpoint","version":2`))
	f.Add([]byte(`{"format":"setun checkpoint","version":1,"step":-1,"config":{"<":1}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, err := decodeState(b); err == nil && !sealed(b) {
			t.Fatal("accepted without a checksum")
		}
		r, err := decodeState(seal(b))
		if err != nil {
			return
		}
		again, err := encodeState(r)
		if err != nil {
			t.Fatal(err)
		}
		r2, err := decodeState(again)
		if err != nil || !reflect.DeepEqual(r, r2) {
			t.Fatalf("round trip: %+v, %+v, %v", r, r2, err)
		}
	})
}
