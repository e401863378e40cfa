package llm

import (
	"encoding/binary"
	"fmt"
	"math"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"

	"setun/autograd"
	"setun/device"
	"setun/nn"
	"setun/tensor"
	"setun/ternary"
)

// A source holds the weights of a model, by the names of Params and Linears.
type source interface {
	// size is the number of tensors and of the bytes that they take.
	size() (tensors int, bytes int64)
	// check says why name, a parameter or the weight of a layer of the blocks, cannot be had in the given shape.
	check(name string, shape ...int) error
	// floats gives the values of a parameter of the given shape.
	floats(name string, shape ...int) ([]float32, error)
	// half gives a parameter that the source has in half precision; ok is false for others.
	half(name string) (x []uint16, ok bool, err error)
	// frozen reports whether layers come as codes.
	frozen() bool
	// linear gives the weight (out, in) of a layer of the blocks.
	linear(name string, out, in int) (values, error)
}

// values are those of a layer: codes and scales, or else floats, with the scales that they were quantized by, if those
// still hold.
type values struct {
	codes  []int8
	scales []float32
	floats []float32
}

// halves are the numbers of a tensor in half precision.
func halves(data []byte) []uint16 {
	x := make([]uint16, len(data)/2)
	for i := range x {
		x[i] = binary.LittleEndian.Uint16(data[2*i:])
	}
	return x
}

// load builds the model of a Config from a source. Layers whose weights come packed are frozen; the others can be
// trained.
func load(dev device.Device, c Config, src source) (*Model, error) {
	if err := checkAll(c, src); err != nil {
		return nil, err
	}
	// What is read and converted is as large as the model, and has no pointers to follow.
	defer runtime.GC()
	defer debug.SetGCPercent(debug.SetGCPercent(10))
	mk := tensor.NewMaker(dev, 0)
	var done []string
	table := func(name string, rows, cols int, _ float32) (*autograd.Value, error) {
		done = append(done, name)
		// Of a model that cannot be trained on, tables in half precision stay so.
		if src.frozen() {
			h, ok, err := src.half(name)
			if err != nil {
				return nil, err
			}
			if ok && len(h) == rows*cols {
				return autograd.NewConst(tensor.FromHalves(dev, h, rows, cols)), nil
			}
		}
		x, err := src.floats(name, rows, cols)
		if err != nil {
			return nil, err
		}
		if len(x) != rows*cols {
			return nil, fmt.Errorf("llm: %s has %d numbers for %d x %d", name, len(x), rows, cols)
		}
		return autograd.NewParam(tensor.FromFloats(dev, x, rows, cols)), nil
	}
	m, err := build(mk, c, maker{table, func(name string, in, out int, _ float32) (nn.Layer, error) {
		v, err := src.linear(name, out, in)
		if err != nil {
			return nil, err
		}
		done = append(done, name+".weight", name+".scale") // a scale that LSQ learned is made from the weight
		if v.codes == nil {
			done = append(done, name+".columns") // so are column scales
			if len(v.floats) != in*out {
				return nil, fmt.Errorf("llm: %s has %d numbers for %d x %d", name, len(v.floats), out, in)
			}
			l := linear(mk, tensor.FromFloats(dev, v.floats, out, in), c)
			if q, ok := l.(*ternary.Linear); ok && q.Scale != nil && len(v.scales) == q.Scale.T.Len() {
				q.Scale.T.SetFloats(v.scales)
				q.Scale.Changed()
			}
			return l, nil
		}
		if c.Weights == FP32Weights {
			return nil, fmt.Errorf("llm: %s has codes, but the model's weights are fp32", name)
		}
		l, err := ternary.FromCodes(dev, v.codes, out, in, v.scales, c.quant())
		if err == nil && c.Quant.SubNorm {
			l.Gain = autograd.NewParam(mk.Fill(1, in))
		}
		return l, err
	}})
	if err != nil {
		return nil, err
	}
	for name, v := range m.Params() {
		if slices.Contains(done, name) {
			continue
		}
		x, err := src.floats(name, v.T.Shape()...)
		if err != nil {
			return nil, err
		}
		if len(x) != v.T.Len() {
			return nil, fmt.Errorf("llm: %s has %d numbers, the model needs %v", name, len(x), v.T.Shape())
		}
		v.T.SetFloats(x)
		v.Changed()
	}
	return m, dev.Sync()
}

// checkAll reports what src lacks, before any memory is taken for it.
func checkAll(c Config, src source) error {
	if err := c.Validate(); err != nil {
		return err
	}
	tensors, bytes := src.size()
	if c.Depth > tensors {
		return fmt.Errorf("llm: %d blocks cannot come from %d tensors", c.Depth, tensors)
	}
	if dim := c.Width / c.Heads; int64(c.Context)*int64(dim) > max(bytes, 1<<22) {
		return fmt.Errorf("llm: a context of %d with heads of %d is too long for a file of %d bytes", c.Context, dim, bytes)
	}
	null := device.NewNull()
	table := func(_ string, rows, cols int, _ float32) (*autograd.Value, error) {
		return autograd.NewParam(tensor.New(null, device.F32, rows, cols)), nil
	}
	m, err := build(tensor.NewMaker(null, 0), c, maker{table, func(_ string, in, out int, _ float32) (nn.Layer, error) {
		w, err := table("", out, in, 0)
		return &nn.Linear{Weight: w}, err
	}})
	if err != nil {
		return err
	}
	for name, v := range m.Params() {
		if err := src.check(name, v.T.Shape()...); err != nil {
			return err
		}
	}
	return nil
}

// codebook is that of the layers.
func (c Config) codebook() ternary.Codebook {
	if c.Weights == FiveWeights {
		return ternary.Five
	}
	return ternary.Ternary
}

// named makes err name the file that it is about.
func named(path string, err error) error {
	if err == nil || strings.Contains(err.Error(), path) {
		return err
	}
	return fmt.Errorf("%s: %w", path, err)
}

// dequantize gives codes * scales, one scale or one per row.
func dequantize(codes []int8, scales []float32) []float32 {
	x := make([]float32, len(codes))
	for i, c := range codes {
		x[i] = float32(c) * scales[i/(len(codes)/len(scales))]
	}
	return x
}

// As gives a copy of the model with other weights, to train on. Quantized weights start from the float weights of the
// layers; fp32 ones, and those of a frozen model, are the values that the layers multiply with.
func (m *Model) As(w Weights) (*Model, error) {
	c := m.cfg
	if c.Weights = w; w == FP32Weights && c.Quant.SubNorm {
		return nil, fmt.Errorf("llm: %w", errSubNorm)
	}
	return load(m.Device(), c, modelSource{m, w})
}

// modelSource is a model as a source of another.
type modelSource struct {
	m  *Model
	to Weights
}

func (s modelSource) size() (tensors int, bytes int64) { return math.MaxInt, math.MaxInt64 }

func (s modelSource) check(string, ...int) error { return nil }

func (s modelSource) half(string) ([]uint16, bool, error) { return nil, false, nil }

func (s modelSource) frozen() bool { return false }

func (s modelSource) floats(name string, _ ...int) ([]float32, error) {
	for n, v := range s.m.Params() {
		if n == name {
			return v.T.Floats(), nil
		}
	}
	return nil, fmt.Errorf("llm: the model has no %s", name)
}

func (s modelSource) linear(name string, _, _ int) (v values, err error) {
	for w := range s.m.weights() {
		switch q := w.ternary; {
		case w.name != name:
		case q != nil && q.Weight != nil && s.to != FP32Weights:
			v.floats = q.Weight.T.Floats()
			return v, nil
		default:
			v.floats, err = w.floats()
			return v, err
		}
	}
	return v, fmt.Errorf("llm: the model has no layer %s", name)
}
