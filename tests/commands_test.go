package tests

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"image/png"
	"io/fs"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"setun/device/auto"
	"setun/train/metrics"
)

// bin is the folder of the commands in models/, built once.
var bin = sync.OnceValues(func() (string, error) {
	built = true
	dir, err := os.MkdirTemp("", "setun-commands-")
	if err != nil {
		return "", err
	}
	out, err := exec.Command("go", "build", "-o", dir+string(filepath.Separator), "setun/models/...").CombinedOutput()
	if err != nil {
		return dir, fmt.Errorf("go build: %v\n%s", err, out)
	}
	return dir, os.Chmod(dir, 0o755) // for a test that runs as another user
})

var built bool

func TestMain(m *testing.M) {
	code := m.Run()
	if built {
		if dir, _ := bin(); dir != "" {
			os.RemoveAll(dir)
		}
	}
	os.Exit(code)
}

// command prepares to run one of the commands.
func command(t *testing.T, name string, args ...string) *exec.Cmd {
	t.Helper()
	if runtime.GOOS == "js" || runtime.GOOS == "wasip1" {
		t.Skip("no processes on this system")
	}
	dir, err := bin()
	if err != nil {
		t.Fatal(err)
	}
	if runtime.GOOS == "windows" {
		name += ".exe"
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	t.Cleanup(cancel)
	return exec.CommandContext(ctx, filepath.Join(dir, name), args...)
}

// execute runs cmd to its end.
func execute(t *testing.T, cmd *exec.Cmd) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	if e := (*exec.ExitError)(nil); err != nil && !errors.As(err, &e) {
		t.Fatalf("%s: %v", cmd, err)
	}
	return cmd.ProcessState.ExitCode(), out.String(), errs.String()
}

// must runs a command that should succeed, without a word on stderr, and returns what it printed.
func must(t *testing.T, name string, args ...string) string {
	t.Helper()
	code, stdout, stderr := execute(t, command(t, name, args...))
	if code != 0 || stderr != "" {
		t.Fatalf("%s %s: exit status %d, stderr:\n%s", name, strings.Join(args, " "), code, stderr)
	}
	return stdout
}

// writeText makes a file of n words of code and returns its path.
func writeText(t *testing.T, n int) string {
	t.Helper()
	words := strings.Fields("func return if err != nil { } x := range for i fmt.Println(x)")
	rng := rand.New(rand.NewPCG(1, 2))
	var b strings.Builder
	for range n {
		b.WriteString(words[rng.IntN(len(words))])
		b.WriteByte(' ')
	}
	return writeFile(t, t.TempDir(), "text.go", b.String())
}

func writeFile(t *testing.T, dir, name, text string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(text), 0o666); err != nil {
		t.Fatal(err)
	}
	return path
}

// gopher are the arguments of a short training run.
func gopher(text, out string, more ...string) []string {
	return append([]string{"-data", text, "-out", out, "-depth", "1", "-width", "32", "-context", "32", "-batch", "4",
		"-steps", "40", "-threads", "1"}, more...)
}

func readResult(t *testing.T, dir string) map[string]any {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, "result.json"))
	if err != nil {
		t.Fatal(err)
	}
	var r map[string]any
	if err := json.Unmarshal(text, &r); err != nil {
		t.Fatal(err)
	}
	return r
}

// TestExport: a trained model leaves in every form, comes back, and scores as before.
func TestExport(t *testing.T) {
	text, run := writeText(t, 6000), t.TempDir()
	must(t, "gopher", gopher(text, run, "-width", "256", "-arch", "bitnet", "-steps", "4")...)
	score := func(model string) float64 {
		t.Helper()
		out := must(t, "gopher", "eval", "-data", text, "-model", model, "-val-windows", "8", "-threads", "1")
		var bits float64
		if _, err := fmt.Sscan(out, &bits); err != nil {
			t.Fatalf("%q: %v", out, err)
		}
		return bits
	}
	want, dir := score(run), t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	out := must(t, "gopher", "export", "-model", run, "-packed", path("a.setun"), "-safetensors", path("hf"), "-gguf",
		path("a.gguf"), "-type", "F16")
	if !strings.Contains(out, "times smaller than float32") {
		t.Errorf("export printed %q", out)
	}
	for _, form := range []string{"a.setun", "hf"} {
		if got := score(path(form)); got != want {
			t.Errorf("%s scores %v, the run %v", form, got, want)
		}
	}
	if got := score(path("a.gguf")); math.Abs(got-want) > 0.02 { // floats, with float activations
		t.Errorf("a.gguf scores %v, the run %v", got, want)
	}
	if text := must(t, "gopher", "generate", "-model", path("a.setun"), "-n", "20", "-prompt", "func"); !strings.HasPrefix(text, "func") {
		t.Errorf("generated %q", text)
	}
	// Training goes on from each of them, without blending the quantizer in again, on sequences that may be shorter.
	for _, form := range []string{"a.setun", "hf", "a.gguf"} {
		more := t.TempDir()
		must(t, "gopher", "-data", text, "-out", more, "-context", "24", "-batch", "4", "-steps", "2", "-threads", "1", "-lr", "1e-5",
			"-quant-warmup", "0", "-from", path(form))
		if r := readResult(t, more); r["context"] != 24.0 || r["tokens"] != 2*4*24.0 {
			t.Errorf("trained on %v tokens in a context of %v", r["tokens"], r["context"])
		}
		if got := readResult(t, more)["val_bpb"].(float64); math.Abs(got-want) > 0.2 {
			t.Errorf("two small steps from %s end at %v bits, it had %v", form, got, want)
		}
	}
	for want, args := range map[string][]string{
		"say what to write":         {"-model", run},
		`unknown type "TQ9"`:        {"-model", run, "-gguf", path("b"), "-type", "TQ9"},
		"multiples of 256, not 256": {"-model", run, "-gguf", path("b")},
		"I2_S is bitnet.cpp's":      {"-model", run, "-gguf", path("b"), "-type", "I2_S"},
		"loss.png is no model":      {"-model", filepath.Join(run, "loss.png"), "-packed", path("b")},
	} {
		code, _, stderr := execute(t, command(t, "gopher", append([]string{"export"}, args...)...))
		if code != 1 || !strings.Contains(stderr, want) {
			t.Errorf("%v: exit status %d, %q; want %q", args, code, stderr, want)
		}
	}
	if _, err := os.Stat(path("b")); err == nil {
		t.Error("a refused export left a file")
	}
}

// Column clusters go through checkpoints, packed files and -from; what cannot hold them says so.
func TestColumns(t *testing.T) {
	text, run, dir := writeText(t, 6000), t.TempDir(), t.TempDir()
	args := func(more ...string) []string { return gopher(text, run, more...) }
	must(t, "gopher", args("-columns", "4", "-steps", "20")...)
	score := func(model string) string {
		return must(t, "gopher", "eval", "-data", text, "-model", model, "-threads", "1")
	}
	packed, want := filepath.Join(dir, "a.setun"), score(run)
	must(t, "gopher", "export", "-model", run, "-packed", packed)
	if got := score(packed); got != want {
		t.Errorf("the packed file scores %q, the run %q", got, want)
	}
	say := func(model string) string { return must(t, "gopher", "generate", "-model", model, "-n", "30") }
	if one, two := say(run), say(packed); one != two {
		t.Errorf("the run writes %q, the packed file %q", one, two)
	}
	on := func(more ...string) []string {
		return gopher(text, filepath.Join(dir, "more"), append([]string{"-steps", "2", "-from", packed}, more...)...)
	}
	must(t, "gopher", on("-columns", "4")...)
	for _, c := range []struct {
		want string
		args []string
	}{
		{"columns = 4, not 3", args("-columns", "3", "-resume")},
		{"that -from names has 4", on("-columns", "5")},
		{"that -from names has 1; leave", on("-depth", "2")},
		{"that -from names has another graph", on("-arch", "bitnet")},
		{"comes from no norm", []string{"export", "-model", run, "-gguf", filepath.Join(dir, "b")}},
	} {
		code, _, stderr := execute(t, command(t, "gopher", c.args...))
		if code != 1 || !strings.Contains(stderr, c.want) {
			t.Errorf("%v: exit status %d, %q; want %q", c.args, code, stderr, c.want)
		}
	}
}

// A model of before quantization was whole is used with a warning.
func TestBlended(t *testing.T) {
	text, run := writeText(t, 6000), filepath.Join(t.TempDir(), "run")
	must(t, "gopher", gopher(text, run, "-quant-warmup", "1")...)
	eval := func(model string) (stderr string) {
		code, _, stderr := execute(t, command(t, "gopher", "eval", "-model", model, "-data", text))
		if code != 0 {
			t.Fatalf("exit status %d, stderr:\n%s", code, stderr)
		}
		return stderr
	}
	step := filepath.Join(run, "checkpoints", "step-00000036")
	if got := eval(step); !strings.Contains(got, step+": step 36 of 40, when the weights were quantized by 90%") {
		t.Errorf("a model quantized by 90%%: %q", got)
	}
	if got := eval(run); got != "" {
		t.Errorf("a finished run: %q", got)
	}
}

func TestGopher(t *testing.T) {
	text := writeText(t, 6000)
	all := []string{"ternary", "five", "fp32"}
	if testing.Short() {
		all = all[:1]
	}
	for _, weights := range all {
		t.Run(weights, func(t *testing.T) {
			run := filepath.Join(t.TempDir(), "run")
			must(t, "gopher", gopher(text, run, "-weights", weights, "-seed", "9")...)

			r := readResult(t, run)
			for _, key := range []string{"device", "threads", "weights", "params", "steps", "tokens", "seconds",
				"tokens_per_second", "train_bpb", "val_bpb", "val_bytes", "peak_rss_bytes", "seed"} {
				if _, ok := r[key]; !ok {
					t.Errorf("result.json has no %q", key)
				}
			}
			dev, err := auto.Open("auto", 1)
			if err != nil {
				t.Fatal(err)
			}
			params := 24736.
			if weights != "fp32" {
				params += 7 // learned scales
			}
			for key, want := range map[string]any{"device": dev.Name(), "threads": 1., "weights": weights, "params": params,
				"steps": 40., "tokens": 40. * 4 * 32, "seed": 9.} {
				if r[key] != want {
					t.Errorf("%s is %v, want %v", key, r[key], want)
				}
			}
			for _, key := range []string{"train_bpb", "val_bpb"} { // it starts at 8
				if bits, _ := r[key].(float64); !(bits > 1 && bits < 6) {
					t.Errorf("%s is %v", key, r[key])
				}
			}
			checkRun(t, run, 40, 10)

			t.Run("eval", func(t *testing.T) {
				out := must(t, "gopher", "eval", "-model", run, "-data", text)
				want := fmt.Sprintf("%.4f bits per byte over %.0f held-out bytes of %s\n", r["val_bpb"], r["val_bytes"], text)
				if out != want {
					t.Errorf("eval says %q, the run %q", out, want)
				}
				out = must(t, "gopher", "eval", "-baseline", "-orders", "2", "-data", text)
				if strings.Count(out, "bits per byte\n") != 3 {
					t.Errorf("three baselines:\n%s", out)
				}
			})
			t.Run("generate", func(t *testing.T) {
				say := func(more ...string) string {
					return must(t, "gopher", append([]string{"generate", "-model", run, "-threads", "1"}, more...)...)
				}
				one := say("-prompt", "if err", "-n", "100", "-seed", "1")
				if !strings.HasPrefix(one, "if err") || len(one) != len("if err")+100+len("\n") {
					t.Errorf("a prompt and 100 bytes: %q", one)
				}
				if again := say("-prompt", "if err", "-n", "100", "-seed", "1"); again != one {
					t.Errorf("the same seed says %q, then %q", one, again)
				}
				if other := say("-prompt", "if err", "-n", "100", "-seed", "2"); other == one {
					t.Errorf("two seeds say %q", one)
				}
				if got := say("-prompt", "x", "-n", "0"); got != "x\n" {
					t.Errorf("no bytes: %q", got)
				}
				if got := say("-prompt", "", "-n", "5"); len(got) != 6 {
					t.Errorf("no prompt: %q", got)
				}
				odd := "\xff\xfe ü " + strings.Repeat("long", 30) // not UTF-8, longer than the context
				if got := say("-prompt", odd, "-n", "7"); len(got) != len(odd)+8 || !strings.HasPrefix(got, odd) {
					t.Errorf("prompt of any bytes: %q", got)
				}
				if got := say("-prompt", "x", "-n", "300", "-stop", " ", "-seed", "3"); !strings.HasSuffix(got, " \n") ||
					strings.Count(got, " ") != 1 {
					t.Errorf("stop after a space: %q", got)
				}
				all := filepath.Join(run, "checkpoints")
				step := filepath.Join(all, "step-00000040")
				for _, path := range []string{all, step, filepath.Join(step, "model.safetensors")} {
					if got := must(t, "gopher", "generate", "-model", path, "-prompt", "if err", "-n", "100"); got != one {
						t.Errorf("%s says %q, the run %q", path, got, one)
					}
				}
			})
			t.Run("resume", func(t *testing.T) {
				before := weightsOf(t, run, 40)
				must(t, "gopher", gopher(text, run, "-weights", weights, "-seed", "9", "-resume")...)
				if again := readResult(t, run); again["val_bpb"] != r["val_bpb"] || again["seconds"] != r["seconds"] {
					t.Errorf("a finished run that is resumed says %v, at first %v", again, r)
				}
				must(t, "gopher", gopher(text, run, "-weights", weights, "-seed", "9", "-resume", "-steps", "60")...)
				if got := readResult(t, run)["steps"]; got != 60. {
					t.Errorf("resumed to step %v, want 60", got)
				}
				must(t, "gopher", gopher(text, run, "-weights", weights, "-seed", "9")...)
				if !bytes.Equal(weightsOf(t, run, 40), before) {
					t.Error("the same run anew gives other weights")
				}
				if _, err := os.Stat(filepath.Join(run+".1", "checkpoints", "step-00000060")); err != nil {
					t.Errorf("the older run is not kept: %v", err)
				}
			})
		})
	}
	t.Run("minutes", func(t *testing.T) {
		run := filepath.Join(t.TempDir(), "run")
		must(t, "gopher", gopher(text, run, "-minutes", "0.005")...)
		if n, _ := readResult(t, run)["steps"].(float64); n < 1 {
			t.Errorf("%v steps", n)
		}
	})
	t.Run("help", func(t *testing.T) {
		for _, name := range []string{"gopher", "fashion"} {
			if code, _, stderr := execute(t, command(t, name, "-help")); code != 0 || !strings.Contains(stderr, "-weights") {
				t.Errorf("%s -help: exit status %d:\n%s", name, code, stderr)
			}
		}
	})
}

// checkRun checks the files of a run and its records: every training step once, evaluations every so many steps.
func checkRun(t *testing.T, run string, steps, evals int) []metrics.Record {
	t.Helper()
	records, err := metrics.ReadJSONL(filepath.Join(run, "metrics.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	var trained, evaluated []int
	for _, r := range records {
		switch r.Kind {
		case metrics.Train:
			trained = append(trained, r.Step)
		case metrics.Eval:
			evaluated = append(evaluated, r.Step)
		}
	}
	var every, tenths []int
	for i := range steps {
		every = append(every, i+1)
	}
	for i := range evals {
		tenths = append(tenths, (i+1)*steps/evals)
	}
	if !slices.Equal(trained, every) || !slices.Equal(evaluated, tenths) {
		t.Errorf("metrics.jsonl has training steps %v and evaluations %v", trained, evaluated)
	}
	text, err := os.ReadFile(filepath.Join(run, "loss.png"))
	if err != nil {
		t.Fatal(err)
	}
	if picture, err := png.Decode(bytes.NewReader(text)); err != nil || picture.Bounds().Dx() < 100 {
		t.Errorf("loss.png: %v", err)
	}
	if events, _ := filepath.Glob(filepath.Join(run, "events.out.tfevents.*")); len(events) == 0 {
		t.Error("no TensorBoard file")
	}
	weightsOf(t, run, steps)
	if left := leftovers(t, run); len(left) > 0 {
		t.Errorf("left over: %v", left)
	}
	return records
}

// weightsOf is the weights file of a run's checkpoint.
func weightsOf(t *testing.T, run string, step int) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(run, "checkpoints", fmt.Sprintf("step-%08d", step), "model.safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// leftovers lists half-written files below dir.
func leftovers(t *testing.T, dir string) (left []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if strings.Contains(filepath.Base(path), ".tmp") {
			left = append(left, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return left
}

// writeImages makes a data set of the MNIST family: n training images of 8 x 8 pixels, each of three classes bright in
// another corner.
func writeImages(t *testing.T, n int) (dir string) {
	t.Helper()
	dir = t.TempDir()
	rng := rand.New(rand.NewPCG(3, 4))
	for set, n := range map[string]int{"train": n, "t10k": 60} {
		images := binary.BigEndian.AppendUint32(nil, 0x803)
		labels := binary.BigEndian.AppendUint32(nil, 0x801)
		for _, x := range []int{n, 8, 8} {
			images = binary.BigEndian.AppendUint32(images, uint32(x))
		}
		labels = binary.BigEndian.AppendUint32(labels, uint32(n))
		for range n {
			class := rng.IntN(3)
			labels = append(labels, byte(class))
			for i := range 64 {
				bright := 0
				if i/32 == class/2 && i%8/4 == class%2 {
					bright = 120
				}
				images = append(images, byte(bright+rng.IntN(100)))
			}
		}
		writeFile(t, dir, set+"-images-idx3-ubyte", string(images))
		writeFile(t, dir, set+"-labels-idx1-ubyte", string(labels))
	}
	return dir
}

func TestFashion(t *testing.T) {
	images := writeImages(t, 320)
	for _, model := range []string{"mlp", "conv"} {
		for _, weights := range []string{"ternary", "five", "fp32"} {
			if testing.Short() && weights != "ternary" {
				continue
			}
			t.Run(model+" "+weights, func(t *testing.T) {
				run := filepath.Join(t.TempDir(), "run")
				args := []string{"-data", images, "-out", run, "-model", model, "-weights", weights, "-batch", "16", "-epochs", "2"}
				must(t, "fashion", args...)
				r := readResult(t, run)
				if accuracy, _ := r["test_accuracy"].(float64); !(accuracy > 0.9 && accuracy <= 1) {
					t.Errorf("accuracy %v", r["test_accuracy"])
				}
				checkRun(t, run, 40, 10)
				must(t, "fashion", append(args, "-resume")...)
				again := readResult(t, run)
				for _, key := range []string{"test_accuracy", "test_loss", "train_loss", "seconds"} {
					if again[key] != r[key] {
						t.Errorf("%s is %v, of the finished run that is resumed %v", key, r[key], again[key])
					}
				}
			})
		}
	}
	t.Run("real images", func(t *testing.T) {
		dir := os.Getenv("SETUN_IMAGES")
		if dir == "" {
			t.Skip("takes minutes; set SETUN_IMAGES to a folder with Fashion-MNIST")
		}
		run := filepath.Join(t.TempDir(), "run")
		must(t, "fashion", "-data", dir, "-out", run, "-epochs", "1")
		if accuracy, _ := readResult(t, run)["test_accuracy"].(float64); !(accuracy > 0.8) {
			t.Errorf("accuracy %v after an epoch", accuracy)
		}
	})
}

func TestMinimal(t *testing.T) {
	out := must(t, "minimal")
	losses := regexp.MustCompile(`step +(\d+)  loss (\S+)`).FindAllStringSubmatch(out, -1)
	if len(losses) == 0 {
		t.Fatalf("no losses in %q", out)
	}
	last, err := strconv.ParseFloat(losses[len(losses)-1][2], 64)
	if !(last < 0.05) || err != nil { // it starts at ln 2
		t.Errorf("loss at the end: %v, %v", last, err)
	}
}
