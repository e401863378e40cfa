package ternary_test

import (
	"fmt"

	"setun/autograd"
	"setun/device/cpu"
	"setun/tensor"
	"setun/ternary"
)

// A layer trains on a float weight and is frozen to codes: its output stays the same to the bit.
func Example() {
	dev := cpu.New(0)
	w := tensor.FromFloats(dev, []float32{0.9, -0.1, -0.8, 0.2, 0.7, 0}, 2, 3)
	l := ternary.FromWeight(tensor.NewMaker(dev, 1), w, false, ternary.Config{Rule: ternary.AbsMean})
	codes, scale := l.Quantized()
	fmt.Printf("codes %v, scale %.3f\n", codes.Codes(), scale.Floats())

	var tape autograd.Tape
	x := tape.Floats(dev, []float32{1, 2, 3}, 1, 3)
	before := l.Forward(&tape, x).T.Floats()
	p, err := l.Freeze()
	if err != nil {
		fmt.Println(err)
		return
	}
	after := l.Forward(&tape, x).T.Floats()
	fmt.Println(before[0] == after[0], before[1] == after[1])
	fmt.Println(p.Format, p.Rows, p.Cols, len(p.Data), "bytes")
	// Output:
	// codes [1 0 -1 0 1 0], scale [0.450]
	// true true
	// base3 2 3 2 bytes
}
