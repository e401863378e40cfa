package nn_test

import (
	"fmt"
	"iter"

	"setun/autograd"
	"setun/device/cpu"
	"setun/nn"
	"setun/tensor"
)

// XOR is a model of one's own: fields, and one line that lists their parameters.
type XOR struct {
	Hidden, Out *nn.Linear
}

func (m *XOR) Params() iter.Seq2[string, *autograd.Value] { return nn.Fields(m) }

func (m *XOR) Forward(t *autograd.Tape, x *autograd.Value) *autograd.Value {
	return m.Out.Forward(t, t.Tanh(m.Hidden.Forward(t, x)))
}

func Example() {
	dev := cpu.New(0)
	mk := tensor.NewMaker(dev, 1)
	m := &XOR{nn.NewLinear(mk, 2, 8, true), nn.NewLinear(mk, 8, 2, true)}
	tape := autograd.Tape{Pool: tensor.NewPool(dev), Grad: true}
	for range 300 {
		x := tape.Floats(dev, []float32{0, 0, 0, 1, 1, 0, 1, 1}, 4, 2)
		loss := tape.CrossEntropy(m.Forward(&tape, x), tape.Ints(dev, []int32{0, 1, 1, 0}, 4))
		tape.Backward(loss)
		tape.Reset()
		for _, p := range m.Params() {
			tensor.Axpy(p.T, -0.5, p.Grad)
			p.Changed()
			p.ZeroGrad()
		}
	}
	for name, p := range m.Params() {
		fmt.Println(name, p.Shape())
	}
	var inference autograd.Tape
	y := m.Forward(&inference, inference.Floats(dev, []float32{0, 0, 0, 1, 1, 0, 1, 1}, 4, 2)).T.Floats()
	for i := range 4 {
		fmt.Print(y[2*i+1] > y[2*i], " ")
	}
	// Output:
	// hidden.weight [8 2]
	// hidden.bias [8]
	// out.weight [2 8]
	// out.bias [2]
	// false true true false
}
