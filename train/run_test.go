package train_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"setun/autograd"
	"setun/data"
	"setun/device"
	"setun/device/cpu"
	"setun/device/devicetest"
	"setun/format/safetensors"
	"setun/nn"
	"setun/optim"
	"setun/tensor"
	"setun/train"
	"setun/train/metrics"
)

// classifier tells which of three sums of inputs is largest: a hidden layer with dropout.
type classifier struct {
	In, Out *nn.Linear
	dropout float32
	loss    func(t *autograd.Tape, loss *autograd.Value) *autograd.Value // changes the loss, if not nil
}

func newClassifier(dropout float32) *classifier {
	mk := tensor.NewMaker(cpu.New(1), 1)
	return &classifier{In: nn.NewLinear(mk, 6, 16, true), Out: nn.NewLinear(mk, 16, 3, true), dropout: dropout}
}

func (m *classifier) Params() iter.Seq2[string, *autograd.Value] { return nn.Fields(m) }

func (m *classifier) Loss(t *autograd.Tape, b data.Batch) *autograd.Value {
	dev := m.In.Weight.Device()
	h := t.Dropout(t.Tanh(m.In.Forward(t, t.Floats(dev, b.Pixels, b.Shape...))), m.dropout)
	loss := t.CrossEntropy(m.Out.Forward(t, h), t.Ints(dev, b.Targets, len(b.Targets)))
	if m.loss != nil {
		loss = m.loss(t, loss)
	}
	return loss
}

func weights(m train.Model) (all []float32) {
	for _, v := range m.Params() {
		all = append(all, v.T.Floats()...)
	}
	return all
}

// source deals batches of items; item i is drawn from the seed i. event, if not nil, is called with the number of the
// batch, from 1, and may change it or fail.
type source struct {
	batch int
	pos   data.State
	event func(n int, b *data.Batch) error
}

func (s *source) Next(ctx context.Context) (data.Batch, error) {
	if err := ctx.Err(); err != nil {
		return data.Batch{}, err
	}
	b := items(int(s.pos.Position), s.batch)
	if s.event != nil {
		if err := s.event(int(s.pos.Position)/s.batch+1, &b); err != nil {
			return data.Batch{}, err
		}
	}
	s.pos.Position += int64(s.batch)
	return b, nil
}

func (s *source) State() data.State { return s.pos }

func (s *source) Restore(p data.State) error {
	if p.Digest != s.pos.Digest {
		return errors.New("other data")
	}
	s.pos = p
	return nil
}

func items(from, n int) data.Batch {
	b := data.Batch{Shape: []int{n, 6}}
	for i := from; i < from+n; i++ {
		var sums [3]float32
		for j := range 6 {
			x := float32(tensor.Mix(uint64(i), uint64(j))>>40)/(1<<23) - 1
			b.Pixels = append(b.Pixels, x)
			sums[j/2] += x
		}
		b.Targets = append(b.Targets, int32(slices.Index(sums[:], max(sums[0], sums[1], sums[2]))))
	}
	return b
}

// held is held-out data in batches of the given sizes.
type held []int

func (h held) Batches(ctx context.Context) iter.Seq2[data.Batch, error] {
	return func(yield func(data.Batch, error) bool) {
		from := 1 << 20
		for _, n := range h {
			if err := ctx.Err(); err != nil {
				yield(data.Batch{}, err)
				return
			}
			if !yield(items(from, n), nil) {
				return
			}
			from += n
		}
	}
}

var adamw = optim.Config{Name: "adamw", LR: 0.02}

func TestRun(t *testing.T) {
	m, dir := newClassifier(0.1), t.TempDir()
	var steps []int
	var log bytes.Buffer
	cfg := train.Config{Steps: 100, Optimizer: adamw, Seed: 3, Dir: dir, EvalEvery: 30, SaveEvery: 40, Log: &log,
		Unit: "images",
		OnStep: func(step int, progress float64) {
			steps = append(steps, step)
			if progress != float64(step)/100 {
				t.Errorf("progress %v at step %d", progress, step)
			}
		}}
	val := held{50, 50, 20}
	first, err := train.Evaluate(t.Context(), m, val)
	if err != nil {
		t.Fatal(err)
	}
	r, err := train.Run(t.Context(), cfg, m, train.Data{Train: &source{batch: 8}, Val: val})
	if err != nil {
		t.Fatal(err)
	}
	last, err := train.Evaluate(t.Context(), m, val)
	if err != nil {
		t.Fatal(err)
	}
	if r.Steps != 100 || r.Targets != 800 || r.Skipped != 0 || r.Resumed != 0 || r.Time <= 0 || r.TapeBytes <= 0 {
		t.Errorf("result %+v", r)
	}
	if r.ValLoss != last || !(last < 0.7*first) {
		t.Errorf("held-out loss %v in the result, %v now, %v at first", r.ValLoss, last, first)
	}
	if len(steps) != 100 || steps[0] != 0 || steps[99] != 99 {
		t.Errorf("OnStep saw %v", steps)
	}
	if got := r.TargetsPerSecond(); math.Abs(got*r.Time.Seconds()-800) > 1e-6 {
		t.Errorf("%v targets a second in %v", got, r.Time)
	}

	records, err := metrics.ReadJSONL(filepath.Join(dir, "metrics.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	var evals []int
	sum, n := 0.0, 0
	for _, rec := range records {
		if rec.Kind == metrics.Eval {
			evals = append(evals, rec.Step)
			continue
		}
		if n++; rec.Step != n {
			t.Errorf("record %d is of step %d", n, rec.Step)
		}
		if rec.Step > 90 {
			sum += rec.Values["loss"] / 10
		}
		if loss := rec.Values["loss"]; rec.Values["bits"] != train.Bits(loss) || rec.Values["images"] != float64(8*n) {
			t.Errorf("record %+v", rec)
		}
	}
	if n != 100 || !slices.Equal(evals, []int{30, 60, 90, 100}) {
		t.Errorf("%d training records, evaluations at %v", n, evals)
	}
	if math.Abs(sum-r.TrainLoss) > 1e-12 {
		t.Errorf("training loss %v, the mean of the last tenth is %v", r.TrainLoss, sum)
	}
	if got := checkpoints(t, dir); !slices.Equal(got, []string{"step-00000080", "step-00000100"}) {
		t.Errorf("checkpoints %v", got)
	}
	for _, name := range []string{"loss.png", "events.out.tfevents.*"} {
		if found, _ := filepath.Glob(filepath.Join(dir, name)); len(found) != 1 {
			t.Errorf("%s: %v", name, found)
		}
	}
	if s := log.String(); !strings.Contains(s, "step 100/100") || !strings.Contains(s, "images/s") ||
		strings.Count(s, "held out") < 4 {
		t.Errorf("log:\n%s", s)
	}
}

func checkpoints(t *testing.T, dir string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(dir, "checkpoints"))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// Every optimizer trains, on a device whose memory the host cannot read to the same bits as where it can.
func TestOptimizers(t *testing.T) {
	val := held{120}
	for _, name := range optim.Names {
		run := func(dev device.Device) (first, last float64) {
			mk := tensor.NewMaker(dev, 1)
			m := &classifier{In: nn.NewLinear(mk, 6, 16, true), Out: nn.NewLinear(mk, 16, 3, true)}
			first, err := train.Evaluate(t.Context(), m, val)
			if err != nil {
				t.Fatal(err)
			}
			cfg := train.Config{Steps: 300, Optimizer: optim.Config{Name: name}, Poison: true}
			r, err := train.Run(t.Context(), cfg, m, train.Data{Train: &source{batch: 8}, Val: val})
			if err != nil {
				t.Fatal(err)
			}
			return first, r.ValLoss
		}
		first, last := run(cpu.New(1))
		if _, opaque := run(devicetest.Opaque(cpu.New(1))); opaque != last {
			t.Errorf("%s: held-out loss %v on the opaque device, %v on cpu", name, opaque, last)
		}
		if t.Logf("%s: %.3f to %.3f", name, first, last); !(last < 0.5*first) {
			t.Errorf("%s: held-out loss %v at first, %v at last", name, first, last)
		}
	}
}

func TestConfigErrors(t *testing.T) {
	for _, c := range []struct {
		cfg  train.Config
		want string
	}{
		{train.Config{}, "steps is 0"},
		{train.Config{Steps: -1}, "steps is -1"},
		{train.Config{Minutes: -1}, "minutes is -1"},
		{train.Config{Minutes: math.NaN()}, "minutes is NaN"},
		{train.Config{Minutes: math.Inf(1)}, "minutes is +Inf"},
		{train.Config{Steps: 1, Accum: -1}, "accum is -1"},
		{train.Config{Steps: 1, Keep: -1}, "keep must not be negative"},
		{train.Config{Steps: 1, EvalEvery: -1}, "eval_every"},
		{train.Config{Steps: 1, OnNaN: "ignore"}, `on_nan "ignore"; use stop or skip`},
		{train.Config{Steps: 1, Optimizer: optim.Config{Name: "adam"}}, `"adam"`},
		{train.Config{Steps: 1, Schedule: optim.Schedule{Kind: "zigzag"}}, `"zigzag"`},
		{train.Config{Steps: 1, Dir: string([]byte{'x', 0})}, "choose another folder"},
	} {
		r, err := train.Run(t.Context(), c.cfg, newClassifier(0), train.Data{Train: &source{batch: 8}})
		if err == nil || r != nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%+v: result %v, error %v; want %q", c.cfg, r, err, c.want)
		}
	}
}

// parameters is a model by its parameters.
type parameters []struct {
	name  string
	value *autograd.Value
}

func (ps parameters) Params() iter.Seq2[string, *autograd.Value] {
	return func(yield func(string, *autograd.Value) bool) {
		for _, p := range ps {
			if !yield(p.name, p.value) {
				return
			}
		}
	}
}

func (ps parameters) Loss(t *autograd.Tape, b data.Batch) *autograd.Value { return t.Sum(ps[0].value) }

func TestModelErrors(t *testing.T) {
	dev := cpu.New(1)
	param := func() *autograd.Value { return autograd.NewParam(tensor.Zeros(dev, 2, 2)) }
	broken := errors.New("broken")
	for _, c := range []struct {
		name  string
		model train.Model
		data  train.Source
		want  string
	}{
		{"same names", parameters{{"a.weight", param()}, {"a.weight", param()}}, &source{batch: 8}, `the name "a.weight"`},
		{"no parameters", parameters{}, &source{batch: 8}, "no trainable parameters"},
		{"only constants", parameters{{"w", autograd.NewConst(tensor.Zeros(dev, 2))}}, &source{batch: 8},
			"no trainable parameters"},
		{"no data", newClassifier(0), nil, "no training data"},
	} {
		r, err := train.Run(t.Context(), train.Config{Steps: 5}, c.model, train.Data{Train: c.data})
		if err == nil || r != nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: result %v, error %v; want %q", c.name, r, err, c.want)
		}
	}

	// Errors on the way: the result tells how far it came.
	shape := newClassifier(0)
	shape.loss = func(t *autograd.Tape, loss *autograd.Value) *autograd.Value {
		return t.Add(loss, t.Floats(dev, make([]float32, 2), 2))
	}
	for _, c := range []struct {
		name  string
		model train.Model
		event func(n int, b *data.Batch) error
		steps int
		want  []string
		as    any
	}{
		{"data", newClassifier(0), func(n int, b *data.Batch) error {
			if n == 4 {
				return broken
			}
			return nil
		}, 3, []string{"step 4", "broken"}, nil},
		{"shapes", shape, nil, 0, []string{"step 1", "Add"}, new(*tensor.ShapeError)},
		{"device", newClassifier(0), func(n int, b *data.Batch) error {
			if n == 3 {
				b.Targets[0] = 3 // of three classes
			}
			return nil
		}, 2, []string{"step 3", "id 3", "3 rows"}, nil},
	} {
		r, err := train.Run(t.Context(), train.Config{Steps: 5}, c.model,
			train.Data{Train: &source{batch: 8, event: c.event}})
		if err == nil || r == nil || r.Steps != c.steps {
			t.Errorf("%s: result %+v, error %v", c.name, r, err)
			continue
		}
		for _, w := range c.want {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("%s: the error has no %q: %v", c.name, w, err)
			}
		}
		if c.name == "data" && !errors.Is(err, broken) {
			t.Errorf("%v does not wrap the error of the source", err)
		}
		if c.as != nil && !errors.As(err, c.as) {
			t.Errorf("%s: %v is no %T", c.name, err, c.as)
		}
	}
}

// nanAt makes the batches with these numbers NaN.
func nanAt(ns ...int) func(n int, b *data.Batch) error {
	return func(n int, b *data.Batch) error {
		if slices.Contains(ns, n) {
			b.Pixels[0] = float32(math.NaN())
		}
		return nil
	}
}

func TestNaN(t *testing.T) {
	cfg := train.Config{Steps: 20, Optimizer: adamw}
	t.Run("stop", func(t *testing.T) {
		m := newClassifier(0)
		var before []float32
		cfg := cfg
		cfg.OnStep = func(int, float64) { before = weights(m) }
		r, err := train.Run(t.Context(), cfg, m, train.Data{Train: &source{batch: 8, event: nanAt(7)}})
		if err == nil || r.Steps != 6 || !strings.Contains(err.Error(), "step 7") ||
			!strings.Contains(err.Error(), "gradient of in.weight") || !strings.Contains(err.Error(), "learning rate") {
			t.Errorf("result %+v, error %v", r, err)
		}
		if !slices.Equal(weights(m), before) {
			t.Error("the weights have changed")
		}
	})
	t.Run("stop for a gradient", func(t *testing.T) { // the loss is a number
		m := newClassifier(0)
		bomb := autograd.Op{
			Name: "bomb",
			Forward: func(c *autograd.Ctx, in []*tensor.Tensor) *tensor.Tensor {
				y := c.New()
				tensor.Copy(y, in[0])
				return y
			},
			Backward: func(_ *autograd.Ctx, din []*tensor.Tensor, dy *tensor.Tensor) {
				tensor.Axpy(din[0], 1, dy)
				tensor.Fill(din[1], float32(math.Inf(1)))
			},
		}
		m.loss = func(t *autograd.Tape, loss *autograd.Value) *autograd.Value {
			return t.Custom(bomb, loss, m.Out.Weight)
		}
		before := weights(m)
		r, err := train.Run(t.Context(), cfg, m, train.Data{Train: &source{batch: 8}})
		if err == nil || r.Steps != 0 || !strings.Contains(err.Error(), "step 1") ||
			!strings.Contains(err.Error(), "gradient of out.weight") {
			t.Errorf("result %+v, error %v", r, err)
		}
		if !slices.Equal(weights(m), before) {
			t.Error("the weights have changed")
		}
	})
	t.Run("weights", func(t *testing.T) {
		m := newClassifier(0)
		m.Out.Bias.T.SetFloats([]float32{0, float32(math.NaN()), 0})
		_, err := train.Run(t.Context(), cfg, m, train.Data{Train: &source{batch: 8}})
		if err == nil || !strings.Contains(err.Error(), "parameter out.bias") ||
			!strings.Contains(err.Error(), "lower learning rate") {
			t.Errorf("error %v", err)
		}
	})
	t.Run("skip", func(t *testing.T) {
		m, dir := newClassifier(0), t.TempDir()
		var log bytes.Buffer
		cfg := cfg
		cfg.OnNaN, cfg.Dir, cfg.Log = "skip", dir, &log
		r, err := train.Run(t.Context(), cfg, m, train.Data{Train: &source{batch: 8, event: nanAt(3, 9)}})
		if err != nil || r.Steps != 20 || r.Skipped != 2 || math.IsNaN(r.TrainLoss) {
			t.Errorf("result %+v, error %v", r, err)
		}
		if strings.Count(log.String(), "batch skipped") != 2 {
			t.Errorf("log:\n%s", log.String())
		}
		records, err := metrics.ReadJSONL(filepath.Join(dir, "metrics.jsonl"))
		if err != nil || len(records) != 20 || !math.IsNaN(records[2].Values["loss"]) {
			t.Errorf("%d records, %v", len(records), err)
		}
		if slices.ContainsFunc(weights(m), func(x float32) bool { return x != x }) {
			t.Error("a weight is NaN")
		}
		// The weights are those of a run that never saw the batches.
		alone := newClassifier(0)
		drop := &source{batch: 8}
		params := optim.Collect(alone.Params())
		opt, err := optim.New(adamw, params)
		if err != nil {
			t.Fatal(err)
		}
		for step := range 20 {
			b, err := drop.Next(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if step == 2 || step == 8 {
				continue
			}
			optim.ZeroGrad(params)
			tape := autograd.Tape{Grad: true}
			tape.Backward(alone.Loss(&tape, b))
			opt.Step(float32(optim.Schedule{}.At(step, 20)), optim.Clip(optim.GradNorm(params), 1))
		}
		if !slices.Equal(weights(m), weights(alone)) {
			t.Error("the weights differ from those of a run without the batches")
		}
	})
	t.Run("skip no more", func(t *testing.T) {
		cfg := cfg
		cfg.OnNaN = "skip"
		r, err := train.Run(t.Context(), cfg, newClassifier(0),
			train.Data{Train: &source{batch: 8, event: nanAt(2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12)}})
		if err == nil || r.Steps != 10 || !strings.Contains(err.Error(), "step 11") {
			t.Errorf("result %+v, error %v", r, err)
		}
	})
}

// Batches that are accumulated have the gradient of one large batch.
func TestAccum(t *testing.T) {
	large, small := newClassifier(0), newClassifier(0)
	var losses [2]float64
	for i, c := range []struct {
		m            *classifier
		batch, accum int
	}{{large, 24, 0}, {small, 6, 4}} {
		r, err := train.Run(t.Context(), train.Config{Steps: 30, Accum: c.accum, Optimizer: optim.Config{Name: "sgd"}}, c.m,
			train.Data{Train: &source{batch: c.batch}})
		if err != nil || r.Targets != 30*24 {
			t.Fatalf("result %+v, error %v", r, err)
		}
		losses[i] = r.TrainLoss
	}
	a, b := weights(large), weights(small)
	for i := range a {
		if math.Abs(float64(a[i]-b[i])) > 1e-5 {
			t.Fatalf("weight %d is %v with batches of 24, %v with 4 of 6", i, a[i], b[i])
		}
	}
	if math.Abs(losses[0]-losses[1]) > 1e-5 {
		t.Errorf("losses %v", losses)
	}
}

func TestMinutes(t *testing.T) {
	var progress []float64
	cfg := train.Config{Minutes: 0.003, Optimizer: adamw}
	cfg.OnStep = func(_ int, p float64) { progress = append(progress, p) }
	start := time.Now()
	evals := 0
	r, err := train.Run(t.Context(), cfg, newClassifier(0), train.Data{Train: &source{batch: 8},
		Val: heldFunc{held{10}, func() { evals++ }}})
	if evals < 1 || evals > 10 {
		t.Errorf("%d evaluations, want one in each tenth", evals)
	}
	if err != nil || r.Steps < 1 || r.Steps != len(progress) || math.IsNaN(r.ValLoss) {
		t.Fatalf("result %+v, error %v", r, err)
	}
	if r.Time < 180*time.Millisecond || time.Since(start) > time.Minute {
		t.Errorf("0.18 s of training took %v, %v in all", r.Time, time.Since(start))
	}
	if !slices.IsSorted(progress) || progress[0] != 0 || progress[len(progress)-1] >= 1 {
		t.Errorf("progress from %v to %v", progress[0], progress[len(progress)-1])
	}
}

func TestClip(t *testing.T) {
	moved := func(clip float64) (most float64) {
		m := newClassifier(0)
		before := weights(m)
		cfg := train.Config{Steps: 1, Optimizer: optim.Config{Name: "sgd", LR: 1}, Clip: clip,
			Schedule: optim.Schedule{Kind: "constant", Warmup: 1e-9}}
		if _, err := train.Run(t.Context(), cfg, m, train.Data{Train: &source{batch: 8}}); err != nil {
			t.Fatal(err)
		}
		sum := 0.0
		for i, x := range weights(m) {
			sum += math.Pow(float64(x-before[i]), 2)
		}
		return math.Sqrt(sum)
	}
	free := moved(-1)
	if got := moved(0.01); math.Abs(got-0.01) > 1e-5 || !(free > 0.1) {
		t.Errorf("the weights move by %v with gradients clipped to 0.01, by %v without", got, free)
	}
}

func TestEvaluate(t *testing.T) {
	m := newClassifier(0.5) // dropout must not act
	whole, err := train.Evaluate(t.Context(), m, held{60})
	if err != nil {
		t.Fatal(err)
	}
	parts, err := train.Evaluate(t.Context(), m, held{7, 13, 40})
	if err != nil || math.Abs(whole-parts) > 1e-6 {
		t.Errorf("loss %v of one batch, %v of three; %v", whole, parts, err)
	}
	if none, err := train.Evaluate(t.Context(), m, held{}); err != nil || !math.IsNaN(none) {
		t.Errorf("loss %v of nothing, %v", none, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := train.Evaluate(ctx, m, held{10}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	r, err := train.Run(t.Context(), train.Config{Steps: 2}, m, train.Data{Train: &source{batch: 8}})
	if err != nil || !math.IsNaN(r.ValLoss) {
		t.Errorf("held-out loss %v without held-out data, %v", r.ValLoss, err)
	}
}

func TestLoadParams(t *testing.T) {
	m := newClassifier(0)
	before := weights(m)
	good := func() (ws []safetensors.Tensor) {
		for name, v := range m.Params() {
			ws = append(ws, safetensors.New(name, v.Shape(), make([]float32, v.T.Len())))
		}
		return ws
	}
	for _, c := range []struct {
		ws   []safetensors.Tensor
		want string
	}{
		{good()[1:], `lack "in.weight", which this model needs`},
		{append(good(), safetensors.New("more", []int{1}, []float32{0})), `"more", which this model does not have`},
		{append(good()[:3], safetensors.New("out.bias", []int{4}, make([]float32, 4))),
			`"out.bias" of shape [4], this model needs [3]`},
		{append(good()[:3], good()[0]), `lack "out.bias"`},
	} {
		err := train.LoadParams(m, c.ws)
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "configuration") {
			t.Errorf("error %v, want %q", err, c.want)
		}
		if !slices.Equal(weights(m), before) {
			t.Fatal("the weights have changed")
		}
	}
	version := m.In.Weight.Version()
	if err := train.LoadParams(m, good()); err != nil {
		t.Fatal(err)
	}
	if slices.ContainsFunc(weights(m), func(x float32) bool { return x != 0 }) || m.In.Weight.Version() == version {
		t.Error("the weights are not those loaded")
	}
}

func ExampleRun() {
	m := newClassifier(0)
	result, err := train.Run(context.Background(), train.Config{Steps: 200, Optimizer: adamw}, m,
		train.Data{Train: &source{batch: 16}, Val: held{100}})
	fmt.Println(result.Steps, result.Targets, result.ValLoss < 0.3, err)
	// Output: 200 3200 true <nil>
}
