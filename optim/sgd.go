package optim

import (
	"iter"

	"setun/tensor"
)

// SGD is gradient descent with momentum: m = Momentum*m + g; w -= LR*m (Polyak 1964).
type SGD struct {
	cfg   Config
	ps    []Param
	m     state
	steps int
}

func newSGD(c Config, ps []Param) *SGD { return &SGD{cfg: c, ps: ps, m: newState(ps)} }

// Step updates the parameters.
func (o *SGD) Step(factor, gradScale float32) {
	o.steps++
	lr := o.cfg.LR * factor
	for i, p := range o.ps {
		if !p.Value.HasGrad() {
			continue
		}
		tensor.Scale(o.m[i], o.cfg.Momentum, o.m[i])
		tensor.Axpy(o.m[i], gradScale, p.Value.Grad)
		if o.cfg.Decay != 0 && IsMatrix(p) {
			tensor.Scale(p.Value.T, 1-lr*o.cfg.Decay, p.Value.T)
		}
		tensor.Axpy(p.Value.T, -lr, o.m[i])
		p.Value.Changed()
	}
}

// Free gives back the momentum.
func (o *SGD) Free() { o.m.free() }

// State yields the momentum.
func (o *SGD) State() iter.Seq2[string, *tensor.Tensor] {
	return func(yield func(string, *tensor.Tensor) bool) { o.m.yield("momentum", o.ps, yield) }
}

// Steps is the number of steps taken.
func (o *SGD) Steps() int { return o.steps }

// SetSteps restores the number of steps.
func (o *SGD) SetSteps(n int) { o.steps = n }
