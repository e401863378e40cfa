package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"

	"setun/autograd"
	"setun/data"
	"setun/device"
	"setun/llm"
	"setun/nn"
	"setun/optim"
	"setun/tensor"
	"setun/ternary"
)

// training are whole steps, on random data, and generation.
func training(quick bool) []benchmark {
	if quick {
		return []benchmark{
			gopher(llm.FP32Weights, "adamw", 64, 1, 64, 4), gopher(llm.TernaryWeights, "adamw", 64, 1, 64, 4),
			update("adamw", 64, 1), update("muon", 64, 1),
			mlp(llm.FP32Weights, 784, 32), mlp(llm.TernaryWeights, 784, 32), generate(64, 1, 16),
		}
	}
	return []benchmark{
		gopher(llm.FP32Weights, "adamw", 256, 4, 256, 16), gopher("bf16", "adamw", 256, 4, 256, 16),
		gopher(llm.TernaryWeights, "adamw", 256, 4, 256, 16),
		gopher(llm.TernaryWeights, "muon", 256, 4, 256, 16),
		gopher(llm.TernaryWeights, "trust-adamw", 256, 4, 256, 16), gopher(llm.TernaryWeights, "trust-muon", 256, 4, 256, 16),
		gopher(llm.FP32Weights, "adamw", 384, 6, 256, 16), gopher("bf16", "adamw", 384, 6, 256, 16),
		gopher(llm.TernaryWeights, "adamw", 384, 6, 256, 16),
		update("adamw", 256, 4), update("muon", 256, 4),
		mlp(llm.FP32Weights, 784, 512), mlp(llm.TernaryWeights, 784, 512), generate(256, 4, 128),
	}
}

func randomInts(n, limit int) []int32 {
	rng, x := rand.New(rand.NewPCG(1, 2)), make([]int32, n)
	for i := range x {
		x[i] = rng.Int32N(int32(limit))
	}
	return x
}

// config is a byte-level model of the given width; its weights are quantized as the torch peer's are.
func config(weights llm.Weights, width, depth, context int) llm.Config {
	c := llm.Depth(depth)
	c.SetWidth(width)
	c.Context, c.Weights = context, weights
	switch weights {
	case llm.TernaryWeights:
		c.Quant = ternary.Config{Rule: ternary.AbsMean}
	case "bf16": // float32 weights, products in bfloat16
		c.Weights, c.Quant = llm.FP32Weights, ternary.Config{Math: ternary.BF16}
	}
	return c
}

// gopher is the training step of a language model: loss, gradients, update.
func gopher(weights llm.Weights, opt string, width, depth, length, batch int) benchmark {
	tokens := batch * length
	c := config(weights, width, depth, length)
	name := fmt.Sprintf("train/gopher/%s/", weights)
	if opt != "adamw" {
		name += opt + "/"
	}
	// A weight costs two products forward and four backward, a channel of attention as in the case attention.
	matrices := depth*(4*width*width+3*width*c.Hidden) + c.Vocab*width
	flops := float64(tokens) * (6*float64(matrices) + 7*float64(depth*length*width))
	work := float64(tokens)
	direction, region := strings.CutPrefix(opt, "trust-")
	if region {
		work, flops = work*interval, 0
	}
	return benchmark{name: fmt.Sprintf("%sd=%d,l=%d", name, width, depth), unit: "tokens/s", work: work,
		whole: true, flops: flops, setup: func(dev device.Device) (call, free func(), err error) {
			m, err := llm.New(tensor.NewMaker(dev, 1), c)
			if err != nil {
				return nil, nil, err
			}
			b := data.Batch{Shape: []int{batch, length}, Tokens: randomInts(tokens, c.Vocab),
				Targets: randomInts(tokens, c.Vocab)}
			loss := func(t *autograd.Tape) *autograd.Value { return m.Loss(t, b) }
			if region {
				return measured(dev, optim.Config{Name: "trust", Trust: optim.Trust{Direction: direction, Every: interval}},
					optim.Collect(m.Params()), loss)
			}
			return step(dev, optim.Config{Name: opt, Decay: 0.1}, optim.Collect(m.Params()), loss)
		}}
}

// interval is how many steps of a trust region one is measured of: what a call takes.
const interval = 10

// measured makes the call that trains params by interval steps of a trust region, the first steps of a run left out, which
// are all measured.
func measured(dev device.Device, c optim.Config, params []optim.Param, loss func(*autograd.Tape) *autograd.Value) (call,
	free func(), err error) {
	opt, err := optim.New(c, params)
	if err != nil {
		return nil, nil, err
	}
	tape := autograd.Tape{Pool: tensor.NewPool(dev), Grad: true}
	call = func() {
		for range interval {
			optim.ZeroGrad(params)
			y := loss(&tape)
			tape.Backward(y)
			before := float64(y.Float())
			tape.Reset()
			opt.(optim.Measurer).Measure(before, 1, func() float64 {
				defer tape.Reset()
				return float64(loss(&tape).Float())
			})
			opt.Step(1, 1)
		}
	}
	call()
	call()
	return call, func() { opt.Free(); tape.Pool.Close() }, dev.Sync()
}

// update is the optimizer's part of a step of gopher.
func update(opt string, width, depth int) benchmark {
	return benchmark{name: fmt.Sprintf("update/gopher/%s/d=%d,l=%d", opt, width, depth), unit: "steps/s", work: 1,
		setup: func(dev device.Device) (call, free func(), err error) {
			m, err := llm.New(tensor.NewMaker(dev, 1), config(llm.FP32Weights, width, depth, 16))
			if err != nil {
				return nil, nil, err
			}
			params := optim.Collect(m.Params())
			o, err := optim.New(optim.Config{Name: opt, Decay: 0.1}, params)
			if err != nil {
				return nil, nil, err
			}
			tape := autograd.Tape{Pool: tensor.NewPool(dev), Grad: true}
			tokens := randomInts(17, 256)
			tape.Backward(m.Loss(&tape, data.Batch{Shape: []int{1, 16}, Tokens: tokens[:16], Targets: tokens[1:]}))
			tape.Reset()
			return func() { o.Step(1, 1) }, func() { o.Free(); tape.Pool.Close() }, dev.Sync()
		}}
}

// mlp is the training step of a classifier with two hidden layers, on batches of 128.
func mlp(weights llm.Weights, in, hidden int) benchmark {
	const batch, classes = 128, 10
	flops := 6 * float64(batch*(in*hidden+hidden*hidden+hidden*classes))
	name := fmt.Sprintf("train/mlp/%s/%d-%d-%d-%d", weights, in, hidden, hidden, classes)
	return benchmark{name: name, unit: "steps/s", work: 1, flops: flops, whole: true,
		setup: func(dev device.Device) (call, free func(), err error) {
			mk := tensor.NewMaker(dev, 1)
			layer := func(in, out int) nn.Layer {
				if weights == llm.FP32Weights {
					return nn.NewLinear(mk, in, out, true)
				}
				return ternary.NewLinear(mk, in, out, true, ternary.Config{Rule: ternary.AbsMean})
			}
			relu := nn.Func((*autograd.Tape).ReLU)
			m := nn.Sequential{layer(in, hidden), relu, layer(hidden, hidden), relu, nn.NewLinear(mk, hidden, classes, true)}
			x := autograd.NewConst(mk.Normal(1, batch, in))
			targets := autograd.NewConst(tensor.FromInts(dev, randomInts(batch, classes), batch))
			return step(dev, optim.Config{Name: "adamw", LR: 1e-3}, optim.Collect(m.Params()),
				func(t *autograd.Tape) *autograd.Value { return t.CrossEntropy(m.Forward(t, x), targets) })
		}}
}

// step makes the call that trains params by one step.
func step(dev device.Device, c optim.Config, params []optim.Param, loss func(*autograd.Tape) *autograd.Value) (call,
	free func(), err error) {
	opt, err := optim.New(c, params)
	if err != nil {
		return nil, nil, err
	}
	tape := autograd.Tape{Pool: tensor.NewPool(dev), Grad: true}
	return func() {
		optim.ZeroGrad(params)
		tape.Backward(loss(&tape))
		opt.Step(1, 1)
		tape.Reset()
	}, func() { opt.Free(); tape.Pool.Close() }, dev.Sync()
}

// generate samples n tokens after a short prompt from a frozen model.
func generate(width, depth, n int) benchmark {
	return benchmark{name: fmt.Sprintf("generate/gopher/ternary/d=%d,l=%d", width, depth), unit: "tokens/s",
		work: float64(n), whole: true, setup: func(dev device.Device) (call, free func(), err error) {
			m, err := llm.New(tensor.NewMaker(dev, 1), config(llm.TernaryWeights, width, depth, 256))
			if err != nil {
				return nil, nil, err
			}
			if _, err := m.Freeze(); err != nil {
				return nil, nil, err
			}
			return func() {
				if err := llm.Generate(context.Background(), m, []int32("func "), n, llm.Sampling{Temperature: 1},
					func(int32) bool { return true }); err != nil {
					panic(err) // of a valid prompt: the device's own, which Sync has
				}
			}, func() {}, dev.Sync()
		}}
}
