package tensor_test

import (
	"fmt"
	"slices"
	"testing"

	gt "gorgonia.org/tensor"

	"setun/device"
	"setun/device/cpu"
	"setun/device/devicetest"
	"setun/tensor"
)

func dense(shape ...int) *gt.Dense {
	n := 1
	for _, d := range shape {
		n *= d
	}
	return gt.New(gt.WithShape(shape...), gt.WithBacking(count(n)))
}

func TestFromDense(t *testing.T) {
	slice := func(d *gt.Dense, s ...gt.Slice) *gt.Dense {
		v, err := d.Slice(s...)
		if err != nil {
			t.Fatal(err)
		}
		return v.(*gt.Dense)
	}
	turned := func(d *gt.Dense, axes ...int) *gt.Dense {
		if err := d.T(axes...); err != nil {
			t.Fatal(err)
		}
		return d
	}
	moved := turned(dense(2, 3))
	if err := moved.Transpose(); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name  string
		d     *gt.Dense
		shape []int
		want  []float32
	}{
		{"plain", dense(2, 3), []int{2, 3}, count(6)},
		{"scalar", gt.New(gt.FromScalar(float32(7))), []int{}, []float32{7}},
		{"rows", slice(dense(3, 2), gt.S(1, 3)), []int{2, 2}, []float32{2, 3, 4, 5}},
		{"one row", slice(dense(3, 2), gt.S(1)), []int{2}, []float32{2, 3}},
		{"columns", slice(dense(2, 3), nil, gt.S(1, 3)), []int{2, 2}, []float32{1, 2, 4, 5}},
		{"one column", slice(dense(2, 3), nil, gt.S(1)), []int{2}, []float32{1, 4}},
		{"every other column", slice(dense(2, 3), nil, gt.S(0, 3, 2)), []int{2, 2}, []float32{0, 2, 3, 5}},
		{"one element", slice(dense(2, 3), gt.S(1), gt.S(2)), []int{}, []float32{5}},
		{"turned", turned(dense(2, 3)), []int{3, 2}, []float32{0, 3, 1, 4, 2, 5}},
		{"turned and moved", moved, []int{3, 2}, []float32{0, 3, 1, 4, 2, 5}},
		{"slice of turned", slice(turned(dense(2, 3)), gt.S(1, 3)), []int{2, 2}, []float32{1, 4, 2, 5}},
		{"three axes", turned(dense(2, 3, 2), 2, 0, 1), []int{2, 2, 3}, []float32{0, 2, 4, 6, 8, 10, 1, 3, 5, 7, 9, 11}},
		{"columns first", gt.New(gt.WithShape(2, 3), gt.AsFortran(count(6))), []int{2, 3}, count(6)},
	} {
		for _, dev := range []device.Device{cpu.New(0), devicetest.Opaque(cpu.New(1))} {
			got, err := tensor.FromDense(dev, tt.d)
			if err != nil {
				t.Errorf("%s: %v", tt.name, err)
				continue
			}
			if !slices.Equal(got.Shape(), tt.shape) || !slices.Equal(got.Floats(), tt.want) {
				t.Errorf("%s: got %v of shape %v, want %v of %v", tt.name, got.Floats(), got.Shape(), tt.want, tt.shape)
			}
		}
	}
	d := dense(2, 2)
	x, err := tensor.FromDense(cpu.New(0), d)
	if err != nil {
		t.Fatal(err)
	}
	tensor.Fill(x, 9)
	if d.Float32s()[1] != 1 {
		t.Error("FromDense shares memory")
	}
	for _, d := range []*gt.Dense{
		gt.New(gt.WithShape(2), gt.WithBacking([]float64{1, 2})), dense(1, 1, 1, 1, 1, 1, 1),
	} {
		if _, err := tensor.FromDense(cpu.New(0), d); err == nil {
			t.Errorf("a tensor of %v and shape %v was taken", d.Dtype(), d.Shape())
		}
	}
}

func TestDense(t *testing.T) {
	dev := cpu.New(0)
	x := tensor.FromFloats(dev, count(6), 2, 3)
	d := x.Dense()
	tensor.Fill(x.Rows(0, 1), 8)
	d.Float32s()[5] = -1
	if got := x.Floats(); !slices.Equal(got, []float32{8, 8, 8, 3, 4, -1}) || !slices.Equal(d.Float32s(), got) {
		t.Errorf("memory on the host is not shared: %v and %v", got, d.Float32s())
	}
	if s := tensor.FromFloats(dev, []float32{4}).Dense(); !s.IsScalar() || s.ScalarValue() != float32(4) {
		t.Errorf("a scalar became %v", s)
	}
	opaque := devicetest.Opaque(cpu.New(1))
	y := tensor.FromFloats(opaque, count(6), 3, 2)
	if d := y.Dense(); !slices.Equal(d.Float32s(), count(6)) || !d.Shape().Eq(gt.Shape{3, 2}) {
		t.Errorf("a copy from a device is %v", d)
	}
	sum, err := gt.Sum(x.Dense(), 1) // gorgonia computes on our memory
	if err != nil || !slices.Equal(sum.Data().([]float32), []float32{24, 6}) {
		t.Errorf("gorgonia sums to %v, %v", sum, err)
	}
}

func TestFormat(t *testing.T) {
	opaque := devicetest.Opaque(cpu.New(1))
	for _, tt := range []struct {
		format string
		x      *tensor.Tensor
		want   string
	}{
		{"%v", tensor.FromFloats(opaque, count(6), 2, 3), "⎡0  1  2⎤\n⎣3  4  5⎦\n"},
		{"%+v", tensor.FromFloats(opaque, count(4), 2, 2), "Matrix (2, 2) [2 1]\n⎡0  1⎤\n⎣2  3⎦\n"},
		{"%.1f", tensor.FromFloats(opaque, []float32{0.25, 3}, 2), "[0.2  3.0]"},
		{"%v", tensor.FromFloats(opaque, []float32{3}), "[3]"},
		{"%v", tensor.Zeros(opaque, 0, 2), "f32 tensor [0 2] on opaque"},
		{"%v", tensor.FromInts(opaque, []int32{1, 2}, 2), "i32 tensor [2] on opaque"},
	} {
		if got := fmt.Sprintf(tt.format, tt.x); got != tt.want {
			t.Errorf("%s prints %q, want %q", tt.format, got, tt.want)
		}
	}
}

// counting is a device that counts its matrix products.
type counting struct {
	*cpu.Device
	gemms int
}

func (c *counting) Gemm(y, a, b, bias device.Mem, s device.GemmShape) {
	c.gemms++
	c.Device.Gemm(y, a, b, bias, s)
}

func TestEngine(t *testing.T) {
	dev := &counting{Device: cpu.New(0)}
	eng := tensor.NewEngine(dev)
	mat := func(rows, cols int) *gt.Dense {
		return gt.New(gt.WithShape(rows, cols), gt.WithBacking(count(rows*cols)), gt.WithEngine(eng))
	}
	plain := func(d *gt.Dense) *gt.Dense {
		x := gt.New(gt.WithShape(d.Shape()...), gt.WithBacking(slices.Clone(d.Float32s())))
		return x
	}
	a, b := mat(3, 4), mat(4, 5)
	got, err := a.MatMul(b)
	if err != nil {
		t.Fatal(err)
	}
	want, err := plain(a).MatMul(plain(b))
	if err != nil {
		t.Fatal(err)
	}
	if dev.gemms != 1 || !slices.Equal(got.Float32s(), want.Float32s()) {
		t.Errorf("the device made %d products; %v, want %v", dev.gemms, got, want)
	}
	// What the device does not take, gorgonia does.
	turned := mat(4, 3)
	if err := turned.T(); err != nil {
		t.Fatal(err)
	}
	got, err = turned.MatMul(b)
	if err != nil {
		t.Fatal(err)
	}
	back := tensor.Zeros(cpu.New(0), 3, 5)
	tensor.MatMul(back, tensor.FromFloats(back.Device(), count(12), 4, 3),
		tensor.FromFloats(back.Device(), count(20), 4, 5),
		true, false, 1, 0)
	if dev.gemms != 1 || !slices.Equal(got.Float32s(), back.Floats()) {
		t.Errorf("a transposed product is %v, want %v", got, back)
	}
	sum, err := gt.Add(mat(2, 2), mat(2, 2))
	if err != nil || !slices.Equal(sum.Data().([]float32), []float32{0, 2, 4, 6}) {
		t.Errorf("gorgonia's sum is %v, %v", sum, err)
	}
	if _, err := a.MatMul(mat(3, 2)); err == nil {
		t.Error("a product of shapes that do not fit gave no error")
	}
	f64 := gt.New(gt.WithShape(2, 2), gt.WithBacking([]float64{1, 2, 3, 4}), gt.WithEngine(eng))
	if y, err := f64.MatMul(f64); err != nil || y.Float64s()[3] != 22 {
		t.Errorf("a product of float64 is %v, %v", y, err)
	}
	dev.Fail(fmt.Errorf("broken"))
	if _, err := a.MatMul(b); err == nil {
		t.Error("the device's error is lost")
	}
}
