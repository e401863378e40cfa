package tensor_test

import (
	"bytes"
	"fmt"

	"setun/device/cpu"
	"setun/tensor"
)

// Operations have the destination first; views share memory.
func Example() {
	dev := cpu.New(0)
	a := tensor.FromFloats(dev, []float32{1, 2, 3, 4, 5, 6}, 2, 3)
	b := tensor.FromFloats(dev, []float32{1, 0, -1}, 1, 3)
	c := tensor.New(dev, a.Type(), 2, 1)
	tensor.MatMul(c, a, b, false, true, 1, 0)
	fmt.Println(c.Shape(), c.Floats())
	tensor.Fill(a.Rows(1, 2), 7)
	fmt.Printf("%v", a)

	var file bytes.Buffer
	if err := a.WriteNPY(&file); err != nil {
		fmt.Println(err)
	}
	again, err := tensor.ReadNPY(dev, &file)
	fmt.Println(again.Floats(), err)
	// Output:
	// [2 1] [-2 -2]
	// ⎡1  2  3⎤
	// ⎣7  7  7⎦
	// [1 2 3 7 7 7] <nil>
}
