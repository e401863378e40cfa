package llm

import (
	"fmt"
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
	// linear gives the weight (out, in) of a layer of the blocks: packed codes, or else floats.
	linear(name string, out, in int) (*ternary.Packed, []float32, error)
}

// load builds the model of a Config from a source. Layers whose weights come packed are frozen; the others can be
// trained.
func load(dev device.Device, c Config, src source) (*Model, error) {
	if err := checkAll(c, src); err != nil {
		return nil, err
	}
	mk := tensor.NewMaker(dev, 0)
	var done []string
	m, err := build(mk, c, func(name string, in, out int, _ float32) (nn.Layer, error) {
		p, w, err := src.linear(name, out, in)
		if err != nil {
			return nil, err
		}
		done = append(done, name+".weight", name+".scale") // a scale that LSQ learned is made from the weight
		if p == nil {
			if len(w) != in*out {
				return nil, fmt.Errorf("llm: %s has %d numbers for %d x %d", name, len(w), out, in)
			}
			return linear(mk, tensor.FromFloats(dev, w, out, in), c), nil
		}
		if p.Rows != out || p.Cols != in {
			return nil, fmt.Errorf("llm: %s is %d x %d, the model needs %d x %d", name, p.Rows, p.Cols, out, in)
		}
		if c.Weights == FP32Weights || p.Codebook() != c.codebook() {
			return nil, fmt.Errorf("llm: %s has %s codes, but the model's weights are %s", name, p.Codebook(), c.Weights)
		}
		l, err := ternary.FromPacked(dev, p, c.quant())
		if err == nil && c.Quant.SubNorm {
			l.Gain = autograd.NewParam(mk.Fill(1, in))
		}
		return l, err
	})
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
	m, err := build(tensor.NewMaker(null, 0), c, func(_ string, in, out int, _ float32) (nn.Layer, error) {
		return &nn.Linear{Weight: autograd.NewParam(tensor.New(null, device.F32, out, in))}, nil
	})
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
