package optim_test

import (
	"fmt"
	"iter"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"gonum.org/v1/gonum/mat"

	"setun/autograd"
	"setun/device"
	"setun/device/cpu"
	"setun/device/devicetest"
	"setun/optim"
	"setun/tensor"
)

func normal(seed uint64, n int) []float32 {
	rng := rand.New(rand.NewPCG(seed, 6))
	x := make([]float32, n)
	for i := range x {
		x[i] = float32(rng.NormFloat64())
	}
	return x
}

// shapes are the parameters of the tests: hidden matrices of each form and what no optimizer takes for one.
var shapes = []struct {
	name   string
	shape  []int
	matrix bool
}{
	{"embed.weight", []int{7, 4}, false},
	{"wide.weight", []int{4, 9}, true},
	{"tall.weight", []int{10, 3}, true},
	{"square.weight", []int{5, 5}, true},
	{"bias", []int{6}, false},
	{"row", []int{1, 6}, false},
	{"column", []int{6, 1}, false},
	{"cube", []int{2, 2, 2}, false},
	{"scalar", []int{}, false},
	{"head.weight", []int{4, 7}, false},
}

func params(dev device.Device) []optim.Param {
	var ps []optim.Param
	for i, s := range shapes {
		n := 1
		for _, d := range s.shape {
			n *= d
		}
		ps = append(ps, optim.Param{Name: s.name, Value: autograd.NewParam(tensor.FromFloats(dev, normal(uint64(i), n),
			s.shape...))})
	}
	return ps
}

// push gives p the gradient g, as a backward pass does.
func push(p *autograd.Value, g []float32) {
	t := autograd.Tape{Grad: true}
	t.Backward(t.Sum(t.Mul(p, t.Floats(p.Device(), g, p.Shape()...))))
	t.Reset()
}

// train takes steps with gradients that depend on the step and the parameter, but for the last parameter's first.
func train(o optim.Optimizer, ps []optim.Param, from, to int, each func(step int, grads [][]float32)) {
	for step := from; step < to; step++ {
		optim.ZeroGrad(ps)
		grads := make([][]float32, len(ps))
		for i, p := range ps {
			if step == 0 && i == len(ps)-1 {
				continue // not connected
			}
			grads[i] = normal(uint64(1000+100*step+i), p.Value.T.Len())
			push(p.Value, grads[i])
		}
		o.Step(factor(step), scale(step))
		if each != nil {
			each(step, grads)
		}
	}
}

// Factors of the learning rate and of the gradients that change every step.
func factor(step int) float32 { return 1 / float32(1+step) }
func scale(step int) float32  { return 1 - 0.25*float32(step%3) }

func near(t *testing.T, what string, got []float32, want []float64, tol float64) {
	t.Helper()
	for i, w := range want {
		if d := math.Abs(float64(got[i]) - w); !(d <= tol*(1+math.Abs(w))) {
			t.Errorf("%s[%d] = %g, want %g", what, i, got[i], w)
			return
		}
	}
}

func wide(x []float32) []float64 {
	y := make([]float64, len(x))
	for i, v := range x {
		y[i] = float64(v)
	}
	return y
}

// adamW is the update in float64.
func adamW(c optim.Config, w, m, v []float64, g []float32, lr, decay, scale float64, t int) {
	b1, b2 := float64(c.Beta1), float64(c.Beta2)
	for i := range w {
		g := float64(g[i]) * scale
		m[i] = b1*m[i] + (1-b1)*g
		v[i] = b2*v[i] + (1-b2)*g*g
		mHat, vHat := m[i]/(1-math.Pow(b1, float64(t))), v[i]/(1-math.Pow(b2, float64(t)))
		w[i] -= lr * (mHat/(math.Sqrt(vHat)+float64(c.Eps)) + decay*w[i])
	}
}

// orthogonal is Muon's iteration in float64.
func orthogonal(u []float64, rows, cols int) *mat.Dense {
	x := mat.NewDense(rows, cols, slices.Clone(u))
	x.Scale(1/(1.02*mat.Norm(x, 2)+1e-7), x)
	if rows > cols {
		x = mat.DenseCopyOf(x.T())
	}
	for i, p := range [][3]float64{{8.383673612923165, -24.76590585797455, 18.35708189288761},
		{4.043420433700426, -3.011404993841532, 0.5695121503191821}, {3.5055706172438947, -2.6266538356181015, 0.5257194048203222},
		{2.4901159394442542, -1.8342750827526701, 0.4368347068954245}} {
		if i < 3 { // at x/1.02
			p = [3]float64{p[0] / 1.02, p[1] / math.Pow(1.02, 3), p[2] / math.Pow(1.02, 5)}
		}
		var a, aa, y mat.Dense
		a.Mul(x, x.T())
		aa.Mul(&a, &a)
		a.Scale(p[1], &a)
		aa.Scale(p[2], &aa)
		a.Add(&a, &aa)
		y.Mul(&a, x)
		x.Scale(p[0], x)
		x.Add(x, &y)
	}
	if rows > cols {
		x = mat.DenseCopyOf(x.T())
	}
	return x
}

// Every optimizer against its formula in float64, for several steps.
func TestFormulas(t *testing.T) {
	for _, c := range []optim.Config{
		{Name: "adamw", LR: 0.1, Beta1: 0.8, Beta2: 0.9, Eps: 1e-3, Decay: 0.2},
		{Name: "adamw"},
		{Name: "sgd", LR: 0.3, Momentum: 0.7, Decay: 0.1},
		{Name: "sgd"},
		{Name: "muon", LR: 0.1, Momentum: 0.8, Decay: 0.3, AdamLR: 0.05, Eps: 1e-3},
		{},
	} {
		for name, dev := range map[string]device.Device{"cpu": cpu.New(0), "opaque": devicetest.Opaque(cpu.New(1))} {
			t.Run(c.Name+"/"+name, func(t *testing.T) {
				ps := params(dev)
				o, err := optim.New(c, ps)
				if err != nil {
					t.Fatal(err)
				}
				c := c.WithDefaults()
				w, m, v := make([][]float64, len(ps)), make([][]float64, len(ps)), make([][]float64, len(ps))
				for i, p := range ps {
					w[i] = wide(p.Value.T.Floats())
					m[i], v[i] = make([]float64, len(w[i])), make([]float64, len(w[i]))
				}
				train(o, ps, 0, 6, func(step int, grads [][]float32) {
					f, s := float64(factor(step)), float64(scale(step))
					for i, p := range ps {
						if grads[i] == nil {
							near(t, p.Name+" without a gradient", p.Value.T.Floats(), w[i], 0)
							continue
						}
						decay := 0.0
						if shapes[i].matrix {
							decay = float64(c.Decay)
						}
						switch {
						case c.Name == "sgd":
							for j := range w[i] {
								m[i][j] = float64(c.Momentum)*m[i][j] + float64(grads[i][j])*s
								w[i][j] = w[i][j]*(1-float64(c.LR)*f*decay) - float64(c.LR)*f*m[i][j]
							}
						case c.Name == "muon" && shapes[i].matrix:
							mu, u := float64(c.Momentum), make([]float64, len(w[i]))
							for j := range u {
								g := float64(grads[i][j]) * s
								m[i][j] = mu*m[i][j] + g
								u[j] = g + mu*m[i][j]
							}
							rows, cols := shapes[i].shape[0], shapes[i].shape[1]
							x := orthogonal(u, rows, cols)
							for j := range u {
								w[i][j] -= float64(c.LR) * f * decay * w[i][j]
								w[i][j] -= float64(c.LR) * f * math.Sqrt(max(1, float64(rows)/float64(cols))) * x.At(j/cols, j%cols)
							}
						case c.Name == "muon":
							adamW(c, w[i], m[i], v[i], grads[i], float64(c.AdamLR)*f, decay, s, step+1)
						default:
							adamW(c, w[i], m[i], v[i], grads[i], float64(c.LR)*f, decay, s, step+1)
						}
						near(t, fmt.Sprintf("step %d: %s", step, p.Name), p.Value.T.Floats(), w[i], 2e-5)
					}
				})
				if o.Steps() != 6 {
					t.Errorf("%d steps, want 6", o.Steps())
				}
				if err := dev.Sync(); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

// The update of a hidden matrix is close to orthogonal, whatever the gradient's singular values.
func TestMuonIsOrthogonal(t *testing.T) {
	dev := cpu.New(0)
	for _, shape := range [][2]int{{16, 40}, {40, 16}, {24, 24}, {2, 2}, {2, 64}} {
		rows, cols := shape[0], shape[1]
		n := min(rows, cols)
		// U S Vᵀ with singular values from 0.05 to 1, times a large number.
		basis := func(seed uint64, n int) *mat.Dense {
			var qr mat.QR
			qr.Factorize(mat.NewDense(n, n, wide(normal(seed, n*n))))
			var q mat.Dense
			qr.QTo(&q)
			return &q
		}
		s := mat.NewDense(rows, cols, nil)
		for i := range n {
			s.Set(i, i, 300*math.Pow(0.05, float64(i)/float64(max(n-1, 1))))
		}
		var g mat.Dense
		g.Product(basis(1, rows), s, basis(2, cols).T())
		grad := make([]float32, 0, rows*cols)
		for _, v := range g.RawMatrix().Data {
			grad = append(grad, float32(v))
		}
		p := optim.Param{Name: "w", Value: autograd.NewParam(tensor.Zeros(dev, rows, cols))}
		o, err := optim.New(optim.Config{Name: "muon", LR: 1}, []optim.Param{p})
		if err != nil {
			t.Fatal(err)
		}
		push(p.Value, grad)
		o.Step(1, 1)
		x := wide(p.Value.T.Floats())
		long := math.Sqrt(max(1, float64(rows)/float64(cols)))
		for i := range x {
			x[i] /= -long
		}
		var svd mat.SVD
		if !svd.Factorize(mat.NewDense(rows, cols, x), mat.SVDThin) {
			t.Fatal("no singular values")
		}
		values := svd.Values(nil)
		if slices.Max(values) > 1.21 || slices.Min(values) < 0.79 {
			t.Errorf("%d x %d: singular values from %.3f to %.3f", rows, cols, slices.Min(values), slices.Max(values))
		}
		// and it points where the gradient does
		var xd mat.Dense
		xd.MulElem(mat.NewDense(rows, cols, x), &g)
		if dot := mat.Sum(&xd); dot < 0.6*mat.Norm(&g, 2) {
			t.Errorf("%d x %d: the update has the product %g with the gradient", rows, cols, dot)
		}
	}
}

// An optimizer that takes its state and its steps from another goes on as that would have.
func TestStateRoundTrip(t *testing.T) {
	for _, tt := range []struct {
		name  string
		names func() []string
	}{
		{"adamw", func() []string { return slices.Concat(slots("adam_m", every), slots("adam_v", every)) }},
		{"sgd", func() []string { return slots("momentum", every) }},
		{"trust", func() []string {
			rest := func(matrix bool) bool { return !matrix }
			return slices.Concat([]string{"trust"}, slots("momentum", func(matrix bool) bool { return matrix }),
				slots("adam_m", rest), slots("adam_v", rest))
		}},
		{"lamb", func() []string { return slices.Concat(slots("adam_m", every), slots("adam_v", every)) }},
		{"prodigy", func() []string {
			return append(slices.Concat(slots("adam_m", every), slots("adam_v", every), slots("prodigy_s", every),
				slots("prodigy_x0", every)), "prodigy_dr")
		}},
		{"schedulefree", func() []string {
			return append(slices.Concat(slots("average", every), slots("iterate", every), slots("adam_v", every)), "rates")
		}},
		{"hypergradient", func() []string {
			return append(slices.Concat(slots("adam_m", every), slots("adam_v", every)), "log_rate")
		}},
		{"muon", func() []string {
			rest := func(matrix bool) bool { return !matrix }
			return slices.Concat(slots("momentum", func(matrix bool) bool { return matrix }), slots("adam_m", rest),
				slots("adam_v", rest))
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dev := cpu.New(0)
			c := optim.Config{Name: tt.name, Decay: 0.1}
			a, b := params(dev), params(dev)
			first, err := optim.New(c, a)
			if err != nil {
				t.Fatal(err)
			}
			second, _ := optim.New(c, b)
			if got := slices.Collect(keys(first.State())); !slices.Equal(got, tt.names()) {
				t.Errorf("state is named %q, want %q", got, tt.names())
			}
			train(first, a, 0, 4, nil)
			saved := map[string][]float32{}
			for name, x := range first.State() {
				saved[name] = x.Floats()
			}
			for i := range a {
				tensor.Copy(b[i].Value.T, a[i].Value.T)
			}
			for name, x := range second.State() {
				x.SetFloats(saved[name])
			}
			second.SetSteps(first.Steps())
			train(first, a, 4, 8, nil)
			train(second, b, 4, 8, nil)
			for i := range a {
				if !slices.Equal(a[i].Value.T.Floats(), b[i].Value.T.Floats()) {
					t.Errorf("%s goes on differently", a[i].Name)
				}
			}
			for stop := 1; stop <= len(saved); stop++ { // the iterator stops when it is told to
				n := 0
				for range first.State() {
					if n++; n == stop {
						break
					}
				}
				if n != stop {
					t.Errorf("%d tensors before the stop at %d", n, stop)
				}
			}
		})
	}
}

func every(bool) bool { return true }

func slots(slot string, want func(matrix bool) bool) []string {
	var names []string
	for _, s := range shapes {
		if want(s.matrix) {
			names = append(names, slot+"/"+s.name)
		}
	}
	return names
}

func keys(state iter.Seq2[string, *tensor.Tensor]) iter.Seq[string] {
	return func(yield func(string) bool) {
		for k := range state {
			if !yield(k) {
				return
			}
		}
	}
}

// A step tells that the parameters have changed, of those with a gradient only.
func TestVersions(t *testing.T) {
	for _, name := range optim.Names {
		ps := params(cpu.New(0))
		o, _ := optim.New(optim.Config{Name: name}, ps)
		before := make([]uint64, len(ps))
		for i, p := range ps {
			before[i] = p.Value.Version()
		}
		train(o, ps, 0, 1, nil)
		for i, p := range ps {
			if changed := p.Value.Version() != before[i]; changed != (i != len(ps)-1) {
				t.Errorf("%s: %s changed: %v", name, p.Name, changed)
			}
		}
	}
}

// A parameter that two layers share is one.
func TestCollectShared(t *testing.T) {
	dev := cpu.New(0)
	v, w := autograd.NewParam(tensor.Zeros(dev, 2, 3)), autograd.NewParam(tensor.Zeros(dev, 2))
	ps := optim.Collect(func(yield func(string, *autograd.Value) bool) {
		_ = yield("embed.weight", v) && yield("bias", w) && yield("head.weight", v) && yield("constant", autograd.NewConst(w.T))
	})
	if len(ps) != 2 || ps[0] != (optim.Param{Name: "embed.weight", Value: v}) || ps[1].Value != w {
		t.Errorf("%v", ps)
	}
}

func TestIsMatrix(t *testing.T) {
	weight := autograd.NewParam(tensor.Zeros(cpu.New(0), 2, 3))
	for name, want := range map[string]bool{"multi_head.q.weight": true, "lm_head.weight": false, "class_head": false,
		"blocks.0.token_embedding.weight": false, "head.0.weight": false} {
		if got := optim.IsMatrix(optim.Param{Name: name, Value: weight}); got != want {
			t.Errorf("%s: %v", name, got)
		}
	}
	for i, p := range params(cpu.New(0)) {
		if got := optim.IsMatrix(p); got != shapes[i].matrix {
			t.Errorf("%s: %v", p.Name, got)
		}
	}
}

func TestGradNormAndClip(t *testing.T) {
	ps := params(cpu.New(0))
	if n := optim.GradNorm(ps); n != 0 {
		t.Errorf("the norm of no gradient is %g", n)
	}
	push(ps[1].Value, normal(1, 36))
	push(ps[4].Value, normal(2, 6))
	sum := 0.0
	for _, v := range append(normal(1, 36), normal(2, 6)...) {
		sum += float64(v) * float64(v)
	}
	if n := optim.GradNorm(ps); math.Abs(n-math.Sqrt(sum)) > 1e-5 {
		t.Errorf("the norm is %g, want %g", n, math.Sqrt(sum))
	}
	optim.ZeroGrad(ps)
	if n := optim.GradNorm(ps); n != 0 {
		t.Errorf("the norm after ZeroGrad is %g", n)
	}
	for _, tt := range []struct {
		norm, limit float64
		want        float32
	}{{4, 1, 0.25}, {0.5, 1, 1}, {1, 1, 1}, {4, 0, 1}, {0, 1, 1}, {math.Inf(1), 1, 0}} {
		if got := optim.Clip(tt.norm, tt.limit); got != tt.want {
			t.Errorf("Clip(%g, %g) = %g, want %g", tt.norm, tt.limit, got, tt.want)
		}
	}
}

func TestCollect(t *testing.T) {
	ps := params(cpu.New(0))
	ps[2].Value.Freeze(true)
	all := map[string]*autograd.Value{}
	for _, p := range ps {
		all[p.Name] = p.Value
	}
	got := optim.Collect(maps.All(all))
	if len(got) != len(ps)-1 || slices.ContainsFunc(got, func(p optim.Param) bool { return p.Name == ps[2].Name }) {
		t.Errorf("collected %d of %d", len(got), len(ps))
	}
	for _, p := range got {
		if all[p.Name] != p.Value {
			t.Errorf("%s is another value", p.Name)
		}
	}
	for _, name := range optim.Names { // nothing to train is no mistake
		o, err := optim.New(optim.Config{Name: name}, nil)
		if err != nil {
			t.Fatal(err)
		}
		o.Step(1, 1)
	}
}

func TestConfig(t *testing.T) {
	nan := float32(math.NaN())
	for _, tt := range []struct {
		c    optim.Config
		want string
	}{
		{optim.Config{}, ""},
		{optim.Config{Name: "adamw", LR: 1e-3, Decay: 0.1}, ""},
		{optim.Config{Name: "lion"}, `optim: unknown optimizer "lion"; use ` + strings.Join(optim.Names, ", ")},
		{optim.Config{LR: -1}, "optim: lr is -1; it must be at least 0 and below 1000"},
		{optim.Config{LR: nan}, "optim: lr is NaN; it must be at least 0 and below 1000"},
		{optim.Config{LR: 2000}, "optim: lr is 2000; it must be at least 0 and below 1000"},
		{optim.Config{AdamLR: -2}, "optim: adam_lr is -2; it must be at least 0 and below 1000"},
		{optim.Config{Momentum: 1}, "optim: momentum is 1; it must be at least 0 and below 1"},
		{optim.Config{Beta1: 1}, "optim: beta1 is 1; it must be at least 0 and below 1"},
		{optim.Config{Beta2: -0.5}, "optim: beta2 is -0.5; it must be at least 0 and below 1"},
		{optim.Config{Eps: nan}, "optim: eps is NaN; it must be at least 0 and below 1"},
		{optim.Config{D0: -1}, "optim: d0 is -1; it must be at least 0 and below 1000"},
		{optim.Config{HyperLR: nan}, "optim: hyper_lr is NaN; it must be at least 0 and below 1000"},
		{optim.Config{Decay: -0.1}, "optim: decay is -0.1; it must be at least 0 and below 1000"},
	} {
		got := ""
		if err := tt.c.Validate(); err != nil {
			got = err.Error()
		}
		if got != tt.want {
			t.Errorf("%+v: got %q, want %q", tt.c, got, tt.want)
		}
		if _, err := optim.New(tt.c, nil); (err == nil) != (tt.want == "") {
			t.Errorf("New(%+v): %v", tt.c, err)
		}
	}
	c := optim.Config{LR: 0.04}.WithDefaults()
	if c.Name != "muon" || c.AdamLR != 0.01 || c.Momentum != 0.95 || c.Beta1 != 0.9 || c.Beta2 != 0.95 || c.Eps != 1e-8 {
		t.Errorf("defaults are %+v", c)
	}
	if c := (optim.Config{Name: "adamw"}).WithDefaults(); c.LR != 5e-3 || c.AdamLR != 0 {
		t.Errorf("defaults are %+v", c)
	}
	for name, want := range map[string]optim.Config{
		"lamb":          {LR: 0.015, Beta2: 0.95},
		"prodigy":       {LR: 1, Beta2: 0.95, D0: 1e-6},
		"schedulefree":  {LR: 3e-3, Beta2: 0.999},
		"hypergradient": {LR: 1e-3, Beta2: 0.95, HyperLR: 0.3},
	} {
		want.Name, want.Beta1, want.Eps = name, 0.9, 1e-8
		if c := (optim.Config{Name: name}).WithDefaults(); c != want {
			t.Errorf("defaults are %+v, want %+v", c, want)
		}
	}
	if c := (optim.Config{Name: "sgd"}).WithDefaults(); c.LR != 0.1 || c.Momentum != 0.9 {
		t.Errorf("defaults are %+v", c)
	}
}

func TestSchedule(t *testing.T) {
	const total = 100
	for _, tt := range []struct {
		s    optim.Schedule
		want map[int]float64 // by step
	}{
		{optim.Schedule{Kind: "linear", Warmup: 0.1, Final: 0.1}, map[int]float64{0: 0.1, 4: 0.5, 9: 1, 10: 1, 55: 0.55,
			100: 0.1, 200: 0.1}},
		{optim.Schedule{Kind: "cosine", Warmup: 0.1, Final: 0.1}, map[int]float64{0: 0.1, 9: 1, 10: 1, 55: 0.55,
			32: 0.1 + 0.45*(1+math.Cos(math.Pi*22/90)), 100: 0.1}},
		{optim.Schedule{Kind: "constant", Warmup: 0.1}, map[int]float64{0: 0.1, 9: 1, 10: 1, 99: 1}},
		{optim.Schedule{Kind: "two-stage", Warmup: 0.1, Final: 0.1}, map[int]float64{0: 0.1, 9: 1, 10: 1, 28: 0.8,
			55: 1. / 3, 100: 0.1}},
		{optim.Schedule{}, map[int]float64{0: 0.2, 4: 1, 5: 1, 100: 0.02}},
	} {
		for step, want := range tt.want {
			if got := tt.s.At(step, total); math.Abs(got-want) > 1e-12 {
				t.Errorf("%+v: factor %g at step %d, want %g", tt.s, got, step, want)
			}
		}
		before := 0.0
		for step := range total { // rises, then falls, always above 0 and at most 1
			f := tt.s.At(step, total)
			if !(f > 0 && f <= 1) || (step < 5 && f <= before) || (step > 10 && f > before) {
				t.Errorf("%+v: factor %g at step %d after %g", tt.s, f, step, before)
			}
			before = f
		}
		for _, total := range []int{0, 1, 2} {
			if f := tt.s.At(0, total); !(f > 0 && f <= 1) {
				t.Errorf("%+v: factor %g in a run of %d steps", tt.s, f, total)
			}
		}
		if err := tt.s.Validate(); err != nil {
			t.Error(err)
		}
	}
	for _, tt := range []struct {
		s    optim.Schedule
		want string
	}{
		{optim.Schedule{Kind: "step"}, `unknown schedule "step"; use linear, cosine, two-stage or constant`},
		{optim.Schedule{Warmup: 1}, "warmup 1 is no share of the steps"},
		{optim.Schedule{Warmup: math.NaN()}, "warmup NaN"},
		{optim.Schedule{Warmup: -0.1}, "warmup -0.1"},
		{optim.Schedule{Final: 2}, "final factor 2 is not between 0 and 1"},
		{optim.Schedule{Final: math.NaN()}, "final factor NaN"},
	} {
		if err := tt.s.Validate(); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%+v: %v, want %q", tt.s, err, tt.want)
		}
	}
}
