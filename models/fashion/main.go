// Fashion trains an image classifier on Fashion-MNIST, MNIST, or other files of that form.
//
//	go run ./models/fashion -data DIR                              a ternary multi-layer perceptron
//	go run ./models/fashion -data DIR -model conv -weights fp32
//	go run ./models/fashion -data DIR -sampler class               batches with equally many of each class
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"iter"
	"os"

	"setun/autograd"
	"setun/data"
	"setun/device"
	"setun/internal/cli"
	"setun/internal/rss"
	"setun/nn"
	"setun/optim"
	"setun/optim/gradq"
	"setun/tensor"
	"setun/ternary"
	"setun/train"
)

func main() { cli.Main(run) }

func run(ctx context.Context, args []string) error {
	fl := cli.Flags{Out: "runs/fashion", Weights: "ternary", Optimizer: "adamw", Gradients: gradq.FP32, Batch: 128,
		Seed: 1}
	f := flag.NewFlagSet("fashion", flag.ContinueOnError)
	fl.Register(f)
	epochs := f.Int("epochs", 10, "passes over the training images")
	kind := f.String("model", "mlp", "mlp or conv")
	limit := f.Int("steps", 0, "training steps; 0: as -epochs says")
	sampling := f.String("sampler", "shuffled", "what batches are balanced by: class, kmeans (32 clusters of the pixels), both "+
		"(4 clusters in each class) or nothing (shuffled)")
	if err := cli.Parse(f, args); err != nil {
		return err
	}
	if err := fl.Check(); err != nil {
		return err
	}
	if fl.LR == 0 && fl.Optimizer == "adamw" {
		fl.LR = 1e-3
	}
	switch {
	case *epochs <= 0:
		return fmt.Errorf("-epochs is %d; it must be positive", *epochs)
	case *limit < 0:
		return fmt.Errorf("-steps is %d; it must be positive, or 0 for whole epochs", *limit)
	case *kind != "mlp" && *kind != "conv":
		return fmt.Errorf("-model is %q; use mlp or conv", *kind)
	case fl.Data == "":
		return errors.New("-data is missing; name the folder with train-images-idx3-ubyte.gz and the other three files of the set")
	}
	images, err := data.OpenIDX(fl.Data)
	if err != nil {
		return err
	}
	steps := *epochs * images.Train.N / fl.Batch
	if *limit > 0 {
		steps = *limit
	}
	if steps == 0 {
		return fmt.Errorf("-batch is %d, more than %d training images in %d epochs; make it smaller", fl.Batch, images.Train.N,
			*epochs)
	}
	dev, threads, err := fl.Open()
	if err != nil {
		return err
	}
	test, err := images.Test.Eval(250, 0)
	if err != nil {
		return err
	}
	net := mlp
	if *kind == "conv" {
		net = conv
	}
	mk := tensor.NewMaker(dev, fl.Seed)
	layers := net(maker{mk, fl.Weights, ternary.Math(fl.Math), fl.Columns}, images.Train.H, images.Train.W, images.Classes)
	m := &classifier{Layers: layers, dev: dev}
	about := map[string]any{"model": *kind, "weights": fl.Weights, "batch": fl.Batch, "seed": fl.Seed}
	if fl.Math != "" {
		about["math"] = fl.Math
	}
	if fl.Columns != 0 {
		about["columns"] = fl.Columns
	}
	batches, ratio, err := sampler(ctx, *sampling, fl, images, m)
	if err != nil {
		return err
	}
	if *sampling != "shuffled" {
		about["sampler"] = *sampling
	}
	meta, err := json.Marshal(about)
	if err != nil {
		return err
	}
	opt := fl.Optim()
	opt.Beta2 = 0.999
	res, err := train.Run(ctx, train.Config{Steps: steps, Seed: fl.Seed, Optimizer: opt, Aux: fl.Aux, Clip: -1,
		Gradients: gradq.Config{Kind: fl.Gradients},
		Schedule:  optim.Schedule{Warmup: 0.005, Final: 0.01}, Dir: fl.Out, Resume: fl.Resume, Log: os.Stdout, Unit: "images",
		Model: meta, OnStep: func(step int, _ float64) {
			if step%cli.RegroupEvery == 0 {
				m.regroup()
			}
		}}, m, train.Data{Train: batches, Val: test})
	if err != nil {
		return err
	}
	accuracy, err := m.accuracy(ctx, test)
	if err != nil {
		return err
	}
	fmt.Printf("\n%s, %s weights: %.2f%% of %d test images right after %d steps, %.0f s\n", *kind, fl.Weights, 100*accuracy,
		test.Targets(), res.Steps, res.Time.Seconds())
	return cli.WriteResult(fl.Out, map[string]any{
		"device": dev.Name(), "threads": threads, "model": *kind, "weights": fl.Weights, "params": nn.Count(m),
		"epochs": float64(res.Targets) / float64(images.Train.N),
		"steps":  res.Steps, "seconds": res.Time.Seconds(), "images_per_second": res.TargetsPerSecond(), "test_accuracy": accuracy,
		"test_loss": res.ValLoss, "train_loss": res.TrainLoss, "peak_rss_bytes": rss.Peak(), "seed": fl.Seed,
		"gradients": fl.Gradients, "grad_bytes": res.GradBytes, "sampler": *sampling, "variance_ratio": ratio,
	})
}

// classifier is a model on images: Layers map pixels (B, H, W, 1) to logits (B, classes).
type classifier struct {
	Layers nn.Sequential `param:"layers"`
	dev    device.Device
}

// Params yields the layers' parameters.
func (m *classifier) Params() iter.Seq2[string, *autograd.Value] { return nn.Fields(m) }

func (m *classifier) logits(t *autograd.Tape, b data.Batch) *autograd.Value {
	return m.Layers.Forward(t, t.Floats(m.dev, b.Pixels, b.Shape...))
}

// Loss is the mean cross-entropy.
func (m *classifier) Loss(t *autograd.Tape, b data.Batch) *autograd.Value {
	return t.CrossEntropy(m.logits(t, b), t.Ints(m.dev, b.Targets, len(b.Targets)))
}

// regroup clusters the columns of the quantized layers.
func (m *classifier) regroup() {
	for _, l := range m.Layers {
		if c, ok := l.(*nn.Conv2D); ok {
			l = c.Proj
		}
		if q, ok := l.(*ternary.Linear); ok {
			ternary.Regroup(q)
		}
	}
}

// accuracy is the share of images whose largest logit is the right class.
func (m *classifier) accuracy(ctx context.Context, held train.Held) (float64, error) {
	right, n := 0, 0
	for b, err := range held.Batches(ctx) {
		if err != nil {
			return 0, err
		}
		var t autograd.Tape
		y := m.logits(&t, b)
		classes, logits := y.Dim(-1), y.T.Floats()
		t.Reset()
		for i, want := range b.Targets {
			row := logits[i*classes:][:classes]
			best := 0
			for c := range row {
				if row[c] > row[best] {
					best = c
				}
			}
			if best == int(want) {
				right++
			}
			n++
		}
	}
	return float64(right) / float64(n), m.dev.Sync()
}

// maker makes the hidden layers that -weights asks for; the head stays float32.
type maker struct {
	*tensor.Maker
	weights string
	math    ternary.Math
	columns int
}

func (mk maker) linear(in, out int) nn.Layer {
	if mk.weights == "fp32" {
		l := nn.NewLinear(mk.Maker, in, out, true)
		l.BF16 = mk.math == ternary.BF16
		return l
	}
	c := ternary.Config{SubNorm: true, Math: mk.math, Columns: mk.columns}
	if mk.weights == "five" {
		c.Codebook = ternary.Five
	}
	return ternary.NewLinear(mk.Maker, in, out, true, c)
}

var relu = nn.Func((*autograd.Tape).ReLU)

// mlp is H*W-512-512-classes.
func mlp(mk maker, h, w, classes int) nn.Sequential {
	flat := nn.Func(func(t *autograd.Tape, x *autograd.Value) *autograd.Value { return t.Reshape(x, x.Dim(0), -1) })
	return nn.Sequential{flat, mk.linear(h*w, 512), relu, mk.linear(512, 512), relu, nn.NewLinear(mk.Maker, 512, classes, true)}
}

// conv is three strided convolutions and average pooling. The first sees single pixels and stays float32.
func conv(mk maker, h, w, classes int) nn.Sequential {
	pool := nn.Func(func(t *autograd.Tape, x *autograd.Value) *autograd.Value {
		return t.MeanRows(t.Reshape(x, x.Dim(0), -1, x.Dim(-1)))
	})
	norm := func(c int) nn.Layer { return nn.NewRMSNorm(mk.Maker, c, 0) }
	return nn.Sequential{
		&nn.Conv2D{Proj: nn.NewLinear(mk.Maker, 25, 32, true), Size: 5, Stride: 2, Pad: 2}, norm(32), relu,
		&nn.Conv2D{Proj: mk.linear(9*32, 64), Size: 3, Stride: 2, Pad: 1}, norm(64), relu,
		&nn.Conv2D{Proj: mk.linear(9*64, 128), Size: 3, Stride: 2, Pad: 1}, norm(128), relu,
		pool, nn.NewLinear(mk.Maker, 128, classes, true),
	}
}
