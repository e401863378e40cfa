// Optim compares optimizers on gopher: whether they reach a good loss from any learning rate, and what the parts of the
// trust region are worth.
//
//	go run ./bench/optim                   everything: hours
//	go run ./bench/optim -run '^rates/'    one study
//	go run ./bench/optim -list             what there is
//
// Every trial is a run of its own on one thread; -jobs of them run at a time. Results are kept in -out/trials.jsonl, and
// trials that are there already are not run again. At the end it prints the tables and draws -out/STUDY.png.
package main

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"

	"setun/data"
	"setun/device/auto"
	"setun/internal/cli"
	"setun/llm"
	"setun/tensor"
	"setun/train"
	"setun/train/metrics"
)

func main() { cli.Main(run) }

func run(ctx context.Context, args []string) error {
	f := flag.NewFlagSet("optim", flag.ContinueOnError)
	pattern := f.String("run", "", "trials to run: a `regexp` of STUDY/OPTIMIZER/WEIGHTS/FACTOR/SEED")
	out := f.String("out", "runs/optim", "`folder` for results and pictures")
	jobs := f.Int("jobs", 2, "trials at a time, each on one thread")
	list := f.Bool("list", false, "print the names of the trials")
	quick := f.Bool("quick", false, "tiny models and few steps: whether it works")
	if err := cli.Parse(f, args); err != nil {
		return err
	}
	re, err := regexp.Compile(*pattern)
	if err != nil {
		return fmt.Errorf("-run: %w", err)
	}
	if *jobs < 1 {
		return fmt.Errorf("-jobs is %d; it must be positive", *jobs)
	}
	todo := slices.DeleteFunc(trials(), func(t trial) bool { return !re.MatchString(t.name()) })
	if len(todo) == 0 {
		return fmt.Errorf("no trial matches -run %q; see -list", *pattern)
	}
	if *list {
		for _, t := range todo {
			fmt.Println(t.name())
		}
		return nil
	}
	size := sizes{depth: 4, context: 128, batch: 8, steps: 1000, windows: 512}
	if *quick {
		size = sizes{depth: 1, context: 16, batch: 2, steps: 20, windows: 4}
	}
	if err := os.MkdirAll(*out, 0o755); err != nil {
		return err
	}
	path := filepath.Join(*out, "trials.jsonl")
	done, err := read(path)
	if err != nil {
		return err
	}
	if err := runAll(ctx, todo, done, size, *jobs, path); err != nil {
		return err
	}
	return report(*out, todo, done)
}

// sizes are those of every trial.
type sizes struct{ depth, context, batch, steps, windows int }

// record is a finished trial: a line of trials.jsonl.
type record struct {
	Name    string  `json:"name"`
	Bits    float64 `json:"val_bpb"` // 1e9 if the run broke off
	Seconds float64 `json:"seconds"`
}

func read(path string) (map[string]record, error) {
	done := map[string]record{}
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return done, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		var r record
		if json.Unmarshal(s.Bytes(), &r) == nil { // the last line may be cut off
			done[r.Name] = r
		}
	}
	return done, nil
}

func runAll(ctx context.Context, todo []trial, done map[string]record, size sizes, jobs int, path string) error {
	todo = slices.DeleteFunc(slices.Clone(todo), func(t trial) bool { _, ok := done[t.name()]; return ok })
	if len(todo) == 0 {
		return nil
	}
	root, err := exec.CommandContext(ctx, "go", "env", "GOROOT").Output()
	if err != nil {
		return fmt.Errorf("cannot find the Go source to train on: go env GOROOT: %w", err)
	}
	text, err := data.OpenText(data.TextConfig{Paths: []string{filepath.Join(strings.TrimSpace(string(root)), "src")},
		Ext: []string{".go"}})
	if err != nil {
		return err
	}
	defer text.Close()
	log, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	queue := make(chan trial)
	go func() {
		defer close(queue)
		for _, t := range todo {
			select {
			case queue <- t:
			case <-ctx.Done():
				return
			}
		}
	}()
	var mu sync.Mutex
	var wg sync.WaitGroup
	for range jobs {
		wg.Go(func() {
			for t := range queue {
				r, err := t.run(ctx, text, size)
				if err != nil {
					cancel(fmt.Errorf("%s: %w", t.name(), err))
					return
				}
				mu.Lock()
				done[r.Name] = r
				fmt.Printf("%-48s %.4f bpb  %.0f s\n", r.Name, r.Bits, r.Seconds)
				line, _ := json.Marshal(r)
				if _, err := log.Write(append(line, '\n')); err != nil {
					cancel(err)
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return context.Cause(ctx)
}

// run trains a model and scores it.
func (t trial) run(ctx context.Context, text *data.Text, size sizes) (record, error) {
	r := record{Name: t.name()}
	dev, err := auto.Open("auto", 1)
	if err != nil {
		return r, err
	}
	c := llm.Depth(size.depth)
	c.Context, c.Weights = size.context, t.weights
	blend := 0.3
	if t.abrupt {
		blend = 1e-9
	}
	windows, err := data.NewWindows(text.Train(), size.batch, c.Context, t.seed)
	if err != nil {
		return r, err
	}
	val, err := data.ValWindows(text.Val(), size.batch, c.Context, size.windows)
	if err != nil {
		return r, err
	}
	m, err := llm.New(tensor.NewMaker(dev, t.seed), c)
	if err != nil {
		return r, err
	}
	res, err := train.Run(ctx, train.Config{Steps: size.steps, Seed: t.seed, Optimizer: t.config, Aux: t.aux, OnNaN: "skip",
		OnStep: func(_ int, progress float64) { m.SetLambda(float32(min((progress+1e-12)/blend, 1))) }}, m,
		train.Data{Train: windows})
	if ctx.Err() != nil {
		return r, context.Cause(ctx)
	}
	if err != nil { // diverged
		r.Bits = 1e9
		return r, nil
	}
	loss, err := train.Evaluate(ctx, m, val)
	r.Bits, r.Seconds = train.Bits(loss), res.Time.Seconds()
	if math.IsNaN(r.Bits) || math.IsInf(r.Bits, 0) {
		r.Bits = 1e9
	}
	return r, err
}

// report prints a table a study and weights, and draws it.
func report(out string, todo []trial, done map[string]record) error {
	type table struct {
		rows, cols []string
		cells      map[string][]float64 // row/column to values, one a seed
		x          map[string]float64
	}
	tables := map[string]*table{}
	var names []string
	for _, t := range todo {
		key := t.study + ", " + string(t.weights) + " weights"
		b := tables[key]
		if b == nil {
			b = &table{cells: map[string][]float64{}, x: map[string]float64{}}
			tables[key] = b
			names = append(names, key)
		}
		col := t.column()
		if !slices.Contains(b.rows, t.optimizer) {
			b.rows = append(b.rows, t.optimizer)
		}
		if !slices.Contains(b.cols, col) {
			b.cols = append(b.cols, col)
		}
		b.x[col] = t.factor
		b.cells[t.optimizer+"/"+col] = append(b.cells[t.optimizer+"/"+col], done[t.name()].Bits)
	}
	for _, key := range names {
		b := tables[key]
		slices.SortStableFunc(b.cols, func(p, q string) int { return cmp.Compare(b.x[p], b.x[q]) })
		fmt.Printf("\n%s: held out, bits per byte\n\n| optimizer | %s |\n|---|%s\n", key, strings.Join(b.cols, " | "),
			strings.Repeat("---:|", len(b.cols)))
		var curves []metrics.Curve
		for _, row := range b.rows {
			fmt.Printf("| %s |", row)
			curve := metrics.Curve{Name: row, Dots: true}
			for _, col := range b.cols {
				v := b.cells[row+"/"+col]
				fmt.Printf(" %s |", summary(v))
				if m := mean(v); len(v) > 0 && m < 100 {
					curve.X, curve.Y = append(curve.X, math.Log10(b.x[col])), append(curve.Y, m)
				}
			}
			fmt.Println()
			if len(curve.X) > 0 {
				curves = append(curves, curve)
			}
		}
		if len(b.cols) > 1 {
			file := strings.NewReplacer(", ", "-", " ", "-").Replace(key) + ".png"
			path := filepath.Join(out, file)
			if err := metrics.WriteLossPNG(path, curves, key, "log10 of the factor", "bits per byte"); err != nil {
				return err
			}
		}
	}
	return nil
}

func mean(v []float64) float64 {
	s := 0.0
	for _, x := range v {
		s += x / float64(len(v))
	}
	return s
}

// summary is the mean and, of several seeds, the range.
func summary(v []float64) string {
	switch {
	case len(v) == 0:
		return ""
	case slices.Max(v) > 100:
		return "diverged"
	case len(v) == 1:
		return fmt.Sprintf("%.3f", v[0])
	}
	return fmt.Sprintf("%.3f (%.3f to %.3f)", mean(v), slices.Min(v), slices.Max(v))
}
