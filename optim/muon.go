package optim

import (
	"iter"
	"math"

	"setun/device"
	"setun/tensor"
)

// Muon updates hidden matrices along their orthogonalised Nesterov momentum (Jordan et al. 2024; steepest descent in
// the spectral norm, Bernstein and Newhouse 2024, arXiv 2409.20325) and all other parameters by AdamW:
//
//	m = Momentum*m + g;  u = g + Momentum*m;  w -= LR * sqrt(max(1, rows/cols)) * orthogonal(u)
//
// orthogonal(u) is five Newton-Schulz iterations X = aX + (bA + cA^2)X, A = X Xᵀ, from X = u/||u||, with products in
// bfloat16 where the device is faster with them.
type Muon struct {
	cfg   Config
	ps    []Param // matrices
	m     state
	rest  *AdamW
	pool  *tensor.Pool
	us    []*tensor.Tensor // in a step
	norms numbers          // squared norm of each u
}

func newMuon(c Config, all []Param) *Muon {
	o := &Muon{cfg: c}
	var rest []Param
	for _, p := range all {
		if IsMatrix(p) {
			o.ps = append(o.ps, p)
		} else {
			rest = append(rest, p)
		}
	}
	o.m = newState(o.ps)
	o.rest = newAdamW(c, c.AdamLR, rest)
	o.pool, o.us = newPool(o.ps), make([]*tensor.Tensor, len(o.ps))
	o.norms = newNumbers(o.ps, make([]float32, len(o.ps))...)
	return o
}

// Step updates the parameters.
func (o *Muon) Step(factor, gradScale float32) {
	o.rest.Step(factor, gradScale)
	lr := o.cfg.LR * factor
	o.directions(gradScale, func(p Param, x *tensor.Tensor, shape float32) {
		w := p.Value.T
		if o.cfg.Decay != 0 {
			tensor.Scale(w, 1-lr*o.cfg.Decay, w)
		}
		tensor.Axpy(w, -lr*shape, x)
		p.Value.Changed()
	})
}

// directions updates the momentum of every matrix that has a gradient and gives orthogonal(u), good during the call, and
// sqrt(max(1, rows/cols)).
func (o *Muon) directions(gradScale float32, each func(p Param, x *tensor.Tensor, shape float32)) {
	if len(o.ps) == 0 {
		return
	}
	mu := o.cfg.Momentum
	o.norms.zero()
	for i, p := range o.ps {
		if !p.Value.HasGrad() {
			continue
		}
		tensor.Scale(o.m[i], mu, o.m[i])
		tensor.Axpy(o.m[i], gradScale, p.Value.Grad)
		o.us[i] = o.pool.Get(device.F32, p.Value.Shape()...)
		tensor.Scale(o.us[i], mu, o.m[i])
		tensor.Axpy(o.us[i], gradScale, p.Value.Grad)
		tensor.SumSquares(o.norms.at[i], o.us[i])
	}
	o.norms.read() // the one wait of the step
	for i, p := range o.ps {
		if o.us[i] == nil {
			continue
		}
		x := o.orthogonal(o.us[i], float32(1/(math.Sqrt(float64(o.norms.x[i]))+1e-7)))
		o.us[i] = nil
		each(p, x, float32(math.Sqrt(max(1, float64(x.Dim(0))/float64(x.Dim(1))))))
		o.pool.Put(x)
	}
}

// orthogonal takes u over and returns the nearest semi-orthogonal matrix, roughly: singular values within about 0.7 to
// 1.2.
func (o *Muon) orthogonal(u *tensor.Tensor, invNorm float32) *tensor.Tensor {
	const a, b, c = 3.4445, -4.7750, 2.0315
	rows, cols := u.Dim(0), u.Dim(1)
	n := min(rows, cols)
	wide := rows <= cols
	x, y := u, o.pool.Get(device.F32, rows, cols)
	gram, poly := o.pool.Get(device.F32, n, n), o.pool.Get(device.F32, n, n)
	tensor.Scale(x, invNorm, x)
	for range 5 {
		tensor.MatMulBF16(gram, x, x, !wide, wide, 1, 0, true) // X Xᵀ, or Xᵀ X when tall
		tensor.Copy(poly, gram)
		tensor.MatMulBF16(poly, gram, gram, false, false, c, b, true)
		tensor.Copy(y, x)
		if wide {
			tensor.MatMulBF16(y, poly, x, false, false, 1, a, false)
		} else {
			tensor.MatMulBF16(y, x, poly, false, false, 1, a, false)
		}
		x, y = y, x
	}
	o.pool.Put(y)
	o.pool.Put(gram)
	o.pool.Put(poly)
	return x
}

// Free gives back momentum, moments and scratch.
func (o *Muon) Free() {
	o.m.free()
	o.rest.Free()
	o.pool.Close()
	o.norms.free()
}

// State yields the momentum of the matrices and AdamW's moments of the rest.
func (o *Muon) State() iter.Seq2[string, *tensor.Tensor] {
	return func(yield func(string, *tensor.Tensor) bool) {
		if o.m.yield("momentum", o.ps, yield) {
			o.rest.State()(yield)
		}
	}
}

// Steps is the number of steps taken.
func (o *Muon) Steps() int { return o.rest.steps }

// SetSteps restores the number of steps.
func (o *Muon) SetSteps(n int) { o.rest.steps = n }
