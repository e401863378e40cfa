package tests

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"testing"

	"setun/autograd"
	"setun/data"
	"setun/device"
	"setun/device/cpu"
	"setun/device/devicetest"
	"setun/llm"
	"setun/nn"
	"setun/tensor"
	"setun/ternary"
	"setun/train"
)

// TestTour walks through the house from the ground up. Every device must pass it.
func TestTour(t *testing.T) {
	for name, open := range map[string]func() device.Device{
		"cpu 1 thread":  func() device.Device { return cpu.New(1) },
		"cpu 2 threads": func() device.Device { return cpu.New(2) },
		"opaque":        func() device.Device { return devicetest.Opaque(cpu.New(2)) }, // memory out of the host's reach
	} {
		for _, floor := range []struct {
			name  string
			visit func(t *testing.T, dev device.Device)
		}{
			{"device", tourDevice}, {"tensor", tourTensor}, {"gradient", tourGradient}, {"custom op", tourCustomOp},
			{"layer", tourLayer}, {"ternary", tourTernary}, {"language model", tourLanguageModel},
		} {
			t.Run(name+"/"+floor.name, func(t *testing.T) {
				dev := open()
				floor.visit(t, dev)
				if err := dev.Sync(); err != nil { // kernels return nothing: a device keeps its first error
					t.Error(err)
				}
			})
		}
	}
}

// A device is memory and a set of kernels. It knows counts, not shapes.
func tourDevice(t *testing.T, dev device.Device) {
	x := dev.Alloc(device.F32, 3)
	defer dev.Free(x)
	dev.Upload(x, device.Wrap([]float32{1, 2, 3}))
	dev.Scale(x, 10, x) // destination first: x = 10 * x
	host := make([]float32, 3)
	dev.Download(device.Wrap(host), x)
	equal(t, "10 * x", host, 10, 20, 30)
}

// A tensor is memory with a shape. Operations check shapes and make one kernel call.
func tourTensor(t *testing.T, dev device.Device) {
	a := tensor.FromFloats(dev, []float32{1, 2, 3, 4, 5, 6}, 2, 3)
	b := tensor.FromFloats(dev, []float32{1, 0, 0, 1, 1, 1}, 3, 2)
	c := tensor.Zeros(dev, 2, 2)
	tensor.MatMul(c, a, b, false, false, 1, 0)
	equal(t, "a b", c.Floats(), 4, 5, 10, 11)

	err := autograd.Catch(func() { tensor.MatMul(c, a, a, false, false, 1, 0) }) // (2, 3) times (2, 3)
	if e := (*tensor.ShapeError)(nil); !errors.As(err, &e) {
		t.Errorf("shapes that do not fit: %v, want a ShapeError", err)
	}
}

// A tape records operations on values and runs their gradients backwards.
func tourGradient(t *testing.T, dev device.Device) {
	w := autograd.NewParam(tensor.FromFloats(dev, []float32{3, -1}, 2))
	tape := autograd.Tape{Grad: true}
	y := tape.Mul(w, tape.Floats(dev, []float32{2, 5}, 2)) // y = w x
	loss := tape.Sum(tape.Mul(y, y))                       // loss = sum of (w x)^2, so dw = 2 w x^2
	tape.Backward(loss)
	equal(t, "loss", loss.T.Floats(), 36+25)
	equal(t, "dw", w.Grad.Floats(), 2*3*4, 2*-1*25)
	tape.Reset() // a tape is one step: its memory goes back
}

// An operation of one's own is two functions on tensors: y = x^3, dx += 3 x^2 dy.
func tourCustomOp(t *testing.T, dev device.Device) {
	cube := autograd.Op{
		Name: "cube",
		Forward: func(c *autograd.Ctx, in []*tensor.Tensor) *tensor.Tensor {
			y := c.New(in[0].Shape()...)
			tensor.Mul(y, in[0], in[0])
			tensor.Mul(y, y, in[0])
			return y
		},
		Backward: func(c *autograd.Ctx, din []*tensor.Tensor, dy *tensor.Tensor) {
			slope := c.New(dy.Shape()...)
			tensor.Mul(slope, c.In[0], c.In[0])
			tensor.Scale(slope, 3, slope)
			tensor.MulAdd(din[0], slope, dy)
		},
	}
	x := autograd.NewParam(tensor.FromFloats(dev, []float32{2, -3}, 2))
	tape := autograd.Tape{Grad: true}
	y := tape.Custom(cube, x)
	equal(t, "x^3", y.T.Floats(), 8, -27)
	tape.Backward(tape.Sum(y))
	equal(t, "dx", x.Grad.Floats(), 12, 27)
}

// A layer is a struct of parameters and layers. It knows no device and writes no derivative.
type residual struct {
	Norm *nn.RMSNorm
	Proj nn.Layer
}

func (r *residual) Params() iter.Seq2[string, *autograd.Value] { return nn.Fields(r) }

func (r *residual) Forward(t *autograd.Tape, x *autograd.Value) *autograd.Value {
	return t.Add(x, r.Proj.Forward(t, r.Norm.Forward(t, x)))
}

func tourLayer(t *testing.T, dev device.Device) {
	mk := tensor.NewMaker(dev, 1) // weights come from a device and a seed
	layer := &residual{nn.NewRMSNorm(mk, 4, 0), nn.NewLinear(mk, 4, 4, true)}
	var names []string
	for name := range layer.Params() { // the keys of checkpoints
		names = append(names, name)
	}
	if got := strings.Join(names, " "); got != "norm.weight proj.weight proj.bias" {
		t.Errorf("parameters %s", got)
	}
	var tape autograd.Tape // the zero tape records nothing: inference
	y := layer.Forward(&tape, tape.Floats(dev, make([]float32, 8), 2, 4))
	equal(t, "layer(0)", y.T.Floats(), 0, 0, 0, 0, 0, 0, 0, 0)
}

// A ternary layer trains a float weight through its quantizer; frozen, it keeps only the codes -1, 0, 1.
func tourTernary(t *testing.T, dev device.Device) {
	layer := ternary.NewLinear(tensor.NewMaker(dev, 1), 80, 16, false, ternary.Config{})
	x := autograd.NewConst(tensor.NewMaker(dev, 2).Normal(1, 3, 80))
	var tape autograd.Tape
	training := layer.Forward(&tape, x).T.Floats()
	packed, err := layer.Freeze()
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "frozen layer", layer.Forward(&tape, x).T.Floats(), training...)
	equal(t, "bytes, five codes in each", []int{len(packed.Data)}, 80*16/5)
}

// A language model: text in, text out.
func tourLanguageModel(t *testing.T, dev device.Device) {
	text := data.NewStream([]byte(strings.Repeat("the cat sat on the mat. ", 40)))
	windows, err := data.NewWindows(text, 4, 16, 1)
	if err != nil {
		t.Fatal(err)
	}
	cfg := llm.Depth(1) // one dial: the other sizes follow
	cfg.Context = 32
	model, err := llm.New(tensor.NewMaker(dev, 1), cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	result, err := train.Run(ctx, train.Config{Steps: 20}, model, train.Data{Train: windows})
	if err != nil {
		t.Fatal(err)
	}
	if bits := train.Bits(result.TrainLoss); bits > 5 { // it starts at 8: one of 256 bytes
		t.Errorf("loss after 20 steps: %.2f bits per byte", bits)
	}
	var said []byte
	prompt := data.Bytes{}.Encode([]byte("the c"))
	err = llm.Generate(ctx, model, prompt, 40, llm.Sampling{}, func(token int32) bool {
		said = append(said, byte(token))
		return true
	})
	if err != nil || len(said) != 40 {
		t.Errorf("said %q, %v", said, err)
	}
}

func equal[T comparable](t *testing.T, what string, got []T, want ...T) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s = %s, want %s", what, fmt.Sprint(got), fmt.Sprint(want))
	}
}
