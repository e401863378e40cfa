package tensor_test

import (
	"errors"
	"strings"
	"testing"

	"setun/device"
	"setun/device/cpu"
	"setun/tensor"
)

// catch gives the text of the ShapeError that f panics with, "" for none; other panics pass.
func catch(f func()) (text string) {
	defer func() {
		if r := recover(); r != nil {
			var e *tensor.ShapeError
			if err, ok := r.(error); !ok || !errors.As(err, &e) {
				panic(r)
			}
			text = e.Error()
		}
	}()
	f()
	return ""
}

func TestShapeErrors(t *testing.T) {
	dev, other := cpu.New(1), cpu.New(1)
	f := func(shape ...int) *tensor.Tensor { return tensor.Zeros(dev, shape...) }
	ints := func(shape ...int) *tensor.Tensor { return tensor.New(dev, device.I32, shape...) }
	codes := func(shape ...int) *tensor.Tensor { return tensor.New(dev, device.I8, shape...) }
	panels := tensor.NewPanels(dev, make([]int8, 12), 4, 3, 1)
	s := device.ConvShape{Batch: 1, H: 2, W: 2, C: 1, KH: 3, KW: 1, Stride: 2}
	tests := []struct {
		f    func()
		want string // after "tensor: "
	}{
		{func() { tensor.New(dev, device.F32, 1, 1, 1, 1, 1, 1, 1) },
			"New: [1, 1, 1, 1, 1, 1, 1] has more than 6 dimensions"},
		{func() { f(2, -1) }, "New: [2, -1] has a negative dimension"},
		{func() { f(1<<30, 1<<30, 1<<30) }, "New: [1073741824, 1073741824, 1073741824] has more elements than an int counts"},
		{func() { f(2, 3).Dim(2) }, "Dim: [2, 3] has no dimension 2"},
		{func() { f(2, 3).Dim(-3) }, "Dim: [2, 3] has no dimension -3"},
		{func() { f().Dim(-1) }, "Dim: [] has no dimension -1"},
		{func() { f(2, 3).Reshape(4) }, "Reshape: [2, 3] and [4] differ in length"},
		{func() { f(2, 3).Reshape(4, -1) }, "Reshape: [2, 3] and [4, 1] differ in length"},
		{func() { f(2, 3).Reshape(-2, -3) }, "Reshape: [2, 3] and [-2, -3] differ in length"},
		{func() { f(2, 3).Reshape(-1, -1) }, "Reshape: [2, 3] and [-1, -1] differ in length"},
		{func() { f(0, 3).Reshape(0, -1) }, "Reshape: [0, 3] and [0, -1] differ in length"},
		{func() { f(2, 3).Rows(1, 3) }, "Rows: [2, 3] has no rows [1:3]"},
		{func() { f(2, 3).Rows(1, 0) }, "Rows: [2, 3] has no rows [1:0]"},
		{func() { f().Rows(0, 0) }, "Rows: [] has no rows [0:0]"},
		{func() { f(2).SetFloats(make([]float32, 3)) }, "upload: [2] of f32 does not fit 3 host values of f32"},
		{func() { f(2).SetInts(make([]int32, 2)) }, "upload: [2] of f32 does not fit 2 host values of i32"},
		{func() { ints(2).Floats() }, "download: [2] of i32 does not fit 2 host values of f32"},
		{func() { tensor.Add(f(2), f(2), f(3)) }, "Add: [2] and [2] and [3] differ in length"},
		{func() { tensor.Mul(f(2), f(2), tensor.Zeros(other, 2)) },
			"Mul: [2] and [2] and [2] live on different devices (cpu and cpu)"},
		{func() { tensor.MulAdd(f(2), f(3), f(2)) }, "MulAdd: [2] and [3] and [2] differ in length"},
		{func() { tensor.Scale(f(2), 2, f(3)) }, "Scale: [2] and [3] differ in length"},
		{func() { tensor.Axpy(f(2), 2, f(3)) }, "Axpy: [2] and [3] differ in length"},
		{func() { tensor.Copy(f(2), f(3)) }, "Copy: [2] and [3] differ in length"},
		{func() { tensor.Copy(f(2), ints(2)) }, "Copy: [2] and [2] differ in type"},
		{func() { tensor.CopyCols(f(2, 2), f(2, 3), 2, 4, false) }, "CopyCols: [2, 2] and [2, 3] do not fit columns [2:4]"},
		{func() { tensor.CopyCols(f(2, 2), f(3, 3), 0, 2, false) }, "CopyCols: [2, 2] and [3, 3] do not fit columns [0:2]"},
		{func() { tensor.PasteCols(f(2, 3), f(2, 2), -1, 1, true) },
			"PasteCols: [2, 3] and [2, 2] do not fit columns [-1:1]"},
		{func() { tensor.Unary(device.GELU, f(2), f(3)) }, "GELU: [2] and [3] differ in length"},
		{func() { tensor.UnaryGrad(device.Exp, nil, f(2), f(3), true) }, "Exp: [2] and [3] differ in length"},
		{func() { tensor.Gated(device.SiLU, f(2), f(2), f(3)) }, "Gated: [2] and [2] and [3] differ in length"},
		{func() { tensor.GatedGrad(device.SiLU, nil, nil, f(2), f(2), f(3), true) }, "Gated: [2] and [2] and [3] differ in length"},
		{func() { tensor.Dropout(f(2), f(3), 0.5, 1, false) }, "Dropout: [2] and [3] differ in length"},
		{func() { tensor.AddRows(f(4, 6), f(4, 6), f(3), 1) }, "AddRows: [4, 6] and [3] do not fit"},
		{func() { tensor.AddRows(f(4, 6), f(4, 6), f(2, 6), 1) }, "AddRows: [4, 6] and [2, 6] do not fit"},
		{func() { tensor.AddRows(f(4, 2, 6), f(4, 2, 6), f(2, 6), 1) }, "AddRows: [4, 2, 6] and [2, 6] do not fit"},
		{func() { tensor.AddRows(f(6), f(6), f(1, 6), 1) }, "AddRows: [6] and [1, 6] do not fit"},
		{func() { tensor.AddRows(f(4, 6), f(4, 3), f(6), 1) }, "AddRows: [4, 6] and [4, 3] differ in length"},
		{func() { tensor.SumRows(f(3), f(4, 6), 1) }, "SumRows: [4, 6] and [3] do not fit"},
		{func() { tensor.Sum(f(2), f(4, 6), 1) }, "Sum: [2] should have 1 elements"},
		{func() { tensor.SumSquares(f(2), f(4, 6)) }, "SumSquares: [2] should have 1 elements"},
		{func() { tensor.Softmax(f(2), f(3)) }, "Softmax: [2] and [3] differ in length"},
		{func() { tensor.SoftmaxGrad(nil, f(2), f(3)) }, "Softmax: [2] and [3] differ in length"},
		{func() { tensor.RMSNorm(f(2, 3), f(3), f(2, 3), nil, 1) }, "RMSNorm: [3] should have 2 elements"},
		{func() { tensor.RMSNorm(f(2, 3), f(2), f(2, 3), f(2), 1) },
			"RMSNorm: [2, 3] and [2] do not fit: the gain has one element per column"},
		{func() { tensor.RMSNormGrad(f(3), nil, f(2), f(2), nil, f(1), true) }, "RMSNorm: [3] and [2] and [2] differ in length"},
		{func() { tensor.LayerNorm(f(2, 3), f(2), f(1), f(2, 3), nil, nil, 1) }, "LayerNorm: [1] should have 2 elements"},
		{func() { tensor.LayerNorm(f(2, 3), f(2), f(2), f(2, 3), f(3), f(2), 1) },
			"LayerNorm: [2, 3] and [2] do not fit: the bias has one element per column"},
		{func() { tensor.LayerNormGrad(nil, nil, nil, f(2), f(3), nil, f(1), f(1)) },
			"LayerNorm: [2] and [3] differ in length"},
		{func() { tensor.CrossEntropy(nil, nil, f(3), f(2, 5), f(2)) },
			"CrossEntropy: [2, 5] and [2] do not fit: one target per row"},
		{func() { tensor.CrossEntropy(f(2), nil, f(3), f(2, 5), ints(2)) }, "CrossEntropy: [2] should have 1 elements"},
		{func() { tensor.CrossEntropy(f(1), nil, f(2), f(2, 5), ints(2)) }, "CrossEntropy: [2] should have 3 elements"},
		{func() { tensor.CrossEntropyGrad(f(2, 4), f(1), f(3), f(2, 5), ints(2)) },
			"CrossEntropy: [2, 4] and [2, 5] differ in length"},
		{func() { tensor.Gather(f(2, 4), f(7, 3), ints(2)) }, "Gather: [2, 4] and [7, 3] and [2] do not fit: one row per id"},
		{func() { tensor.Gather(f(2, 3), f(7, 3), f(2)) }, "Gather: [2, 3] and [7, 3] and [2] do not fit: one row per id"},
		{func() { tensor.ScatterAdd(f(7, 3), f(2, 4), ints(2)) },
			"ScatterAdd: [7, 3] and [2, 4] and [2] do not fit: one row per id"},
		{func() { tensor.MatMul(f(2, 5), f(2, 3), f(4, 5), false, false, 1, 0) },
			"MatMul: [2, 3] and [4, 5] do not fit: inner dimensions differ"},
		{func() { tensor.MatMul(f(2, 4), f(2, 3), f(3, 5), false, false, 1, 0) },
			"MatMul: [2, 3] and [3, 5] and [2, 4] do not fit the result"},
		{func() { tensor.MatMul(f(2), f(2, 3), f(3), false, false, 1, 0) }, "MatMul: [2, 3] and [3] need two dimensions"},
		{func() { tensor.MatMul(f(2, 2, 5), f(2, 3), f(2, 3, 5), false, false, 1, 0) },
			"MatMul: [2, 3] and [2, 3, 5] differ in dimensions"},
		{func() { tensor.MatMul(f(2, 2, 5), f(1, 2, 3), f(2, 3, 5), false, false, 1, 0) },
			"MatMul: [1, 2, 3] and [2, 3, 5] and [2, 2, 5] differ in leading dimensions"},
		{func() { tensor.Linear(f(2, 4), f(2, 3), f(4, 5), nil, device.MathFP32) },
			"Linear: [2, 3] and [4, 5] do not fit: x is (..., in), w is (out, in)"},
		{func() { tensor.Linear(f(2, 5), f(2, 3), f(4, 3), nil, device.MathFP32) },
			"Linear: [2, 3] and [4, 3] and [2, 5] do not fit the result"},
		{func() { tensor.Linear(f(2, 4), f(2, 3), f(4, 3), f(3), device.MathFP32) }, "Linear: [3] should have 4 elements"},
		{func() { tensor.LinearGrad(nil, nil, nil, f(2, 5), f(2, 3), f(4, 3), device.MathFP32, true, true) },
			"Linear: [2, 3] and [4, 3] and [2, 5] do not fit the result"},
		{func() { tensor.Im2Col(f(1), f(1, 2, 2, 1), s) }, "Im2Col: [1, 2, 2, 1] is smaller than the kernel"},
		{func() { tensor.Im2Col(f(1), f(1, 2, 2, 1), device.ConvShape{}) },
			"Im2Col: [1, 2, 2, 1] needs a positive kernel and stride"},
		{func() {
			tensor.Im2Col(f(3), f(1, 2, 2, 1), device.ConvShape{Batch: 1, H: 2, W: 2, C: 1, KH: 1, KW: 1, Stride: 1})
		}, "Im2Col: [3] and [1, 2, 2, 1] do not fit"},
		{func() { tensor.RoPE(f(1, 2, 1, 3), f(1, 2, 1, 3), f(9, 3), 0, false, false) },
			"RoPE: [1, 2, 1, 3] and [9, 3] do not fit: x is (B, T, H, D) with even D, the table (positions, D)"},
		{func() { tensor.RoPE(f(1, 2, 1, 4), f(1, 2, 1, 4), f(9, 4), 8, false, false) },
			"RoPE: [1, 2, 1, 4] and [9, 4] do not fit: the sequence is longer than the table"},
		{func() { tensor.Attention(f(2), nil, f(2), f(2), f(2), true, device.MathFP32) },
			"Attention: [2] and [2] and [2] do not fit: q is (B, T, H, D), k and v are (B, S, KV, D)"},
		{func() {
			tensor.Attention(f(1, 2, 3, 4), nil, f(1, 2, 3, 4), f(1, 2, 2, 4), f(1, 2, 2, 4), true, device.MathFP32)
		},
			"Attention: [1, 2, 3, 4] and [1, 2, 2, 4] and [1, 2, 2, 4] do not fit: q is (B, T, H, D), " +
				"k and v are (B, S, KV, D), H a multiple of KV"},
		{func() {
			tensor.Attention(f(1, 2, 2, 4), nil, f(1, 2, 2, 4), f(1, 1, 2, 4), f(1, 1, 2, 4), true, device.MathFP32)
		},
			"Attention: [1, 2, 2, 4] and [1, 1, 2, 4] have fewer keys than queries"},
		{func() {
			tensor.Attention(f(1, 1, 2, 4), f(3), f(1, 1, 2, 4), f(1, 1, 2, 4), f(1, 1, 2, 4), true, device.MathFP32)
		},
			"Attention: [3] should have 2 elements"},
		{func() { tensor.QuantizeRows(f(2, 3), f(2), f(2, 3)) }, "QuantizeRows: [2, 3] needs int8 codes"},
		{func() { tensor.QuantizeRows(codes(2, 3), f(3), f(2, 3)) }, "QuantizeRows: [3] should have 2 elements"},
		{func() { tensor.QuantizeWeights(codes(2, 3), f(3), f(2, 3), 1, device.TWN, 0.7) },
			"QuantizeWeights: [3] and [2, 3] do not fit: one scale, or one per row"},
		{func() { tensor.QuantizeStochastic(f(2, 3), f(1), f(2, 3), device.StochasticQuant{Levels: 1}) },
			"QuantizeStochastic: [2, 3] needs int8 codes"},
		{func() { tensor.QuantizeStochastic(codes(2, 3), f(3), f(2, 3), device.StochasticQuant{Levels: 1}) },
			"QuantizeStochastic: [3] and [2, 3] do not fit: one scale, or one per row"},
		{func() { tensor.Dequantize(f(2, 3), codes(2, 3), f(3)) },
			"Dequantize: [3] and [2, 3] do not fit: one scale, or one per row"},
		{func() { tensor.LSQGrad(f(3), f(2, 3), f(2, 3), f(3), 1, 1) },
			"LSQGrad: [3] and [2, 3] do not fit: one scale, or one per row"},
		{func() { tensor.QLinear(f(2, 4), codes(2, 3), f(3), codes(4, 3), f(1), nil) },
			"QLinear: [3] should have 2 elements"},
		{func() { tensor.PackedLinear(f(2, 4), codes(2, 5), f(2), panels, f(1), nil) },
			"PackedLinear: [2, 5] does not fit the panels: x is (..., in)"},
		{func() { tensor.PackedLinear(f(2, 3), codes(2, 3), f(2), panels, f(1), nil) },
			"PackedLinear: [2, 3] and [2, 3] do not fit the result"},
		{func() { panels.Unpack(codes(4, 2)) }, "Unpack: [4, 2] is not made for the codes"},
		{func() { tensor.QLinear(f(2, 4), codes(2, 3), f(2), codes(4, 3), f(2), nil) },
			"QLinear: [2] should have one scale, or one per output"},
		{func() {
			tensor.QLinearGrad(f(5), nil, nil, f(2, 4), codes(2, 3), f(2), codes(4, 3), f(1), device.MathFP32, true, true)
		},
			"QLinear: [2, 3] and [5] differ in length"},
		{func() { tensor.AdamW(f(2), f(2), f(2), f(3), device.AdamWStep{}) },
			"AdamW: [2] and [2] and [2] and [3] differ in length"},
	}
	for _, tt := range tests {
		if got, _ := strings.CutPrefix(catch(tt.f), "tensor: "); got != tt.want {
			t.Errorf("got  %s\nwant %s", got, tt.want)
		}
	}
	if err := dev.Sync(); err != nil {
		t.Errorf("a kernel ran on shapes that do not fit: %v", err)
	}
}

// Gradients that are not wanted are nil, and nothing happens.
func TestNilGradients(t *testing.T) {
	dev := cpu.New(1)
	x := tensor.Zeros(dev, 2, 4)
	y := tensor.Zeros(dev, 1, 2, 2, 2)
	one := tensor.Zeros(dev, 1)
	for i, f := range []func(){
		func() { tensor.MulAdd(nil, x, x) },
		func() { tensor.Axpy(nil, 1, x) },
		func() { tensor.SumRows(nil, x, 1) },
		func() { tensor.ScatterAdd(nil, x, tensor.New(dev, device.I32, 2)) },
		func() { tensor.LinearGrad(nil, nil, nil, x, x, tensor.Zeros(dev, 4, 4), device.MathFP32, true, true) },
		func() { tensor.Col2Im(nil, x, device.ConvShape{}) },
		func() { tensor.RoPE(nil, y, x, 0, true, true) },
		func() { tensor.LSQGrad(nil, x, x, one, 1, 1) },
		func() { tensor.UnaryGrad(device.Exp, nil, x, x, true) },
		func() { tensor.GatedGrad(device.Exp, nil, nil, x, x, x, true) },
		func() { tensor.SoftmaxGrad(nil, x, x) },
		func() { tensor.RMSNormGrad(nil, nil, x, x, nil, tensor.Zeros(dev, 2), true) },
		func() { tensor.LayerNormGrad(nil, nil, nil, x, x, nil, tensor.Zeros(dev, 2), tensor.Zeros(dev, 2)) },
		func() { tensor.CrossEntropyGrad(nil, one, tensor.Zeros(dev, 3), x, tensor.New(dev, device.I32, 2)) },
		func() {
			tensor.AttentionGrad(nil, nil, nil, y, y, tensor.Zeros(dev, 1, 2, 2), y, y, y, true, device.MathFP32, true)
		},
	} {
		if text := catch(f); text != "" {
			t.Errorf("case %d: %s", i, text)
		}
	}
	if err := dev.Sync(); err != nil {
		t.Error(err)
	}
}
