package train

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"setun/autograd"
	"setun/data"
	"setun/format/safetensors"
	"setun/internal/dirlock"
	"setun/optim"
	"setun/optim/auxnet"
	"setun/optim/gradq"
	"setun/tensor"
	"setun/train/checkpoint"
)

// ErrStopped is in the error of a run whose context was cancelled; its checkpoint is saved.
var ErrStopped = errors.New("stopped")

// Run trains m on d. It returns what it reached also when it ends early: with ErrStopped after ctx is cancelled, or with
// the error that stopped it.
func Run(ctx context.Context, cfg Config, m Model, d Data) (*Result, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	r, err := newRunner(cfg.withDefaults(), m, d)
	if err != nil {
		return nil, err
	}
	defer r.close()
	if err := r.open(); err != nil {
		return nil, err
	}
	var loopErr error
	if err := autograd.Catch(func() { loopErr = r.loop(ctx) }); err != nil {
		loopErr = fmt.Errorf("train: step %d: %w", r.step+1, err)
	}
	r.finish()
	return &r.result, loopErr
}

// progressState is what a checkpoint keeps beside weights and optimizer: State of the checkpoint.
type progressState struct {
	OptSteps int             `json:"opt_steps"`
	Targets  int64           `json:"targets"`
	Seconds  float64         `json:"seconds"`
	Skipped  int             `json:"skipped"`
	Grad     int64           `json:"grad_bytes,omitempty"`
	Recent   []float64       `json:"recent"`             // losses of the last steps, for Result.TrainLoss
	Val      *float64        `json:"val,omitempty"`      // latest held-out loss; none if NaN
	EvalDue  bool            `json:"eval_due,omitempty"` // the evaluation of this step was cancelled
	Data     json.RawMessage `json:"data"`
}

type runner struct {
	cfg    Config
	model  Model
	data   Data
	params []optim.Param
	all    []optim.Param // also frozen ones: what checkpoints hold
	opt    optim.Optimizer
	aux    *auxnet.Net // nil: none
	grads  *gradq.Quantizer
	tape   autograd.Tape

	batches []data.Batch // of the step

	step    int        // steps done
	pos     data.State // of the data after them
	evalDue bool
	recent  []float64
	skipped int // in a row
	seconds float64
	result  Result
	out     *sinks
	locks   []io.Closer // folders that no other process may train into
}

func newRunner(cfg Config, m Model, d Data) (*runner, error) {
	r := &runner{cfg: cfg, model: m, data: d}
	r.result.ValLoss, r.result.TrainLoss = math.NaN(), math.NaN()
	seen := map[string]bool{}
	for n, v := range m.Params() {
		if seen[n] {
			return nil, fmt.Errorf("train: two parameters have the name %q; names are the keys of checkpoints", n)
		}
		seen[n] = true
		r.all = append(r.all, optim.Param{Name: n, Value: v})
	}
	r.params = optim.Collect(m.Params())
	if len(r.params) == 0 {
		return nil, errors.New("train: the model has no trainable parameters; does its Params list them?")
	}
	if d.Train == nil {
		return nil, errors.New("train: there is no training data; set Data.Train")
	}
	r.pos = d.Train.State()
	var err error
	how := cfg.Optimizer
	if how.Name == "trust" && how.Trust.Horizon == 0 {
		how.Trust.Horizon = cfg.Steps // not part of cfg: the length of a run may change
	}
	if r.opt, err = optim.New(how, r.params); err != nil {
		return nil, err
	}
	if region, ok := r.opt.(*optim.TrustRegion); ok && cfg.Aux != "" {
		if r.aux, err = auxnet.New(auxnet.Config{Mode: cfg.Aux}); err != nil {
			return nil, err
		}
		region.Advise = r.aux.Advise
	}
	if r.grads, err = gradq.New(cfg.Gradients, r.params); err != nil {
		return nil, err
	}
	pool := tensor.NewPool(r.params[0].Value.Device())
	pool.Poison = cfg.Poison
	r.tape = autograd.Tape{Pool: pool, Grad: true}
	return r, nil
}

// open prepares Dir: it restores a checkpoint or puts an older run aside.
func (r *runner) open() error {
	if r.cfg.Dir == "" {
		r.out = openSilent(r.cfg)
		return nil
	}
	if err := os.MkdirAll(r.cfg.Dir, 0o755); err != nil {
		return fmt.Errorf("train: cannot make the folder of the run: %w; choose another folder", err)
	}
	if err := r.lock(); err != nil {
		return err
	}
	tidy(r.cfg.Dir)
	_ = checkpoint.Tidy(r.checkpoints()) // an error shows when one is read or saved
	var notes []string
	c, path, skipped, err := checkpoint.LoadLatest(r.checkpoints())
	switch {
	case errors.Is(err, checkpoint.ErrNone) && r.cfg.Resume:
		notes = append(notes, fmt.Sprintf("no checkpoint in %s yet: starting from the beginning", r.cfg.Dir))
	case errors.Is(err, checkpoint.ErrNone):
	case r.cfg.Resume && err != nil:
		return err
	case r.cfg.Resume:
		for _, s := range skipped {
			notes = append(notes, "skipped: "+s.Error())
		}
		if err := r.restore(c); err != nil {
			return fmt.Errorf("train: cannot resume from %s: %w", path, err)
		}
		notes = append(notes, fmt.Sprintf("resumed from %s", path))
		switch {
		case r.progress() < 1:
		case r.cfg.Steps > 0:
			notes = append(notes, fmt.Sprintf("nothing is left to train: the run is at step %d of %d", r.step, r.cfg.Steps))
		default:
			notes = append(notes, fmt.Sprintf("nothing is left to train: the %g minutes are over", r.cfg.Minutes))
		}
	default: // a fresh run must not mix with an older one's checkpoints
		aside, err := putAside(r.cfg.Dir)
		if err == nil {
			err = r.lock() // the new one; the old one stays locked
		}
		if err != nil {
			return err
		}
		notes = append(notes, fmt.Sprintf("an older run is kept in %s", aside))
	}
	if r.out, err = openSinks(r.cfg, r.step); err != nil {
		return err
	}
	for _, n := range notes {
		r.out.progress.Log("%s", n)
	}
	return nil
}

func (r *runner) lock() error {
	l, err := dirlock.Lock(r.cfg.Dir)
	if errors.Is(err, dirlock.ErrLocked) {
		return fmt.Errorf("train: another process trains into %s; wait for it, or choose another folder", r.cfg.Dir)
	}
	if err == nil {
		r.locks = append(r.locks, l)
	}
	return err
}

// tidy removes the temporary files of a run that was killed while it wrote, see package atomicfile.
func tidy(dir string) {
	entries, _ := os.ReadDir(dir) // an error shows when the files are opened
	for _, e := range entries {
		if ok, _ := filepath.Match(".*.tmp-*", e.Name()); ok {
			os.Remove(filepath.Join(dir, e.Name()))
		}
	}
}

// putAside renames dir to dir.1, dir.2, ..., the first that is free, and makes dir anew.
func putAside(dir string) (string, error) {
	for i := 1; ; i++ {
		aside := fmt.Sprintf("%s.%d", filepath.Clean(dir), i)
		if _, err := os.Lstat(aside); err == nil {
			continue
		}
		if err := os.Rename(dir, aside); err != nil {
			return "", fmt.Errorf("train: %s holds an older run and cannot be put aside: %w; resume it or choose another folder",
				dir, err)
		}
		return aside, os.MkdirAll(dir, 0o755)
	}
}

func (r *runner) checkpoints() string { return filepath.Join(r.cfg.Dir, "checkpoints") }

func (r *runner) close() {
	r.tape.Reset()
	r.tape.Pool.Close()
	r.opt.Free()
	r.grads.Free()
	if r.out != nil {
		r.out.close()
	}
	for _, l := range r.locks {
		l.Close()
	}
}

// progress is the share of the run that is over.
func (r *runner) progress() float64 {
	if r.cfg.Steps > 0 {
		return float64(r.step) / float64(r.cfg.Steps)
	}
	return min(r.seconds/(60*r.cfg.Minutes), 1)
}

// factor of the learning rate for the coming step.
func (r *runner) factor() float64 {
	if r.cfg.Steps > 0 {
		return r.cfg.Schedule.At(r.step, r.cfg.Steps)
	}
	const fine = 1 << 20
	return r.cfg.Schedule.At(int(r.progress()*fine), fine)
}

// due reports whether a step is one of those that every names; without it, whether it is the first one after a tenth of
// the time, or ten minutes.
func (r *runner) due(every int, before float64) bool {
	if every > 0 {
		return r.step%every == 0
	}
	n := max(10, r.cfg.Minutes/10)
	return math.Floor(n*r.progress()) > math.Floor(n*before)
}

func (r *runner) loop(ctx context.Context) error {
	if r.evalDue && r.cfg.OnStep != nil { // as it was in the step that the evaluation follows
		r.step--
		before := r.progress()
		r.step++
		r.cfg.OnStep(r.step-1, before)
	}
	for r.evalDue || r.progress() < 1 {
		if ctx.Err() != nil {
			return r.stop()
		}
		before := r.progress()
		if !r.evalDue {
			if err := r.train(ctx); err != nil {
				if ctx.Err() != nil { // cancelled while waiting for data
					return r.stop()
				}
				return err
			}
		}
		done := r.progress() >= 1
		r.evalDue = r.data.Val != nil && (done || r.evalDue || r.due(r.cfg.EvalEvery, before))
		if r.evalDue {
			if err := r.eval(ctx); err != nil {
				if ctx.Err() != nil {
					return r.stop()
				}
				return err
			}
			r.evalDue = false
		}
		if done || r.due(r.cfg.SaveEvery, before) {
			if err := r.save(); err != nil {
				return err
			}
		}
	}
	return nil
}

// stop saves the steps done, for a run that is cancelled.
func (r *runner) stop() error {
	if err := r.save(); err != nil {
		return err
	}
	return fmt.Errorf("train: %w at step %d; run again with -resume to go on", ErrStopped, r.step)
}

// train takes one step.
func (r *runner) train(ctx context.Context) error {
	if r.cfg.OnStep != nil {
		r.cfg.OnStep(r.step, r.progress())
	}
	start := time.Now()
	factor := r.factor()
	loss, norm, targets, err := r.gradient(ctx)
	if err != nil {
		return err
	}
	if err := r.params[0].Value.Device().Sync(); err != nil {
		return fmt.Errorf("train: step %d: %w", r.step+1, err)
	}
	sent := int64(0)
	if bad := math.IsNaN(loss+norm) || math.IsInf(loss+norm, 0); bad {
		if err := r.bad(loss, norm); err != nil {
			return err
		}
	} else {
		r.skipped = 0
		clip := optim.Clip(norm, r.cfg.Clip)
		left := r.grads.Quantize(r.step, clip)
		sent, _ = r.grads.Bytes()
		if m, ok := r.opt.(optim.Measurer); ok {
			m.Measure(loss, clip/left, r.loss)
		}
		r.opt.Step(float32(factor), left)
		r.recent = append(r.recent, loss)
		n := 100
		if r.cfg.Steps > 0 {
			n = max(1, min(r.cfg.Steps/10, n))
		}
		r.recent = r.recent[max(0, len(r.recent)-n):]
	}
	r.step++
	r.pos = r.data.Train.State()
	r.result.Targets += int64(targets)
	r.result.GradBytes += sent
	r.seconds += time.Since(start).Seconds()
	return r.out.train(r, loss, norm, factor, sent, targets)
}

// gradient runs the batches of one step. Gradients are left in the parameters.
func (r *runner) gradient(ctx context.Context) (loss, norm float64, targets int, err error) {
	optim.ZeroGrad(r.params)
	r.batches = r.batches[:0]
	for i := range r.cfg.Accum {
		b, err := r.data.Train.Next(ctx)
		if err != nil {
			return 0, 0, 0, fmt.Errorf("train: step %d: %w", r.step+1, err)
		}
		r.batches = append(r.batches, b)
		y := r.forward(i)
		r.tape.Backward(y)
		loss += float64(y.Float())
		targets += len(b.Targets)
		r.tape.Reset()
	}
	r.result.TapeBytes = r.tape.Pool.Peak()
	return loss, optim.GradNorm(r.params), targets, nil
}

// forward is the share of the step's loss that batch i has.
func (r *runner) forward(i int) *autograd.Value {
	r.tape.Seed = tensor.Mix(tensor.Mix(r.cfg.Seed, uint64(r.step)+1), uint64(i))
	y := r.model.Loss(&r.tape, r.batches[i])
	if r.cfg.Accum > 1 {
		y = r.tape.Scale(y, 1/float32(r.cfg.Accum))
	}
	return y
}

// loss is that of the step's batches with the parameters as they are now, and the random numbers of the first time.
func (r *runner) loss() float64 {
	sum := 0.0
	for i := range r.batches {
		sum += float64(r.forward(i).Float())
		r.tape.Reset()
	}
	return sum
}

// bad deals with a loss or gradient that is not finite.
func (r *runner) bad(loss, norm float64) error {
	what := fmt.Sprintf("loss is %g, gradient norm %g at step %d", loss, norm, r.step+1)
	for _, p := range r.params {
		sum := tensor.Zeros(p.Value.Device(), 1)
		tensor.SumSquares(sum, p.Value.T)
		v := float64(sum.Float())
		sum.Free()
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return fmt.Errorf("train: %s and parameter %s holds NaN or Inf; start afresh with a lower learning rate", what, p.Name)
		}
	}
	r.result.Skipped++
	r.skipped++
	if r.cfg.OnNaN == "skip" && r.skipped < 10 {
		r.out.progress.Log("%s: batch skipped", what)
		return nil
	}
	for _, p := range r.params {
		if !p.Value.HasGrad() {
			continue
		}
		sum := tensor.Zeros(p.Value.Device(), 1)
		tensor.SumSquares(sum, p.Value.Grad)
		v := float64(sum.Float())
		sum.Free()
		if math.IsNaN(v) || math.IsInf(v, 0) {
			what += ", first in the gradient of " + p.Name
			break
		}
	}
	return fmt.Errorf("train: %s; the weights are those of the step before; start afresh with a lower learning rate", what)
}

func (r *runner) eval(ctx context.Context) error {
	r.average(true)
	loss, err := evaluate(ctx, r.tape.Pool, r.model, r.data.Val)
	r.average(false)
	if err != nil {
		return fmt.Errorf("train: evaluation at step %d: %w", r.step, err)
	}
	r.result.ValLoss = loss
	return r.out.eval(r, loss)
}

// average puts the weights that count in the model or, with false, those to go on from.
func (r *runner) average(on bool) {
	if a, ok := r.opt.(optim.Averager); ok {
		a.Average(on)
	}
}

func (r *runner) finish() {
	r.average(true)
	r.result.Steps = r.step
	r.result.Time = time.Duration(r.seconds * float64(time.Second))
	if len(r.recent) > 0 {
		sum := 0.0
		for _, l := range r.recent {
			sum += l
		}
		r.result.TrainLoss = sum / float64(len(r.recent))
	}
}

// save writes a checkpoint.
func (r *runner) save() error {
	if r.cfg.Dir == "" {
		return nil
	}
	pos, err := json.Marshal(r.pos)
	if err != nil {
		return err
	}
	st := progressState{OptSteps: r.opt.Steps(), Targets: r.result.Targets, Seconds: r.seconds, Skipped: r.result.Skipped,
		Grad: r.result.GradBytes, Recent: r.recent, EvalDue: r.evalDue, Data: pos}
	if v := r.result.ValLoss; !math.IsNaN(v) && !math.IsInf(v, 0) {
		st.Val = &v
	}
	c := &checkpoint.Checkpoint{Step: r.step}
	if c.State, err = json.Marshal(st); err != nil {
		return err
	}
	if c.Config, err = json.Marshal(r.cfg); err != nil {
		return err
	}
	r.average(true)
	for _, p := range r.all {
		c.Weights = append(c.Weights, safetensors.New(p.Name, p.Value.Shape(), p.Value.T.Floats()))
	}
	r.average(false)
	for n, t := range r.state() {
		c.Optim = append(c.Optim, safetensors.New(n, t.Shape(), t.Floats()))
	}
	c.Meta = map[string]string{"format": "setun"}
	if err := r.out.sync(); err != nil {
		return err
	}
	path, err := checkpoint.Save(r.checkpoints(), c, r.cfg.Keep)
	if path == "" {
		return fmt.Errorf("train: checkpoint at step %d: %w", r.step, err)
	}
	if err != nil {
		r.out.progress.Log("%v", err)
	}
	return r.out.plot()
}

// state is what a checkpoint holds beside the weights.
func (r *runner) state() iter.Seq2[string, *tensor.Tensor] {
	return func(yield func(string, *tensor.Tensor) bool) {
		all := []iter.Seq2[string, *tensor.Tensor]{r.opt.State(), r.grads.State()}
		if r.aux != nil {
			all = append(all, r.aux.State())
		}
		for _, s := range all {
			for n, t := range s {
				if !yield(n, t) {
					return
				}
			}
		}
	}
}

// restore puts a checkpoint's contents in place, after all of it has been checked.
func (r *runner) restore(c *checkpoint.Checkpoint) error {
	var old Config
	if err := json.Unmarshal(c.Config, &old); err != nil {
		return fmt.Errorf("its configuration is not readable: %w", err)
	}
	if err := sameRun(old, r.cfg); err != nil {
		return err
	}
	var st progressState
	if err := json.Unmarshal(c.State, &st); err != nil {
		return fmt.Errorf("its state is not readable: %w", err)
	}
	pos := r.data.Train.State()
	if err := json.Unmarshal(st.Data, &pos); err != nil {
		return fmt.Errorf("its data position is not readable: %w", err)
	}
	putWeights, err := matchParams(r.model, c.Weights)
	if err != nil {
		return err
	}
	moments := map[string]*tensor.Tensor{}
	for n, t := range r.state() {
		moments[n] = t
	}
	putMoments, err := match(moments, c.Optim, "optimizer state")
	if err != nil {
		return err
	}
	if err := r.data.Train.Restore(pos); err != nil {
		return err
	}
	putWeights()
	putMoments()
	r.opt.SetSteps(st.OptSteps)
	r.average(false)
	r.step, r.pos, r.seconds, r.recent = c.Step, pos, st.Seconds, st.Recent
	r.evalDue = st.EvalDue && r.data.Val != nil
	if st.Val != nil {
		r.result.ValLoss = *st.Val
	}
	r.result.Targets, r.result.Skipped, r.result.Resumed = st.Targets, st.Skipped, c.Step
	r.result.GradBytes = st.Grad
	return nil
}

// sameRun refuses a change of what a checkpoint depends on. The length of the run may change. What an older checkpoint
// does not know has its default.
func sameRun(old, cfg Config) error {
	old = old.withDefaults()
	old.Steps, old.Minutes = cfg.Steps, cfg.Minutes
	a, err := json.Marshal(old)
	if err != nil {
		return err
	}
	b, err := json.Marshal(cfg)
	if err != nil {
		return err
	}
	if bytes.Equal(a, b) {
		return nil
	}
	return fmt.Errorf("it was made with %s; use the settings it was made with, or start afresh without -resume",
		diff("", object(a), object(b)))
}

// object decodes a JSON object, numbers as they stand: a seed has 64 bits.
func object(text []byte) map[string]any {
	var m map[string]any
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	_ = d.Decode(&m)
	return m
}

// diff names the first difference between two JSON objects.
func diff(prefix string, x, y map[string]any) string {
	keys := map[string]bool{}
	for k := range x {
		keys[k] = true
	}
	for k := range y {
		keys[k] = true
	}
	best := ""
	for k := range keys {
		a, _ := json.Marshal(x[k])
		b, _ := json.Marshal(y[k])
		if bytes.Equal(a, b) {
			continue
		}
		s := fmt.Sprintf("%s%s = %s, not %s", prefix, k, orDefault(a), orDefault(b))
		xo, ok1 := x[k].(map[string]any)
		yo, ok2 := y[k].(map[string]any)
		if ok1 && ok2 {
			s = diff(prefix+k+".", xo, yo)
		}
		if best == "" || importance(s) < importance(best) || importance(s) == importance(best) && s < best {
			best = s
		}
	}
	return best
}

// orDefault names what JSON leaves out.
func orDefault(value []byte) string {
	if string(value) == "null" {
		return "the default"
	}
	return string(value)
}

// importance ranks differences: what a user chose comes before what follows from it.
func importance(difference string) int {
	path, _, _ := strings.Cut(difference, " ")
	at := strings.LastIndexByte(path, '.') + 1
	rank := strings.Count(path, ".")
	if !slices.Contains([]string{"name", "kind", "seed", "lr", "depth", "width"}, path[at:]) {
		rank += 10
	}
	return rank
}

// LoadParams copies weights of a checkpoint into a model. Every parameter must be there with its shape, and nothing
// else.
func LoadParams(m Model, ws []safetensors.Tensor) error {
	put, err := matchParams(m, ws)
	if err == nil {
		put()
	}
	return err
}

func matchParams(m Model, ws []safetensors.Tensor) (put func(), err error) {
	to := map[string]*tensor.Tensor{}
	for n, v := range m.Params() {
		to[n] = v.T
	}
	values, err := match(to, ws, "weights")
	return func() {
		values()
		for _, v := range m.Params() {
			v.Changed()
		}
	}, err
}

// match checks that from has what to needs; put copies it.
func match(to map[string]*tensor.Tensor, from []safetensors.Tensor, what string) (put func(), err error) {
	values := map[string][]float32{}
	for _, f := range from {
		t, ok := to[f.Name]
		if !ok {
			return nil, fmt.Errorf("its %s hold %q, which this model does not have; was it made with another configuration?",
				what, f.Name)
		}
		if fmt.Sprint(t.Shape()) != fmt.Sprint(f.Shape) {
			return nil, fmt.Errorf("its %s hold %q of shape %v, this model needs %v; was it made with another configuration?",
				what, f.Name, f.Shape, t.Shape())
		}
		v, err := safetensors.Values[float32](f)
		if err != nil {
			return nil, err
		}
		values[f.Name] = v
	}
	for _, name := range slices.Sorted(maps.Keys(to)) {
		if _, ok := values[name]; !ok {
			return nil, fmt.Errorf("its %s lack %q, which this model needs; was it made with another configuration?", what, name)
		}
	}
	return func() {
		for name, v := range values {
			to[name].SetFloats(v)
		}
	}, nil
}
