package tensor_test

import (
	"math"
	"testing"

	"setun/device"
	"setun/device/cpu"
	"setun/tensor"
)

// Gradients in int8 of more rows than an int32 has room for the sum of.
func TestManyRows(t *testing.T) {
	const m, n, k = 1<<17 + 3, 2, 2
	mk := tensor.NewMaker(cpu.New(0), 1)
	dev := mk.Device
	bytes := make([]int8, m*k)
	for i := range bytes {
		bytes[i] = int8(i%255 - 127)
	}
	xq, codes := tensor.FromCodes(dev, bytes, m, k), tensor.FromCodes(dev, []int8{1, -1, 0, 1}, n, k)
	xs, ws, dy := mk.Fill(0.01, m), mk.Fill(2, 1), mk.Normal(1, m, n)
	grads := func(how device.Math) (dx, dw []float32) {
		x, w := mk.Zeros(m, k), mk.Zeros(n, k)
		tensor.QLinearGrad(x, w, nil, dy, xq, xs, codes, ws, how, false, false)
		return x.Floats(), w.Floats()
	}
	dx, dw := grads(device.MathInt8)
	for _, how := range []device.Math{device.MathFP32, device.MathBF16, device.MathInt8} { // no rows: no gradient
		w := mk.Fill(1, n, k)
		none := func(typ device.Type, cols ...int) *tensor.Tensor {
			return tensor.New(dev, typ, append([]int{0}, cols...)...)
		}
		tensor.QLinearGrad(none(device.F32, k), w, nil, none(device.F32, n), none(device.I8, k), none(device.F32), codes, ws, how, false, false)
		if x := w.Floats(); x[0] != 0 || x[1] != 0 {
			t.Errorf("the gradient of no rows is %v", x)
		}
	}
	wantX, wantW := grads(device.MathFP32)
	for i, v := range dx {
		if math.Abs(float64(v-wantX[i])) > 0.2 {
			t.Fatalf("dx[%d] is %v, in float32 %v", i, v, wantX[i])
		}
	}
	for i, v := range dw {
		if math.Abs(float64(v-wantW[i])) > 5 { // of sums of 131,075 products of about 0.7
			t.Errorf("dw[%d] is %v, in float32 %v", i, v, wantW[i])
		}
	}
}
