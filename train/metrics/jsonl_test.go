package metrics

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
)

// record is what a deterministic run measures at a step.
func record(step int) []Record {
	loss := 10 / float64(step+1)
	if step == 4 {
		loss = math.NaN()
	}
	out := []Record{{step, Train, map[string]float64{"loss": loss, "lr": 1e-3}}}
	if step%3 == 0 {
		out = append(out, Record{step, Eval, map[string]float64{"loss": loss + 1}})
	}
	return out
}

func write(t *testing.T, path string, resume, from, to int) {
	t.Helper()
	j, err := OpenJSONL(path, resume)
	if err != nil {
		t.Fatal(err)
	}
	for step := from; step <= to; step++ {
		for _, r := range record(step) {
			if err := j.Write(r); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
}

func content(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestJSONL(t *testing.T) {
	path := filepath.Join(t.TempDir(), "m.jsonl")
	write(t, path, -1, 0, 12)
	got, err := ReadJSONL(path)
	if err != nil {
		t.Fatal(err)
	}
	var want []Record
	for step := range 13 {
		want = append(want, record(step)...)
	}
	if len(got) != len(want) {
		t.Fatalf("%d records, want %d", len(got), len(want))
	}
	for i := range want {
		if !equal(got[i], want[i]) {
			t.Errorf("record %d: %v, want %v", i, got[i], want[i])
		}
	}
}

// A run killed after any byte and resumed from a checkpoint before it ends with the file of an undisturbed run.
func TestResumeAfterKill(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "m.jsonl")
	const last = 4
	write(t, path, -1, 0, last)
	full := content(t, path)
	end := make([]int, last+1) // end[s]: bytes once step s is written
	for step, n := 0, 0; step <= last; step++ {
		for range record(step) {
			n += bytes.IndexByte(full[n:], '\n') + 1
		}
		end[step] = n
	}
	for cut := end[0]; cut <= len(full); cut++ {
		// Around the ends of lines, and some places inside: each try flushes to the disk.
		if near := bytes.IndexByte(full[cut-1:min(cut+2, len(full))], '\n') >= 0; !near && cut%11 != 0 {
			continue
		}
		for resume := 0; resume <= last && end[resume] <= cut; resume++ {
			if err := os.WriteFile(path, full[:cut], 0o666); err != nil {
				t.Fatal(err)
			}
			write(t, path, resume, resume+1, last)
			if got := content(t, path); !bytes.Equal(got, full) {
				t.Fatalf("killed at byte %d, resumed at step %d:\n%s\nwant\n%s", cut, resume, got, full)
			}
		}
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 1 {
		t.Errorf("left behind: %v", entries)
	}
}

func TestOpenJSONL(t *testing.T) {
	const (
		a = `{"step":1,"kind":"train","loss":1}` + "\n"
		b = `{"step":2,"kind":"train"}` + "\n"
		c = ` {"kind":"eval", "step":3}` + "\r\n"
	)
	for _, tc := range []struct {
		name, old string
		resume    int
		want      string
	}{
		{"fresh", a + b, -1, ""},
		{"fresh over garbage", "\x00\xff\n", -1, ""},
		{"empty", "", 5, ""},
		{"all kept as they stand", a + b + c, 3, a + b + c},
		{"later ones dropped", a + b + c, 1, a},
		{"all dropped", a + b + c, 0, ""},
		{"not in order", c + a + b, 2, a + b},
		{"torn", a + b[:10], 5, a},
		{"torn in the newline", a + b[:len(b)-1], 5, a + b},
		{"torn in the newline and late", a + b[:len(b)-1], 1, a},
		{"zeros after a power cut", a + "\x00\x00\x00", 5, a},
		{"blank lines", a + "\n" + b, 5, a + "\n" + b},
		{"blank torn line", a + "  ", 5, a},
	} {
		t.Run(tc.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "m.jsonl")
			if err := os.WriteFile(path, []byte(tc.old), 0o666); err != nil {
				t.Fatal(err)
			}
			write(t, path, tc.resume, 1, 0)
			if got := string(content(t, path)); got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}

func TestJSONLErrors(t *testing.T) {
	const good = `{"step":1,"kind":"train"}` + "\n"
	for _, c := range []struct{ name, text, want string }{
		{"garbage", good + "hello\n" + good, "line 2: not a JSON object (invalid character 'h'"},
		{"cut inside", good + good + `{"step":1,` + "\n" + good, "line 3: not a JSON object"},
		{"bad field", "\n" + `{"step":1,"kind":"train","loss":true}` + "\n", `line 2: value "loss" must be a number`},
		{"long", good + strings.Repeat("x", maxLine+1), "line 2: longer than"},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "m.jsonl")
			if err := os.WriteFile(path, []byte(c.text), 0o666); err != nil {
				t.Fatal(err)
			}
			_, readErr := ReadJSONL(path)
			_, openErr := OpenJSONL(path, 1)
			for _, err := range []error{readErr, openErr} {
				if err == nil || !strings.HasPrefix(err.Error(), "read "+path+": "+c.want) ||
					strings.Contains(err.Error(), "\n") {
					t.Errorf("error %v, want one with %q", err, c.want)
				}
			}
			if got := string(content(t, path)); got != c.text {
				t.Error("a file that is in error was changed")
			}
		})
	}
}

func TestJSONLPathErrors(t *testing.T) {
	if runtime.GOOS == "windows" || runtime.GOOS == "js" {
		t.Skip("other words for these errors")
	}
	dir := t.TempDir()
	if _, err := OpenJSONL(filepath.Join(dir, "none", "m.jsonl"), -1); err == nil ||
		!strings.Contains(err.Error(), "create the folder first") {
		t.Errorf("no folder: %v", err)
	}
	if _, err := OpenJSONL(dir, 3); err == nil || !strings.Contains(err.Error(), "give the name of a file") {
		t.Errorf("a folder: %v", err)
	}
	if _, err := ReadJSONL(filepath.Join(dir, "m.jsonl")); err == nil || !strings.HasPrefix(err.Error(), "read "+dir) {
		t.Errorf("no file: %v", err)
	}
}

func TestJSONLWriteErrors(t *testing.T) {
	path := filepath.Join(t.TempDir(), "m.jsonl")
	j, err := OpenJSONL(path, -1)
	if err != nil {
		t.Fatal(err)
	}
	if err := j.Write(Record{Step: -1}); err == nil {
		t.Error("a negative step was written")
	}
	if err := j.Write(Record{Step: 1, Kind: Train}); err != nil {
		t.Errorf("a refused record spoiled the file: %v", err)
	}
	j.f.Close()
	first := j.Write(Record{Step: 2})
	if first == nil || j.Write(Record{Step: 3}) != first {
		t.Errorf("errors do not stick: %v", first)
	}
	if err := j.Close(); err != first {
		t.Errorf("Close: %v, want %v", err, first)
	}
	if err := j.Close(); err != first && err != nil {
		t.Errorf("second Close: %v", err)
	}

	j, err = OpenJSONL(path, 1)
	if err != nil {
		t.Fatal(err)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	if err := j.Close(); err != nil {
		t.Errorf("second Close: %v", err)
	}
	if err := j.Write(Record{}); err == nil || !strings.Contains(err.Error(), "closed") {
		t.Errorf("write after Close: %v", err)
	}
}

func TestJSONLConcurrent(t *testing.T) {
	path := filepath.Join(t.TempDir(), "m.jsonl")
	j, err := OpenJSONL(path, -1)
	if err != nil {
		t.Fatal(err)
	}
	const writers, each = 8, 50
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				if err := j.Write(Record{i, fmt.Sprint(w), map[string]float64{"x": float64(w * i)}}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	got, err := ReadJSONL(path)
	if err != nil || len(got) != writers*each {
		t.Fatalf("%d records, %v", len(got), err)
	}
}

// Whatever parses, parses alike after it is written again; whatever does not, is an error and no panic.
func FuzzReadJSONL(f *testing.F) {
	f.Add([]byte(`{"step":1,"kind":"train","loss":"NaN","lr":1e-3}` + "\n" + `{"step":2,"kind":"ev`))
	f.Add([]byte("\n\r\n{\"step\":0,\"kind\":\"\",\"\":-0}"))
	f.Add([]byte("{\"step\":1,\"kind\":\"a\",\"\\ud800\":1}\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		var again bytes.Buffer
		var first []Record
		err := scan(bytes.NewReader(data), func(r Record, _ []byte) error {
			first = append(first, r)
			line, err := json.Marshal(r)
			again.Write(append(line, '\n'))
			return err
		}, nil)
		if err != nil {
			if strings.Contains(err.Error(), "\n") || !strings.HasPrefix(err.Error(), "line ") {
				t.Fatalf("error %q", err)
			}
			return
		}
		n := 0
		err = scan(&again, func(r Record, _ []byte) error {
			if n >= len(first) || !equal(r, first[n]) {
				t.Fatalf("record %d came back as %v", n, r)
			}
			n++
			return nil
		}, func() { t.Fatal("torn") })
		if err != nil || n != len(first) {
			t.Fatalf("%d of %d records came back, %v", n, len(first), err)
		}
	})
}
