package optim

import (
	"math"

	"setun/device"
	"setun/tensor"
)

// LAMB takes AdamW's direction, each tensor's step as long as the tensor (You et al. 2020, arXiv 1904.00962):
//
//	u = mHat / (sqrt(vHat) + Eps) + Decay*w;  w -= LR * |w|/|u| * u
//
// with the ratio 1 where one of the norms is 0. Decay applies to matrices only.
type LAMB struct {
	AdamW
	pool  *tensor.Pool
	us    []*tensor.Tensor // in a step
	norms numbers          // squared norms of each w and u
}

func newLAMB(c Config, ps []Param) *LAMB {
	return &LAMB{*newAdamW(c, c.LR, ps), newPool(ps), make([]*tensor.Tensor, len(ps)),
		newNumbers(ps, make([]float32, 2*len(ps))...)}
}

// Step updates the parameters.
func (o *LAMB) Step(factor, gradScale float32) {
	o.steps++
	s := o.kernel(-1, gradScale) // what AdamW does to 0 is the direction
	o.norms.zero()
	for i, p := range o.ps {
		if !p.Value.HasGrad() {
			continue
		}
		u := o.pool.Get(device.F32, p.Value.Shape()...)
		tensor.Fill(u, 0)
		tensor.AdamW(u, o.m[i], o.v[i], p.Value.Grad, s)
		if o.cfg.Decay != 0 && IsMatrix(p) {
			tensor.Axpy(u, o.cfg.Decay, p.Value.T)
		}
		tensor.SumSquares(o.norms.at[2*i], p.Value.T)
		tensor.SumSquares(o.norms.at[2*i+1], u)
		o.us[i] = u
	}
	o.norms.read() // the one wait of the step
	for i, p := range o.ps {
		u := o.us[i]
		if u == nil {
			continue
		}
		trust := 1.0
		if w2, u2 := o.norms.x[2*i], o.norms.x[2*i+1]; w2 > 0 && u2 > 0 {
			trust = math.Sqrt(float64(w2) / float64(u2))
		}
		tensor.Axpy(p.Value.T, -o.lr*factor*float32(trust), u)
		p.Value.Changed()
		o.pool.Put(u)
		o.us[i] = nil
	}
}

// Free gives back moments and scratch.
func (o *LAMB) Free() {
	o.AdamW.Free()
	o.pool.Close()
	o.norms.free()
}
