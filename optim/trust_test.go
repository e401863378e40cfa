package optim_test

import (
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"setun/autograd"
	"setun/device"
	"setun/device/cpu"
	"setun/device/devicetest"
	"setun/optim"
	"setun/tensor"
	"setun/ternary"
)

// mixed are float parameters and ternary ones.
func mixed(dev device.Device, rng *rand.Rand) []optim.Param {
	mk := tensor.NewMaker(dev, rng.Uint64())
	var ps []optim.Param
	for i := range 2 + rng.IntN(4) {
		rows, cols := 1+rng.IntN(40), 1+rng.IntN(40)
		name := fmt.Sprintf("layer%d.weight", i)
		if rng.IntN(2) == 0 {
			ps = append(ps, optim.Param{Name: name, Value: autograd.NewParam(mk.Normal(0.5, rows, cols))})
			continue
		}
		ps = append(ps, optim.Param{Name: name, Value: ternary.NewLinear(mk, cols, rows, false, ternary.Config{}).Weight})
	}
	return append(ps, optim.Param{Name: "bias", Value: autograd.NewParam(mk.Zeros(1 + rng.IntN(9)))})
}

func norm(x []float32) float64 {
	s := 0.0
	for _, v := range x {
		s += float64(v) * float64(v)
	}
	return math.Sqrt(s)
}

func codes(p optim.Param) []int8 {
	if p.Value.Quant == nil {
		return nil
	}
	return slices.Clone(p.Value.Quant.Codes().Codes())
}

// Whatever the gradients: no cluster's step is longer than its radius, no step longer than MaxStep, no more codes flip
// than allowed.
func TestTrustBounds(t *testing.T) {
	for seed := range uint64(60) {
		rng := rand.New(rand.NewPCG(seed, 1))
		ps := mixed(cpu.New(1), rng)
		c := optim.Config{Name: "trust", LR: float32(math.Pow(10, 6*rng.Float64()-4)), Trust: optim.Trust{
			Direction: []string{"muon", "adamw", "sgd", "gradient"}[rng.IntN(4)],
			Clusters:  []string{"tensor", "rows", "global"}[rng.IntN(3)],
			Radius:    math.Pow(10, -3*rng.Float64())}}
		if rng.IntN(2) == 0 {
			c.Trust.MaxStep = math.Pow(10, 2*rng.Float64()-2)
		}
		if rng.IntN(2) == 0 {
			c.Trust.Flips = 0.05 * rng.Float64()
		}
		if rng.IntN(4) == 0 {
			c.LR = 0
		}
		o, err := optim.New(c, ps)
		if err != nil {
			t.Fatal(err)
		}
		starts := make([]float64, len(ps))
		for step := range 6 {
			f := factor(step)
			optim.ZeroGrad(ps)
			before, levels := make([][]float32, len(ps)), make([][]int8, len(ps))
			all := 0.0
			for i, p := range ps {
				before[i], levels[i] = p.Value.T.Floats(), codes(p)
				if step == 0 {
					natural := float64(len(before[i])) / 16
					if optim.IsMatrix(p) {
						natural = float64(p.Value.Dim(0))
					}
					starts[i] = max(norm(before[i]), math.Sqrt(natural))
					if c.Trust.Clusters == "rows" { // the larger of two in each cluster
						starts[i] = math.Hypot(norm(before[i]), math.Sqrt(natural))
					}
				}
				all += starts[i] * starts[i]
				push(p.Value, normal(seed*1000+uint64(step*10+i), p.Value.T.Len()))
			}
			o.(optim.Measurer).Measure(1, 1, func() float64 { return 0.9 })
			o.Step(f, 1)
			report := maps.Collect(o.(optim.Measurer).Report())
			for name, radius := range report {
				if name, ok := strings.CutPrefix(name, "radius/"); ok && report["step/"+name] > radius*(1+1e-6) {
					t.Errorf("seed %d step %d: %s moves by %g, its radius is %g", seed, step, name, report["step/"+name], radius)
				}
			}
			total := 0.0
			for i, p := range ps {
				after := p.Value.T.Floats()
				for j := range after {
					after[j] -= before[i][j]
				}
				length := norm(after)
				total += length * length
				limit := c.Trust.Radius * float64(f) * starts[i]
				if c.Trust.Clusters == "tensor" && length > limit*(1+1e-4) {
					t.Errorf("seed %d step %d: %s moves by %g, its radius is %g", seed, step, p.Name, length, limit)
				}
				if budget := math.Floor(c.Trust.Flips * float64(f) * float64(len(levels[i]))); c.Trust.Flips > 0 && levels[i] != nil {
					flips := 0.0
					for j, q := range codes(p) {
						if q != levels[i][j] {
							flips++
						}
					}
					if flips > budget {
						t.Errorf("seed %d step %d: %v codes of %s flip, allowed are %v", seed, step, flips, p.Name, budget)
					}
				}
			}
			if limit := c.Trust.Radius * float64(f) * math.Sqrt(all); math.Sqrt(total) > limit*(1+1e-3) {
				t.Errorf("seed %d step %d: the step is %g, all radii together %g", seed, step, math.Sqrt(total), limit)
			}
			if m := c.Trust.MaxStep; m > 0 && math.Sqrt(total) > m*(1+1e-5) {
				t.Errorf("seed %d step %d: the step is %g, the limit %g", seed, step, math.Sqrt(total), m)
			}
		}
	}
}

// Rows whose weights are of like size share a radius, the others have theirs.
func TestTrustRows(t *testing.T) {
	w := normal(1, 32*16)
	for i := range 16 * 16 {
		w[i] *= 100
	}
	p := optim.Param{Name: "w", Value: autograd.NewParam(tensor.FromFloats(cpu.New(1), w, 32, 16))}
	o, err := optim.New(optim.Config{Name: "trust", Trust: optim.Trust{Clusters: "rows", Direction: "gradient", Radius: 0.01}},
		[]optim.Param{p})
	if err != nil {
		t.Fatal(err)
	}
	push(p.Value, normal(2, 32*16))
	o.Step(1, 1)
	after := p.Value.T.Floats()
	for i := range after {
		after[i] -= w[i]
	}
	large, small := norm(after[:16*16]), norm(after[16*16:])
	if !(large > 20*small && small > 0) {
		t.Errorf("large rows move by %g, small ones by %g", large, small)
	}
	state := slices.Collect(keys(o.State()))
	if !slices.Contains(state, "trust_rows") {
		t.Errorf("state %q has no clusters", state)
	}
}

// The flip budget is used, not only kept.
func TestTrustFlipsNearBudget(t *testing.T) {
	mk := tensor.NewMaker(cpu.New(1), 5)
	p := optim.Param{Name: "w", Value: ternary.NewLinear(mk, 100, 100, false, ternary.Config{}).Weight}
	o, err := optim.New(optim.Config{Name: "trust", Trust: optim.Trust{Radius: 0.5, Flips: 0.02, Direction: "gradient"}},
		[]optim.Param{p})
	if err != nil {
		t.Fatal(err)
	}
	push(p.Value, normal(3, 10000))
	old := codes(p)
	o.Step(1, 1)
	flips := 0
	for i, q := range codes(p) {
		if q != old[i] {
			flips++
		}
	}
	if flips > 200 || flips < 150 {
		t.Errorf("%d flips of 200 allowed", flips)
	}
}

// step takes one measured step and returns what it reports.
func measured(o optim.Optimizer, loss float64, again func() float64) map[string]float64 {
	m := o.(optim.Measurer)
	m.Measure(loss, 1, again)
	o.Step(1, 1)
	return maps.Collect(m.Report())
}

// A step that raises the loss, or makes it NaN, is undone to the bit and cuts the rate.
func TestTrustRejects(t *testing.T) {
	for name, dev := range map[string]device.Device{"cpu": cpu.New(1), "opaque": devicetest.Opaque(cpu.New(1))} {
		for _, after := range []float64{2, math.NaN(), math.Inf(1)} {
			ps := mixed(dev, rand.New(rand.NewPCG(7, 7)))
			o, err := optim.New(optim.Config{Name: "trust", Decay: 0.1}, ps)
			if err != nil {
				t.Fatal(err)
			}
			before := make([][]float32, len(ps))
			for i, p := range ps {
				before[i] = p.Value.T.Floats()
				push(p.Value, normal(uint64(i), p.Value.T.Len()))
			}
			moved := false
			r := measured(o, 1, func() float64 {
				for i, p := range ps {
					moved = moved || !slices.Equal(p.Value.T.Floats(), before[i])
				}
				return after
			})
			if !moved {
				t.Errorf("%s: the loss was computed before the step", name)
			}
			if r["trust/rejected"] != 1 || r["trust/accepted"] != 0 || !(r["trust/rate"] < 10) {
				t.Errorf("%s, loss %g: %v", name, after, r)
			}
			for i, p := range ps {
				if !slices.Equal(p.Value.T.Floats(), before[i]) {
					t.Errorf("%s, loss %g: %s is not what it was", name, after, p.Name)
				}
			}
			if err := dev.Sync(); err != nil {
				t.Error(err)
			}
		}
	}
}

// With steps that become small, the decrease is what the move of the quantized weights predicts; that of the latent
// weights predicts something else.
func TestTrustRatio(t *testing.T) {
	rho := func(kind string) float64 {
		dev := cpu.New(1)
		mk := tensor.NewMaker(dev, 11)
		cfg := ternary.Config{FloatActs: true, Math: ternary.FP32}
		l1, l2 := ternary.NewLinear(mk, 64, 256, false, cfg), ternary.NewLinear(mk, 256, 10, false, cfg)
		x, y := normal(2, 128*64), make([]int32, 128)
		for i := range y {
			y[i] = int32(i % 10)
		}
		ps := []optim.Param{{Name: "a.weight", Value: l1.Weight}, {Name: "b.weight", Value: l2.Weight}}
		loss := func(grad bool) float64 {
			tape := autograd.Tape{Grad: grad}
			defer tape.Reset()
			h := tape.Tanh(l1.Forward(&tape, tape.Floats(dev, x, 128, 64)))
			v := tape.CrossEntropy(l2.Forward(&tape, h), tape.Ints(dev, y, 128))
			if grad {
				tape.Backward(v)
			}
			return float64(v.Float())
		}
		o, err := optim.New(optim.Config{Name: "trust", Trust: optim.Trust{Radius: 2e-4, Rho: kind, Direction: "gradient"}}, ps)
		if err != nil {
			t.Fatal(err)
		}
		predicted, actual := 0.0, 0.0
		for range 20 {
			optim.ZeroGrad(ps)
			r := measured(o, loss(true), func() float64 { return loss(false) })
			predicted += r["trust/predicted"]
			actual += r["trust/actual"]
		}
		return actual / predicted
	}
	if r := rho("quantized"); math.Abs(r-1) > 0.1 {
		t.Errorf("the ratio of small steps is %.3f, want 1", r)
	}
	if r := rho("naive"); r > 0.9 && r < 1.1 {
		t.Errorf("the naive ratio is %.3f, as good as the other", r)
	}
}

// The rate finds its way from far too low and far too high on a quadratic, and Advise replaces the rule.
func TestTrustRate(t *testing.T) {
	for _, lr := range []float32{1e-8, 0, 999} {
		p := optim.Param{Name: "w", Value: autograd.NewParam(tensor.FromFloats(cpu.New(1), normal(1, 200), 10, 20))}
		o, err := optim.New(optim.Config{Name: "trust", LR: lr, Trust: optim.Trust{Direction: "adamw", Radius: 0.05}},
			[]optim.Param{p})
		if err != nil {
			t.Fatal(err)
		}
		loss := func() float64 { n := norm(p.Value.T.Floats()); return n * n / 2 }
		first := loss()
		for range 120 {
			optim.ZeroGrad([]optim.Param{p})
			push(p.Value, p.Value.T.Floats())
			measured(o, loss(), loss)
		}
		if !(loss() < first/50) {
			t.Errorf("lr %g: from %g to %g", lr, first, loss())
		}
	}
	p := optim.Param{Name: "w", Value: autograd.NewParam(tensor.FromFloats(cpu.New(1), normal(1, 200), 10, 20))}
	o, _ := optim.New(optim.Config{Name: "trust", LR: 1e-3}, []optim.Param{p})
	o.(*optim.TrustRegion).Advise = func(s optim.Signals) (rate, radius float64) {
		for i, v := range s.Vector() {
			if !(v >= -3 && v <= 3) {
				t.Errorf("signal %s is %g", optim.SignalNames[i], v)
			}
		}
		return math.Log(3), -0.1
	}
	push(p.Value, p.Value.T.Floats())
	r := measured(o, 1, func() float64 { return 0.999 })
	if math.Abs(r["trust/rate"]-3e-3) > 1e-6 || math.Abs(r["trust/radius"]-0.02*math.Exp(-0.1)) > 1e-6 {
		t.Errorf("rate %g, radius %g", r["trust/rate"], r["trust/radius"])
	}
}

func TestTrustRefuses(t *testing.T) {
	for _, tt := range []struct {
		c    optim.Trust
		want string
	}{
		{optim.Trust{Direction: "newton"}, "unknown trust.direction"},
		{optim.Trust{Clusters: "layer"}, "unknown trust.clusters"},
		{optim.Trust{Rho: "yes"}, "unknown trust.rho"},
		{optim.Trust{Radius: -1}, "trust.radius"},
		{optim.Trust{MaxStep: math.NaN()}, "trust.max_step"},
		{optim.Trust{Flips: 2}, "trust.flips"},
		{optim.Trust{Every: -1}, "trust.every"},
		{optim.Trust{Lo: 0.95}, "trust.lo"},
		{optim.Trust{Down: 2}, "trust.down"},
	} {
		if err := (optim.Config{Name: "trust", Trust: tt.c}).Validate(); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%+v: %v, want %q", tt.c, err, tt.want)
		}
	}
	if err := (optim.Config{Name: "adamw", Trust: optim.Trust{Flips: 0.1}}).Validate(); err == nil {
		t.Error("adamw takes a trust region")
	}
}
