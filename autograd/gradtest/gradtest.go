package gradtest

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"setun/autograd"
	"setun/device"
	"setun/tensor"
)

// Func computes a result of any shape from inputs. It is called many times and must give the same result every time.
// Constants, such as token ids, are its own: t.Ints, t.Floats.
type Func func(t *autograd.Tape, in []*autograd.Value) *autograd.Value

// Input describes one input, drawn evenly from [Min, Max].
type Input struct {
	Shape    []int
	Min, Max float64 // both 0: -1 and 1
	Away     float64 // distance to 0 that elements keep, for a function with a kink there
}

// Shape is an input of the given shape from [-1, 1].
func Shape(dims ...int) Input { return Input{Shape: dims} }

// Checker has the numbers of a check. The zero Checker is the default.
type Checker struct {
	Seed uint64
	// Step is the distance h of the differences, rounded to a power of two; default 1/32. The formula
	// (8 (f(x+h) - f(x-h)) - (f(x+2h) - f(x-2h))) / 12h has an error of h^4, so that a step can be large against float32's
	// resolution.
	Step float64
	// Tol is the error allowed, as a part of the largest gradient of the input; default 1e-3.
	Tol float64
}

// Check checks the gradient of f with the default Checker and reports the worst element as an error of t.
func Check(t testing.TB, dev device.Device, f Func, inputs ...Input) {
	t.Helper()
	if err := (Checker{}).Compare(dev, f, inputs...); err != nil {
		t.Error(err)
	}
}

// Check checks the gradient of f and reports the worst element as an error of t.
func (c Checker) Check(t testing.TB, dev device.Device, f Func, inputs ...Input) {
	t.Helper()
	if err := c.Compare(dev, f, inputs...); err != nil {
		t.Error(err)
	}
}

// Compare is Check for callers without a test. The error names the worst element.
func (c Checker) Compare(dev device.Device, f Func, inputs ...Input) error {
	if c.Step == 0 {
		c.Step = 1. / 32
	}
	if c.Tol == 0 {
		c.Tol = 1e-3
	}
	c.Step = math.Exp2(math.Round(math.Log2(c.Step)))
	r := &run{Checker: c, f: f, inputs: inputs, pool: tensor.NewPool(dev)}
	r.pool.Poison = true
	defer r.close()
	var err error
	if e := autograd.Catch(func() { err = r.compare(dev) }); e != nil {
		return fmt.Errorf("gradtest: %w", e)
	}
	if e := dev.Sync(); e != nil { // the reason for all the rest
		err = e
	}
	if err != nil {
		return fmt.Errorf("gradtest: %w", err)
	}
	return nil
}

type run struct {
	Checker
	f      Func
	inputs []Input
	pool   *tensor.Pool
	x      [][]float32       // host copies of the inputs
	in     []*autograd.Value // and the inputs
	w      []float32         // weights of the result
}

func (r *run) close() {
	for _, v := range r.in {
		v.T.Free()
		v.FreeGrad()
	}
	r.pool.Close()
}

// draw fills the inputs with multiples of 1/4096, so that x+h is exact in float32.
func (r *run) draw(dev device.Device) {
	rng := rand.New(rand.NewPCG(r.Seed, 1))
	for _, in := range r.inputs {
		lo, hi := in.Min, in.Max
		if lo == 0 && hi == 0 {
			lo, hi = -1, 1
		}
		n := 1
		for _, d := range in.Shape {
			n *= d
		}
		x := make([]float32, n)
		for i := range x {
			v := lo + (hi-lo)*rng.Float64()
			if math.Abs(v) < in.Away {
				v = math.Copysign(in.Away+math.Abs(v), v)
			}
			x[i] = float32(math.Round(v*4096) / 4096)
		}
		r.x = append(r.x, x)
		r.in = append(r.in, autograd.NewParam(tensor.FromFloats(dev, x, in.Shape...)))
	}
}

// weigh draws the weights of a result, away from 0 so that no element is left out.
func (r *run) weigh(n int) {
	rng := rand.New(rand.NewPCG(r.Seed, 2))
	r.w = make([]float32, n)
	for i := range r.w {
		r.w[i] = float32(math.Copysign(0.5+rng.Float64(), rng.Float64()-0.5))
	}
}

// tape begins a step. It records, so that Dropout drops.
func (r *run) tape() *autograd.Tape {
	return &autograd.Tape{Pool: r.pool, Grad: true, Seed: r.Seed + 1}
}

// eval is the sum of w*f, and the root of the sum of (w*f)^2.
func (r *run) eval() (sum, size float64) {
	t := r.tape()
	defer t.Reset()
	for i, y := range r.f(t, r.in).T.Floats() {
		v := float64(r.w[i]) * float64(y)
		sum += v
		size += v * v
	}
	return sum, math.Sqrt(size)
}

// backward adds the gradients of the sum of w*f to the inputs and returns copies; nil for an input without.
func (r *run) backward() [][]float32 {
	t := r.tape()
	defer t.Reset()
	y := r.f(t, r.in)
	if r.w == nil {
		r.weigh(y.T.Len())
	}
	w := t.Floats(y.Device(), r.w, y.Shape()...)
	t.Backward(t.Sum(t.Mul(y, w)))
	g := make([][]float32, len(r.in))
	for i, v := range r.in {
		if v.HasGrad() {
			g[i] = v.Grad.Floats()
		}
	}
	return g
}

func (r *run) compare(dev device.Device) error {
	r.draw(dev)
	once := r.backward()
	if err := r.leak(); err != nil {
		return err
	}
	if err := r.differences(once); err != nil {
		return err
	}
	// Gradients add up.
	for i, g := range r.backward() {
		for j := range g {
			if want := 2 * once[i][j]; !near(g[j], want) {
				return fmt.Errorf("%s: the gradient is %g, after a second pass %g, want %g: it is set instead of added",
					r.at(i, j), once[i][j], g[j], want)
			}
		}
	}
	// Each input alone.
	for i := range r.in {
		for j, v := range r.in {
			v.ZeroGrad()
			v.Freeze(j != i)
		}
		for k, g := range r.backward() {
			if k != i && g != nil {
				return fmt.Errorf("input %d wants no gradient and gets one", k)
			}
			if k == i && g == nil && once[i] != nil {
				return fmt.Errorf("input %d gets no gradient when no other input wants one", i)
			}
			for j := range g {
				if !near(g[j], once[i][j]) {
					return fmt.Errorf("%s: the gradient is %g, and %g when no other input wants one", r.at(i, j), once[i][j], g[j])
				}
			}
		}
	}
	return r.leak()
}

func (r *run) leak() error {
	if n := r.pool.InUse(); n != 0 {
		return fmt.Errorf("%d bytes of the pool are still in use after Reset", n)
	}
	return nil
}

// near allows for another order of sums, and no more.
func near(a, b float32) bool { return math.Abs(float64(a-b)) <= 1e-6+1e-4*math.Abs(float64(b)) }

// differences compares the gradients g with the differences of f.
func (r *run) differences(g [][]float32) error {
	h := r.Step
	_, size := r.eval()
	noise := 16 * size * 0x1p-24 / h // what rounding in float32 makes of a difference
	var worst error
	ratio := 1.0
	for i, v := range r.in {
		x := r.x[i]
		diff := make([]float64, len(x))
		largest := 0.0
		for j, old := range x {
			var f [4]float64
			for k, d := range []float64{h, -h, 2 * h, -2 * h} {
				x[j] = float32(float64(old) + d)
				v.T.SetFloats(x)
				v.Changed()
				f[k], _ = r.eval()
			}
			x[j] = old
			diff[j] = (8*(f[0]-f[1]) - (f[2] - f[3])) / (12 * h)
			largest = max(largest, math.Abs(diff[j]))
		}
		v.T.SetFloats(x)
		v.Changed()
		for j, d := range diff {
			a := math.NaN()
			if g[i] != nil {
				a = float64(g[i][j])
			}
			allowed := r.Tol*max(largest, math.Abs(a)) + noise + math.SmallestNonzeroFloat32
			switch e := math.Abs(a-d) / allowed; {
			case g[i] == nil && math.Abs(d) <= allowed:
			case g[i] == nil:
				return fmt.Errorf("%s: no gradient arrives, differences give %.6g", r.at(i, j), d)
			case math.IsNaN(e):
				return fmt.Errorf("%s: the gradient is %g, differences give %.6g", r.at(i, j), a, d)
			case e > ratio:
				ratio = e
				worst = fmt.Errorf("%s: the gradient is %.6g, differences give %.6g, %.3g times the error allowed", r.at(i, j),
					a, d, e)
			}
		}
	}
	return worst
}

// at names element j of input i.
func (r *run) at(i, j int) string {
	shape := r.inputs[i].Shape
	index := make([]int, len(shape))
	for k := len(shape) - 1; k >= 0; k-- {
		index[k] = j % shape[k]
		j /= shape[k]
	}
	return fmt.Sprintf("input %d of shape %v at %v", i, shape, index)
}
