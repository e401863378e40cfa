package optim

import (
	"fmt"
	"iter"
	"math"

	"setun/autograd"
	"setun/device"
	"setun/tensor"
)

// Trust configures [TrustRegion]; zero fields mean the defaults in brackets.
type Trust struct {
	// Direction of the step: "muon" (default; of matrices, the rest adamw), "adamw", "sgd" or "gradient" (sgd without
	// momentum).
	Direction string `json:"direction,omitempty"`
	// Radius is the largest step of a cluster at the schedule's peak, as a share of the norm that the cluster has at the
	// start. By default it follows the length of the run, 0.02 sqrt(1000/Horizon) between 0.002 and 0.05.
	Radius  float64 `json:"radius,omitempty"`
	Horizon int     `json:"horizon,omitempty"`  // steps of the run (1000; train sets it)
	MaxStep float64 `json:"max_step,omitempty"` // largest ||dTheta||_2 over all parameters (none)
	// Clusters: "tensor" (default: each parameter), "rows" (four of a matrix's rows, found by K-means on the size of weights
	// and of the first gradient), or "global" (one radius for all parameters together).
	Clusters string `json:"clusters,omitempty"`
	// Flips is the share of a parameter's codes that may change in a step at the schedule's peak (any).
	Flips float64 `json:"flips,omitempty"`
	// Every is the number of steps from one measured step to the next (10). The first 20 are all measured, and up to 60
	// until the bounds hold most of a step.
	Every int `json:"every,omitempty"`
	// Rho says what a measured decrease is compared with: "quantized" (default: the move of the weights that the model
	// multiplies with), "naive" (of the latent weights) or "off" (nothing is measured).
	Rho  string  `json:"rho,omitempty"`
	Lo   float64 `json:"lo,omitempty"`   // ratio below which the rate falls (0.5)
	Hi   float64 `json:"hi,omitempty"`   // ratio above which it may rise (0.93)
	Down float64 `json:"down,omitempty"` // factor of the fall (0.7)
	Up   float64 `json:"up,omitempty"`   // factor of the rise (1.5)
}

func (c Trust) withDefaults() Trust {
	text := func(s *string, v string) {
		if *s == "" {
			*s = v
		}
	}
	def := func(f *float64, v float64) {
		if *f == 0 {
			*f = v
		}
	}
	text(&c.Direction, "muon")
	text(&c.Clusters, "tensor")
	text(&c.Rho, "quantized")
	if c.Every == 0 {
		c.Every = 10
	}
	def(&c.Lo, 0.5)
	def(&c.Hi, 0.93)
	def(&c.Down, 0.7)
	def(&c.Up, 1.5)
	return c
}

// radius is Radius or its default.
func (c Trust) radius() float64 {
	n := c.Horizon
	if n == 0 {
		n = 1000
	}
	if c.Radius != 0 {
		return c.Radius
	}
	return min(max(0.02*math.Sqrt(1000/float64(n)), 0.002), 0.05)
}

func (c Trust) validate() error {
	c = c.withDefaults()
	oneOf := func(field, v string, names ...string) error {
		for _, n := range names {
			if v == n {
				return nil
			}
		}
		return fmt.Errorf("optim: unknown trust.%s %q; use one of %q", field, v, names)
	}
	for _, err := range []error{oneOf("direction", c.Direction, "muon", "adamw", "sgd", "gradient"),
		oneOf("clusters", c.Clusters, "tensor", "rows", "global"), oneOf("rho", c.Rho, "quantized", "naive", "off")} {
		if err != nil {
			return err
		}
	}
	switch {
	case !(c.Radius >= 0 && c.Radius < 10):
		return fmt.Errorf("optim: trust.radius is %g; it is a share of the weights' norm, above 0 and below 10", c.Radius)
	case !(c.MaxStep >= 0):
		return fmt.Errorf("optim: trust.max_step is %g; it must be positive, or 0 for none", c.MaxStep)
	case !(c.Flips >= 0 && c.Flips <= 1):
		return fmt.Errorf("optim: trust.flips is %g; it is a share of the codes, above 0 and 1 at most, or 0 for any", c.Flips)
	case c.Every < 1 || c.Horizon < 0:
		return fmt.Errorf("optim: trust.every is %d and trust.horizon %d; both must be positive", c.Every, c.Horizon)
	case !(c.Lo > 0 && c.Lo < c.Hi && c.Hi < 2):
		return fmt.Errorf("optim: trust.lo is %g and trust.hi %g; it must be 0 < lo < hi < 2", c.Lo, c.Hi)
	case !(c.Down > 0 && c.Down < 1 && c.Up >= 1 && c.Up < 100):
		return fmt.Errorf("optim: trust.down is %g and trust.up %g; it must be 0 < down < 1 <= up", c.Down, c.Up)
	}
	return nil
}

// Measurer is an Optimizer that compares what a step does to the loss with what it predicted.
type Measurer interface {
	Optimizer
	// Measure is called before Step with the loss of the batch, a function that computes it again (same batch, same
	// random numbers, the parameters as they then are), and the factor that the gradients have been multiplied with
	// since they were computed. Without it, Step does not measure.
	Measure(loss float64, scaled float32, again func() float64)
	// Report yields what the last step did, for metrics.
	Report() iter.Seq2[string, float64]
}

// TrustRegion bounds each cluster's step to a share of the cluster's norm at the start. With u the direction, e the rate
// and f the schedule's factor,
//
//	s_c = min(e f, D_c/|u_c|) u_c,  D_c = Radius f max(||theta_c||, natural_c);  s = s min(1, MaxStep/||s||)
//
// natural_c, for what starts near 0, is the norm of matrices with standard deviation 1/sqrt(cols) and of 1/4 elsewhere.
// |u| is ||u||, or the longest that Adam's u can be: that Adam's steps become short where gradients disagree is to stay
// so.
// It is shortened until no more than Flips f of a parameter's codes change. Every so many steps the loss is computed
// again: rho is its decrease over -<dL/dWq, Wq(theta+s) - Wq(theta)>, Wq being the weights that the model multiplies
// with. A loss that rises undoes the step and cuts the rate; a low rho cuts it; a high one raises it while most of the
// step is not bound by D_c. LR, the rate at the start, may be anything: 0 starts at the bounds.
//
// For smooth functions this is the trust-region method of Conn, Gould and Toint (2000) with steps in an elliptical norm;
// its theorems do not cover mini-batches or straight-through gradients, of which only the bounds hold. Relative radii:
// You et al. 2017, arXiv 1708.03888; ratio tests in training: Adolphs et al. 2019, arXiv 1905.09201.
type TrustRegion struct {
	// Advise, if not nil, decides on a measured step what Lo, Hi, Down and Up decide without it: it gives the change of the
	// logarithms of rate and radius.
	Advise func(Signals) (rate, radius float64)

	cfg      Config
	ps       []Param
	dir      direction
	u        map[*autograd.Value]*tensor.Tensor // -direction
	before   state                              // the parameters before the step
	clusters []*group
	pieces   [][]piece      // of each parameter; nil until clusters of rows are found
	rows     *tensor.Tensor // cluster of each row, plus 1; of clusters "rows"
	pool     *tensor.Pool
	norms    numbers // squared norms: of u, then of theta, by cluster

	memory numbers // what checkpoints hold of now and sizes
	now    status
	sizes  []float32 // of the clusters when the run began, 0 before
	loss   float64
	scaled float32
	again  func() float64
	report report
}

// status is what a run needs to go on, all in float32 to be the same after a checkpoint.
type status struct {
	steps    float32
	rate     float32
	radius   float32 // factor of Radius
	bound    float32 // 1 once the bounds have held most of a step
	next     float32 // step of the next measurement
	accepted float32
	rejected float32
	emaLoss  float32 // of Signals
	emaNorm  float32
	emaCos   float32
}

func (s *status) fields() []*float32 {
	return []*float32{&s.steps, &s.rate, &s.radius, &s.bound, &s.next, &s.accepted, &s.rejected, &s.emaLoss, &s.emaNorm,
		&s.emaCos}
}

// report is what the last step did.
type report struct {
	measured, counted    bool // rho; flips
	rho, predicted, real float64
	step, flips, bound   float64
	rate                 float64 // ||s||/||u||
	signals              Signals
	advice               [2]float64
}

// Signals are what a measured step knows of the course of training: inputs of Advise, each within [-3, 3].
type Signals struct {
	LossTrend float64 // 10 times the change of log(mean loss) since the last measured step
	GradNorm  float64 // tanh(log(mean ||g||)/2)
	Step      float64 // tanh((log(||s||/||theta||)+5)/3)
	Cosine    float64 // 3 times the mean cosine of -g and the direction
	Binding   float64 // flips over their budget, less 1; without codes 2*share of the step that is bound, less 1
	Rho       float64 // 2 (rho - 0.75)
}

// group is a cluster of parameters or of their rows: it shares one radius.
type group struct {
	name       string
	at         int     // place among the clusters
	live       bool    // a gradient has arrived
	nominal    float64 // squared, of the pieces that live
	natural    float64 // squared, of all pieces
	a, limit   float64 // factor of u, D_c
	normU, len float64 // ||u||, ||s||
}

// piece is what a cluster has of a parameter: all of it, or a row.
type piece struct {
	k    *group
	w, u *tensor.Tensor
}

func newTrustRegion(c Config, ps []Param) *TrustRegion {
	o := &TrustRegion{cfg: c, ps: ps, u: map[*autograd.Value]*tensor.Tensor{}, scaled: 1}
	o.before = newState(ps)
	for i, t := range newState(ps) {
		o.u[ps[i].Value] = t
	}
	o.now.rate, o.now.radius = c.LR, 1
	if c.LR == 0 {
		o.now.rate = math.MaxFloat32
	}
	o.dir = newDirection(c, ps)
	if len(ps) == 0 {
		return o
	}
	o.pool = newPool(ps)
	o.newClusters()
	n := len(o.clusters)
	o.sizes = make([]float32, n)
	o.memory = newNumbers(ps, make([]float32, len(o.now.fields())+n)...)
	o.norms = newNumbers(ps, make([]float32, 2*n)...)
	for i, k := range o.clusters {
		k.at = i
	}
	return o
}

// Measure prepares the next Step to be measured, if its turn has come.
func (o *TrustRegion) Measure(loss float64, scaled float32, again func() float64) {
	o.loss, o.scaled, o.again = loss, scaled, again
}

// Step updates the parameters.
func (o *TrustRegion) Step(factor, gradScale float32) {
	if len(o.ps) == 0 {
		return
	}
	c := o.cfg.Trust
	o.report = report{}
	measure := o.again != nil && c.Rho != "off" && o.now.steps >= o.now.next
	o.dir.fill(o.u, gradScale)
	if o.pieces == nil {
		o.findRows()
	}
	o.measureNorms()
	if measure && o.Advise != nil {
		o.listen()
	}
	o.plan(float64(factor))
	o.report.counted = measure || c.Flips > 0
	if o.report.counted { // else there is no way back
		for i, p := range o.ps {
			tensor.Copy(o.before[i], p.Value.T)
		}
	}
	var effective []*tensor.Tensor // of quantized parameters, before the step
	if measure {
		effective = make([]*tensor.Tensor, len(o.ps))
	}
	if measure && c.Rho == "quantized" {
		for i, p := range o.ps {
			if p.Value.Quant != nil && p.Value.HasGrad() {
				effective[i] = o.pool.Get(device.F32, p.Value.Shape()...)
				p.Value.Quant.Effective(effective[i])
			}
		}
	}
	o.move(float64(factor))
	if measure {
		o.judge(effective, float64(factor))
	}
	for _, e := range effective {
		if e != nil {
			o.pool.Put(e)
		}
	}
	o.now.steps++
	o.again, o.scaled = nil, 1
}

// measureNorms finds the norms of all clusters, with one wait.
func (o *TrustRegion) measureNorms() {
	o.norms.zero()
	n := len(o.clusters)
	for _, k := range o.clusters {
		k.live, k.nominal, k.natural = false, 0, 0
	}
	for i, p := range o.ps {
		nominal, natural := o.dir.nominal(p), float64(p.Value.T.Len())/16
		if IsMatrix(p) {
			natural = float64(p.Value.Dim(0))
		}
		for _, c := range o.pieces[i] {
			share := float64(c.w.Len()) / float64(p.Value.T.Len())
			c.k.natural += share * natural
			if p.Value.HasGrad() {
				c.k.live = true
				c.k.nominal += share * nominal * nominal
				tensor.SumSquares(o.norms.at[c.k.at], c.u)
				tensor.SumSquares(o.norms.at[n+c.k.at], c.w)
			}
		}
	}
	o.norms.read()
	for i, k := range o.clusters {
		if o.sizes[i] == 0 && k.live {
			o.sizes[i] = float32(math.Sqrt(max(float64(o.norms.x[n+i]), k.natural)))
		}
	}
}

// plan chooses the factor of each cluster's direction.
func (o *TrustRegion) plan(factor float64) {
	c := o.cfg.Trust
	e := float64(o.now.rate) * factor
	total, bound, steps := 0.0, 0.0, 0.0
	for i, k := range o.clusters {
		k.normU = math.Sqrt(float64(o.norms.x[i]))
		k.limit = c.radius() * float64(o.now.radius) * factor * float64(o.sizes[i])
		k.a = 0
		longest := max(k.normU, math.Sqrt(k.nominal)) // what ||u|| is, or may be in other steps
		if longest > 0 {
			k.a = min(e, k.limit/longest)
		}
		uu := k.normU * k.normU
		total += uu
		if e*longest > k.limit {
			bound += uu
		}
		k.len = k.a * k.normU
		steps += k.len * k.len
	}
	o.report.step = math.Sqrt(steps)
	if c.MaxStep > 0 && o.report.step > c.MaxStep {
		// A hair less, so that rounding does not cross the limit.
		shrink := c.MaxStep / o.report.step * (1 - 1e-7)
		for _, k := range o.clusters {
			k.a *= shrink
			k.len *= shrink
		}
		o.report.step = c.MaxStep
		bound = total
	}
	if total > 0 {
		o.report.bound = bound / total
		o.report.rate = o.report.step / math.Sqrt(total)
	}
	if o.report.bound >= 0.5 {
		o.now.bound = 1
	}
}

// move takes the step, with no more flips than allowed.
func (o *TrustRegion) move(factor float64) {
	c := o.cfg.Trust
	for i, p := range o.ps {
		if !p.Value.HasGrad() {
			continue
		}
		var old *tensor.Tensor // codes
		if q := p.Value.Quant; o.report.counted && q != nil && q.Codes() != nil {
			now := q.Codes()
			old = o.pool.Get(device.I8, now.Shape()...)
			tensor.Copy(old, now)
		}
		o.apply(i, 1)
		if old == nil {
			continue
		}
		n := o.distance(old, p.Value.Quant.Codes())
		if budget := math.Floor(c.Flips * factor * float64(old.Len())); c.Flips > 0 && n > budget {
			n = o.shorten(i, old, n, budget)
		}
		o.report.flips += n
		o.pool.Put(old)
	}
	if d := o.cfg.Decay; d != 0 {
		for i, p := range o.ps {
			if !p.Value.HasGrad() || !IsMatrix(p) {
				continue
			}
			for _, c := range o.pieces[i] {
				tensor.Scale(c.w, float32(1-c.k.a*float64(d)), c.w)
			}
			p.Value.Changed()
		}
	}
}

// apply moves parameter i from where it was by a share of its step.
func (o *TrustRegion) apply(i int, share float64) {
	v := o.ps[i].Value
	if share != 1 {
		tensor.Copy(v.T, o.before[i])
	}
	for _, c := range o.pieces[i] {
		if c.k.a > 0 {
			tensor.Axpy(c.w, float32(share*c.k.a), c.u)
		}
	}
	v.Changed()
}

// distance is the sum of the squared differences of codes: the number of flips, those over two levels counted as four.
func (o *TrustRegion) distance(a, b *tensor.Tensor) float64 {
	x, y := o.pool.Get(device.F32, a.Shape()...), o.pool.Get(device.F32, a.Shape()...)
	one, sum := o.pool.Get(device.F32, 1), o.pool.Get(device.F32, 1)
	tensor.Fill(one, 1)
	tensor.Fill(sum, 0)
	tensor.Dequantize(x, a, one)
	tensor.Dequantize(y, b, one)
	tensor.Axpy(x, -1, y)
	tensor.SumSquares(sum, x)
	n := float64(sum.Float())
	for _, t := range []*tensor.Tensor{x, y, one, sum} {
		o.pool.Put(t)
	}
	return n
}

// shorten finds a share of parameter i's step with at most budget flips, near the largest, and leaves the parameter there.
func (o *TrustRegion) shorten(i int, old *tensor.Tensor, flips, budget float64) float64 {
	good, bad, least, most := 0.0, 1.0, 0.0, flips
	at := bad
	for range 8 {
		if least >= 0.9*budget && at == good {
			break
		}
		at = good + (bad-good)*min(max((0.97*budget-least)/(most-least), 0.05), 0.95)
		o.apply(i, at)
		n := o.distance(old, o.ps[i].Value.Quant.Codes())
		if n <= budget {
			good, least = at, n
		} else {
			bad, most = at, n
		}
	}
	if at != good {
		o.apply(i, good)
	}
	return least
}

// noise is the relative precision of a loss in float32 with quantized activations: decreases below it prove nothing.
const noise = 1e-5

// judge measures the step and adapts the rate.
func (o *TrustRegion) judge(effective []*tensor.Tensor, factor float64) {
	c, r := o.cfg.Trust, &o.report
	r.measured = true
	r.predicted = o.predict(effective) / float64(o.scaled)
	r.real = o.loss - o.again()
	guard := noise * max(1, math.Abs(o.loss))
	r.rho = (r.real + guard) / (r.predicted + guard)
	early := o.now.steps < 20
	used := r.rate // what the bounds have left, before the schedule
	if factor > 0 {
		used /= factor
	}
	cut := func(by float64) { o.now.rate = float32(min(float64(o.now.rate), used) * by) }
	bad := !(r.real >= -guard) || r.predicted+guard <= 0 && r.real < 0
	if bad {
		for i, p := range o.ps {
			tensor.Copy(p.Value.T, o.before[i])
			p.Value.Changed()
		}
		o.now.rejected++
	} else {
		o.now.accepted++
	}
	switch free := r.bound < 0.5; {
	case bad && early:
		cut(0.25)
	case bad:
		cut(0.5)
	case o.Advise != nil:
		o.advised(cut)
	case r.rho < c.Lo && r.predicted > guard:
		cut(c.Down)
	case r.rho > c.Hi && free && o.now.bound == 0:
		o.now.rate *= float32(max(2, c.Up))
	case r.rho > c.Hi && free:
		o.now.rate *= float32(c.Up)
	}
	o.now.rate = min(o.now.rate, math.MaxFloat32)
	o.now.next = o.now.steps + float32(c.Every)
	if early || o.now.bound == 0 && o.now.steps < 60 {
		o.now.next = o.now.steps + 1
	}
}

// predict is the decrease to first order: -<g, change> of the weights that the model multiplies with.
func (o *TrustRegion) predict(effective []*tensor.Tensor) float64 {
	sum := 0.0
	for i, p := range o.ps {
		if !p.Value.HasGrad() {
			continue
		}
		change := o.pool.Get(device.F32, p.Value.Shape()...)
		if effective[i] != nil {
			p.Value.Quant.Effective(change)
			tensor.Axpy(change, -1, effective[i])
		} else {
			tensor.Copy(change, p.Value.T)
			tensor.Axpy(change, -1, o.before[i])
		}
		sum += dot(o.pool, p.Value.Grad, change)
		o.pool.Put(change)
	}
	return -sum
}

// Free gives back all device memory.
func (o *TrustRegion) Free() {
	o.dir.free()
	o.before.free()
	for _, t := range o.u {
		t.Free()
	}
	if o.pool != nil {
		o.norms.free()
		o.memory.free()
		if o.rows != nil {
			o.rows.Free()
		}
		o.pool.Close()
	}
}

// State yields the direction's momentum and moments, and rate, radius and counts.
func (o *TrustRegion) State() iter.Seq2[string, *tensor.Tensor] {
	return func(yield func(string, *tensor.Tensor) bool) {
		if fields := o.now.fields(); len(o.ps) > 0 {
			for i, f := range fields {
				o.memory.x[i] = *f
			}
			copy(o.memory.x[len(fields):], o.sizes)
			o.memory.write()
		}
		if !o.memory.yield("trust", yield) || o.rows != nil && !yield("trust_rows", o.rows) {
			return
		}
		o.dir.state()(yield)
	}
}

// Steps is the number of steps taken.
func (o *TrustRegion) Steps() int { return int(o.now.steps) }

// SetSteps restores what State has, and the number of steps.
func (o *TrustRegion) SetSteps(n int) {
	if fields := o.now.fields(); len(o.ps) > 0 {
		o.memory.read()
		for i, f := range fields {
			*f = o.memory.x[i]
		}
		copy(o.sizes, o.memory.x[len(fields):])
	}
	if o.rows != nil {
		o.splitRows()
	}
	o.now.steps = float32(n)
	o.dir.setSteps(n)
}

// Report yields the rate that the step had on average ("lr") and, after a measured step, what it found, with the radius and step of each cluster.
func (o *TrustRegion) Report() iter.Seq2[string, float64] {
	return func(yield func(string, float64) bool) {
		r := &o.report
		if !yield("lr", r.rate) || !yield("trust/step", r.step) || !yield("trust/bound", r.bound) || r.counted && !yield("trust/flips", r.flips) ||
			!r.measured {
			return
		}
		for _, f := range []struct {
			name string
			v    float64
		}{{"rate", float64(o.now.rate)}, {"radius", float64(o.now.radius) * o.cfg.Trust.radius()},
			{"rho", r.rho}, {"predicted", r.predicted}, {"actual", r.real},
			{"accepted", float64(o.now.accepted)}, {"rejected", float64(o.now.rejected)}} {
			if !yield("trust/"+f.name, f.v) {
				return
			}
		}
		for _, k := range o.clusters {
			if !yield("radius/"+k.name, k.limit) || !yield("step/"+k.name, k.len) {
				return
			}
		}
		if o.Advise != nil {
			for i, v := range r.signals.Vector() {
				if !yield("aux/"+SignalNames[i], v) {
					return
				}
			}
			_ = yield("aux/d_rate", r.advice[0]) && yield("aux/d_radius", r.advice[1])
		}
	}
}
