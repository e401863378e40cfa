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

// softmaxRegression is the mean cross-entropy of a linear classifier of 3 overlapping classes plus ||W||^2/200.
func softmaxRegression(dev device.Device) (optim.Objective, []optim.Param) {
	const n, d, k = 300, 8, 3
	x, y := normal(1, n*d), make([]int32, n)
	for i := range n {
		y[i] = int32(i % k)
		x[i*d+i%k] += 1.5
	}
	w := autograd.NewParam(tensor.Zeros(dev, k, d))
	b := autograd.NewParam(tensor.Zeros(dev, k))
	return func(gradient bool) float64 {
		t := autograd.Tape{Grad: gradient}
		defer t.Reset()
		loss := t.CrossEntropy(t.Linear(t.Floats(dev, x, n, d), w, b), t.Ints(dev, y, n))
		loss = t.Add(loss, t.Scale(t.Sum(t.Mul(w, w)), 1./200))
		t.Backward(loss)
		return float64(loss.Float())
	}, []optim.Param{{Name: "weight", Value: w}, {Name: "bias", Value: b}}
}

// rosenbrock: sum over i of 100 (x[i+1] - x[i]^2)^2 + (1 - x[i])^2 in 20 dimensions, from (-1.2, 1, -1.2, 1, ...).
func rosenbrock(dev device.Device) (optim.Objective, []optim.Param) {
	const n = 20
	start := make([]float32, n)
	for i := range start {
		start[i] = []float32{-1.2, 1}[i%2]
	}
	x := autograd.NewParam(tensor.FromFloats(dev, start, 1, n))
	ones := slices.Repeat([]float32{1}, n-1)
	return func(gradient bool) float64 {
		t := autograd.Tape{Grad: gradient}
		defer t.Reset()
		lo, hi := t.SliceLast(x, 0, n-1), t.SliceLast(x, 1, n)
		a := t.Sub(hi, t.Mul(lo, lo))
		b := t.Sub(lo, t.Floats(dev, ones, 1, n-1))
		f := t.Add(t.Scale(t.Sum(t.Mul(a, a)), 100), t.Sum(t.Mul(b, b)))
		t.Backward(f)
		return float64(f.Float())
	}, []optim.Param{{Name: "x", Value: x}}
}

// From radii over six decades both problems are solved, and no accepted step raises the function.
func TestMinimize(t *testing.T) {
	for _, tt := range []struct {
		name   string
		method string
		make   func(device.Device) (optim.Objective, []optim.Param)
	}{{"softmax", "cg", softmaxRegression}, {"softmax", "adam", softmaxRegression}, {"rosenbrock", "cg", rosenbrock}} {
		for _, radius := range []float64{1e-4, 1e-2, 1, 100} {
			t.Run(fmt.Sprintf("%s/%s/%g", tt.name, tt.method, radius), func(t *testing.T) {
				f, ps := tt.make(cpu.New(1))
				last := math.Inf(1)
				m, err := optim.Minimize(f, ps, optim.MinimizeConfig{Method: tt.method, Radius: radius, Trace: func(m optim.Minimum) {
					if !(m.Value <= last+1e-6*math.Abs(last)) {
						t.Errorf("the function rises from %g to %g", last, m.Value)
					}
					last = m.Value
				}})
				if err != nil {
					t.Fatal(err)
				}
				if !m.Converged || !(m.GradNorm < 1e-4) {
					t.Errorf("||g|| = %g after %d gradients", m.GradNorm, m.Evals)
				}
				t.Logf("f = %.6g, ||g|| = %.2g, %d gradients", m.Value, m.GradNorm, m.Evals)
				optim.ZeroGrad(ps)
				if v := f(true); v != m.Value || math.Abs(optim.GradNorm(ps)-m.GradNorm) > 1e-6 {
					t.Errorf("the parameters are not where it says: %g %g, want %g %g", v, optim.GradNorm(ps), m.Value, m.GradNorm)
				}
			})
		}
	}
}

// Whoever caches what it computes of a parameter hears of a step that is undone.
func TestMinimizeUndoes(t *testing.T) {
	for evals := 2; evals < 20; evals++ {
		for _, method := range []string{"cg", "adam"} {
			f, ps := rosenbrock(cpu.New(1))
			var version uint64
			var cached float64
			cache := func(grad bool) float64 {
				if v := ps[0].Value.Version(); grad || v != version {
					version, cached = v, f(grad)
				}
				return cached
			}
			m, err := optim.Minimize(cache, ps, optim.MinimizeConfig{Method: method, Evals: evals, Radius: 3})
			if err != nil {
				t.Fatal(err)
			}
			if v := cache(false); v != m.Value {
				t.Errorf("%s, %d gradients: f is %v after it, it says %v", method, evals, v, m.Value)
			}
		}
	}
}

// It uses the device alone, and gives back all memory.
func TestMinimizeOpaque(t *testing.T) {
	dev := devicetest.Opaque(cpu.New(1))
	f, ps := rosenbrock(dev)
	f(true) // the gradient stays
	before := dev.Live()
	for _, method := range []string{"cg", "adam"} {
		m, err := optim.Minimize(f, ps, optim.MinimizeConfig{Method: method, Evals: 700})
		if err != nil || method == "cg" && !m.Converged {
			t.Error(m, err)
		}
		if left := dev.Live() - before; left != 0 {
			t.Errorf("%s keeps %d allocations", method, left)
		}
	}
}

func TestMinimizeRefuses(t *testing.T) {
	f, ps := rosenbrock(cpu.New(1))
	for _, tt := range []struct {
		want string
		c    optim.MinimizeConfig
		ps   []optim.Param
	}{
		{"unknown method", optim.MinimizeConfig{Method: "newton"}, ps},
		{"must be positive", optim.MinimizeConfig{Radius: -1}, ps},
		{"must be positive", optim.MinimizeConfig{Tol: math.NaN()}, ps},
		{"no parameters", optim.MinimizeConfig{}, nil},
	} {
		if _, err := optim.Minimize(f, tt.ps, tt.c); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%v: %v, want %q", tt.c, err, tt.want)
		}
	}
	bad := func(bool) float64 { return math.NaN() }
	if _, err := optim.Minimize(bad, ps, optim.MinimizeConfig{}); err == nil ||
		!strings.Contains(err.Error(), "where it starts") {
		t.Error(err)
	}
	// Budget: it ends, where it is.
	if m, err := optim.Minimize(f, ps, optim.MinimizeConfig{Evals: 30}); err != nil || m.Converged || m.Evals > 31 {
		t.Error(m, err)
	}
}
