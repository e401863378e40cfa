package optim_test

import (
	"fmt"

	"setun/autograd"
	"setun/device/cpu"
	"setun/nn"
	"setun/optim"
	"setun/tensor"
)

// A training loop: gradients, their norm, a schedule, a step.
func Example() {
	dev := cpu.New(0)
	m := nn.NewLinear(tensor.NewMaker(dev, 1), 2, 1, true)
	ps := optim.Collect(m.Params())
	opt, err := optim.New(optim.Config{Name: "adamw", LR: 0.2}, ps)
	if err != nil {
		fmt.Println(err)
		return
	}
	schedule := optim.Schedule{Kind: "cosine"}
	tape := autograd.Tape{Pool: tensor.NewPool(dev), Grad: true}
	const steps = 200
	for step := range steps {
		optim.ZeroGrad(ps)
		x := tape.Floats(dev, []float32{0, 0, 0, 1, 1, 0, 1, 1}, 4, 2)
		miss := tape.Sub(m.Forward(&tape, x), tape.Floats(dev, []float32{1, 4, 3, 6}, 4, 1)) // 1 + 2a + 3b
		tape.Backward(tape.Mean(tape.Mul(miss, miss)))
		tape.Reset()
		opt.Step(float32(schedule.At(step, steps)), optim.Clip(optim.GradNorm(ps), 1))
	}
	fmt.Printf("%.2f %.2f\n", m.Weight.T.Floats(), m.Bias.T.Floats())
	// Output: [2.00 3.00] [1.00]
}
