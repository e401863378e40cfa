package train

import (
	"io"
	"math"
	"path/filepath"
	"time"

	"setun/optim"
	"setun/train/metrics"
)

// sinks are where a run reports to.
type sinks struct {
	cfg      Config
	progress *metrics.Progress
	jsonl    *metrics.JSONL       // nil without Dir
	board    *metrics.TensorBoard // nil without Dir
	last     time.Time            // of the latest step's end
	rate     float64              // targets per second, smoothed
	val      float64              // latest held-out loss
}

func openSilent(cfg Config) *sinks {
	w := cfg.Log
	if w == nil {
		w = io.Discard
	}
	return &sinks{cfg: cfg, progress: metrics.NewProgress(w, cfg.Steps, 0), val: math.NaN()}
}

func openSinks(cfg Config, step int) (*sinks, error) {
	s := openSilent(cfg)
	if cfg.Log != nil {
		s.progress = metrics.NewProgress(cfg.Log, cfg.Steps, step)
	}
	var err error
	if s.jsonl, err = metrics.OpenJSONL(s.path("metrics.jsonl"), step); err != nil {
		return nil, err
	}
	if s.board, err = metrics.OpenTensorBoard(cfg.Dir); err != nil {
		return nil, err
	}
	return s, s.board.Restart(int64(step)+1, time.Now()) // also of a run that ended before its first checkpoint
}

func (s *sinks) path(name string) string { return filepath.Join(s.cfg.Dir, name) }

func (s *sinks) close() {
	s.progress.Done()
	if s.jsonl != nil {
		s.jsonl.Close()
	}
	if s.board != nil {
		s.board.Close()
	}
}

// train reports a step.
func (s *sinks) train(r *runner, loss, norm, factor float64, sent int64, targets int) error {
	now := time.Now()
	if dt := now.Sub(s.last).Seconds(); !s.last.IsZero() && dt > 0 {
		now := float64(targets) / dt
		if s.rate == 0 {
			s.rate = now
		}
		s.rate += 0.1 * (now - s.rate)
	}
	s.last = now
	fields := []metrics.Field{metrics.Loss(loss)}
	if s.bits() {
		fields = append(fields, metrics.BitsPerByte(Bits(loss)))
	}
	if !math.IsNaN(s.val) {
		fields = append(fields, metrics.Field{Name: "held out", Value: s.shown(s.val)})
	}
	if s.rate > 0 {
		fields = append(fields, metrics.Field{Value: s.rate, Unit: s.cfg.Unit + "/s"})
	}
	s.progress.Step(r.step, fields...)
	values := map[string]float64{"loss": loss, "bits": Bits(loss), "grad_norm": norm,
		"grad_bytes": float64(sent), "lr": factor * float64(r.cfg.Optimizer.LR), s.cfg.Unit: float64(r.result.Targets),
		"seconds": r.seconds}
	if m, ok := r.opt.(optim.Measurer); ok {
		for n, v := range m.Report() {
			values[n] = v
		}
	}
	return s.write(r, metrics.Train, values)
}

// eval reports an evaluation.
func (s *sinks) eval(r *runner, loss float64) error {
	s.val = loss
	s.last = time.Time{} // evaluation is no training time
	s.progress.Log("step %d: held out %.4f %s", r.step, s.shown(loss), s.lossUnit())
	return s.write(r, metrics.Eval, map[string]float64{"loss": loss, "bits": Bits(loss)})
}

func (s *sinks) write(r *runner, kind string, values map[string]float64) error {
	if s.jsonl == nil {
		return nil
	}
	if err := s.jsonl.Write(metrics.Record{Step: r.step, Kind: kind, Values: values}); err != nil {
		return err
	}
	now := time.Now()
	for name, v := range values {
		if err := s.board.Scalar(int64(r.step), kind+"/"+name, v, now); err != nil {
			return err
		}
	}
	return nil
}

// sync flushes the metrics to the disk, so that a checkpoint never knows more steps than they do.
func (s *sinks) sync() error {
	if s.jsonl == nil {
		return nil
	}
	return s.jsonl.Sync()
}

// pictures are drawn beside the loss of runs that measure what they show: of a trust region.
var pictures = []struct {
	file, key, name, unit string
	smooth                float64
}{
	{"radius.png", "trust/radius", "radius", "relative to the weights at the start", 0},
	{"rho.png", "trust/rho", "rho", "decrease of the loss, measured over expected", 0.9},
}

// plot draws the curves so far.
func (s *sinks) plot() error {
	if s.jsonl == nil {
		return nil
	}
	records, err := metrics.ReadJSONL(s.path("metrics.jsonl"))
	if err != nil {
		return err
	}
	curves := []metrics.Curve{{Name: "training", Smooth: 0.95}, {Name: "held out", Dots: true}}
	for _, rec := range records {
		c := &curves[0]
		if rec.Kind == metrics.Eval {
			c = &curves[1]
		}
		c.X = append(c.X, float64(rec.Step))
		c.Y = append(c.Y, s.shown(rec.Values["loss"]))
	}
	title := filepath.Base(s.cfg.Dir)
	if err := metrics.WriteLossPNG(s.path("loss.png"), curves, title, "step", s.lossUnit()); err != nil {
		return err
	}
	for _, p := range pictures {
		c := metrics.Curve{Name: p.name, Smooth: p.smooth}
		for _, rec := range records {
			if v, ok := rec.Values[p.key]; ok {
				c.X, c.Y = append(c.X, float64(rec.Step)), append(c.Y, v)
			}
		}
		if len(c.X) == 0 {
			continue
		}
		if err := metrics.WriteLossPNG(s.path(p.file), []metrics.Curve{c}, title, "step", p.unit); err != nil {
			return err
		}
	}
	return nil
}

// bits reports whether people read this loss in bits per byte.
func (s *sinks) bits() bool { return s.cfg.Unit == "bytes" }

func (s *sinks) shown(nats float64) float64 {
	if s.bits() {
		return Bits(nats)
	}
	return nats
}

func (s *sinks) lossUnit() string {
	if s.bits() {
		return "bits per byte"
	}
	return "nats"
}
