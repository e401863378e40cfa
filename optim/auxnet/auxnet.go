package auxnet

import (
	"fmt"
	"iter"
	"math"

	"setun/autograd"
	"setun/device/cpu"
	"setun/nn"
	"setun/optim"
	"setun/tensor"
)

// Config configures a network; zero fields mean the defaults in brackets.
type Config struct {
	Mode string  `json:"mode,omitempty"` // "frozen" (default) or "online": learn from measured steps
	LR   float32 `json:"lr,omitempty"`   // of online learning (1e-3)
	Pull float32 `json:"pull,omitempty"` // share by which each online step goes back to the first weights (1e-3)
}

// WithDefaults fills in the zero fields.
func (c Config) WithDefaults() Config {
	if c.Mode == "" {
		c.Mode = "frozen"
	}
	if c.LR == 0 {
		c.LR = 1e-3
	}
	if c.Pull == 0 {
		c.Pull = 1e-3
	}
	return c
}

// Validate reports a field that has no meaning.
func (c Config) Validate() error {
	c = c.WithDefaults()
	switch {
	case c.Mode != "frozen" && c.Mode != "online":
		return fmt.Errorf("auxnet: unknown mode %q; use frozen or online", c.Mode)
	case !(c.LR > 0 && c.LR <= 1):
		return fmt.Errorf("auxnet: lr is %g; it must be above 0 and 1 at most", c.LR)
	case !(c.Pull >= 0 && c.Pull <= 1):
		return fmt.Errorf("auxnet: pull is %g; it must be between 0 and 1", c.Pull)
	}
	return nil
}

// Sizes of the layers.
const (
	Inputs, Hidden, Outputs = 6, 16, 2
	Parameters              = Inputs*Hidden + Hidden + Hidden*Outputs + Outputs
)

// Outputs of 1 change the logarithms of rate and radius by this much.
const (
	MaxRate   = 0.6
	MaxRadius = 0.25
)

// Net maps signals to (o1, o2) in (-1, 1): o = tanh(W2 tanh(W1 x + b1) + b2). It is an nn module.
type Net struct {
	In, Out *nn.Linear

	cfg   Config
	first []*tensor.Tensor // what Pull pulls to
}

// New makes a network with the weights that the package ships. It lives in host memory.
func New(c Config) (*Net, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	n := blank()
	n.cfg = c.WithDefaults()
	at := 0
	for _, v := range n.Params() {
		v.T.SetFloats(distilled[at : at+v.T.Len()])
		at += v.T.Len()
		start := tensor.New(v.Device(), v.T.Type(), v.Shape()...)
		tensor.Copy(start, v.T)
		n.first = append(n.first, start)
	}
	return n, nil
}

func blank() *Net {
	mk := tensor.NewMaker(cpu.New(1), 1)
	return &Net{In: nn.NewLinear(mk, Inputs, Hidden, true), Out: nn.NewLinear(mk, Hidden, Outputs, true)}
}

// Params yields the four tensors.
func (n *Net) Params() iter.Seq2[string, *autograd.Value] { return nn.Fields(n) }

// Forward maps (B, 6) to (B, 2).
func (n *Net) Forward(t *autograd.Tape, x *autograd.Value) *autograd.Value {
	return t.Tanh(n.Out.Forward(t, t.Tanh(n.In.Forward(t, x))))
}

// Advise gives the changes of the logarithms of rate and radius for s, and, online, learns from it first.
func (n *Net) Advise(s optim.Signals) (rate, radius float64) {
	v := s.Vector()
	x := make([]float32, Inputs)
	for i := range x {
		x[i] = float32(v[i])
	}
	if n.cfg.Mode == "online" {
		want := Rule(s)
		weight := float32(math.Abs(min(max(s.Rho, -3), 3)/2 + 0.05)) // |rho - 0.7|: clear cases teach more
		n.learn(x, []float32{float32(want[0]), float32(want[1])}, weight)
	}
	var t autograd.Tape
	o := n.Forward(&t, t.Floats(n.In.Weight.Device(), x, 1, Inputs)).T.Floats()
	t.Reset()
	return MaxRate * float64(o[0]), MaxRadius * float64(o[1])
}

// learn takes a step of gradient descent on weight*||o - want||^2 and then one back towards the first weights.
func (n *Net) learn(x, want []float32, weight float32) {
	t := autograd.Tape{Grad: true}
	dev := n.In.Weight.Device()
	miss := t.Sub(n.Forward(&t, t.Floats(dev, x, 1, Inputs)), t.Floats(dev, want, 1, Outputs))
	t.Backward(t.Scale(t.Sum(t.Mul(miss, miss)), weight))
	t.Reset()
	i := 0
	for _, v := range n.Params() {
		tensor.Axpy(v.T, -n.cfg.LR, v.Grad)
		tensor.Scale(v.T, 1-n.cfg.Pull, v.T)
		tensor.Axpy(v.T, n.cfg.Pull, n.first[i])
		v.ZeroGrad()
		v.Changed()
		i++
	}
}

// State yields the weights under stable names.
func (n *Net) State() iter.Seq2[string, *tensor.Tensor] {
	return func(yield func(string, *tensor.Tensor) bool) {
		for name, v := range n.Params() {
			if !yield("auxnet/"+name, v.T) {
				return
			}
		}
	}
}

// Rule is what the network is distilled from, the thresholds of [optim.Trust] as outputs: the rate falls below a ratio of
// 0.5 and rises above 0.93 while the bounds do not hold the step.
func Rule(s optim.Signals) [2]float64 {
	v := s.Vector()
	switch rho := v[5]/2 + 0.75; {
	case rho < 0.5:
		return [2]float64{-0.6, 0}
	case rho > 0.93 && v[4] < 0:
		return [2]float64{0.65, 0}
	}
	return [2]float64{}
}
