package gradtest_test

import (
	"fmt"

	"setun/autograd"
	"setun/autograd/gradtest"
	"setun/device/cpu"
	"setun/tensor"
)

// An operation of one's own, y = x^3, and the check of its gradient 3 x^2 dy. In a test, call Check.
func ExampleChecker_Compare() {
	cube := autograd.Op{
		Name: "cube",
		Forward: func(c *autograd.Ctx, in []*tensor.Tensor) *tensor.Tensor {
			square, y := c.New(in[0].Shape()...), c.New(in[0].Shape()...)
			tensor.Mul(square, in[0], in[0])
			tensor.Mul(y, square, in[0])
			c.Save(square)
			return y
		},
		Backward: func(c *autograd.Ctx, din []*tensor.Tensor, dy *tensor.Tensor) {
			g := c.New(dy.Shape()...)
			tensor.Mul(g, dy, c.Saved[0])
			tensor.Axpy(din[0], 3, g)
		},
	}
	err := gradtest.Checker{}.Compare(cpu.New(0), func(t *autograd.Tape, in []*autograd.Value) *autograd.Value {
		return t.Custom(cube, in...)
	}, gradtest.Shape(2, 3))
	fmt.Println(err)
	// Output: <nil>
}
