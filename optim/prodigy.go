package optim

import (
	"iter"
	"math"

	"setun/device"
	"setun/tensor"
)

// Prodigy is AdamW that estimates its step size, the distance d from the start x0 to a solution, from below
// (Mishchenko and Defazio 2024, arXiv 2306.06101, algorithm 4). Of one d for all parameters:
//
//	m = Beta1*m + (1-Beta1)*d*g;  v = Beta2*v + (1-Beta2)*d^2*g^2
//	r = sqrt(Beta2)*r + d^2/D0*LR * <g, x0-x>;  s = sqrt(Beta2)*s + d^2/D0*LR * g
//	x = x*(1 - LR*d*Decay) - LR*d * m/(sqrt(v) + d*Eps);  d = max(d, r/|s|_1), for the next step
//
// from d = D0. As in the authors' program, 1/D0 keeps r and s in range and there is no bias correction. LR is a factor
// of d: leave it at 1 and let a schedule move it. Decay applies to matrices only.
type Prodigy struct {
	AdamW
	x0, s state
	dr    numbers // d, r
	sums  numbers // <g, x0-x>, |s|_1
	pool  *tensor.Pool
}

func newProdigy(c Config, ps []Param) *Prodigy {
	return &Prodigy{*newAdamW(c, c.LR, ps), newCopies(ps), newState(ps), newNumbers(ps, c.D0, 0), newNumbers(ps, 0, 0),
		newPool(ps)}
}

// Step updates the parameters and the estimate.
func (o *Prodigy) Step(factor, gradScale float32) {
	o.steps++
	o.dr.read()
	d, r, beta3 := o.dr.x[0], o.dr.x[1], float32(math.Sqrt(float64(o.cfg.Beta2)))
	alpha := d / o.cfg.D0 * d * o.lr * factor * gradScale
	step := device.AdamWStep{LR: o.lr * factor * d, Beta1: o.cfg.Beta1, Beta2: o.cfg.Beta2, Eps: d * o.cfg.Eps,
		Corr1: 1, Corr2: 1, GradScale: d * gradScale}
	o.sums.zero()
	for i, p := range o.ps {
		if !p.Value.HasGrad() {
			continue
		}
		w, g, s := p.Value.T, p.Value.Grad, o.s[i]
		t := o.pool.Get(device.F32, w.Shape()...)
		tensor.AddRows(t, o.x0[i], w, -1)
		tensor.Mul(t, t, g)
		addSum(o.pool, o.sums.at[0], t, 1)
		tensor.Scale(s, beta3, s)
		tensor.Axpy(s, alpha, g)
		tensor.Unary(device.ReLU, t, s) // |s| = 2 max(s, 0) - s
		addSum(o.pool, o.sums.at[1], t, 2)
		addSum(o.pool, o.sums.at[1], s, -1)
		o.pool.Put(t)
		step.Decay = 0
		if IsMatrix(p) {
			step.Decay = o.cfg.Decay
		}
		tensor.AdamW(w, o.m[i], o.v[i], g, step)
		p.Value.Changed()
	}
	o.sums.read()
	r = beta3*r + alpha*o.sums.x[0]
	if l1 := o.sums.x[1]; l1 > 0 {
		d = max(d, r/l1)
	}
	o.dr.x[0], o.dr.x[1] = d, r
	o.dr.write()
}

// Free gives back all state and scratch.
func (o *Prodigy) Free() {
	o.AdamW.Free()
	o.x0.free()
	o.s.free()
	o.dr.free()
	o.sums.free()
	o.pool.Close()
}

// State yields the moments, s, the start, and d with r.
func (o *Prodigy) State() iter.Seq2[string, *tensor.Tensor] {
	return func(yield func(string, *tensor.Tensor) bool) {
		_ = o.m.yield("adam_m", o.ps, yield) && o.v.yield("adam_v", o.ps, yield) &&
			o.s.yield("prodigy_s", o.ps, yield) && o.x0.yield("prodigy_x0", o.ps, yield) && o.dr.yield("prodigy_dr", yield)
	}
}
