package optim

import (
	"iter"
	"math"

	"setun/device"
	"setun/tensor"
)

// ScheduleFree is schedule-free AdamW (Defazio et al. 2024, arXiv 2405.15682, algorithm 1): an average x in the place
// of a falling learning rate. Gradients are taken at y, between x and the iterate z; y is what the parameters hold,
// until [Averager.Average] puts x there.
//
//	v = Beta2*v + (1-Beta2)*g^2;  c = rate^2 / sum of rate^2 so far, rate = LR*sqrt(1-Beta2^t)
//	z -= rate * (g/(sqrt(v) + Eps) + Decay*y);  x = (1-c)*x + c*z;  y = z + Beta1*(x-z)
//
// It wants a constant schedule after the warmup. Decay applies to matrices only.
type ScheduleFree struct {
	cfg     Config
	ps      []Param
	x, z, v state
	sum     numbers // of squared rates
	steps   int
}

func newScheduleFree(c Config, ps []Param) *ScheduleFree {
	return &ScheduleFree{cfg: c, ps: ps, x: newCopies(ps), z: newCopies(ps), v: newState(ps), sum: newNumbers(ps, 0)}
}

// Step updates the iterate and the average.
func (o *ScheduleFree) Step(factor, gradScale float32) {
	o.steps++
	rate := o.cfg.LR * factor * float32(math.Sqrt(1-math.Pow(float64(o.cfg.Beta2), float64(o.steps))))
	o.sum.read()
	o.sum.x[0] += rate * rate
	o.sum.write()
	c := float32(0)
	if rate > 0 {
		c = rate * rate / o.sum.x[0]
	}
	s := device.AdamWStep{LR: rate, Beta2: o.cfg.Beta2, Eps: o.cfg.Eps, Corr1: 1, Corr2: 1, GradScale: gradScale}
	for i, p := range o.ps {
		if !p.Value.HasGrad() {
			continue
		}
		y := p.Value.T
		if o.cfg.Decay != 0 && IsMatrix(p) {
			tensor.Axpy(o.z[i], -rate*o.cfg.Decay, y)
		}
		tensor.AdamW(o.z[i], y, o.v[i], p.Value.Grad, s) // y has served: the first moment, which is g, takes its place
		tensor.Scale(o.x[i], 1-c, o.x[i])
		tensor.Axpy(o.x[i], c, o.z[i])
		o.show(i, false)
	}
}

// show puts x or y in parameter i.
func (o *ScheduleFree) show(i int, average bool) {
	p, x, z := o.ps[i].Value, o.x[i], o.z[i]
	if average {
		tensor.Copy(p.T, x)
	} else { // exactly the start as long as x and z are
		tensor.AddRows(p.T, x, z, -1)
		tensor.Scale(p.T, o.cfg.Beta1, p.T)
		tensor.Add(p.T, p.T, z)
	}
	p.Changed()
}

// Average puts the average x in the parameters or, with false, y.
func (o *ScheduleFree) Average(on bool) {
	for i := range o.ps {
		o.show(i, on)
	}
}

// Free gives back all state.
func (o *ScheduleFree) Free() {
	o.x.free()
	o.z.free()
	o.v.free()
	o.sum.free()
}

// State yields the average, the iterate, the second moment and the sum of squared rates.
func (o *ScheduleFree) State() iter.Seq2[string, *tensor.Tensor] {
	return func(yield func(string, *tensor.Tensor) bool) {
		_ = o.x.yield("average", o.ps, yield) && o.z.yield("iterate", o.ps, yield) && o.v.yield("adam_v", o.ps, yield) &&
			o.sum.yield("rates", yield)
	}
}

// Steps is the number of steps taken.
func (o *ScheduleFree) Steps() int { return o.steps }

// SetSteps restores the number of steps.
func (o *ScheduleFree) SetSteps(n int) { o.steps = n }
