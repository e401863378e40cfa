// Minimal trains its own model, with a custom layer, to tell whether the number of ones in a byte is odd.
package main

import (
	"fmt"
	"iter"
	"setun/autograd"
	"setun/device/cpu"
	"setun/nn"
	"setun/optim"
	"setun/tensor"
	"setun/ternary"
)

type Wave struct{ W nn.Layer } // a custom layer: y = tanh(3 norm(x Wᵀ))

func (l *Wave) Params() iter.Seq2[string, *autograd.Value] { return nn.Fields(l) }
func (l *Wave) Forward(t *autograd.Tape, x *autograd.Value) *autograd.Value {
	return t.Tanh(t.Scale(t.RMSNorm(l.W.Forward(t, x), nil, 1e-5), 3))
}

func main() {
	mk := tensor.NewMaker(cpu.New(0), 1)
	wave := &Wave{ternary.NewLinear(mk, 128, 128, false, ternary.Config{})}
	model := nn.Sequential{nn.NewLinear(mk, 8, 128, true), wave, nn.NewLinear(mk, 128, 2, true)}
	bits, odd := make([]float32, 256*8), make([]int32, 256)
	for i := range bits {
		bits[i], odd[i/8] = float32(i/8>>(i%8)&1), odd[i/8]^int32(i/8>>(i%8)&1)
	}
	params := optim.Collect(model.Params())
	opt, _ := optim.New(optim.Config{Name: "adamw", LR: 0.01}, params)
	for step := range 201 {
		tape := autograd.Tape{Grad: true}
		loss := tape.CrossEntropy(model.Forward(&tape, tape.Floats(mk.Device, bits, 256, 8)), tape.Ints(mk.Device, odd, 256))
		optim.ZeroGrad(params)
		tape.Backward(loss)
		opt.Step(1, 1)
		fmt.Printf("step %3d  loss %.4f\n", step, loss.Float())
	}
}
