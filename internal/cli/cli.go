// Package cli has what the commands in models/ share: the common flags, a context that Ctrl-C cancels, and results as
// JSON. The same flag means the same in every command.
package cli

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"

	"setun/device"
	"setun/device/auto"
	"setun/internal/atomicfile"
	"setun/llm"
	"setun/optim"
	"setun/optim/gradq"
)

// Flags are the flags of every training command. Set the defaults that differ before Register.
type Flags struct {
	Data, Out, Device, Weights, Math, Optimizer, Gradients string
	Direction, Clusters, Rho, Aux                          string
	Threads, Batch, Columns                                int
	LR, Momentum                                           float64
	Seed                                                   uint64
	Resume                                                 bool
}

// RegroupEvery is how many steps the column clusters of -columns stay.
const RegroupEvery = 100

// Register adds the flags to f.
func (c *Flags) Register(f *flag.FlagSet) {
	f.String("config", "", "JSON `file` of flags by name, without the dash; the command line wins")
	f.StringVar(&c.Data, "data", c.Data, "`path` of the data")
	f.StringVar(&c.Out, "out", c.Out, "`folder` of the run: checkpoints, metrics, result.json")
	f.StringVar(&c.Weights, "weights", c.Weights, "linear layers: ternary, five or fp32")
	f.StringVar(&c.Math, "math", c.Math, "products of linear layers and attention: fp32, bf16, or int8 for the "+
		"gradients of quantized layers, with attention and head in bf16; empty: int8, fp32 for float weights")
	f.IntVar(&c.Columns, "columns", c.Columns, "clusters of input channels that get scales of their own in quantized "+
		"layers, up to 256; 0: none")
	f.StringVar(&c.Optimizer, "optimizer", c.Optimizer, strings.Join(optim.Names, ", "))
	f.StringVar(&c.Direction, "direction", c.Direction, "of -optimizer trust: muon, adamw, sgd or gradient; empty: muon")
	f.StringVar(&c.Clusters, "clusters", c.Clusters, "parameters with one radius in -optimizer trust: tensor, rows "+
		"or global; empty: tensor")
	f.StringVar(&c.Rho, "rho", c.Rho, "what -optimizer trust expects of a step: quantized, naive (blind to the quantizer), or "+
		"off: no radius is adapted; empty: quantized")
	f.StringVar(&c.Aux, "aux", c.Aux, "network that steers -optimizer trust: frozen or online; empty: none")
	f.StringVar(&c.Gradients, "gradients", c.Gradients, "as a wire would carry them: "+
		strings.Join(gradq.Kinds, ", ")+"; empty: fp32")
	f.Float64Var(&c.LR, "lr", c.LR, "base learning rate; 0: what suits the optimizer")
	f.Float64Var(&c.Momentum, "momentum", c.Momentum, "of -optimizer muon, sgd and trust; 0: the optimizer's default")
	f.IntVar(&c.Batch, "batch", c.Batch, "sequences or images at a time")
	f.Uint64Var(&c.Seed, "seed", c.Seed, "seed of weights, data order and sampling")
	f.BoolVar(&c.Resume, "resume", c.Resume, "go on from the newest checkpoint in -out")
	c.RegisterDevice(f)
}

// RegisterDevice adds only the flags that choose the device.
func (c *Flags) RegisterDevice(f *flag.FlagSet) {
	f.StringVar(&c.Device, "device", "auto", "auto, or one of "+strings.Join(auto.Names, ", "))
	f.IntVar(&c.Threads, "threads", 0, "processor threads; 0: all")
}

// Open opens the device that the flags choose and returns the number of threads it will use.
func (c *Flags) Open() (device.Device, int, error) {
	dev, err := auto.Open(c.Device, c.Threads)
	if err != nil {
		return nil, 0, err
	}
	threads := c.Threads
	if threads == 0 {
		threads = runtime.GOMAXPROCS(0)
	}
	runtime.GOMAXPROCS(threads)
	if os.Getenv("GOGC") == "" { // the heap is large and has few pointers: collecting costs less than its garbage
		debug.SetGCPercent(25)
	}
	if c.Math == "bf16" {
		auto.AllowBF16(dev)
	}
	return dev, threads, nil
}

// Check reports flags that make no sense.
func (c *Flags) Check() error {
	switch w := llm.Weights(c.Weights); {
	case c.Batch <= 0:
		return fmt.Errorf("-batch is %d; it must be positive", c.Batch)
	case !(c.LR >= 0):
		return fmt.Errorf("-lr is %g; it must be positive, or 0 for the default", c.LR)
	case w != llm.TernaryWeights && w != llm.FiveWeights && w != llm.FP32Weights:
		return fmt.Errorf("-weights is %q; use ternary, five or fp32", c.Weights)
	case c.Math != "" && c.Math != "int8" && c.Math != "bf16" && c.Math != "fp32":
		return fmt.Errorf("-math is %q; use int8, bf16 or fp32", c.Math)
	case c.Columns < 0 || c.Columns > 256:
		return fmt.Errorf("-columns is %d; use 2 to 256 clusters, or 0 for none", c.Columns)
	case c.Columns > 1 && w == llm.FP32Weights:
		return fmt.Errorf("-columns is %d, but fp32 weights have no scales; use -weights ternary or five", c.Columns)
	case c.Gradients != "" && !slices.Contains(gradq.Kinds, c.Gradients):
		return fmt.Errorf("-gradients is %q; use %s", c.Gradients, strings.Join(gradq.Kinds, ", "))
	case c.Out == "":
		return errors.New("-out is empty; name a folder for the run")
	}
	return c.Optim().Validate()
}

// Optim is the optimizer that the flags choose.
func (c *Flags) Optim() optim.Config {
	return optim.Config{Name: c.Optimizer, LR: float32(c.LR), Momentum: float32(c.Momentum),
		Trust: optim.Trust{Direction: c.Direction, Clusters: c.Clusters, Rho: c.Rho}}
}

// Parse parses args, which must all be flags.
func Parse(f *flag.FlagSet, args []string) error {
	if err := ParseArgs(f, args); err != nil {
		return err
	}
	if f.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q; see -help", f.Arg(0))
	}
	return nil
}

// ParseArgs parses the flags at the start of args; f.Args has the rest.
func ParseArgs(f *flag.FlagSet, args []string) error {
	f.Init(f.Name(), flag.ContinueOnError)
	f.SetOutput(io.Discard)
	err := f.Parse(args)
	if errors.Is(err, flag.ErrHelp) {
		f.SetOutput(os.Stderr)
		fmt.Fprintf(os.Stderr, "usage of %s:\n", f.Name())
		f.PrintDefaults()
		return err
	}
	if err != nil {
		return fmt.Errorf("%w; see -help", err)
	}
	if c := f.Lookup("config"); c != nil && c.Value.String() != "" {
		return readConfig(f, c.Value.String())
	}
	return nil
}

// WriteResult writes v as dir/result.json, numbers that JSON has not, NaN and infinities, as texts.
func WriteResult(dir string, v map[string]any) error {
	for k, x := range v {
		if f, ok := x.(float64); ok && (math.IsNaN(f) || math.IsInf(f, 0)) {
			v[k] = fmt.Sprint(f)
		}
	}
	return atomicfile.Write(filepath.Join(dir, "result.json"), func(w io.Writer) error {
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		return e.Encode(v)
	})
}

// Main runs a command: Ctrl-C, or a request to terminate, cancels its context; an error is printed in one line and makes the
// exit status 1.
func Main(run func(ctx context.Context, args []string) error) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second Ctrl-C ends at once
	err := run(ctx, os.Args[1:])
	if err == nil || errors.Is(err, flag.ErrHelp) {
		return
	}
	if errors.Is(err, context.Canceled) {
		err = errors.New("interrupted")
	}
	fmt.Fprintf(os.Stderr, "%s: %v\n", filepath.Base(os.Args[0]), err)
	os.Exit(1)
}
