package optim

import (
	"iter"
	"math"

	"setun/device"
	"setun/tensor"
)

// Hypergradient is AdamW that learns its learning rate by gradient descent (Baydin et al. 2018, arXiv 1703.04782), in
// the multiplicative form, with the cosine in the place of the product: before each step,
//
//	log rate += HyperLR * cos(g, u)
//
// where u = mHat/(sqrt(vHat) + Eps) of all parameters is the direction of the step before. The rate starts at LR.
type Hypergradient struct {
	AdamW
	log  numbers // rate/LR
	sums numbers // <g, u>, |g|^2, |u|^2
	pool *tensor.Pool
}

func newHypergradient(c Config, ps []Param) *Hypergradient {
	return &Hypergradient{*newAdamW(c, c.LR, ps), newNumbers(ps, 0), newNumbers(ps, 0, 0, 0), newPool(ps)}
}

// Step updates the learning rate and the parameters.
func (o *Hypergradient) Step(factor, gradScale float32) {
	o.log.read()
	if o.steps > 0 {
		o.log.x[0] += o.cfg.HyperLR * o.cosine()
		o.log.write()
	}
	o.AdamW.Step(factor*float32(math.Exp(float64(o.log.x[0]))), gradScale)
}

// cosine is that of the gradient and the last direction; 0 if one is 0.
func (o *Hypergradient) cosine() float32 {
	s := o.kernel(-1, 1)
	s.Beta1, s.Beta2 = 1, 1 // what AdamW does to 0 is the direction, and the moments stay
	o.sums.zero()
	for i, p := range o.ps {
		if !p.Value.HasGrad() {
			continue
		}
		u, g := o.pool.Get(device.F32, p.Value.Shape()...), p.Value.Grad
		tensor.Fill(u, 0)
		tensor.AdamW(u, o.m[i], o.v[i], g, s)
		tensor.SumSquares(o.sums.at[1], g)
		tensor.SumSquares(o.sums.at[2], u)
		tensor.Mul(u, u, g)
		addSum(o.pool, o.sums.at[0], u, 1)
		o.pool.Put(u)
	}
	o.sums.read()
	if norms := math.Sqrt(float64(o.sums.x[1])) * math.Sqrt(float64(o.sums.x[2])); norms > 0 {
		return float32(float64(o.sums.x[0]) / norms)
	}
	return 0
}

// Free gives back all state and scratch.
func (o *Hypergradient) Free() {
	o.AdamW.Free()
	o.log.free()
	o.sums.free()
	o.pool.Close()
}

// State yields the moments and the logarithm of the rate in units of LR.
func (o *Hypergradient) State() iter.Seq2[string, *tensor.Tensor] {
	return func(yield func(string, *tensor.Tensor) bool) {
		if o.m.yield("adam_m", o.ps, yield) && o.v.yield("adam_v", o.ps, yield) {
			o.log.yield("log_rate", yield)
		}
	}
}
