package optim_test

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"setun/autograd"
	"setun/device"
	"setun/device/cpu"
	"setun/device/devicetest"
	"setun/optim"
	"setun/tensor"
)

// oracle is an optimizer in float64: step updates w with gradients g, some of which may be nil.
type oracle struct {
	c       optim.Config
	w       [][]float64
	step    func(o *oracle, t int, g [][]float64, f float64)
	m, v, x [][]float64 // x: the start of prodigy, the average of schedulefree
	s, z    [][]float64
	d, r    float64 // prodigy
	sum     float64 // schedulefree
	log     float64 // hypergradient
}

func newOracle(c optim.Config, w [][]float64) *oracle {
	like := func(keep bool) [][]float64 {
		var y [][]float64
		for _, w := range w {
			y = append(y, make([]float64, len(w)))
			if keep {
				copy(y[len(y)-1], w)
			}
		}
		return y
	}
	return &oracle{c: c, w: w, step: oracles[c.Name], m: like(false), v: like(false), x: like(true), s: like(false),
		z: like(true), d: float64(c.D0)}
}

// decay is the weight decay of parameter i.
func (o *oracle) decay(i int) float64 {
	if shapes[i].matrix {
		return float64(o.c.Decay)
	}
	return 0
}

// direction is Adam's, from the moments after step t.
func (o *oracle) direction(i, j, t int) float64 {
	return o.m[i][j] / (1 - math.Pow(float64(o.c.Beta1), float64(t))) /
		(math.Sqrt(o.v[i][j]/(1-math.Pow(float64(o.c.Beta2), float64(t)))) + float64(o.c.Eps))
}

// moments takes in the gradient g of element j of parameter i.
func (o *oracle) moments(i, j int, g float64) {
	b1, b2 := float64(o.c.Beta1), float64(o.c.Beta2)
	o.m[i][j] = b1*o.m[i][j] + (1-b1)*g
	o.v[i][j] = b2*o.v[i][j] + (1-b2)*g*g
}

var oracles = map[string]func(o *oracle, t int, g [][]float64, f float64){
	"lamb": func(o *oracle, t int, g [][]float64, f float64) {
		for i, w := range o.w {
			if g[i] == nil {
				continue
			}
			u, w2, u2 := make([]float64, len(w)), 0.0, 0.0
			for j := range w {
				o.moments(i, j, g[i][j])
				u[j] = o.direction(i, j, t) + o.decay(i)*w[j]
				w2 += w[j] * w[j]
				u2 += u[j] * u[j]
			}
			trust := 1.0
			if w2 > 0 && u2 > 0 {
				trust = math.Sqrt(w2) / math.Sqrt(u2)
			}
			for j := range w {
				w[j] -= float64(o.c.LR) * f * trust * u[j]
			}
		}
	},
	"prodigy": func(o *oracle, t int, g [][]float64, f float64) {
		b3, lr, l1 := math.Sqrt(float64(o.c.Beta2)), float64(o.c.LR)*f, 0.0
		o.r *= b3
		for i, w := range o.w {
			if g[i] == nil {
				continue
			}
			for j, gj := range g[i] {
				o.r += o.d * o.d * lr * gj * (o.x[i][j] - w[j])
				o.s[i][j] = b3*o.s[i][j] + o.d*o.d*lr*gj
				l1 += math.Abs(o.s[i][j])
				o.moments(i, j, o.d*gj)
				w[j] *= 1 - lr*o.d*o.decay(i)
				w[j] -= lr * o.d * o.m[i][j] / (math.Sqrt(o.v[i][j]) + o.d*float64(o.c.Eps))
			}
		}
		if l1 > 0 {
			o.d = max(o.d, o.r/l1)
		}
	},
	"schedulefree": func(o *oracle, t int, g [][]float64, f float64) {
		b1, b2 := float64(o.c.Beta1), float64(o.c.Beta2)
		rate := float64(o.c.LR) * f * math.Sqrt(1-math.Pow(b2, float64(t)))
		o.sum += rate * rate
		c := rate * rate / o.sum
		for i, y := range o.w {
			if g[i] == nil {
				continue
			}
			for j, g := range g[i] {
				o.moments(i, j, g)
				o.z[i][j] -= rate * (g/(math.Sqrt(o.v[i][j])+float64(o.c.Eps)) + o.decay(i)*y[j])
				o.x[i][j] = (1-c)*o.x[i][j] + c*o.z[i][j]
				y[j] = (1-b1)*o.z[i][j] + b1*o.x[i][j]
			}
		}
	},
	"hypergradient": func(o *oracle, t int, g [][]float64, f float64) {
		gu, g2, u2 := 0.0, 0.0, 0.0
		for i := range o.w {
			for j, g := range g[i] {
				if t == 1 {
					continue // no step before
				}
				u := o.direction(i, j, t-1)
				gu, g2, u2 = gu+g*u, g2+g*g, u2+u*u
			}
		}
		if g2 > 0 && u2 > 0 {
			o.log += float64(o.c.HyperLR) * gu / math.Sqrt(g2) / math.Sqrt(u2)
		}
		lr := float64(o.c.LR) * f * math.Exp(o.log)
		for i, w := range o.w {
			for j, g := range g[i] {
				o.moments(i, j, g)
				w[j] -= lr * (o.direction(i, j, t) + o.decay(i)*w[j])
			}
		}
	},
}

// Optimizers with what they learn, against their formulas in float64, on a noisy bowl around weights of 2.
func TestAdaptiveFormulas(t *testing.T) {
	const steps = 12
	for _, c := range []optim.Config{
		{Name: "lamb"},
		{Name: "lamb", LR: 0.1, Beta1: 0.8, Beta2: 0.9, Eps: 1e-3, Decay: 0.2},
		{Name: "prodigy", D0: 0.01},
		{Name: "prodigy"},
		{Name: "prodigy", D0: 1e-3, LR: 2, Beta1: 0.8, Beta2: 0.9, Eps: 1e-3, Decay: 0.2},
		{Name: "schedulefree"},
		{Name: "schedulefree", LR: 0.1, Beta1: 0.8, Beta2: 0.9, Eps: 1e-3, Decay: 0.2},
		{Name: "hypergradient"},
		{Name: "hypergradient", LR: 0.02, HyperLR: 0.8, Beta1: 0.8, Beta2: 0.9, Eps: 1e-3, Decay: 0.2},
	} {
		for name, dev := range map[string]device.Device{"cpu": cpu.New(0), "opaque": devicetest.Opaque(cpu.New(1))} {
			t.Run(c.Name+"/"+name, func(t *testing.T) {
				ps := params(dev)
				tensor.Fill(ps[4].Value.T, 0) // no norm
				o, err := optim.New(c, ps)
				if err != nil {
					t.Fatal(err)
				}
				var w [][]float64
				for _, p := range ps {
					w = append(w, wide(p.Value.T.Floats()))
				}
				want := newOracle(c.WithDefaults(), w)
				for step := range steps {
					optim.ZeroGrad(ps)
					grads := make([][]float64, len(ps))
					for i, p := range ps {
						if step == 0 && i == len(ps)-1 {
							continue // not connected
						}
						g := normal(uint64(1000+100*step+i), len(w[i]))
						for j := range g {
							g[j] = 0.3*g[j] + float32(w[i][j]) - 2
							grads[i] = append(grads[i], float64(g[j])*float64(scale(step)))
						}
						push(p.Value, g)
					}
					f := float32(1)
					if step > 6 {
						f = factor(step - 6)
					}
					o.Step(f, scale(step))
					want.step(want, step+1, grads, float64(f))
					for i, p := range ps {
						near(t, fmt.Sprintf("step %d: %s", step, p.Name), p.Value.T.Floats(), w[i], 2e-5)
					}
				}
				numbers := map[string][]float64{
					"prodigy_dr": {want.d, want.r / float64(c.WithDefaults().D0)}, "rates": {want.sum}, "log_rate": {want.log}}
				tol := 1e-3
				if c.Name == "prodigy" && c.D0 == 0 {
					tol = 0.1 // steps of 1e-6 are a few units in the last place of the weights
				}
				for name, x := range o.State() {
					if n, ok := numbers[name]; ok {
						for i, got := range x.Floats() {
							if math.Abs(float64(got)-n[i]) > tol*math.Abs(n[i]) || n[i] == 0 {
								t.Errorf("%s[%d] is %g, want %g", name, i, got, n[i])
							}
						}
					}
				}
				if c.Name == "prodigy" && want.d < 2*float64(c.WithDefaults().D0) {
					t.Errorf("d has only come to %g", want.d)
				}
				if a, ok := o.(optim.Averager); ok {
					at := make([][]float32, len(ps))
					for i, p := range ps {
						at[i] = p.Value.T.Floats()
					}
					before := ps[0].Value.Version()
					a.Average(true)
					a.Average(true)
					for i, p := range ps {
						near(t, "average of "+p.Name, p.Value.T.Floats(), want.x[i], 2e-5)
					}
					if ps[0].Value.Version() == before {
						t.Error("the change to the average shows not in the version")
					}
					a.Average(false)
					for i, p := range ps {
						if !slices.Equal(p.Value.T.Floats(), at[i]) {
							t.Errorf("%s is not what it was before the average", p.Name)
						}
					}
				}
				if err := dev.Sync(); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

// Averages of what has not moved yet are the start, to the bit.
func TestAverageOfNoSteps(t *testing.T) {
	ps := params(cpu.New(0))
	o, err := optim.New(optim.Config{Name: "schedulefree"}, ps)
	if err != nil {
		t.Fatal(err)
	}
	for _, on := range []bool{true, false} {
		o.(optim.Averager).Average(on)
		for i, p := range ps {
			if !slices.Equal(p.Value.T.Floats(), normal(uint64(i), p.Value.T.Len())) {
				t.Errorf("Average(%v) changes %s", on, p.Name)
			}
		}
	}
}

// bowl is a quadratic with curvatures from 0.03 to 1 and its gradient, noise added.
type bowl struct{ target []float32 }

func (b bowl) loss(w []float32) (sum float64) {
	for i, w := range w {
		d := float64(w - b.target[i])
		sum += b.curvature(i) * d * d / 2
	}
	return sum
}

func (b bowl) curvature(i int) float64 { return math.Pow(0.03, float64(i)/float64(len(b.target))) }

func (b bowl) grad(w []float32, noise uint64) []float32 {
	g := normal(noise, len(w))
	for i := range g {
		g[i] = 0.01*g[i] + float32(b.curvature(i))*(w[i]-b.target[i])
	}
	return g
}

// Every optimizer comes down a bowl with its defaults; those that find their learning rate, also from far off.
func TestBowl(t *testing.T) {
	configs := []optim.Config{{Name: "hypergradient", LR: 1e-5}, {Name: "prodigy", D0: 1e-4}}
	for _, name := range optim.Names {
		configs = append(configs, optim.Config{Name: name})
	}
	for _, c := range configs {
		b := bowl{normal(1, 64)}
		p := optim.Param{Name: "w", Value: autograd.NewParam(tensor.FromFloats(cpu.New(1), normal(2, 64), 8, 8))}
		o, err := optim.New(c, []optim.Param{p})
		if err != nil {
			t.Fatal(err)
		}
		first := b.loss(p.Value.T.Floats())
		const steps = 3000
		schedule := optim.Schedule{Kind: "cosine"}
		if c.Name == "schedulefree" {
			schedule.Kind = "constant"
		}
		for step := range steps {
			p.Value.ZeroGrad()
			push(p.Value, b.grad(p.Value.T.Floats(), uint64(step+3)))
			o.Step(float32(schedule.At(step, steps)), 1)
		}
		if a, ok := o.(optim.Averager); ok {
			a.Average(true)
		}
		if last := b.loss(p.Value.T.Floats()); !(last < 0.01*first) {
			t.Errorf("%+v: %.3g at first, %.3g at last", c, first, last)
		}
	}
}

// Whatever an optimizer took it gives back.
func TestFree(t *testing.T) {
	for _, name := range optim.Names {
		dev := devicetest.Opaque(cpu.New(1))
		ps := params(dev)
		for _, p := range ps {
			push(p.Value, normal(1, p.Value.T.Len()))
		}
		before := dev.Live()
		o, err := optim.New(optim.Config{Name: name}, ps)
		if err != nil {
			t.Fatal(err)
		}
		o.Step(1, 1)
		o.Step(1, 1)
		if dev.Live() == before {
			t.Errorf("%s takes no memory", name)
		}
		if o.Free(); dev.Live() != before {
			t.Errorf("%s keeps %d allocations", name, dev.Live()-before)
		}
	}
}

// A gradient of 0 moves nothing and teaches nothing wrong.
func TestZeroGradient(t *testing.T) {
	for _, name := range optim.Names {
		p := optim.Param{Name: "w", Value: autograd.NewParam(tensor.FromFloats(cpu.New(1), []float32{1, 2, 3, 4}, 2, 2))}
		o, _ := optim.New(optim.Config{Name: name}, []optim.Param{p})
		for range 3 {
			p.Value.ZeroGrad()
			push(p.Value, make([]float32, 4))
			o.Step(1, 1)
		}
		near(t, name, p.Value.T.Floats(), []float64{1, 2, 3, 4}, 0)
		for n, x := range o.State() {
			if s := fmt.Sprint(x.Floats()); strings.Contains(s, "NaN") || strings.Contains(s, "Inf") {
				t.Errorf("%s: %s is %s", name, n, s)
			}
		}
	}
}
