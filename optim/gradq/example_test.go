package gradq_test

import (
	"fmt"

	"setun/autograd"
	"setun/device/cpu"
	"setun/optim"
	"setun/optim/gradq"
	"setun/tensor"
)

// Two workers hold the same weight and different gradients. Each sends its own, and both go on with the same mean.
func Example() {
	dev := cpu.New(0)
	type worker struct {
		ps []optim.Param
		q  *gradq.Quantizer
	}
	var workers []worker
	var msgs [][]byte
	for rank := range 2 {
		mk := tensor.NewMaker(dev, 1)
		w := autograd.NewParam(mk.Zeros(256, 256))
		ps := []optim.Param{{Name: "w", Value: w}}
		mk.Seed += uint64(rank)
		tape := autograd.Tape{Grad: true} // a loss with random slopes
		tape.Backward(tape.Mean(tape.Mul(w, autograd.NewConst(mk.Normal(1, 256, 256)))))
		tape.Reset()
		q, err := gradq.New(gradq.Config{Kind: gradq.Ternary, Seed: uint64(rank)}, ps)
		if err != nil {
			fmt.Println(err)
			return
		}
		msg, _ := q.Append(nil, 0, 1)
		workers, msgs = append(workers, worker{ps, q}), append(msgs, msg)
	}
	for _, w := range workers {
		if err := w.q.Average(msgs...); err != nil {
			fmt.Println(err)
		}
	}
	a, b := workers[0].ps[0].Value.Grad.Floats(), workers[1].ps[0].Value.Grad.Floats()
	wire, fp32 := workers[0].q.Bytes()
	fmt.Println("the same mean:", fmt.Sprint(a) == fmt.Sprint(b))
	fmt.Printf("%d bytes instead of %d\n", wire/1000*1000, fp32)
	// Output:
	// the same mean: true
	// 10000 bytes instead of 262144
}
