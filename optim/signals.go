package optim

import "math"

// SignalNames are the names of Signals in the order of Vector.
var SignalNames = [6]string{"loss_trend", "grad_norm", "step", "cosine", "binding", "rho"}

// Vector is s in the order of SignalNames, each within [-3, 3]; what is not a number counts as 0.
func (s Signals) Vector() [6]float64 {
	v := [6]float64{s.LossTrend, s.GradNorm, s.Step, s.Cosine, s.Binding, s.Rho}
	for i, x := range v {
		if math.IsNaN(x) {
			x = 0
		}
		v[i] = min(max(x, -3), 3)
	}
	return v
}

// listen takes in what the gradient says before the step is taken.
func (o *TrustRegion) listen() {
	gu, uu := 0.0, 0.0
	for _, p := range o.ps {
		if p.Value.HasGrad() {
			gu += dot(o.pool, p.Value.Grad, o.u[p.Value])
		}
	}
	for i := range o.clusters {
		uu += float64(o.norms.x[i])
	}
	g, u := GradNorm(o.ps), math.Sqrt(uu)
	n := &o.now
	mean := func(m *float32, x float64) float64 {
		old := float64(*m)
		if n.accepted+n.rejected == 0 {
			old = x
		}
		*m = float32(0.8*old + 0.2*x)
		return float64(*m)
	}
	cos := 0.0
	if g > 0 && u > 0 {
		cos = -gu / (g * u) // the step goes along u
	}
	s := &o.report.signals
	last := float64(n.emaLoss)
	loss := mean(&n.emaLoss, o.loss)
	if last > 0 && loss > 0 {
		s.LossTrend = 10 * math.Log(loss/last)
	}
	s.GradNorm = math.Tanh(0.5 * math.Log(mean(&n.emaNorm, g/float64(o.scaled))))
	s.Cosine = 3 * mean(&n.emaCos, cos)
}

// advised asks Advise and follows it, within bounds.
func (o *TrustRegion) advised(cut func(by float64)) {
	r, s := &o.report, &o.report.signals
	theta, codes := 0.0, 0
	for i := range o.clusters {
		theta += float64(o.norms.x[len(o.clusters)+i])
	}
	for _, p := range o.ps {
		if q := p.Value.Quant; q != nil && p.Value.HasGrad() && q.Codes() != nil {
			codes += p.Value.T.Len()
		}
	}
	s.Step = math.Tanh((math.Log(r.step/math.Sqrt(theta)) + 5) / 3)
	s.Binding = 2*r.bound - 1
	if codes > 0 && o.cfg.Trust.Flips > 0 {
		s.Binding = max(s.Binding, r.flips/(o.cfg.Trust.Flips*float64(codes))-1)
	}
	s.Rho = 2 * (r.rho - 0.75)
	rate, radius := o.Advise(*s)
	r.advice = [2]float64{rate, radius}
	if rate < 0 {
		cut(math.Exp(rate))
	} else {
		o.now.rate *= float32(math.Exp(rate))
	}
	o.now.radius = float32(min(max(float64(o.now.radius)*math.Exp(radius), math.Exp(-1)), math.Exp(1)))
}
