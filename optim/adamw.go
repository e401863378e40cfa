package optim

import (
	"iter"
	"math"

	"setun/device"
	"setun/tensor"
)

// AdamW is Adam with decoupled weight decay (Loshchilov and Hutter 2019, arXiv 1711.05101), one fused kernel a tensor.
// Decay applies to matrices only. The bias of the moments is corrected by the steps of the optimizer, also for a parameter
// whose first gradient comes late.
type AdamW struct {
	cfg   Config
	lr    float32
	ps    []Param
	m, v  state
	steps int
}

func newAdamW(c Config, lr float32, ps []Param) *AdamW {
	return &AdamW{cfg: c, lr: lr, ps: ps, m: newState(ps), v: newState(ps)}
}

// kernel is what the kernel needs at step o.steps, but for Decay.
func (o *AdamW) kernel(lr, gradScale float32) device.AdamWStep {
	corr := func(beta float32) float32 { return float32(1 / (1 - math.Pow(float64(beta), float64(o.steps)))) }
	return device.AdamWStep{LR: lr, Beta1: o.cfg.Beta1, Beta2: o.cfg.Beta2, Eps: o.cfg.Eps,
		Corr1: corr(o.cfg.Beta1), Corr2: corr(o.cfg.Beta2), GradScale: gradScale}
}

// Step updates the parameters.
func (o *AdamW) Step(factor, gradScale float32) {
	s := o.next(o.lr*factor, gradScale)
	for i, p := range o.ps {
		if !p.Value.HasGrad() {
			continue
		}
		s.Decay = 0
		if IsMatrix(p) {
			s.Decay = o.cfg.Decay
		}
		tensor.AdamW(p.Value.T, o.m[i], o.v[i], p.Value.Grad, s)
		p.Value.Changed()
	}
}

// next counts a step and gives its scalars.
func (o *AdamW) next(lr, gradScale float32) device.AdamWStep {
	o.steps++
	return o.kernel(lr, gradScale)
}

// Free gives back both moments.
func (o *AdamW) Free() { o.m.free(); o.v.free() }

// State yields the first and second moments.
func (o *AdamW) State() iter.Seq2[string, *tensor.Tensor] {
	return func(yield func(string, *tensor.Tensor) bool) {
		_ = o.m.yield("adam_m", o.ps, yield) && o.v.yield("adam_v", o.ps, yield)
	}
}

// Steps is the number of steps taken.
func (o *AdamW) Steps() int { return o.steps }

// SetSteps restores the number of steps.
func (o *AdamW) SetSteps(n int) { o.steps = n }
