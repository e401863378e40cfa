package autograd_test

import (
	"reflect"
	"slices"
	"testing"

	"setun/autograd"
	"setun/autograd/gradtest"
	"setun/device"
	"setun/device/cpu"
	"setun/device/devicetest"
	"setun/tensor"
)

type (
	tape  = autograd.Tape
	value = autograd.Value
)

// devices are the devices that the gradients are checked on: host memory, and memory that cannot be read from outside.
func devices(t *testing.T) map[string]device.Device {
	opaque := devicetest.Opaque(cpu.New(1))
	t.Cleanup(func() {
		if err := opaque.Sync(); err != nil {
			t.Error(err)
		}
	})
	return map[string]device.Device{"cpu": cpu.New(0), "opaque": opaque}
}

func shape(dims ...int) gradtest.Input { return gradtest.Shape(dims...) }

// away keeps inputs from the kink at 0: further than two steps of the differences.
func away(dims ...int) gradtest.Input { return gradtest.Input{Shape: dims, Away: 0.1} }

func positive(dims ...int) gradtest.Input { return gradtest.Input{Shape: dims, Min: 0.5, Max: 1.5} }

// gradients has every operation whose gradient differences can see.
var gradients = []struct {
	method string // of Tape
	name   string
	f      gradtest.Func
	in     []gradtest.Input
}{
	{"Add", "", func(t *tape, in []*value) *value { return t.Add(in[0], in[1]) },
		[]gradtest.Input{shape(2, 3), shape(2, 3)}},
	{"Add", "twice", func(t *tape, in []*value) *value { return t.Add(in[0], in[0]) }, []gradtest.Input{shape(2, 3)}},
	{"Add", "scalar", func(t *tape, in []*value) *value { return t.Add(in[0], in[1]) },
		[]gradtest.Input{shape(), shape()}},
	{"Sub", "", func(t *tape, in []*value) *value { return t.Sub(in[0], in[1]) }, []gradtest.Input{shape(5), shape(5)}},
	{"Sub", "twice", func(t *tape, in []*value) *value { return t.Sub(in[0], in[0]) }, []gradtest.Input{shape(5)}},
	{"Mul", "", func(t *tape, in []*value) *value { return t.Mul(in[0], in[1]) },
		[]gradtest.Input{shape(2, 1, 3), shape(2, 1, 3)}},
	{"Mul", "twice", func(t *tape, in []*value) *value { return t.Mul(in[0], in[0]) }, []gradtest.Input{shape(7)}},
	{"Scale", "", func(t *tape, in []*value) *value { return t.Scale(in[0], -2.5) }, []gradtest.Input{shape(4)}},
	{"AddRows", "bias", func(t *tape, in []*value) *value { return t.AddRows(in[0], in[1]) },
		[]gradtest.Input{shape(2, 3, 4), shape(4)}},
	{"AddRows", "groups", func(t *tape, in []*value) *value { return t.AddRows(in[0], in[1]) },
		[]gradtest.Input{shape(2, 3, 4), shape(2, 4)}},
	{"MulRows", "", func(t *tape, in []*value) *value { return t.MulRows(in[0], in[1]) },
		[]gradtest.Input{shape(2, 3, 4), shape(4)}},
	{"MulRows", "twice", func(t *tape, in []*value) *value { return t.MulRows(in[0], in[0]) }, []gradtest.Input{shape(5)}},
	{"MulRows", "chain", func(t *tape, in []*value) *value { return t.MulRows(t.Tanh(in[0]), t.Tanh(in[1])) },
		[]gradtest.Input{shape(3, 4), shape(4)}},
	{"MeanRows", "", func(t *tape, in []*value) *value { return t.MeanRows(in[0]) }, []gradtest.Input{shape(2, 5, 3)}},
	{"Sum", "", func(t *tape, in []*value) *value { return t.Sum(in[0]) }, []gradtest.Input{shape(2, 5)}},
	{"Mean", "", func(t *tape, in []*value) *value { return t.Mean(in[0]) }, []gradtest.Input{shape(2, 5)}},
	{"Mean", "scalar", func(t *tape, in []*value) *value { return t.Mean(in[0]) }, []gradtest.Input{shape()}},
	{"Unary", "", func(t *tape, in []*value) *value { return t.Unary(device.Tanh, in[0]) }, []gradtest.Input{shape(3, 4)}},
	{"SiLU", "", func(t *tape, in []*value) *value { return t.SiLU(in[0]) }, []gradtest.Input{shape(3, 4)}},
	{"ReLU", "", func(t *tape, in []*value) *value { return t.ReLU(in[0]) }, []gradtest.Input{away(3, 4)}},
	{"ReLU2", "", func(t *tape, in []*value) *value { return t.ReLU2(in[0]) }, []gradtest.Input{away(3, 4)}},
	{"GELU", "", func(t *tape, in []*value) *value { return t.GELU(in[0]) }, []gradtest.Input{shape(3, 4)}},
	{"Sigmoid", "", func(t *tape, in []*value) *value { return t.Sigmoid(in[0]) }, []gradtest.Input{shape(3, 4)}},
	{"Tanh", "", func(t *tape, in []*value) *value { return t.Tanh(in[0]) }, []gradtest.Input{shape(3, 4)}},
	{"Exp", "", func(t *tape, in []*value) *value { return t.Exp(in[0]) }, []gradtest.Input{shape(3, 4)}},
	{"Exp", "chain", func(t *tape, in []*value) *value { return t.Exp(t.Tanh(t.Exp(in[0]))) }, []gradtest.Input{shape(3)}},
	{"Gated", "SiLU", func(t *tape, in []*value) *value { return t.Gated(device.SiLU, in[0], in[1]) },
		[]gradtest.Input{shape(2, 5), shape(2, 5)}},
	{"Gated", "ReLU2", func(t *tape, in []*value) *value { return t.Gated(device.ReLU2, in[0], in[1]) },
		[]gradtest.Input{away(2, 5), shape(2, 5)}},
	{"Gated", "twice", func(t *tape, in []*value) *value { return t.Gated(device.SiLU, in[0], in[0]) },
		[]gradtest.Input{shape(2, 5)}},
	{"Dropout", "", func(t *tape, in []*value) *value { return t.Dropout(in[0], 0.4) }, []gradtest.Input{shape(3, 9)}},
	{"Dropout", "two draws", func(t *tape, in []*value) *value {
		return t.Add(t.Dropout(in[0], 0.5),
			t.Dropout(in[0], 0.5))
	},
		[]gradtest.Input{shape(3, 9)}},
	{"Softmax", "", func(t *tape, in []*value) *value { return t.Softmax(in[0]) }, []gradtest.Input{shape(2, 3, 5)}},
	{"Softmax", "vector", func(t *tape, in []*value) *value { return t.Softmax(in[0]) }, []gradtest.Input{shape(5)}},
	{"RMSNorm", "", func(t *tape, in []*value) *value { return t.RMSNorm(in[0], in[1], 1e-5) },
		[]gradtest.Input{positive(2, 3, 6), shape(6)}},
	{"RMSNorm", "no gain", func(t *tape, in []*value) *value { return t.RMSNorm(in[0], nil, 1e-2) },
		[]gradtest.Input{shape(3, 6)}},
	{"LayerNorm", "", func(t *tape, in []*value) *value { return t.LayerNorm(in[0], in[1], in[2], 1e-1) },
		[]gradtest.Input{shape(2, 3, 6), shape(6), shape(6)}},
	{"LayerNorm", "plain", func(t *tape, in []*value) *value { return t.LayerNorm(in[0], nil, nil, 1e-1) },
		[]gradtest.Input{shape(3, 6)}},
	{"LayerNorm", "gain as bias", func(t *tape, in []*value) *value { return t.LayerNorm(in[0], in[1], in[1], 1e-1) },
		[]gradtest.Input{shape(2, 6), shape(6)}},
	{"LayerNorm", "gain of itself", func(t *tape, in []*value) *value { return t.LayerNorm(in[0], in[0], nil, 1e-1) },
		[]gradtest.Input{shape(6)}},
	{"RMSNorm", "gain of itself", func(t *tape, in []*value) *value { return t.RMSNorm(in[0], in[0], 1e-5) },
		[]gradtest.Input{positive(6)}},
	{"CrossEntropy", "", func(t *tape, in []*value) *value {
		return t.CrossEntropy(in[0], t.Ints(in[0].Device(), []int32{4, 0, 2}, 3))
	}, []gradtest.Input{shape(3, 5)}},
	{"CrossEntropy", "ignored rows", func(t *tape, in []*value) *value {
		return t.CrossEntropy(in[0], t.Ints(in[0].Device(), []int32{4, -1, 2, -1}, 2, 2))
	}, []gradtest.Input{shape(2, 2, 5)}},
	{"CrossEntropy", "all ignored", func(t *tape, in []*value) *value {
		return t.CrossEntropy(in[0], t.Ints(in[0].Device(), []int32{-1, -1}, 2))
	}, []gradtest.Input{shape(2, 3)}},
	{"Embedding", "", func(t *tape, in []*value) *value {
		return t.Embedding(in[0], t.Ints(in[0].Device(), []int32{3, 1, 3, 0, 1, 3}, 2, 3)) // row 2 unused, row 3 thrice
	}, []gradtest.Input{shape(4, 5)}},
	{"MatMul", "", func(t *tape, in []*value) *value { return t.MatMul(in[0], in[1], false, false) },
		[]gradtest.Input{shape(2, 3), shape(3, 5)}},
	{"MatMul", "a'", func(t *tape, in []*value) *value { return t.MatMul(in[0], in[1], true, false) },
		[]gradtest.Input{shape(3, 2), shape(3, 5)}},
	{"MatMul", "b'", func(t *tape, in []*value) *value { return t.MatMul(in[0], in[1], false, true) },
		[]gradtest.Input{shape(2, 3), shape(5, 3)}},
	{"MatMul", "a'b'", func(t *tape, in []*value) *value { return t.MatMul(in[0], in[1], true, true) },
		[]gradtest.Input{shape(3, 2), shape(5, 3)}},
	{"MatMul", "square of itself", func(t *tape, in []*value) *value { return t.MatMul(in[0], in[0], false, true) },
		[]gradtest.Input{shape(3, 4)}},
	{"MatMul", "rows", func(t *tape, in []*value) *value { return t.MatMul(in[0], in[1], false, false) },
		[]gradtest.Input{shape(2, 2, 3), shape(3, 5)}},
	{"MatMul", "rows b'", func(t *tape, in []*value) *value { return t.MatMul(in[0], in[1], false, true) },
		[]gradtest.Input{shape(2, 2, 3), shape(5, 3)}},
	{"MatMul", "batch", func(t *tape, in []*value) *value { return t.MatMul(in[0], in[1], false, false) },
		[]gradtest.Input{shape(3, 2, 4), shape(3, 4, 5)}},
	{"MatMul", "batch a'", func(t *tape, in []*value) *value { return t.MatMul(in[0], in[1], true, false) },
		[]gradtest.Input{shape(3, 4, 2), shape(3, 4, 5)}},
	{"MatMul", "batch b'", func(t *tape, in []*value) *value { return t.MatMul(in[0], in[1], false, true) },
		[]gradtest.Input{shape(2, 2, 2, 4), shape(2, 2, 5, 4)}},
	{"MatMul", "batch a'b'", func(t *tape, in []*value) *value { return t.MatMul(in[0], in[1], true, true) },
		[]gradtest.Input{shape(3, 4, 2), shape(3, 5, 4)}},
	{"Linear", "", func(t *tape, in []*value) *value { return t.Linear(in[0], in[1], in[2]) },
		[]gradtest.Input{shape(2, 3, 4), shape(5, 4), shape(5)}},
	{"Linear", "no bias", func(t *tape, in []*value) *value { return t.Linear(in[0], in[1], nil) },
		[]gradtest.Input{shape(4), shape(5, 4)}},
	{"Linear", "weight twice", func(t *tape, in []*value) *value {
		return t.Linear(t.Linear(in[0], in[1], nil), in[1], in[2])
	}, []gradtest.Input{shape(2, 4), shape(4, 4), shape(4)}},
	{"LinearBF16", "", func(t *tape, in []*value) *value {
		return t.LinearBF16(in[0], in[1], in[2]) // float32 on device cpu
	}, []gradtest.Input{shape(2, 3, 4), shape(5, 4), shape(5)}},
	{"Reshape", "", func(t *tape, in []*value) *value { return t.Exp(t.Reshape(in[0], 3, -1)) },
		[]gradtest.Input{shape(2, 3, 2)}},
	{"Reshape", "of an intermediate", func(t *tape, in []*value) *value {
		y := t.Exp(in[0])
		return t.Add(t.Reshape(y, 6), t.Reshape(t.Reshape(y, 3, 2), -1))
	}, []gradtest.Input{shape(2, 3)}},
	{"SliceLast", "", func(t *tape, in []*value) *value { return t.SliceLast(in[0], 1, 4) },
		[]gradtest.Input{shape(2, 3, 5)}},
	{"SliceLast", "overlapping", func(t *tape, in []*value) *value {
		return t.Mul(t.SliceLast(in[0], 0, 3), t.SliceLast(in[0], 2, 5))
	}, []gradtest.Input{shape(2, 5)}},
	{"ConcatLast", "", func(t *tape, in []*value) *value { return t.Exp(t.ConcatLast(in[0], in[1], in[0])) },
		[]gradtest.Input{shape(2, 3), shape(2, 1)}},
	{"Im2Col", "", func(t *tape, in []*value) *value { return t.Im2Col(in[0], 2, 3, 1, 0) },
		[]gradtest.Input{shape(2, 4, 5, 2)}},
	{"Im2Col", "stride and padding", func(t *tape, in []*value) *value { return t.Im2Col(in[0], 3, 3, 2, 1) },
		[]gradtest.Input{shape(1, 5, 4, 2)}},
	{"RoPE", "", func(t *tape, in []*value) *value { return t.RoPE(in[0], rope(in[0].Device(), 8, 6), 3) },
		[]gradtest.Input{shape(2, 4, 3, 6)}},
	{"Attention", "", func(t *tape, in []*value) *value { return t.Attention(in[0], in[1], in[2], false) },
		[]gradtest.Input{shape(2, 3, 2, 4), shape(2, 5, 2, 4), shape(2, 5, 2, 4)}},
	{"Attention", "causal", func(t *tape, in []*value) *value { return t.Attention(in[0], in[1], in[2], true) },
		[]gradtest.Input{shape(2, 4, 2, 4), shape(2, 4, 2, 4), shape(2, 4, 2, 4)}},
	{"Attention", "causal, more keys", func(t *tape, in []*value) *value { return t.Attention(in[0], in[1], in[2], true) },
		[]gradtest.Input{shape(1, 3, 2, 4), shape(1, 5, 2, 4), shape(1, 5, 2, 4)}},
	{"Attention", "grouped", func(t *tape, in []*value) *value { return t.Attention(in[0], in[1], in[2], true) },
		[]gradtest.Input{shape(2, 3, 6, 2), shape(2, 3, 2, 2), shape(2, 3, 2, 2)}},
	{"Attention", "keys as values", func(t *tape, in []*value) *value { return t.Attention(in[0], in[1], in[1], false) },
		[]gradtest.Input{shape(1, 3, 2, 4), shape(1, 4, 2, 4)}},
	{"Attention", "of itself", func(t *tape, in []*value) *value { return t.Attention(in[0], in[0], in[0], true) },
		[]gradtest.Input{shape(1, 4, 2, 4)}},
	{"AttentionBF16", "", func(t *tape, in []*value) *value {
		return t.AttentionBF16(in[0], in[1], in[2], true) // float32 on device cpu
	}, []gradtest.Input{shape(2, 4, 2, 4), shape(2, 4, 2, 4), shape(2, 4, 2, 4)}},
	{"Custom", "", func(t *tape, in []*value) *value { return t.Custom(product, in...) },
		[]gradtest.Input{shape(2, 3), shape(2, 3)}},
	{"Custom", "twice", func(t *tape, in []*value) *value { return t.Custom(product, in[0], in[0]) },
		[]gradtest.Input{shape(2, 3)}},
	{"Checkpoint", "", func(t *tape, in []*value) *value {
		return t.Checkpoint(func(t *tape, x *value) *value { return t.Exp(t.Linear(x, in[1], in[2])) }, t.Tanh(in[0]))
	}, []gradtest.Input{shape(2, 3), shape(4, 3), shape(4)}},
	{"Checkpoint", "dropout, twice, nested", func(t *tape, in []*value) *value {
		block := func(t *tape, x *value) *value {
			x = t.Checkpoint(func(t *tape, x *value) *value { return t.Dropout(t.SiLU(x), 0.3) }, x)
			return t.Add(x, t.Dropout(x, 0.3))
		}
		return t.Checkpoint(block, t.Checkpoint(block, t.Dropout(in[0], 0.3)))
	}, []gradtest.Input{shape(3, 7)}},
	{"Checkpoint", "of a view", func(t *tape, in []*value) *value {
		return t.Checkpoint(func(t *tape, x *value) *value { return t.Reshape(t.Exp(x), 3, 2) }, in[0])
	}, []gradtest.Input{shape(2, 3)}},
	{"Checkpoint", "identity", func(t *tape, in []*value) *value {
		return t.Checkpoint(func(t *tape, x *value) *value { return x }, t.Exp(in[0]))
	}, []gradtest.Input{shape(2, 3)}},
	{"Checkpoint", "only a parameter", func(t *tape, in []*value) *value {
		x := t.Floats(in[0].Device(), []float32{1, 2, 3}, 3)
		return t.Checkpoint(func(t *tape, x *value) *value { return t.Mul(x, in[0]) }, x)
	}, []gradtest.Input{shape(3)}},
	{"Checkpoint", "returns a parameter", func(t *tape, in []*value) *value {
		return t.Add(t.Checkpoint(func(t *tape, x *value) *value { return in[1] }, in[0]), in[0])
	}, []gradtest.Input{shape(3), shape(3)}},
}

// product is y = a*b by way of a saved copy of b.
var product = autograd.Op{
	Name: "product",
	Forward: func(c *autograd.Ctx, in []*tensor.Tensor) *tensor.Tensor {
		scratch, b, y := c.New(9), c.New(in[1].Shape()...), c.New(in[0].Shape()...)
		tensor.Fill(scratch, 1)
		tensor.Copy(b, in[1])
		tensor.Mul(y, in[0], in[1])
		c.Save(b)
		return y
	},
	Backward: func(c *autograd.Ctx, din []*tensor.Tensor, dy *tensor.Tensor) {
		tensor.MulAdd(din[0], dy, c.Saved[0])
		tensor.MulAdd(din[1], dy, c.In[0])
		c.New(5)
	},
}

// rope is a table made once per device: it belongs to no tape.
func rope(dev device.Device, n, dim int) *tensor.Tensor {
	type key struct {
		dev    device.Device
		n, dim int
	}
	k := key{dev, n, dim}
	if tables[k] == nil {
		tables[k] = tensor.RoPETable(dev, n, dim, 100)
	}
	return tables[k].(*tensor.Tensor)
}

var tables = map[any]any{}

func TestGradients(t *testing.T) {
	for name, dev := range devices(t) {
		for _, tt := range gradients {
			t.Run(name+"/"+tt.method+"/"+tt.name, func(t *testing.T) {
				gradtest.Check(t, dev, tt.f, tt.in...)
			})
		}
	}
}

// formulas has the methods that differences say nothing about: straight-through gradients, inference, memory.
var formulas = map[string]func(t *testing.T){
	"StraightThrough": TestStraightThrough,
	"Int8":            TestInt8,
	"QLinear":         TestQLinear,
	"PackedLinear":    TestPackedLinear,
	"LSQ":             TestLSQ,
	"Rescaled":        TestRescaled,
	"TokenLoss":       TestTokenLoss,
	"CachedAttention": TestCachedAttention,
	"Backward":        TestBackward,
	"Reset":           TestReset,
	"Nodes":           TestReset,
	"Floats":          TestBackward,
	"Ints":            TestTokenLoss,
	"Temp":            TestTemp,
}

// Every method of Tape has a test. A new one fails here until it has a row in gradients or formulas.
func TestEveryMethodIsTested(t *testing.T) {
	covered := map[string]bool{}
	for _, tt := range gradients {
		covered[tt.method] = true
	}
	for m, f := range formulas {
		covered[m] = f != nil
	}
	typ := reflect.TypeFor[*autograd.Tape]()
	for i := range typ.NumMethod() {
		if m := typ.Method(i).Name; !covered[m] {
			t.Errorf("Tape.%s has no test", m)
		}
		delete(covered, typ.Method(i).Name)
	}
	for m := range covered {
		t.Errorf("there is a test for Tape.%s, which does not exist", m)
	}
}

// Tensors without elements give results of the right shape, forward and backward.
func TestEmpty(t *testing.T) {
	dev := cpu.New(1)
	param := func(shape ...int) *autograd.Value { return autograd.NewParam(tensor.Zeros(dev, shape...)) }
	for _, c := range []struct {
		name string
		f    func(tp *autograd.Tape) *autograd.Value
		want []int
	}{
		{"slice", func(tp *autograd.Tape) *autograd.Value { return tp.SliceLast(param(0, 8), 4, 8) }, []int{0, 4}},
		{"concat", func(tp *autograd.Tape) *autograd.Value { return tp.ConcatLast(param(0, 3), param(0, 2)) }, []int{0, 5}},
		{"batch", func(tp *autograd.Tape) *autograd.Value {
			return tp.MatMul(param(0, 3, 4), param(0, 4, 2), false, false)
		},
			[]int{0, 3, 2}},
		{"depth", func(tp *autograd.Tape) *autograd.Value { return tp.MatMul(param(2, 3, 0), param(0, 4), false, false) },
			[]int{2, 3, 4}},
		{"columns", func(tp *autograd.Tape) *autograd.Value { return tp.MatMul(param(2, 3, 4), param(4, 0), false, false) },
			[]int{2, 3, 0}},
	} {
		tp := autograd.Tape{Grad: true}
		y := c.f(&tp)
		if !slices.Equal(y.Shape(), c.want) {
			t.Errorf("%s: %v, want %v", c.name, y.Shape(), c.want)
		}
		tp.Backward(tp.Sum(y))
		tp.Reset()
	}
}

// A loss that is a parameter has its gradient added, too.
func TestBackwardOfParameter(t *testing.T) {
	p := autograd.NewParam(tensor.Zeros(cpu.New(1), 1))
	for range 2 {
		tp := autograd.Tape{Grad: true}
		tp.Backward(p)
		tp.Backward(tp.Reshape(p, 1, 1))
		tp.Reset()
	}
	if g := p.Grad.Floats()[0]; g != 4 {
		t.Errorf("gradient %v after four passes", g)
	}
}
