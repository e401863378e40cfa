package train_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"iter"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"setun/autograd"
	"setun/data"
	"setun/device/cpu"
	"setun/format/safetensors"
	"setun/nn"
	"setun/optim"
	"setun/tensor"
	"setun/train"
	"setun/train/checkpoint"
	"setun/train/metrics"
)

// heldFunc is held-out data that calls a function before each batch.
type heldFunc struct {
	held
	before func()
}

func (h heldFunc) Batches(ctx context.Context) iter.Seq2[data.Batch, error] {
	return func(yield func(data.Batch, error) bool) {
		for b, err := range h.held.Batches(ctx) {
			h.before()
			if err == nil {
				err = ctx.Err()
			}
			if !yield(b, err) || err != nil {
				return
			}
		}
	}
}

func resumable(dir string) train.Config {
	return train.Config{Steps: 20, Accum: 3, Seed: 4, Optimizer: adamw, Dir: dir, Resume: true, EvalEvery: 6, SaveEvery: 7,
		Model: json.RawMessage(`{"name": "classifier", "seed": 18446744073709551615}`)}
}

// TestResume stops a run at many moments. Resumed, it ends with the bits of a run that was never stopped.
func TestResume(t *testing.T) {
	t.Run("adamw", func(t *testing.T) { testResume(t, adamw) })
	for i, name := range []string{"schedulefree", "prodigy", "hypergradient"} { // there is more to keep
		if i == 0 || !testing.Short() {
			t.Run(name, func(t *testing.T) { testResume(t, optim.Config{Name: name}) })
		}
	}
}

func testResume(t *testing.T, o optim.Config) {
	val := held{20, 20}
	type outcome struct {
		*train.Result
		weights []float32
	}
	run := func(ctx context.Context, dir string, cancel func(at string, n int)) (outcome, error) {
		m := newClassifier(0.2)
		src := &source{batch: 4, event: func(n int, _ *data.Batch) error {
			cancel("batch", n)
			return ctx.Err()
		}}
		evals := 0
		h := heldFunc{val, func() { evals++; cancel("eval", evals) }}
		cfg := resumable(dir)
		cfg.Optimizer = o
		cfg.OnStep = func(step int, _ float64) { cancel("step", step) }
		r, err := train.Run(ctx, cfg, m, train.Data{Train: src, Val: h})
		return outcome{r, weights(m)}, err
	}
	alone := t.TempDir()
	want, err := run(t.Context(), alone, func(string, int) {})
	if err != nil {
		t.Fatal(err)
	}
	wantRecords, err := metrics.ReadJSONL(filepath.Join(alone, "metrics.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	for i, stop := range []struct {
		at      string
		n, done int // steps
	}{
		{"step", 9, 9}, {"batch", 3*8 + 2, 8}, {"eval", 2, 6}, {"eval", 7, 20}, // the rest if there is time
		{"step", 0, 0}, {"batch", 1, 0}, {"batch", 3*8 + 1, 8}, {"batch", 3*8 + 3, 8}, {"eval", 1, 6}, {"eval", 4, 12},
		{"eval", 8, 20},
	} {
		if testing.Short() && i == 4 {
			break
		}
		dir := t.TempDir()
		ctx, cancel := context.WithCancel(t.Context())
		stopped := false
		r, err := run(ctx, dir, func(at string, n int) {
			if at == stop.at && n == stop.n && !stopped {
				stopped = true
				cancel()
			}
		})
		cancel()
		steps := stop.done
		if stop.at == "step" { // OnStep is called before a step, whose first batch is then not there
			steps = stop.n
		}
		if !errors.Is(err, train.ErrStopped) || !strings.Contains(err.Error(), "-resume") || r.Steps != steps {
			t.Errorf("stopped at %s %d: result %+v, error %v", stop.at, stop.n, r.Result, err)
			continue
		}
		r, err = run(t.Context(), dir, func(string, int) {})
		if err != nil {
			t.Errorf("stopped at %s %d: %v", stop.at, stop.n, err)
			continue
		}
		if !slices.Equal(r.weights, want.weights) {
			t.Errorf("stopped at %s %d: the weights differ", stop.at, stop.n)
		}
		if r.Resumed != steps || r.Targets != want.Targets || r.TrainLoss != want.TrainLoss || r.ValLoss != want.ValLoss {
			t.Errorf("stopped at %s %d: result %+v, want %+v", stop.at, stop.n, r.Result, want.Result)
		}
		records, err := metrics.ReadJSONL(filepath.Join(dir, "metrics.jsonl"))
		if err != nil {
			t.Fatal(err)
		}
		if !slices.EqualFunc(records, wantRecords, sameRecord) {
			t.Errorf("stopped at %s %d: metrics\n%v, want\n%v", stop.at, stop.n, records, wantRecords)
		}
	}
}

// sameRecord compares all but the clock.
func sameRecord(a, b metrics.Record) bool {
	for name, v := range a.Values {
		if name != "seconds" && b.Values[name] != v {
			return false
		}
	}
	return a.Step == b.Step && a.Kind == b.Kind && len(a.Values) == len(b.Values)
}

func TestResumeRefuses(t *testing.T) {
	dir := t.TempDir()
	cfg := resumable(dir)
	if _, err := train.Run(t.Context(), cfg, newClassifier(0), train.Data{Train: &source{batch: 4}}); err != nil {
		t.Fatal(err)
	}
	mk := tensor.NewMaker(cpu.New(1), 1)
	for _, c := range []struct {
		name   string
		change func(*train.Config)
		model  train.Model
		source *source
		want   string
	}{
		{"accum", func(c *train.Config) { c.Accum = 2 }, nil, nil, "accum = 3, not 2"},
		{"seed", func(c *train.Config) { c.Seed = 5 }, nil, nil, "with seed = 4, not 5"}, // and not gradients.seed
		{"optimizer", func(c *train.Config) { c.Optimizer = optim.Config{Name: "muon"} }, nil, nil,
			`with optimizer.name = "adamw", not "muon"`},
		{"clip", func(c *train.Config) { c.Clip = -1 }, nil, nil, "clip = 1, not -1"},
		{"on_nan", func(c *train.Config) { c.OnNaN = "skip" }, nil, nil, `on_nan = "stop", not "skip"`},
		{"rate", func(c *train.Config) { c.Optimizer.LR = 0.5 }, nil, nil, "optimizer.lr = 0.02, not 0.5"},
		{"schedule", func(c *train.Config) { c.Schedule.Kind = "cosine" }, nil, nil,
			`schedule.kind = "linear", not "cosine"`},
		{"model", func(c *train.Config) {
			c.Model = json.RawMessage(`{"name": "classifier", "seed": 18446744073709551614}`)
		}, nil,
			nil, "model.seed = 18446744073709551615, not 18446744073709551614"},
		{"no model", func(c *train.Config) { c.Model = nil }, nil, nil, "model = "},
		{"data", nil, nil, &source{batch: 4, pos: data.State{Digest: "other"}}, "other data"},
		{"shape", nil, &classifier{In: nn.NewLinear(mk, 6, 17, true), Out: nn.NewLinear(mk, 17, 3, true)}, nil,
			"configuration"},
		{"names", nil, parameters{{"w", autograd.NewParam(mk.Zeros(2))}}, nil, "configuration"},
	} {
		cfg := cfg
		if c.change != nil {
			c.change(&cfg)
		}
		var m train.Model = newClassifier(0)
		if c.model != nil {
			m = c.model
		}
		src := &source{batch: 4}
		if c.source != nil {
			src = c.source
		}
		before := weights(m)
		r, err := train.Run(t.Context(), cfg, m, train.Data{Train: src})
		if err == nil || r != nil || !strings.Contains(err.Error(), "cannot resume from "+dir) ||
			!strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: result %v, error %v; want %q", c.name, r, err, c.want)
		}
		if !slices.Equal(weights(m), before) {
			t.Errorf("%s: the weights have changed", c.name)
		}
	}
	before, err := os.ReadFile(filepath.Join(dir, "metrics.jsonl"))
	if err != nil {
		t.Fatal(err)
	}

	longer := cfg
	longer.Steps, longer.EvalEvery, longer.SaveEvery, longer.Keep = 24, 3, 3, 1 // what may change
	r, err := train.Run(t.Context(), longer, newClassifier(0), train.Data{Train: &source{batch: 4}})
	if err != nil || r.Steps != 24 || r.Resumed != 20 {
		t.Errorf("a longer run: result %+v, error %v", r, err)
	}
	after, err := os.ReadFile(filepath.Join(dir, "metrics.jsonl"))
	if err != nil || !bytes.HasPrefix(after, before) || bytes.Count(after, []byte("\n")) != 24 {
		t.Errorf("metrics, %v:\n%s\nafter\n%s", err, after, before)
	}
}

func TestFreshRun(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "run")
	cfg := resumable(dir)
	run := func(resume bool) (log string) {
		t.Helper()
		var b bytes.Buffer
		cfg.Resume, cfg.Log = resume, &b
		r, err := train.Run(t.Context(), cfg, newClassifier(0), train.Data{Train: &source{batch: 4}, Val: held{10}})
		if err != nil || r.Steps != 20 || math.IsNaN(r.ValLoss) || math.IsNaN(r.TrainLoss) {
			t.Fatalf("result %+v, error %v", r, err)
		}
		return b.String()
	}
	if log := run(true); !strings.Contains(log, "no checkpoint in "+dir) || !strings.Contains(log, "from the beginning") {
		t.Errorf("resumed from nothing:\n%s", log)
	}
	if log := run(true); !strings.Contains(log, "resumed from "+filepath.Join(dir, "checkpoints", "step-00000020")) ||
		!strings.Contains(log, "nothing is left to train: the run is at step 20 of 20") {
		t.Errorf("resumed at its end:\n%s", log)
	}
	for _, aside := range []string{dir + ".1", dir + ".2"} {
		if log := run(false); !strings.Contains(log, "an older run is kept in "+aside) {
			t.Errorf("run anew:\n%s", log)
		}
		if got := checkpoints(t, aside); !slices.Contains(got, "step-00000020") {
			t.Errorf("%s has checkpoints %v", aside, got)
		}
	}
	records, err := metrics.ReadJSONL(filepath.Join(dir, "metrics.jsonl"))
	if err != nil || len(records) != 20+4 {
		t.Errorf("%d records, %v", len(records), err)
	}
}

// A kill before the first checkpoint leaves metrics, one while it writes leaves temporary files: neither may stay.
func TestTidy(t *testing.T) {
	for _, resume := range []bool{false, true} {
		dir := t.TempDir()
		for name, text := range map[string]string{
			"metrics.jsonl":           `{"step":1,"kind":"train","loss":9}` + "\n" + `{"step":2,"ki`,
			".loss.png.tmp-abc":       "PNG",
			".metrics.jsonl.tmp-1x2y": "",
			".keep":                   "",
		} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o666); err != nil {
				t.Fatal(err)
			}
		}
		cfg := resumable(dir)
		cfg.Resume = resume
		if _, err := train.Run(t.Context(), cfg, newClassifier(0), train.Data{Train: &source{batch: 4}}); err != nil {
			t.Fatal(err)
		}
		records, err := metrics.ReadJSONL(filepath.Join(dir, "metrics.jsonl"))
		if err != nil || len(records) != 20 || records[0].Values["loss"] == 9 {
			t.Errorf("%d records, %v", len(records), err)
		}
		if left, _ := filepath.Glob(filepath.Join(dir, ".*")); !slices.Equal(left, []string{filepath.Join(dir, ".keep")}) {
			t.Errorf("hidden files %v", left)
		}
	}
}

// A kill while the last save removes an old checkpoint leaves a part of that, though there is nothing left to train.
func TestTidyFinished(t *testing.T) {
	dir := t.TempDir()
	for range 2 {
		if _, err := train.Run(t.Context(), resumable(dir), newClassifier(0), train.Data{Train: &source{batch: 4}}); err != nil {
			t.Fatal(err)
		}
		left, _ := filepath.Glob(filepath.Join(dir, "checkpoints", ".*"))
		if len(left) > 0 {
			t.Errorf("hidden files %v", left)
		}
		if err := os.Mkdir(filepath.Join(dir, "checkpoints", ".tmp-step-00000007"), 0o777); err != nil {
			t.Fatal(err)
		}
	}
}

func TestDamagedCheckpoint(t *testing.T) {
	dir := t.TempDir()
	cfg := resumable(dir)
	m := newClassifier(0)
	if _, err := train.Run(t.Context(), cfg, m, train.Data{Train: &source{batch: 4}}); err != nil {
		t.Fatal(err)
	}
	want := weights(m)
	spoil := func(step string) {
		if err := os.Truncate(filepath.Join(dir, "checkpoints", step, "optim.safetensors"), 100); err != nil {
			t.Fatal(err)
		}
	}
	spoil("step-00000020")
	var log bytes.Buffer
	cfg.Log = &log
	r, err := train.Run(t.Context(), cfg, m, train.Data{Train: &source{batch: 4}})
	if err != nil || r.Resumed != 14 || !slices.Equal(weights(m), want) || !strings.Contains(log.String(), "skipped: ") {
		t.Errorf("result %+v, error %v, log:\n%s", r, err, log.String())
	}
	spoil("step-00000014")
	spoil("step-00000020")
	r, err = train.Run(t.Context(), cfg, m, train.Data{Train: &source{batch: 4}})
	if !errors.Is(err, checkpoint.ErrDamaged) || r != nil {
		t.Errorf("result %v, error %v", r, err)
	}
}

// Frozen parameters are in checkpoints but are not trained; all optimizers resume.
func TestFrozenParameter(t *testing.T) {
	for _, name := range optim.Names {
		var want []float32
		for _, stops := range []int{0, 1} {
			dir := t.TempDir()
			for range stops + 1 {
				m := newClassifier(0)
				m.In.Bias.Freeze(true)
				before := m.In.Bias.T.Floats()
				cfg := train.Config{Steps: 6, Optimizer: optim.Config{Name: name}, Dir: dir, Resume: true, SaveEvery: 100}
				ctx, cancel := context.WithCancel(t.Context())
				cfg.OnStep = func(step int, _ float64) {
					if step == 3 && stops > 0 {
						cancel()
					}
				}
				_, err := train.Run(ctx, cfg, m, train.Data{Train: &source{batch: 4}})
				cancel()
				if stops > 0 {
					if !errors.Is(err, train.ErrStopped) {
						t.Fatal(err)
					}
					stops = 0
					continue
				}
				if err != nil {
					t.Fatal(err)
				}
				if !slices.Equal(m.In.Bias.T.Floats(), before) {
					t.Errorf("%s: the frozen parameter moved", name)
				}
				if want == nil {
					want = weights(m)
				} else if !slices.Equal(weights(m), want) {
					t.Errorf("%s: the resumed run has other weights", name)
				}
			}
		}
	}
}

// What averages weights is evaluated at the average, saves it and hands it back; looking at it changes nothing.
func TestAverage(t *testing.T) {
	run := func(every int) (*classifier, string, float64) {
		m, dir := newClassifier(0), t.TempDir()
		cfg := train.Config{Steps: 12, Optimizer: optim.Config{Name: "schedulefree"}, Dir: dir, EvalEvery: every,
			SaveEvery: every}
		r, err := train.Run(t.Context(), cfg, m, train.Data{Train: &source{batch: 4}, Val: held{20}})
		if err != nil {
			t.Fatal(err)
		}
		return m, dir, r.ValLoss
	}
	m, dir, loss := run(12)
	if at, err := train.Evaluate(t.Context(), m, held{20}); err != nil || at != loss {
		t.Errorf("the loss was %v at the end, it is %v after; %v", loss, at, err)
	}
	c, _, _, err := checkpoint.LoadLatest(filepath.Join(dir, "checkpoints"))
	if err != nil {
		t.Fatal(err)
	}
	kept := map[string][]float32{}
	for _, w := range slices.Concat(c.Weights, c.Optim) {
		if kept[w.Name], err = safetensors.Values[float32](w); err != nil {
			t.Fatal(err)
		}
	}
	for name, v := range m.Params() {
		w := v.T.Floats()
		if !slices.Equal(w, kept["average/"+name]) || !slices.Equal(w, kept[name]) {
			t.Errorf("%s: the run hands back, has as its average and saves different weights", name)
		}
		if slices.Equal(w, kept["iterate/"+name]) {
			t.Errorf("%s: the average is the iterate", name)
		}
	}
	other, _, _ := run(1)
	if !slices.Equal(weights(m), weights(other)) {
		t.Error("evaluations and checkpoints change the run")
	}
}
