package train

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"math"
	"time"

	"setun/autograd"
	"setun/data"
	"setun/optim"
	"setun/optim/auxnet"
	"setun/optim/gradq"
)

// Model is what Run trains: parameters and the mean loss of a batch in nats.
type Model interface {
	Params() iter.Seq2[string, *autograd.Value]
	Loss(t *autograd.Tape, b data.Batch) *autograd.Value
}

// Source deals training batches and knows its position.
type Source interface {
	Next(ctx context.Context) (data.Batch, error)
	State() data.State
	Restore(data.State) error
}

// Held is held-out data: the same batches each time.
type Held interface {
	Batches(ctx context.Context) iter.Seq2[data.Batch, error]
}

// Data is what Run trains and evaluates on. Without Val there is no evaluation.
type Data struct {
	Train Source
	Val   Held
}

// Config describes a run. Zero fields mean the defaults in brackets. What changes the course of training is part of
// every checkpoint.
type Config struct {
	Steps     int             `json:"steps"`             // optimizer steps; or
	Minutes   float64         `json:"minutes,omitempty"` // wall-clock time, which also drives the schedule
	Accum     int             `json:"accum,omitempty"`   // batches per step (1): gradient accumulation
	Seed      uint64          `json:"seed"`              // of dropout
	Optimizer optim.Config    `json:"optimizer"`         // (muon)
	Aux       string          `json:"aux,omitempty"`     // network that steers the optimizer trust: frozen or online (none)
	Schedule  optim.Schedule  `json:"schedule"`          // (linear; schedulefree: constant)
	Clip      float64         `json:"clip,omitempty"`    // largest gradient norm (1); negative: none
	Gradients gradq.Config    `json:"gradients"`         // (fp32, and Seed for the rounding)
	OnNaN     string          `json:"on_nan,omitempty"`  // "stop" (default) or "skip"
	Model     json.RawMessage `json:"model,omitempty"`   // describes model and data: a run resumes only with the same
	EvalEvery int             `json:"-"`                 // steps between evaluations (a tenth of the run; of Minutes, at most ten)
	SaveEvery int             `json:"-"`                 // steps between checkpoints (the same)
	Keep      int             `json:"-"`                 // checkpoints to keep (2)

	Dir    string    `json:"-"` // where everything goes; empty: no files
	Resume bool      `json:"-"` // go on from the newest checkpoint in Dir, if there is one
	Log    io.Writer `json:"-"` // progress; nil: none
	Unit   string    `json:"-"` // what a target is: "tokens" (default), "images", ...; "bytes" shows losses in bits
	Poison bool      `json:"-"` // fill freed memory with NaN: for tests

	// OnStep is called before every step with the share of the run that is over, 0 to 1.
	OnStep func(step int, progress float64) `json:"-"`
}

func (c Config) withDefaults() Config {
	if c.Accum == 0 {
		c.Accum = 1
	}
	if c.Clip == 0 {
		c.Clip = 1
	}
	if c.OnNaN == "" {
		c.OnNaN = "stop"
	}
	if c.Unit == "" {
		c.Unit = "tokens"
	}
	if c.Keep == 0 {
		c.Keep = 2
	}
	if tenth := max(1, c.Steps/10); c.Steps > 0 {
		c.EvalEvery = cmp.Or(c.EvalEvery, tenth)
		c.SaveEvery = cmp.Or(c.SaveEvery, tenth)
	}
	c.Optimizer = c.Optimizer.WithDefaults()
	if c.Optimizer.Name == "schedulefree" && c.Schedule.Kind == "" {
		c.Schedule.Kind = "constant"
	}
	c.Schedule = c.Schedule.WithDefaults()
	c.Gradients = c.Gradients.WithDefaults()
	if c.Gradients.Seed == 0 {
		c.Gradients.Seed = c.Seed
	}
	return c
}

// Validate reports what Run would refuse.
func (c Config) Validate() error {
	switch {
	case c.Minutes < 0 || math.IsNaN(c.Minutes) || c.Minutes > 60*24*365:
		return fmt.Errorf("train: minutes is %g; it must be positive, and a year at most", c.Minutes)
	case c.Steps < 0 || (c.Steps == 0 && c.Minutes == 0):
		return fmt.Errorf("train: steps is %d; set a positive number of steps, or minutes", c.Steps)
	case c.Accum < 0:
		return fmt.Errorf("train: accum is %d; it must be 1 or more", c.Accum)
	case c.EvalEvery < 0 || c.SaveEvery < 0 || c.Keep < 0:
		return fmt.Errorf("train: eval_every, save_every and keep must not be negative")
	case c.OnNaN != "" && c.OnNaN != "stop" && c.OnNaN != "skip":
		return fmt.Errorf("train: unknown on_nan %q; use stop or skip", c.OnNaN)
	}
	if err := c.Optimizer.Validate(); err != nil {
		return err
	}
	if c.Aux != "" {
		if c.Optimizer.Name != "trust" {
			return fmt.Errorf("train: aux %q needs the optimizer trust, not %s", c.Aux, c.Optimizer.WithDefaults().Name)
		}
		if err := (auxnet.Config{Mode: c.Aux}).Validate(); err != nil {
			return err
		}
	}
	if err := c.Gradients.Validate(); err != nil {
		return err
	}
	return c.Schedule.Validate()
}

// Result is the outcome of a run.
type Result struct {
	Steps     int
	Targets   int64         // tokens or images trained on
	Time      time.Duration // spent training, evaluation and checkpoints not counted
	TrainLoss float64       // mean of the last tenth of the steps, nats
	ValLoss   float64       // at the end, nats; NaN without Val
	Skipped   int           // batches skipped for a NaN loss
	GradBytes int64         // what a wire would have carried of the gradients
	TapeBytes int64         // most memory of intermediate values at once
	Resumed   int           // step the run went on from
}

// TargetsPerSecond is the speed of training.
func (r *Result) TargetsPerSecond() float64 {
	if r.Time <= 0 {
		return 0
	}
	return float64(r.Targets) / r.Time.Seconds()
}

// Bits turns nats into bits: a byte-level model's loss in bits per byte.
func Bits(nats float64) float64 { return nats / math.Ln2 }
