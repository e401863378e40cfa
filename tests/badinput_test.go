package tests

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// refuse checks how a command ends on what it was given: exit status 1 and one line on stderr that has the words, and
// no half-written file below dir.
func refuse(t *testing.T, cmd *exec.Cmd, dir string, words ...string) {
	t.Helper()
	code, stdout, stderr := execute(t, cmd)
	name := strings.TrimSuffix(filepath.Base(cmd.Path), ".exe")
	if code != 1 || strings.Count(stderr, "\n") != 1 || !strings.HasPrefix(stderr, name+": ") {
		t.Errorf("exit status %d, stderr:\n%s\nstdout:\n%s", code, stderr, stdout)
	}
	for _, w := range words {
		if !strings.Contains(stderr, w) {
			t.Errorf("the error has no %q: %s", w, stderr)
		}
	}
	if strings.Contains(stdout+stderr, "goroutine ") || strings.Contains(stdout+stderr, "panic") {
		t.Errorf("it panics:\n%s%s", stdout, stderr)
	}
	if left := leftovers(t, dir); len(left) > 0 {
		t.Errorf("left over: %v", left)
	}
}

func TestBadFlags(t *testing.T) {
	text := writeText(t, 2000)
	images := writeImages(t, 40)
	for _, c := range []struct {
		name string // command
		args string
		want string // words, separated by |
	}{
		{"gopher", "sing", `unknown command "sing"|use train`},
		{"gopher", "-foo", "-foo|-help"},
		{"gopher", "-steps", "-steps|-help"},
		{"gopher", "-steps many", `"many"|-steps|-help`},
		{"gopher", "-steps 9 more", `"more"|-help`},
		{"gopher", "-steps -1", "steps is -1|positive"},
		{"gopher", "-steps 0", "steps is 0|positive"},
		{"gopher", "-minutes -1", "minutes is -1|positive"},
		{"gopher", "-minutes NaN", "minutes is NaN|positive"},
		{"gopher", "-minutes +Inf", "minutes is +Inf|a year"},
		{"gopher", "-batch 0", "-batch is 0|positive"},
		{"gopher", "-batch -3", "-batch is -3|positive"},
		{"gopher", "-batch 1000000000", "batch|smaller"},
		{"gopher", "-lr -1", "-lr is -1|positive"},
		{"gopher", "-lr NaN", "-lr is NaN|positive"},
		{"gopher", "-lr 1e6", "lr is 1e+06|below"},
		{"gopher", "-momentum 1", "momentum is 1|below 1"},
		{"gopher", "-momentum NaN", "momentum is NaN|below 1"},
		{"gopher", "-seed -1", `"-1"|-seed|-help`},
		{"gopher", "-threads -2", "threads is -2|0"},
		{"gopher", "-device abacus", `"abacus"|cpu`},
		{"gopher", "-weights four", `"four"|ternary, five or fp32`},
		{"gopher", "-optimizer adam", `"adam"|muon, adamw`},
		{"gopher", "-optimizer trust -direction newton", `"newton"|muon`},
		{"gopher", "-optimizer trust -clusters layers", `"layers"|tensor`},
		{"gopher", "-optimizer trust -rho exact", `"exact"|naive`},
		{"gopher", "-optimizer trust -aux on", `"on"|frozen or online`},
		{"gopher", "-aux frozen", "optimizer trust"},
		{"gopher", "-direction sgd", "no trust region"},
		{"gopher", "-arch gpt5", `"gpt5"|qwen3`},
		{"gopher", "-rule mean", `"mean"|twn`},
		{"gopher", "-weights five -rule twn", "twn|five|absmean"},
		{"gopher", "-columns -1", "-columns is -1|2 to 256|0 for none"},
		{"gopher", "-columns 257", "-columns is 257|2 to 256"},
		{"gopher", "-columns few", `"few"|-columns|-help`},
		{"gopher", "-columns 4 -weights fp32", "-columns is 4|fp32|-weights ternary"},
		{"fashion", "-columns 1000", "-columns is 1000|2 to 256"},
		{"gopher", "-depth 0", "depth is 0|between"},
		{"gopher", "-depth -4", "depth is -4|between"},
		{"gopher", "-width -64", "width is -64|between"},
		{"gopher", "-width 33", "33|multiple"},
		{"gopher", "-context 0", "context is 0|between"},
		{"gopher", "-context 100000", "too few|context of 100000|shorter"},
		{"gopher", "-accum -1", "accum is -1|1 or more"},
		{"gopher", "-val-windows -1", "-1|windows|positive"},
		{"gopher", "-theta 1", "theta is 1|above 1"},
		{"gopher", "-theta NaN", "theta is NaN|above 1"},
		{"gopher", "-quant-warmup 1.5", "-quant-warmup is 1.5|between"},
		{"gopher", "-quant-warmup NaN", "-quant-warmup is NaN|between"},
		{"gopher", "generate -n -1", "-n is -1|0 or more"},
		{"gopher", "generate -temperature -1", "temperature is -1|0 or more"},
		{"gopher", "generate -temperature NaN", "temperature is NaN|0 or more"},
		{"gopher", "generate -top-k -1", "top-k is -1|0 (all) or more"},
		{"gopher", "generate -top-p 2", "top-p is 2|between"},
		{"gopher", "generate -device abacus", `"abacus"|cpu`},
		{"gopher", "eval -baseline -orders 9", "order 9|give 0 to"},
		{"gopher", "eval -baseline -orders -1", "order -1|give 0 to"},
		{"fashion", "-model rnn", `"rnn"|mlp or conv`},
		{"fashion", "-epochs 0", "-epochs is 0|positive"},
		{"fashion", "-steps -1", "-steps is -1|positive"},
		{"gopher", "-sampler class", `"class"|shuffled or strata`},
		{"fashion", "-sampler none", `"none"|shuffled, class`},
		{"fashion", "-epochs -1", "-epochs is -1|positive"},
		{"fashion", "-batch 401", "-batch is 401|40 training images|smaller"},
		{"fashion", "-weights four", `"four"|ternary, five or fp32`},
		{"fashion", "-help-me", "-help-me|-help"},
	} {
		t.Run(c.name+" "+c.args, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			args := strings.Fields(c.args)
			cmd := command(t, c.name, args...)
			cmd.Dir = dir
			if command := args[0]; command == "eval" || c.name == "fashion" || strings.HasPrefix(command, "-") {
				source := text
				if c.name == "fashion" {
					source = images
				}
				at := 1
				if command == "eval" {
					at = 2
				}
				cmd.Args = append(cmd.Args[:at:at], append([]string{"-data", source}, cmd.Args[at:]...)...)
			}
			refuse(t, cmd, dir, strings.Split(c.want, "|")...)
			if left, _ := os.ReadDir(dir); len(left) > 0 {
				t.Errorf("it made %v", left)
			}
		})
	}
}

func TestBadData(t *testing.T) {
	images := writeImages(t, 40)
	change := func(t *testing.T, file string, f func([]byte) []byte) (dir string) {
		dir = t.TempDir()
		if err := os.CopyFS(dir, os.DirFS(images)); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, file)
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, f(b), 0o666); err != nil {
			t.Fatal(err)
		}
		return dir
	}
	for _, c := range []struct {
		name, command string
		data          func(t *testing.T) string
		want          []string // beside the path
	}{
		{"missing", "gopher", func(t *testing.T) string { return filepath.Join(t.TempDir(), "none") },
			[]string{"check the path"}},
		{"empty file", "gopher", func(t *testing.T) string { return writeFile(t, t.TempDir(), "a.go", "") },
			[]string{"no text", "give"}},
		{"short", "gopher", func(t *testing.T) string { return writeFile(t, t.TempDir(), "a.go", "func f") },
			[]string{"too few", "more text"}},
		{"empty folder", "gopher", func(t *testing.T) string { return t.TempDir() },
			[]string{"no file ending in .go", "check"}},
		{"other files", "gopher", func(t *testing.T) string {
			dir := t.TempDir()
			writeFile(t, dir, "a.txt", "text")
			return dir
		}, []string{"no file ending in .go", "check"}},
		{"missing", "fashion", func(t *testing.T) string { return filepath.Join(t.TempDir(), "none") },
			[]string{"train-images-idx3-ubyte", "get the four files"}},
		{"text", "fashion", func(t *testing.T) string {
			return change(t, "train-images-idx3-ubyte",
				func([]byte) []byte { return []byte("hello, world, this is no picture") })
		}, []string{"train-images-idx3-ubyte", "download"}},
		{"cut", "fashion", func(t *testing.T) string {
			return change(t, "t10k-images-idx3-ubyte", func(b []byte) []byte { return b[:len(b)-1] })
		}, []string{"t10k-images-idx3-ubyte", "download"}},
		{"labels of others", "fashion", func(t *testing.T) string {
			return change(t, "train-labels-idx1-ubyte", func(b []byte) []byte { b[7]--; return b[:len(b)-1] })
		}, []string{"40 train images", "39 labels", "one set"}},
	} {
		t.Run(c.command+" "+c.name, func(t *testing.T) {
			dir := t.TempDir()
			cmd := command(t, c.command, "-data", c.data(t))
			cmd.Dir = dir
			refuse(t, cmd, dir, append(c.want, cmd.Args[2])...)
		})
	}
	t.Run("fashion none", func(t *testing.T) {
		refuse(t, command(t, "fashion"), t.TempDir(), "-data", "name the folder")
	})
	t.Run("gopher without go", func(t *testing.T) {
		cmd := command(t, "gopher")
		cmd.Env = append(os.Environ(), "PATH="+t.TempDir())
		cmd.Dir = t.TempDir()
		refuse(t, cmd, cmd.Dir, "Go source", "-data PATH")
	})
}

// TestBadRuns spoils the folder of a run in many ways.
func TestBadRuns(t *testing.T) {
	text := writeText(t, 2000)
	good := filepath.Join(t.TempDir(), "good")
	must(t, "gopher", gopher(text, good)...)
	images := writeImages(t, 40)
	other := filepath.Join(t.TempDir(), "other")
	must(t, "fashion", "-data", images, "-out", other, "-batch", "20", "-epochs", "1")
	const last, before = "step-00000040", "step-00000036"

	spoil := func(file string, f func([]byte) []byte) func(*testing.T, string) {
		return func(t *testing.T, run string) {
			for _, step := range []string{last, before} {
				path := filepath.Join(run, "checkpoints", step, file)
				b, err := os.ReadFile(path)
				if err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path, f(b), 0o666); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	flip := func(b []byte) []byte { b[len(b)/2] ^= 4; return b }
	cut := func(b []byte) []byte { return b[:len(b)/2] }
	newer := func(b []byte) []byte {
		const end = "\"\n}\n" // the checksum's 64 digits come before
		b = bytes.Replace(b, []byte(`"version": 1`), []byte(`"version": 2`), 1)
		body := b[:len(b)-len(end)-64]
		sum := sha256.Sum256(body)
		return append(hex.AppendEncode(body, sum[:]), end...)
	}
	nothing := func(*testing.T, string) {}
	resume := func(more ...string) func(run string) []string {
		return func(run string) []string { return gopher(text, run, append([]string{"-resume"}, more...)...) }
	}
	generate := func(at ...string) func(run string) []string {
		return func(run string) []string {
			return []string{"generate", "-n", "5", "-model", filepath.Join(append([]string{run}, at...)...)}
		}
	}
	for _, c := range []struct {
		name  string
		spoil func(t *testing.T, run string)
		args  func(run string) []string
		want  string
	}{
		{"resume cut weights", spoil("model.safetensors", cut), resume(), "damaged|model.safetensors|bytes|new run"},
		{"resume flipped weights", spoil("model.safetensors", flip), resume(), "damaged|model.safetensors|SHA-256|new run"},
		{"resume flipped moments", spoil("optim.safetensors", flip), resume(), "damaged|optim.safetensors|new run"},
		{"resume cut state", spoil("state.json", cut), resume(), "damaged|state.json|new run"},
		{"resume flipped state", spoil("state.json", flip), resume(), "damaged|state.json|new run"},
		{"resume newer", spoil("state.json", newer), resume(), "state.json|version 2|newer"},
		{"generate newer", spoil("state.json", newer), generate(), "state.json|version 2|newer"},
		{"generate flipped", spoil("model.safetensors", flip), generate(), "damaged|model.safetensors|new run"},
		{"generate flipped step", spoil("model.safetensors", flip), generate("checkpoints", last),
			"model.safetensors|" + last + "|use another|" + before},
		{"generate from nothing", func(t *testing.T, run string) { remove(t, run) }, generate(),
			"no such file or folder|one of its checkpoints"},
		{"generate from no run", func(t *testing.T, run string) { remove(t, run, "checkpoints") }, generate(),
			"no checkpoint"},
		{"generate from a file", nothing, generate("metrics.jsonl"), "metrics.jsonl|folder"},
		{"eval from nothing", func(t *testing.T, run string) { remove(t, run) },
			func(run string) []string { return []string{"eval", "-data", text, "-model", run} }, "no such file or folder|one of its checkpoints"},
		{"generate from images", nothing, func(string) []string { return generate()(other) },
			"language model|" + filepath.Base(other)},
		{"eval of short text", nothing, func(run string) []string {
			return []string{"eval", "-model", run, "-data", writeFile(t, t.TempDir(), "a.go", strings.Repeat("x", 100))}
		}, "too few|context of 32"},
		{"eval batch", nothing, func(run string) []string {
			return []string{"eval", "-model", run, "-data", text, "-batch", "0"}
		}, "batch of 0|at least 1"},
		{"resume other depth", nothing, resume("-depth", "2"), "cannot resume|depth = 1, not 2|without -resume"},
		{"resume other batch", nothing, resume("-batch", "8"), "cannot resume|batch = 4, not 8|without -resume"},
		{"resume other weights", nothing, resume("-weights", "fp32"), `cannot resume|weights = "ternary", not "fp32"`},
		{"resume other rate", nothing, resume("-lr", "0.5"), "cannot resume|optimizer.lr = |without -resume"},
		{"resume other optimizer", nothing, resume("-optimizer", "sgd"), "cannot resume|optimizer.|without -resume"},
		{"resume other context", nothing, resume("-context", "16"), "cannot resume|context = 32, not 16|without -resume"},
		{"resume other seed", nothing, resume("-seed", "2"), "cannot resume|seed = 1, not 2|without -resume"},
		{"resume other text", nothing, func(run string) []string {
			return gopher(writeFile(t, t.TempDir(), "a.go", strings.Repeat("text ", 2000)), run, "-resume")
		}, "cannot resume|other data|same files"},
		{"out is a file", nothing, func(run string) []string { return gopher(text, filepath.Join(run, "metrics.jsonl")) },
			"metrics.jsonl|choose another"},
		{"out below a file", nothing,
			func(run string) []string { return gopher(text, filepath.Join(run, "metrics.jsonl", "run")) },
			"metrics.jsonl|choose another"},
		{"out is empty", nothing, func(string) []string { return gopher(text, "") }, "-out is empty|name a folder"},
		{"metrics is a folder", func(t *testing.T, run string) {
			remove(t, run, "metrics.jsonl")
			if err := os.Mkdir(filepath.Join(run, "metrics.jsonl"), 0o777); err != nil {
				t.Fatal(err)
			}
		}, resume("-steps", "60"), "metrics.jsonl"},
		{"metrics is no metrics", func(t *testing.T, run string) { writeFile(t, run, "metrics.jsonl", "hello\nworld\n") },
			resume("-steps", "60"), "metrics.jsonl|line 1|repair or remove"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			run := filepath.Join(t.TempDir(), "run")
			if err := os.CopyFS(run, os.DirFS(good)); err != nil {
				t.Fatal(err)
			}
			c.spoil(t, run)
			refuse(t, command(t, "gopher", c.args(run)...), filepath.Dir(run), strings.Split(c.want, "|")...)
		})
	}
	t.Run("one of two damaged", func(t *testing.T) { // goes on from the other, and says so
		run := filepath.Join(t.TempDir(), "run")
		if err := os.CopyFS(run, os.DirFS(good)); err != nil {
			t.Fatal(err)
		}
		writeFile(t, run, filepath.Join("checkpoints", last, "state.json"), "{")
		out := must(t, "gopher", resume()(run)...)
		from := filepath.Join(run, "checkpoints", before)
		if !strings.Contains(out, "skipped: ") || !strings.Contains(out, "resumed from "+from) {
			t.Errorf("it says\n%s", out)
		}
		if !bytes.Equal(weightsOf(t, run, 40), weightsOf(t, good, 40)) {
			t.Error("the weights at the end differ")
		}
	})
}

func remove(t *testing.T, parts ...string) {
	t.Helper()
	if err := os.RemoveAll(filepath.Join(parts...)); err != nil {
		t.Fatal(err)
	}
}

// TestFullDisk limits the size of files: the checkpoint does not fit.
func TestFullDisk(t *testing.T) {
	sh, err := exec.LookPath("sh")
	if err != nil || runtime.GOOS == "windows" {
		t.Skip("no shell to limit the size of files")
	}
	text := writeText(t, 2000)
	run := filepath.Join(t.TempDir(), "run")
	cmd := command(t, "gopher", gopher(text, run)...)
	cmd.Args = append([]string{"sh", "-c", `ulimit -f 64; exec "$0" "$@"`, cmd.Path}, cmd.Args[1:]...)
	name := cmd.Path
	cmd.Path = sh
	code, stdout, stderr := execute(t, cmd)
	if code != 1 || strings.Count(stderr, "\n") != 1 || !strings.Contains(stderr, "model.safetensors") ||
		!strings.Contains(stderr, "checkpoint at step 4:") {
		t.Errorf("%s: exit status %d, stderr:\n%s\nstdout:\n%s", name, code, stderr, stdout)
	}
	if left := leftovers(t, run); len(left) > 0 {
		t.Errorf("left over: %v", left)
	}
	must(t, "gopher", gopher(text, run, "-resume")...) // with room, it starts again
	checkRun(t, run, 40, 10)
}
