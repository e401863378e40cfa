package optim

import (
	"fmt"
	"math"

	"setun/device"
	"setun/tensor"
)

// Objective is a deterministic function of parameters: it returns its value and, if asked, leaves its gradient in them.
type Objective func(gradient bool) float64

// MinimizeConfig configures [Minimize]; zero fields mean the defaults in brackets.
type MinimizeConfig struct {
	// Method: "cg" (default) solves each model by conjugate gradients with products of the Hessian from differences of
	// gradients (Steihaug 1983); "adam" is first-order: Adam's direction, the curvature along the last step.
	Method string  `json:"method,omitempty"`
	Radius float64 `json:"radius,omitempty"` // at the start (1)
	Tol    float64 `json:"tol,omitempty"`    // gradient norm to reach (1e-4)
	Evals  int     `json:"evals,omitempty"`  // most gradients to compute (3000)
	// Trace is called with every accepted point.
	Trace func(Minimum) `json:"-"`
}

// Minimum is where Minimize stands or stands still.
type Minimum struct {
	Value, GradNorm, Radius float64
	Evals                   int // gradients computed
	Converged               bool
}

// Minimize minimises f from where the parameters are by a trust-region method:
//
//	s = argmin m(s) = f + g s + s B s/2 over ||s|| <= D, roughly;  rho = (f(x) - f(x+s)) / (m(0) - m(s))
//
// A step with rho > 1e-4 is taken, any other undone to the bit; D doubles when rho > 3/4 on the boundary and falls to
// ||s||/4 when rho < 1/10. Every step gives at least a fixed share of the decrease along -g, so that for f with a
// Lipschitz gradient and bounded from below ||g|| goes to 0 from any radius (Conn, Gould and Toint 2000; Nocedal and Wright 2006,
// chapter 4), until float32 ends it: decreases below 3e-7 of |f| are judged by ||g|| instead.
//
// The error says that f was not finite where the parameters started, or what is wrong with c.
func Minimize(f Objective, ps []Param, c MinimizeConfig) (Minimum, error) {
	if c.Method == "" {
		c.Method = "cg"
	}
	if c.Radius == 0 {
		c.Radius = 1
	}
	if c.Tol == 0 {
		c.Tol = 1e-4
	}
	if c.Evals == 0 {
		c.Evals = 3000
	}
	switch {
	case c.Method != "cg" && c.Method != "adam":
		return Minimum{}, fmt.Errorf("optim: unknown method %q; use cg or adam", c.Method)
	case !(c.Radius > 0) || !(c.Tol > 0) || c.Evals < 0:
		return Minimum{}, fmt.Errorf("optim: radius %g, tol %g and evals %d must be positive", c.Radius, c.Tol, c.Evals)
	case len(ps) == 0:
		return Minimum{}, fmt.Errorf("optim: nothing to minimise over: there are no parameters")
	}
	m := &minimizer{f: f, ps: ps, pool: newPool(ps)}
	m.at.Radius = c.Radius
	for _, p := range ps {
		m.x = append(m.x, p.Value.T)
	}
	for _, v := range []*vec{&m.g, &m.s, &m.x0, &m.g0, &m.d, &m.r, &m.h} {
		*v = vec(newState(ps))
		defer state(*v).free()
	}
	defer m.pool.Close()
	if c.Method == "adam" {
		m.adam = newAdamW(Config{Name: "adamw", Beta1: 0.9, Beta2: 0.99, Eps: 1e-6}, 1, ps)
		defer m.adam.Free()
	}
	return m.run(c)
}

// vec is a vector in the space of all parameters.
type vec []*tensor.Tensor

type minimizer struct {
	f    Objective
	ps   []Param
	pool *tensor.Pool
	adam *AdamW // of method adam
	at   Minimum

	x       vec // the parameters
	g       vec // gradient there
	s       vec // step
	x0, g0  vec // where it started
	d, r, h vec // of conjugate gradients: direction, residual, Hessian times direction
	curve   float64
}

func (m *minimizer) run(c MinimizeConfig) (Minimum, error) {
	const eta, rounding = 1e-4, 3e-7
	m.at.Value = m.gradient()
	m.copy(m.g, nil)
	m.at.GradNorm = m.norm(m.g)
	if v := m.at.Value + m.at.GradNorm; math.IsNaN(v) || math.IsInf(v, 0) {
		return m.at, fmt.Errorf("optim: the function is %g with gradient norm %g where it starts", m.at.Value, m.at.GradNorm)
	}
	fresh := true // the gradient is new, not one that a step has been undone at
	for {
		m.at.Converged = m.at.GradNorm < c.Tol
		if fresh && c.Trace != nil {
			c.Trace(m.at)
		}
		if m.at.Converged || m.at.Evals >= c.Evals || m.at.Radius < 1e-30 {
			return m.at, nil
		}
		m.copy(m.x0, m.x)
		m.copy(m.g0, m.g)
		var predicted float64
		if m.adam != nil {
			predicted = m.firstOrder(fresh)
		} else {
			predicted = m.steihaug(c)
		}
		length := m.norm(m.s)
		m.axpy(m.x, 1, m.s)
		v := m.gradient()
		m.copy(m.g, nil)
		norm := m.norm(m.g)
		slack := rounding * math.Abs(m.at.Value)
		rho := (m.at.Value - v) / predicted
		if math.Abs(m.at.Value-v) <= slack && predicted <= slack {
			rho = 0
			if norm < 1.2*m.at.GradNorm { // a good step may raise it a little
				rho = 1
			}
		}
		if math.IsNaN(rho) || math.IsNaN(norm) {
			rho = math.Inf(-1)
		}
		m.learn(length)
		switch {
		case rho < 0.1:
			m.at.Radius = length / 4
		case rho > 0.75 && length > 0.99*m.at.Radius:
			m.at.Radius *= 2
		}
		if fresh = rho > eta; fresh {
			m.at.Value, m.at.GradNorm = v, norm
		} else {
			m.copy(m.x, m.x0)
			m.copy(m.g, m.g0)
			m.changed()
		}
	}
}

// gradient computes value and gradient at x and counts it.
func (m *minimizer) gradient() float64 {
	m.changed()
	ZeroGrad(m.ps)
	m.at.Evals++
	return m.f(true)
}

func (m *minimizer) changed() {
	for _, p := range m.ps {
		p.Value.Changed()
	}
}

// learn takes the curvature along the step, (g - g0) s / ||s||^2, for the next first-order model.
func (m *minimizer) learn(length float64) {
	if m.adam != nil && length > 0 {
		m.curve = max(0, (m.dot(m.g, m.s)-m.dot(m.g0, m.s))/(length*length))
	}
}

// firstOrder finds the step along Adam's direction, or along -g when that is not clearly downhill or the last step
// was undone, and gives the decrease of its model.
func (m *minimizer) firstOrder(fresh bool) float64 {
	if fresh {
		s := m.adam.next(1, 1)
		for i := range m.s {
			tensor.Fill(m.d[i], 0)
			tensor.AdamW(m.d[i], m.adam.m[i], m.adam.v[i], m.g[i], s)
		}
	}
	gd, length := m.dot(m.g, m.d), m.norm(m.d)
	if !fresh || !(-gd >= 0.01*m.at.GradNorm*length) {
		m.scale(m.d, -1, m.g)
		for i := range m.d {
			tensor.Copy(m.adam.m[i], m.g[i])
		}
		gd, length = -m.at.GradNorm*m.at.GradNorm, m.at.GradNorm
	}
	a := m.at.Radius / length
	if m.curve > 0 {
		a = min(a, -gd/(m.curve*length*length))
	}
	m.scale(m.s, a, m.d)
	return -a*gd - a*a*m.curve*length*length/2
}

// steihaug minimises the quadratic model by conjugate gradients until its gradient is small, its curvature is negative or
// the boundary is met, and gives the decrease.
func (m *minimizer) steihaug(c MinimizeConfig) float64 {
	n := 0
	for _, x := range m.x {
		n += x.Len()
	}
	m.scale(m.s, 0, m.g)
	m.copy(m.r, m.g)
	m.scale(m.d, -1, m.g)
	rr := m.at.GradNorm * m.at.GradNorm
	enough := min(0.5, math.Sqrt(m.at.GradNorm)) * m.at.GradNorm
	model, ss := 0.0, 0.0 // m(0) - m(s), ||s||^2
	for range min(2*n, 200) {
		if m.at.Evals >= c.Evals {
			break
		}
		dd, sd, rd := m.dot(m.d, m.d), m.dot(m.s, m.d), m.dot(m.r, m.d)
		m.hessian(math.Sqrt(dd))
		curve := m.dot(m.d, m.h)
		a := rr / curve
		if grow := ss + 2*a*sd + a*a*dd; curve <= 0 || !(grow < m.at.Radius*m.at.Radius) {
			// to the boundary: ||s + a d|| = D
			a = (-sd + math.Sqrt(max(0, sd*sd+dd*(m.at.Radius*m.at.Radius-ss)))) / dd
			m.axpy(m.s, a, m.d)
			return model - a*rd - a*a*curve/2
		}
		m.axpy(m.s, a, m.d)
		model -= a*rd + a*a*curve/2
		ss += 2*a*sd + a*a*dd
		m.axpy(m.r, a, m.h)
		next := m.dot(m.r, m.r)
		if math.Sqrt(next) <= enough {
			break
		}
		m.scale(m.d, next/rr, m.d)
		m.axpy(m.d, -1, m.r)
		rr = next
	}
	return model
}

// hessian sets h to the Hessian times d, (g(x + t d) - g(x))/t.
func (m *minimizer) hessian(length float64) {
	t := 1e-3 * (1 + m.norm(m.x0)/math.Sqrt(float64(len(m.x0)))) / length
	m.axpy(m.x, t, m.d)
	m.gradient()
	m.copy(m.h, nil)
	m.axpy(m.h, -1, m.g)
	m.scale(m.h, 1/t, m.h)
	m.copy(m.x, m.x0)
}

// copy sets a to b, or to the gradient left in the parameters.
func (m *minimizer) copy(a, b vec) {
	for i, p := range m.ps {
		switch {
		case b != nil:
			tensor.Copy(a[i], b[i])
		case p.Value.HasGrad():
			tensor.Copy(a[i], p.Value.Grad)
		default:
			tensor.Fill(a[i], 0)
		}
	}
}

func (m *minimizer) axpy(a vec, t float64, b vec) {
	for i := range a {
		tensor.Axpy(a[i], float32(t), b[i])
	}
}

// scale: a = t*b.
func (m *minimizer) scale(a vec, t float64, b vec) {
	for i := range a {
		tensor.Scale(a[i], float32(t), b[i])
	}
}

func (m *minimizer) dot(a, b vec) float64 {
	sum := 0.0
	for i := range a {
		sum += dot(m.pool, a[i], b[i])
	}
	return sum
}

func (m *minimizer) norm(a vec) float64 { return math.Sqrt(m.dot(a, a)) }

// dot is <a, b>: rows of it in float32, their sum in float64.
func dot(pool *tensor.Pool, a, b *tensor.Tensor) float64 {
	rows := 1
	if a.Dims() > 1 {
		rows = a.Dim(0)
	}
	cols := a.Len() / max(rows, 1)
	if cols == 0 {
		return 0
	}
	d := pool.Get(device.F32, rows, 1, 1)
	tensor.MatMul(d, a.Reshape(rows, 1, cols), b.Reshape(rows, cols, 1), false, false, 1, 0)
	sum := 0.0
	for _, v := range d.Floats() {
		sum += float64(v)
	}
	pool.Put(d)
	return sum
}
