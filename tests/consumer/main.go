// Consumer is a program outside of setun's module: a model with an operation and a layer of its own, trained by
// train.Run.
package main

import (
	"context"
	"fmt"
	"iter"
	"math"
	"os"

	"setun/autograd"
	"setun/data"
	"setun/device/auto"
	"setun/nn"
	"setun/tensor"
	"setun/ternary"
	"setun/train"
)

// square is an operation: y = x^2, dx += 2 x dy.
var square = autograd.Op{
	Name: "square",
	Forward: func(c *autograd.Ctx, in []*tensor.Tensor) *tensor.Tensor {
		y := c.New(in[0].Shape()...)
		tensor.Mul(y, in[0], in[0])
		return y
	},
	Backward: func(c *autograd.Ctx, din []*tensor.Tensor, dy *tensor.Tensor) {
		twice := c.New(dy.Shape()...)
		tensor.Scale(twice, 2, c.In[0])
		tensor.MulAdd(din[0], twice, dy)
	},
}

// bump is a layer: y = x + Proj(square(norm(x))).
type bump struct {
	Norm *nn.RMSNorm
	Proj nn.Layer
}

func (b *bump) Params() iter.Seq2[string, *autograd.Value] { return nn.Fields(b) }

func (b *bump) Forward(t *autograd.Tape, x *autograd.Value) *autograd.Value {
	return t.Add(x, b.Proj.Forward(t, t.Custom(square, b.Norm.Forward(t, x))))
}

// bigram guesses the next byte from the last one.
type bigram struct {
	Embed *nn.Embedding
	Body  nn.Sequential
}

func (m *bigram) Params() iter.Seq2[string, *autograd.Value] { return nn.Fields(m) }

func (m *bigram) Loss(t *autograd.Tape, b data.Batch) *autograd.Value {
	dev := m.Embed.Weight.Device()
	x := m.Body.Forward(t, m.Embed.Forward(t, t.Ints(dev, b.Tokens, b.Shape...)))
	return t.CrossEntropy(m.Embed.Logits(t, x), t.Ints(dev, b.Targets, b.Shape...))
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run() error {
	dev, err := auto.Open("auto", 0)
	if err != nil {
		return err
	}
	mk := tensor.NewMaker(dev, 1)
	m := &bigram{Embed: nn.NewEmbedding(mk, 256, 32, 0.02)}
	for range 2 {
		m.Body = append(m.Body, &bump{nn.NewRMSNorm(mk, 32, 0), ternary.NewLinear(mk, 32, 32, true, ternary.Config{})})
	}
	m.Body = append(m.Body, nn.NewRMSNorm(mk, 32, 0))
	text := make([]byte, 4000)
	for i := range text {
		text[i] = "abracadabra "[i%12]
	}
	windows, err := data.NewWindows(data.NewStream(text), 8, 16, 1)
	if err != nil {
		return err
	}
	result, err := train.Run(context.Background(), train.Config{Steps: 100}, m, train.Data{Train: windows})
	if err != nil {
		return err
	}
	fmt.Printf("trained %d steps: %.2f bits per byte\n", result.Steps, result.TrainLoss/math.Ln2)
	return nil
}
