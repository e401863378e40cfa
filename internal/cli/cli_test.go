package cli

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

func good() Flags {
	return Flags{Out: "run", Weights: "ternary", Optimizer: "adamw", Batch: 8, LR: 0.01}
}

func TestParse(t *testing.T) {
	parse := func(args ...string) (Flags, error) {
		c := good()
		f := flag.NewFlagSet("test", flag.PanicOnError)
		c.Register(f)
		return c, Parse(f, args)
	}
	c, err := parse("-batch", "3", "-weights=five", "-resume", "-seed", "18446744073709551615", "-lr", "1e-3",
		"-threads", "2", "-math", "int8", "-gradients", "ternary")
	want := good()
	want.Batch, want.Weights, want.Resume, want.Seed = 3, "five", true, math.MaxUint64
	want.LR, want.Threads, want.Device, want.Math, want.Gradients = 1e-3, 2, "auto", "int8", "ternary"
	if err != nil || c != want {
		t.Errorf("%+v, %v; want %+v", c, err, want)
	}
	for _, c := range []struct{ args, want string }{
		{"-batch", "-batch"},
		{"-batch two", `"two"`},
		{"-seed -1", "-seed"},
		{"-bach 2", "-bach"},
		{"-batch 2 more", `unexpected argument "more"`},
	} {
		_, err := parse(strings.Fields(c.args)...)
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.HasSuffix(err.Error(), "; see -help") ||
			strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: error %v, want %q", c.args, err, c.want)
		}
	}
}

func TestCheck(t *testing.T) {
	if c := good(); c.Check() != nil {
		t.Error(c.Check())
	}
	for _, c := range []struct {
		change func(*Flags)
		want   string
	}{
		{func(c *Flags) { c.Batch = 0 }, "-batch is 0; it must be positive"},
		{func(c *Flags) { c.Batch = -1 }, "-batch is -1"},
		{func(c *Flags) { c.LR = -0.5 }, "-lr is -0.5"},
		{func(c *Flags) { c.LR = math.NaN() }, "-lr is NaN"},
		{func(c *Flags) { c.LR = math.Inf(1) }, "lr is +Inf"},
		{func(c *Flags) { c.Weights = "" }, `-weights is ""; use ternary, five or fp32`},
		{func(c *Flags) { c.Weights = "Ternary" }, `"Ternary"`},
		{func(c *Flags) { c.Math = "int4" }, `-math is "int4"; use int8, bf16 or fp32`},
		{func(c *Flags) { c.Gradients = "int4" }, `-gradients is "int4"; use fp32, int8, ternary, ternary-ef`},
		{func(c *Flags) { c.Optimizer = "adam" }, `"adam"; use muon, adamw`},
		{func(c *Flags) { c.Out = "" }, "-out is empty"},
	} {
		f := good()
		c.change(&f)
		if err := f.Check(); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("error %v, want %q", err, c.want)
		}
	}
}

func TestOpen(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(0))
	all := runtime.GOMAXPROCS(0)
	if _, threads, err := (&Flags{Device: "auto"}).Open(); err != nil || threads != all {
		t.Errorf("%d threads, %v; want %d", threads, err, all)
	}
	if dev, threads, err := (&Flags{Device: "cpu", Threads: 1}).Open(); err != nil || dev.Name() != "cpu" || threads != 1 {
		t.Errorf("%v, %d threads, %v", dev, threads, err)
	}
	for _, f := range []Flags{{Device: "abacus"}, {Device: "cpu", Threads: -1}} {
		if _, _, err := f.Open(); err == nil {
			t.Errorf("%+v opens", f)
		}
	}
}

func TestWriteResult(t *testing.T) {
	dir := t.TempDir()
	if err := WriteResult(dir, map[string]any{"val_bpb": 2.5}); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(dir, "result.json"))
	var got map[string]float64
	if err == nil {
		err = json.Unmarshal(text, &got)
	}
	if err != nil || got["val_bpb"] != 2.5 {
		t.Errorf("%s, %v", text, err)
	}
	for _, err := range []error{
		WriteResult(dir, map[string]any{"x": func() {}}), WriteResult(filepath.Join(dir, "none"), nil),
	} {
		if err == nil || !strings.Contains(err.Error(), "result.json") {
			t.Errorf("error %v", err)
		}
	}
	if now, _ := os.ReadFile(filepath.Join(dir, "result.json")); string(now) != string(text) {
		t.Errorf("an error leaves %s", now)
	}
	if err := WriteResult(dir, map[string]any{"x": math.NaN()}); err != nil {
		t.Error(err)
	}
	if text, _ := os.ReadFile(filepath.Join(dir, "result.json")); !strings.Contains(string(text), `"x": "NaN"`) {
		t.Errorf("NaN is %s", text)
	}
}

const mainEnv = "SETUN_CLI_TEST"

func TestMain(m *testing.M) {
	how := os.Getenv(mainEnv)
	if how == "" {
		os.Exit(m.Run())
	}
	os.Args = []string{filepath.Join("some", "folder", "tool"), "-x"}
	Main(func(ctx context.Context, args []string) error {
		switch how {
		case "good":
			fmt.Println(args)
			return nil
		case "help":
			return fmt.Errorf("usage: %w", flag.ErrHelp)
		case "cancelled":
			return fmt.Errorf("reading: %w", context.Canceled)
		case "interrupt":
			p, err := os.FindProcess(os.Getpid())
			if err != nil {
				return err
			}
			if err := p.Signal(os.Interrupt); err != nil {
				return err
			}
			<-ctx.Done()
			return errors.New("stopped at step 3")
		}
		return errors.New("file x: not found; name another")
	})
}

// TestMainExit runs Main in a process of its own.
func TestMainExit(t *testing.T) {
	if runtime.GOOS == "js" || runtime.GOOS == "wasip1" {
		t.Skip("no processes on this system")
	}
	for _, c := range []struct {
		how            string
		code           int
		stdout, stderr string
	}{
		{"good", 0, "[-x]\n", ""},
		{"help", 0, "", ""},
		{"bad", 1, "", "tool: file x: not found; name another\n"},
		{"cancelled", 1, "", "tool: interrupted\n"},
		{"interrupt", 1, "", "tool: stopped at step 3\n"},
	} {
		if c.how == "interrupt" && runtime.GOOS == "windows" {
			continue
		}
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), mainEnv+"="+c.how)
		var stdout, stderr strings.Builder
		cmd.Stdout, cmd.Stderr = &stdout, &stderr
		err := cmd.Run()
		if e := (*exec.ExitError)(nil); err != nil && !errors.As(err, &e) {
			t.Fatal(err)
		}
		if code := cmd.ProcessState.ExitCode(); code != c.code || stdout.String() != c.stdout || stderr.String() != c.stderr {
			t.Errorf("%s: exit status %d, stdout %q, stderr %q", c.how, code, &stdout, &stderr)
		}
	}
}

func Example() {
	c := Flags{Out: "runs/mine", Weights: "ternary", Optimizer: "muon", Batch: 8}
	f := flag.NewFlagSet("mine", flag.ContinueOnError)
	c.Register(f)
	fmt.Println(Parse(f, []string{"-batch", "16"}), c.Batch)
	fmt.Println(Parse(f, []string{"-weights", "six"}), c.Check())
	// Output:
	// <nil> 16
	// <nil> -weights is "six"; use ternary, five or fp32
}

func TestConfig(t *testing.T) {
	write := func(text string) string {
		path := filepath.Join(t.TempDir(), "c.json")
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	parse := func(args ...string) (Flags, error) {
		var fl Flags
		f := flag.NewFlagSet("x", flag.ContinueOnError)
		fl.Register(f)
		err := Parse(f, args)
		return fl, err
	}
	path := write(`{"batch": 7, "lr": 1e-3, "optimizer": "trust", "resume": true, "seed": 18446744073709551615}`)
	fl, err := parse("-config", path, "-batch", "9")
	if err != nil || fl.Batch != 9 || fl.LR != 1e-3 || fl.Optimizer != "trust" || !fl.Resume || fl.Seed != 1<<64-1 {
		t.Errorf("%+v, %v", fl, err)
	}
	for text, want := range map[string]string{
		`{"optimiser": "adamw"}`: `"optimiser", which is no flag; did you mean "optimizer"?`,
		`{"colour": 1}`:          `"colour", which is no flag; see -help`,
		`{"config": "x"}`:        "on the command line",
		`{"batch": "many"}`:      `"batch" is many`,
		`{"batch": [1]}`:         "want a text, a number",
		`{"batch": null}`:        "want a text, a number",
		`[1]`:                    "not a JSON object",
		`{"batch": 1} {}`:        "something after",
		``:                       "not a JSON object",
	} {
		if _, err := parse("-config", write(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: want %q, got %v", text, want, err)
		}
	}
	if _, err := parse("-config", "nowhere.json"); err == nil || !strings.Contains(err.Error(), "nowhere.json") {
		t.Errorf("no file: %v", err)
	}
}
