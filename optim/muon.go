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
// orthogonal(u) is four iterations X = QX, Q = aI + bA + cA^2, A = X Xᵀ, from X = u/||u||, with the polynomials of Polar
// Express (Amsel et al. 2025, arXiv 2505.16932) in the place of Newton-Schulz's. The last takes its A from that of the third,
// QAQ, which is smaller than X, and only the product of both Q meets X. Products are in bfloat16 where the device is faster
// with them.
type Muon struct {
	cfg   Config
	ps    []Param // matrices
	m     state
	rest  *AdamW
	pool  *tensor.Pool
	like  [][]int          // parameters of the same shape, together: their products are one call
	us    []*tensor.Tensor // of those, in a step: (k, rows, cols)
	view  tensor.Tensor
	eye   map[int]*tensor.Tensor // of n: identities (k, n, n)
	norms numbers                // squared norm of each u
}

// stackLen is the most elements of matrices that pass through the iterations together.
const stackLen = 1 << 21

func newMuon(c Config, all []Param) *Muon {
	o := &Muon{cfg: c, eye: map[int]*tensor.Tensor{}}
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
	o.pool = newPool(o.ps)
	o.norms = newNumbers(o.ps, make([]float32, len(o.ps))...)
	stacks := map[[2]int]int{} // the last of each shape
	for i, p := range o.ps {
		shape := [2]int{p.Value.Dim(0), p.Value.Dim(1)}
		n, ok := stacks[shape]
		if !ok || (len(o.like[n])+1)*p.Value.T.Len() > stackLen {
			n = len(o.like)
			stacks[shape] = n
			o.like = append(o.like, nil)
		}
		o.like[n] = append(o.like[n], i)
	}
	most := map[int]int{}
	for _, like := range o.like {
		w := o.ps[like[0]].Value
		n := min(w.Dim(0), w.Dim(1))
		most[n] = max(most[n], len(like))
	}
	for n, k := range most {
		x := make([]float32, k*n*n)
		for i := range k * n {
			x[i*n+i%n] = 1
		}
		o.eye[n] = tensor.FromFloats(o.ps[0].Value.Device(), x, k, n, n)
	}
	o.us = make([]*tensor.Tensor, len(o.like))
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
	for j, like := range o.like {
		k := 0
		for _, i := range like {
			if o.ps[i].Value.HasGrad() {
				k++
			}
		}
		if k == 0 {
			continue
		}
		w := o.ps[like[0]].Value
		o.us[j] = o.pool.Get(device.F32, k, w.Dim(0), w.Dim(1))
		o.each(o.us[j], like, func(i int, u *tensor.Tensor) {
			g := o.ps[i].Value.Grad
			tensor.Scale(o.m[i], mu, o.m[i])
			tensor.Axpy(o.m[i], gradScale, g)
			tensor.Scale(u, mu, o.m[i])
			tensor.Axpy(u, gradScale, g)
			tensor.SumSquares(o.norms.at[i], u)
		})
	}
	o.norms.read() // the one wait of the step
	for j, like := range o.like {
		x := o.us[j]
		if x == nil {
			continue
		}
		o.us[j] = nil
		o.each(x, like, func(i int, u *tensor.Tensor) {
			tensor.Scale(u, float32(1/(room*math.Sqrt(float64(o.norms.x[i]))+1e-7)), u)
		})
		x = o.orthogonal(x)
		shape := float32(math.Sqrt(max(1, float64(x.Dim(1))/float64(x.Dim(2)))))
		o.each(x, like, func(i int, x *tensor.Tensor) { each(o.ps[i], x, shape) })
		o.pool.Put(x)
	}
}

// each calls f with those parameters of like that have a gradient and their matrices in x.
func (o *Muon) each(x *tensor.Tensor, like []int, f func(i int, x *tensor.Tensor)) {
	k := 0
	for _, i := range like {
		if o.ps[i].Value.HasGrad() {
			f(i, x.RowsTo(&o.view, k, k+1))
			k++
		}
	}
}

// room keeps singular values below the end of the interval that a polynomial is made for: beyond it they run away, and what
// bfloat16 makes of a matrix of rank one may be beyond.
const room = 1.02

// quintics are the polynomials ax + bx^3 + cx^5 whose composition is nearest to 1 on [0.003, 1], each the best of its degree
// on what the ones before leave, at x/room but for the last. They do in four iterations what 3.4445, -4.775, 2.0315 does in
// five.
var quintics = func() (f [4]struct{ a, b, c float32 }) {
	for i, p := range [...][3]float64{{8.383674, -24.765906, 18.357082}, {4.0434204, -3.011405, 0.56951215},
		{3.5055706, -2.6266538, 0.5257194}, {2.490116, -1.8342751, 0.4368347}} {
		x := room
		if i == len(f)-1 {
			x = 1
		}
		f[i].a, f[i].b, f[i].c = float32(p[0]/x), float32(p[1]/math.Pow(x, 3)), float32(p[2]/math.Pow(x, 5))
	}
	return
}()

// orthogonal takes x (k, rows, cols) over, matrices of norm 1/room, and returns the nearest semi-orthogonal ones, roughly:
// singular values from 0.003 on end within 0.8 to 1.2, in bfloat16 with some noise. The first iterations share no A: in
// bfloat16 gradients near rank one run away then.
func (o *Muon) orthogonal(x *tensor.Tensor) *tensor.Tensor {
	k, rows, cols := x.Dim(0), x.Dim(1), x.Dim(2)
	n := min(rows, cols)
	wide := rows <= cols
	y := o.pool.Get(device.F32, k, rows, cols)
	square := func() *tensor.Tensor { return o.pool.Get(device.F32, k, n, n) }
	a, b, p, q := square(), square(), square(), square()
	product := func(c, a, b *tensor.Tensor) { tensor.MatMulBF16(c, a, b, false, false, 1, 0, true) } // of what commutes
	for i := range 3 {
		tensor.MatMulBF16(a, x, x, !wide, wide, 1, 0, true) // X Xᵀ, or Xᵀ X when tall
		f := p
		o.quintic(p, a, i)
		if i == 2 {
			product(b, p, a)
			product(a, b, p)
			o.quintic(q, a, 3)
			product(b, q, p)
			f = b
		}
		if wide {
			tensor.MatMulBF16(y, f, x, false, false, 1, 0, false)
		} else {
			tensor.MatMulBF16(y, x, f, false, false, 1, 0, false)
		}
		x, y = y, x
	}
	for _, t := range [...]*tensor.Tensor{a, b, p, q, y} {
		o.pool.Put(t)
	}
	return x
}

// quintic: q = aI + bA + cA^2, with the polynomial i.
func (o *Muon) quintic(q, a *tensor.Tensor, i int) {
	f := &quintics[i]
	tensor.Scale(q, f.b, a)
	tensor.Axpy(q, f.a, o.eye[q.Dim(1)].RowsTo(&o.view, 0, q.Dim(0)))
	tensor.MatMulBF16(q, a, a, false, false, f.c, 1, true)
}

// Free gives back momentum, moments and scratch.
func (o *Muon) Free() {
	o.m.free()
	o.rest.Free()
	for _, x := range o.eye {
		x.Free()
	}
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
