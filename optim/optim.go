package optim

import (
	"fmt"
	"iter"
	"math"
	"slices"
	"strings"

	"setun/autograd"
	"setun/device"
	"setun/tensor"
)

// Param is a named parameter.
type Param struct {
	Name  string
	Value *autograd.Value
}

// Collect lists the parameters that want a gradient, each once: one that has several names by its first.
func Collect(params iter.Seq2[string, *autograd.Value]) []Param {
	var ps []Param
	seen := map[*autograd.Value]bool{}
	for n, v := range params {
		if v.WantsGrad() && !seen[v] {
			seen[v] = true
			ps = append(ps, Param{n, v})
		}
	}
	return ps
}

// Optimizer updates the parameters it was made with.
type Optimizer interface {
	// Step updates every parameter that has a gradient: base learning rate times factor, gradients times gradScale.
	Step(factor, gradScale float32)
	// State yields the tensors that a checkpoint must hold, under stable names.
	State() iter.Seq2[string, *tensor.Tensor]
	// Steps is the number of steps taken; SetSteps restores it.
	Steps() int
	SetSteps(n int)
	// Free gives back all device memory that the optimizer took, State included. It cannot be used after.
	Free()
}

// Averager is an Optimizer that hands back other weights than it takes gradients at.
type Averager interface {
	Optimizer
	// Average(true) puts the weights to evaluate, save and keep in the parameters, Average(false) those to take the next
	// gradient at. Both follow from State, and change nothing else. Step leaves it false; after a restore, call
	// Average(false).
	Average(on bool)
}

// Names lists every optimizer that New makes.
var Names = []string{"muon", "adamw", "sgd", "trust", "lamb", "prodigy", "schedulefree", "hypergradient"}

// Config chooses and configures an optimizer; zero fields mean the defaults in brackets.
type Config struct {
	Name string `json:"name"` // one of Names ("muon")
	// LR is the base learning rate (muon 0.02, adamw 5e-3, sgd 0.1, trust: at the bounds, lamb 0.015, prodigy 1,
	// schedulefree 3e-3, hypergradient 1e-3, where it starts).
	LR       float32 `json:"lr,omitempty"`
	Momentum float32 `json:"momentum,omitempty"` // muon 0.95, sgd 0.9
	Beta1    float32 `json:"beta1,omitempty"`    // of the first moment (0.9); schedulefree: share of the average in y
	Beta2    float32 `json:"beta2,omitempty"`    // of the second moment (0.95, schedulefree 0.999)
	Eps      float32 `json:"eps,omitempty"`      // beside the root of the second moment (1e-8)
	Decay    float32 `json:"decay,omitempty"`    // decoupled weight decay of matrices (0)
	// AdamLR is the learning rate of the parameters that Muon leaves to AdamW (LR/4).
	AdamLR float32 `json:"adam_lr,omitempty"`
	Trust  Trust   `json:"trust,omitzero"`
	// D0 is Prodigy's first estimate of the distance to a solution (1e-6).
	D0 float32 `json:"d0,omitempty"`
	// HyperLR is how far a step of hypergradient can move the logarithm of the learning rate (0.3).
	HyperLR float32 `json:"hyper_lr,omitempty"`
}

// WithDefaults fills in the zero fields.
func (c Config) WithDefaults() Config {
	def := func(f *float32, v float32) {
		if *f == 0 {
			*f = v
		}
	}
	if c.Name == "" {
		c.Name = "muon"
	}
	switch c.Name {
	case "muon":
		def(&c.LR, 0.02)
		def(&c.Momentum, 0.95)
		def(&c.AdamLR, c.LR/4)
	case "sgd":
		def(&c.LR, 0.1)
		def(&c.Momentum, 0.9)
	case "trust":
		c.Trust = c.Trust.withDefaults()
		def(&c.AdamLR, 0.25)
		m := float32(0.95)
		if c.Trust.Direction == "sgd" {
			m = 0.9
		}
		def(&c.Momentum, m)
	case "lamb":
		def(&c.LR, 0.015)
	case "prodigy":
		def(&c.LR, 1)
		def(&c.D0, 1e-6)
	case "schedulefree":
		def(&c.LR, 3e-3)
		def(&c.Beta2, 0.999)
	case "hypergradient":
		def(&c.LR, 1e-3)
		def(&c.HyperLR, 0.3)
	default:
		def(&c.LR, 5e-3)
	}
	def(&c.Beta1, 0.9)
	def(&c.Beta2, 0.95)
	def(&c.Eps, 1e-8)
	return c
}

// Validate reports a field out of range.
func (c Config) Validate() error {
	c = c.WithDefaults()
	in := func(name string, v, lo, hi float32) error {
		if v >= lo && v < hi {
			return nil
		}
		return fmt.Errorf("optim: %s is %g; it must be at least %g and below %g", name, v, lo, hi)
	}
	if !slices.Contains(Names, c.Name) {
		return fmt.Errorf("optim: unknown optimizer %q; use %s", c.Name, strings.Join(Names, ", "))
	}
	if c.Name == "trust" {
		if err := c.Trust.validate(); err != nil {
			return err
		}
	} else if c.Trust != (Trust{}) {
		return fmt.Errorf("optim: %s has no trust region; leave trust out, or use the optimizer trust", c.Name)
	}
	for _, err := range []error{in("lr", c.LR, 0, 1e3), in("adam_lr", c.AdamLR, 0, 1e3), in("momentum", c.Momentum, 0, 1),
		in("d0", c.D0, 0, 1e3), in("hyper_lr", c.HyperLR, 0, 1e3),
		in("beta1", c.Beta1, 0, 1), in("beta2", c.Beta2, 0, 1), in("eps", c.Eps, 0, 1), in("decay", c.Decay, 0, 1e3)} {
		if err != nil {
			return err
		}
	}
	return nil
}

// New makes the optimizer that c names for ps.
func New(c Config, ps []Param) (Optimizer, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	c = c.WithDefaults()
	switch c.Name {
	case "adamw":
		return newAdamW(c, c.LR, ps), nil
	case "sgd":
		return newSGD(c, ps), nil
	case "trust":
		return newTrustRegion(c, ps), nil
	case "lamb":
		return newLAMB(c, ps), nil
	case "prodigy":
		return newProdigy(c, ps), nil
	case "schedulefree":
		return newScheduleFree(c, ps), nil
	case "hypergradient":
		return newHypergradient(c, ps), nil
	}
	return newMuon(c, ps), nil
}

// IsMatrix reports whether a parameter is a hidden weight matrix: two dimensions, both larger than one, and no
// embedding or output head by its name: one in which a part has "embed" in it, is "head", or ends in "_head", but
// "multi_head".
func IsMatrix(p Param) bool {
	for part := range strings.SplitSeq(p.Name, ".") {
		if strings.Contains(part, "embed") || part == "head" || strings.HasSuffix(part, "_head") && part != "multi_head" {
			return false
		}
	}
	return p.Value.T.Dims() == 2 && p.Value.Dim(0) > 1 && p.Value.Dim(1) > 1
}

// GradNorm is the Euclidean norm of all gradients together. It waits for the device.
func GradNorm(ps []Param) float64 {
	var sum *tensor.Tensor
	total := 0.0
	for _, p := range ps {
		if !p.Value.HasGrad() {
			continue
		}
		if sum == nil {
			sum = tensor.Zeros(p.Value.Device(), 1)
		}
		tensor.SumSquares(sum, p.Value.Grad)
	}
	if sum != nil {
		total = float64(sum.Float())
		sum.Free()
	}
	return math.Sqrt(total)
}

// Clip is the factor that brings a gradient of the given norm down to at most limit; limit 0 means no limit.
func Clip(norm, limit float64) float32 {
	if limit > 0 && norm > limit {
		return float32(limit / norm)
	}
	return 1
}

// ZeroGrad makes all gradients nil, as before the first step; their memory is kept for the next.
func ZeroGrad(ps []Param) {
	for _, p := range ps {
		p.Value.ZeroGrad()
	}
}

// state is a slot of one tensor per parameter.
type state []*tensor.Tensor

func newState(ps []Param) state {
	s := make(state, len(ps))
	for i, p := range ps {
		s[i] = tensor.Zeros(p.Value.Device(), p.Value.Shape()...)
	}
	return s
}

// newCopies is a slot of the parameters as they are.
func newCopies(ps []Param) state {
	s := newState(ps)
	for i, p := range ps {
		tensor.Copy(s[i], p.Value.T)
	}
	return s
}

func (s state) free() {
	for _, t := range s {
		t.Free()
	}
}

func (s state) yield(slot string, ps []Param, f func(string, *tensor.Tensor) bool) bool {
	for i, p := range ps {
		if !f(slot+"/"+p.Name, s[i]) {
			return false
		}
	}
	return true
}

// numbers are a few scalars with a place on the device, where kernels add to them and checkpoints find them. Without
// parameters there is no device.
type numbers struct {
	x  []float32 // on the host, as read or to write
	t  *tensor.Tensor
	at []*tensor.Tensor // elements of t
}

func newNumbers(ps []Param, x ...float32) numbers {
	n := numbers{x: x}
	if len(ps) > 0 && len(x) > 0 {
		n.t = tensor.FromFloats(ps[0].Value.Device(), x, len(x))
		for i := range x {
			n.at = append(n.at, n.t.Rows(i, i+1))
		}
	}
	return n
}

func (n numbers) zero() {
	if n.t != nil {
		tensor.Fill(n.t, 0)
	}
}

func (n numbers) read() {
	if n.t != nil {
		n.t.ReadFloats(n.x)
	}
}

func (n numbers) write() {
	if n.t != nil {
		n.t.SetFloats(n.x)
	}
}

func (n numbers) free() {
	if n.t != nil {
		n.t.Free()
	}
}

func (n numbers) yield(name string, f func(string, *tensor.Tensor) bool) bool {
	return n.t == nil || f(name, n.t)
}

// newPool is the scratch of an optimizer.
func newPool(ps []Param) *tensor.Pool {
	if len(ps) == 0 {
		return tensor.NewPool(nil)
	}
	return tensor.NewPool(ps[0].Value.Device())
}

// addSum: d[0] += alpha * sum of x, the rows of a matrix first.
func addSum(pool *tensor.Pool, d, x *tensor.Tensor, alpha float32) {
	if x.Dims() < 2 {
		tensor.Sum(d, x, alpha)
		return
	}
	row := pool.Get(device.F32, x.Dim(-1))
	tensor.Fill(row, 0)
	tensor.SumRows(row, x, 1)
	tensor.Sum(d, row, alpha)
	pool.Put(row)
}
