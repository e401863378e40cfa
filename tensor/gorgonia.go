package tensor

import (
	"fmt"

	gt "gorgonia.org/tensor"

	"setun/device"
)

// FromDense copies a gorgonia tensor of float32 to dev, views and transposed and column-major tensors in the order of
// their indices. A mask is not looked at.
func FromDense(dev device.Device, d *gt.Dense) (*Tensor, error) {
	if d.Dtype() != gt.Float32 {
		return nil, fmt.Errorf("tensor: a gorgonia tensor of %v cannot be used; convert it to float32", d.Dtype())
	}
	if d.Dims() > MaxDims {
		return nil, fmt.Errorf("tensor: a gorgonia tensor of shape %v has more than %d dimensions", d.Shape(), MaxDims)
	}
	if d.IsScalar() {
		return FromFloats(dev, []float32{d.ScalarValue().(float32)}), nil
	}
	shape, strides := d.Shape(), d.Strides()
	n, last, plain := size(shape), 0, true
	if len(strides) == len(shape) {
		for i, step := len(shape)-1, 1; i >= 0; i-- {
			last += (shape[i] - 1) * strides[i]
			plain = plain && strides[i] == step
			step *= shape[i]
		}
	}
	x := d.Float32s()
	if n > 0 && (len(strides) != len(shape) || last >= len(x)) {
		return nil, fmt.Errorf("tensor: a gorgonia tensor of shape %v, strides %v does not fit %d elements; copy it first",
			shape, strides, len(x))
	}
	if plain {
		return FromFloats(dev, x[:n], shape...), nil
	}
	// gorgonia's flags do not tell every transposed view, strides do.
	y := make([]float32, 0, n)
	var walk func(dim, at int)
	walk = func(dim, at int) {
		if dim == len(shape) {
			y = append(y, x[at])
			return
		}
		for i := range shape[dim] {
			walk(dim+1, at+i*strides[dim])
		}
	}
	if n > 0 {
		walk(0, 0)
	}
	return FromFloats(dev, y, shape...), nil
}

// Dense gives a float32 tensor to gorgonia: a wrap without a copy when the memory is on the host, else a copy.
func (t *Tensor) Dense() *gt.Dense {
	x := t.mem.F32()
	if x == nil {
		x = t.Floats()
	}
	if t.dims == 0 {
		return gt.New(gt.FromScalar(x[0]))
	}
	return gt.New(gt.WithShape(t.Shape()...), gt.WithBacking(x))
}

// Format prints a float32 tensor as gorgonia does: %v abbreviates, %+v adds shape and type. Other types print their
// shape.
func (t *Tensor) Format(s fmt.State, verb rune) {
	if t.Type() != device.F32 || t.Len() == 0 {
		fmt.Fprintf(s, "%s tensor %v on %s", t.Type(), t.Shape(), t.dev.Name())
		return
	}
	gt.New(gt.WithShape(append([]int{}, max1(t.Shape())...)...), gt.WithBacking(t.Floats())).Format(s, verb)
}

func max1(shape []int) []int {
	if len(shape) == 0 {
		return []int{1}
	}
	return shape
}

// Engine lets gorgonia tensors compute on a device's kernels: gorgonia.New(gorgonia.WithEngine(tensor.NewEngine(dev)),
// ...). Products of row-major float32 matrices run on the device, everything else in gorgonia's standard engine.
type Engine struct {
	gt.StdEng
	dev device.Device
}

// NewEngine makes the adapter.
func NewEngine(dev device.Device) Engine { return Engine{dev: dev} }

// MatMul: c = a b.
func (e Engine) MatMul(a, b, c gt.Tensor) error {
	ad, aok := plain(a)
	bd, bok := plain(b)
	cd, cok := plain(c)
	if !aok || !bok || !cok || ad.Shape()[1] != bd.Shape()[0] {
		return e.StdEng.MatMul(a, b, c)
	}
	at, err := FromDense(e.dev, ad)
	if err != nil {
		return err
	}
	defer at.Free()
	bt, err := FromDense(e.dev, bd)
	if err != nil {
		return err
	}
	defer bt.Free()
	ct := New(e.dev, device.F32, cd.Shape()...)
	defer ct.Free()
	MatMul(ct, at, bt, false, false, 1, 0)
	ct.ReadFloats(cd.Float32s())
	return e.dev.Sync()
}

// plain reports whether t is a contiguous row-major float32 matrix.
func plain(t gt.Tensor) (*gt.Dense, bool) {
	d, ok := t.(*gt.Dense)
	return d, ok && d.Dtype() == gt.Float32 && d.Dims() == 2 && d.DataOrder().IsRowMajor() &&
		!d.DataOrder().IsTransposed() &&
		!d.DataOrder().IsNotContiguous() && !d.RequiresIterator() && !d.IsView()
}
