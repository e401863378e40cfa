package autograd_test

import (
	"fmt"

	"setun/autograd"
	"setun/device/cpu"
	"setun/tensor"
)

// Gradient descent fits a line through three points: y = 2x + 1.
func Example() {
	dev := cpu.New(0)
	w := autograd.NewParam(tensor.Zeros(dev, 1, 1))
	b := autograd.NewParam(tensor.Zeros(dev, 1))
	tape := autograd.Tape{Pool: tensor.NewPool(dev), Grad: true}
	for range 200 {
		x := tape.Floats(dev, []float32{-1, 0, 1}, 3, 1)
		want := tape.Floats(dev, []float32{-1, 1, 3}, 3, 1)
		miss := tape.Sub(tape.Linear(x, w, b), want)
		tape.Backward(tape.Mean(tape.Mul(miss, miss)))
		tape.Reset()
		for _, p := range []*autograd.Value{w, b} {
			tensor.Axpy(p.T, -0.1, p.Grad)
			p.Changed()
			p.ZeroGrad()
		}
	}
	fmt.Printf("y = %.2fx + %.2f\n", w.Float(), b.Float())

	err := autograd.Catch(func() { tape.Mul(w, b) })
	fmt.Println(err)
	// Output:
	// y = 2.00x + 1.00
	// tensor: Mul: [1, 1] and [1] differ
}

// A block that is computed again in the backward pass instead of kept: the same gradient for less memory.
func ExampleTape_Checkpoint() {
	dev := cpu.New(0)
	x := autograd.NewParam(tensor.FromFloats(dev, []float32{0, 1}, 2))
	tape := autograd.Tape{Pool: tensor.NewPool(dev), Grad: true}
	y := tape.Checkpoint(func(t *autograd.Tape, x *autograd.Value) *autograd.Value {
		return t.Mul(t.Sub(x, t.Mul(x, x)), x)
	}, x)
	fmt.Println(tape.Nodes(), "operation on the tape")
	tape.Backward(tape.Sum(y))
	fmt.Println(x.Grad.Floats())
	// Output:
	// 1 operation on the tape
	// [0 -1]
}
