package gradtest_test

import (
	"math"
	"strings"
	"testing"

	"setun/autograd"
	"setun/autograd/gradtest"
	"setun/device/cpu"
	"setun/tensor"
)

// scaledProduct is y = a*b with the gradients da += dy*b, db += dy*a, and what a test does to it.
func scaledProduct(change func(op *autograd.Op)) gradtest.Func {
	op := autograd.Op{
		Name: "product",
		Forward: func(c *autograd.Ctx, in []*tensor.Tensor) *tensor.Tensor {
			y := c.New(in[0].Shape()...)
			tensor.Mul(y, in[0], in[1])
			return y
		},
		Backward: func(c *autograd.Ctx, din []*tensor.Tensor, dy *tensor.Tensor) {
			tensor.MulAdd(din[0], dy, c.In[1])
			tensor.MulAdd(din[1], dy, c.In[0])
		},
	}
	change(&op)
	return func(t *autograd.Tape, in []*autograd.Value) *autograd.Value { return t.Custom(op, in...) }
}

func TestCompareFindsBrokenGradients(t *testing.T) {
	leaked := 0
	tests := []struct {
		name   string
		change func(op *autograd.Op)
		want   string // part of the error; "": none
	}{
		{"correct", func(*autograd.Op) {}, ""},
		{"wrong factor", func(op *autograd.Op) {
			op.Backward = func(c *autograd.Ctx, din []*tensor.Tensor, dy *tensor.Tensor) {
				tensor.MulAdd(din[0], dy, c.In[1])
				if din[1] != nil {
					y := c.New(dy.Shape()...)
					tensor.Mul(y, dy, c.In[0])
					tensor.Axpy(din[1], 1.01, y)
				}
			}
		}, "input 1 of shape [2 3] at ["},
		{"one element wrong", func(op *autograd.Op) {
			op.Backward = func(c *autograd.Ctx, din []*tensor.Tensor, dy *tensor.Tensor) {
				tensor.MulAdd(din[0], dy, c.In[1])
				tensor.MulAdd(din[1], dy, c.In[0])
				if din[0] != nil {
					tensor.Fill(din[0].Rows(1, 2).Reshape(-1).Rows(2, 3), 9)
				}
			}
		}, "input 0 of shape [2 3] at [1 2]: the gradient is 9,"},
		{"input forgotten", func(op *autograd.Op) {
			op.Forward = func(c *autograd.Ctx, in []*tensor.Tensor) *tensor.Tensor {
				y := c.New(in[0].Shape()...)
				tensor.Mul(y, in[0], in[1])
				return y
			}
			op.Backward = func(c *autograd.Ctx, din []*tensor.Tensor, dy *tensor.Tensor) { tensor.MulAdd(din[0], dy, c.In[1]) }
		}, "input 1 of shape [2 3]"},
		{"no gradient", func(op *autograd.Op) { op.Backward = nil }, "no gradient arrives"},
		{"set, not added", func(op *autograd.Op) {
			op.Backward = func(c *autograd.Ctx, din []*tensor.Tensor, dy *tensor.Tensor) {
				tensor.MulAdd(din[0], dy, c.In[1])
				if din[1] != nil {
					tensor.Mul(din[1], dy, c.In[0])
				}
			}
		}, "instead of added"},
		{"depends on the other", func(op *autograd.Op) {
			op.Backward = func(c *autograd.Ctx, din []*tensor.Tensor, dy *tensor.Tensor) {
				if din[1] != nil {
					tensor.MulAdd(din[0], dy, c.In[1])
				}
				tensor.MulAdd(din[1], dy, c.In[0])
			}
		}, "when no other input wants one"},
		{"unwritten memory", func(op *autograd.Op) {
			op.Forward = func(c *autograd.Ctx, in []*tensor.Tensor) *tensor.Tensor {
				y := c.New(in[0].Shape()...)
				tensor.MulAdd(y, in[0], in[1])
				return y
			}
		}, "NaN"},
		{"freed memory", func(op *autograd.Op) {
			var y *tensor.Tensor
			op.Forward = func(c *autograd.Ctx, in []*tensor.Tensor) *tensor.Tensor {
				y = c.New(in[1].Shape()...) // not saved
				tensor.Copy(y, in[1])
				out := c.New(in[0].Shape()...)
				tensor.Mul(out, in[0], in[1])
				return out
			}
			op.Backward = func(c *autograd.Ctx, din []*tensor.Tensor, dy *tensor.Tensor) {
				c.New(2, 3)
				tensor.MulAdd(din[0], dy, y)
				tensor.MulAdd(din[1], dy, c.In[0])
			}
		}, "input 0 of shape [2 3]"},
		{"shapes", func(op *autograd.Op) {
			op.Backward = func(c *autograd.Ctx, din []*tensor.Tensor, dy *tensor.Tensor) { tensor.Axpy(din[0], 1, c.New(7)) }
		}, "gradtest: tensor: Axpy: [2, 3] and [7] differ in length"},
		{"random", func(op *autograd.Op) {
			op.Forward = func(c *autograd.Ctx, in []*tensor.Tensor) *tensor.Tensor {
				leaked++
				y := c.New(in[0].Shape()...)
				tensor.Scale(y, float32(leaked), in[0])
				return y
			}
		}, "input"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := gradtest.Checker{Seed: 3}.Compare(cpu.New(1), scaledProduct(tt.change), gradtest.Shape(2, 3),
				gradtest.Shape(2, 3))
			switch {
			case tt.want == "" && err != nil:
				t.Error(err)
			case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
				t.Errorf("got error %v, want one with %q", err, tt.want)
			}
		})
	}
}

func TestCheckReports(t *testing.T) {
	f := scaledProduct(func(op *autograd.Op) { op.Backward = nil })
	for _, check := range []func(tb testing.TB){
		func(tb testing.TB) { gradtest.Check(tb, cpu.New(1), f, gradtest.Shape(2), gradtest.Shape(2)) },
		func(tb testing.TB) {
			gradtest.Checker{Tol: 1e-2}.Check(tb, cpu.New(1), f, gradtest.Shape(2), gradtest.Shape(2))
		},
	} {
		r := &recorder{TB: t}
		if check(r); r.errors != 1 {
			t.Errorf("a wrong gradient gave %d errors, want 1", r.errors)
		}
	}
}

type recorder struct {
	testing.TB
	errors int
}

func (r *recorder) Helper()      {}
func (r *recorder) Error(...any) { r.errors++ }

// An operation that forgets an input when it is the only one to want a gradient.
func TestCompareTriesEachInputAlone(t *testing.T) {
	err := gradtest.Checker{}.Compare(cpu.New(1), func(t *autograd.Tape, in []*autograd.Value) *autograd.Value {
		b := in[1]
		if !in[0].WantsGrad() {
			b = autograd.NewConst(b.T)
		}
		return t.Mul(in[0], b)
	}, gradtest.Shape(2), gradtest.Shape(2))
	const want = "gradtest: input 1 gets no gradient when no other input wants one"
	if err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

// The inputs are what their description says.
func TestInput(t *testing.T) {
	in := gradtest.Input{Shape: []int{40}, Min: -2, Max: 1, Away: 0.5}
	gradtest.Check(t, cpu.New(1), func(tape *autograd.Tape, in []*autograd.Value) *autograd.Value {
		for _, v := range in[0].T.Floats() {
			if a := math.Abs(float64(v)); a < 0.5-0.07 || a > 2.57 {
				t.Errorf("drew %g", v)
			}
		}
		return tape.Scale(in[0], 3)
	}, in)
}
