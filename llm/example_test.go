package llm_test

import (
	"context"
	"fmt"

	"setun/autograd"
	"setun/data"
	"setun/device/cpu"
	"setun/llm"
	"setun/optim"
	"setun/tensor"
)

// A model learns one sentence and says it again.
func Example() {
	const text = "the cat sat on the mat.\n"
	c := llm.Depth(1)
	c.SetWidth(32)
	c.Context = len(text)
	m, err := llm.New(tensor.NewMaker(cpu.New(0), 1), c)
	if err != nil {
		fmt.Println(err)
		return
	}
	n := len(text) - 1
	b := data.Batch{Shape: []int{1, n}}
	for i := range n {
		b.Tokens, b.Targets = append(b.Tokens, int32(text[i])), append(b.Targets, int32(text[i+1]))
	}
	ps := optim.Collect(m.Params())
	opt, err := optim.New(optim.Config{}, ps)
	if err != nil {
		fmt.Println(err)
		return
	}
	tape := autograd.Tape{Pool: tensor.NewPool(m.Device()), Grad: true}
	const steps = 200
	for step := range steps {
		optim.ZeroGrad(ps)
		tape.Backward(m.Loss(&tape, b))
		tape.Reset()
		opt.Step(float32(optim.Schedule{}.At(step, steps)), 1)
	}
	prompt := []int32{'t', 'h', 'e', ' ', 'c'}
	err = llm.Generate(context.Background(), m, prompt, 100, llm.Sampling{}, func(token int32) bool {
		fmt.Print(string(rune(token)))
		return token != '\n'
	})
	if err != nil {
		fmt.Println(err)
	}
	// Output: at sat on the mat.
}
