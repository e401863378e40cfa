package auxnet

import (
	"math/rand/v2"

	"setun/autograd"
	"setun/optim"
)

// Distill trains a fresh network on [Rule] with random signals: Adam on mean squared error, 256 examples a step. The same
// seed gives the same weights, to the bit. It returns them in the order of Params, and the error over the last tenth of
// the steps.
func Distill(seed uint64, steps int) (weights []float32, mse float64) {
	n := blank()
	ps := optim.Collect(n.Params())
	o, err := optim.New(optim.Config{Name: "adamw", LR: 1e-2}, ps)
	if err != nil {
		panic(err)
	}
	defer o.Free()
	rng := rand.New(rand.NewPCG(seed, 146))
	const batch = 256
	x, y := make([]float32, batch*Inputs), make([]float32, batch*Outputs)
	schedule := optim.Schedule{Kind: "cosine", Final: 1e-3}
	dev := n.In.Weight.Device()
	for step := range steps {
		for i := range batch {
			s := randomSignals(rng)
			for j, v := range s.Vector() {
				x[i*Inputs+j] = float32(v)
			}
			want := Rule(s)
			y[i*Outputs], y[i*Outputs+1] = float32(want[0]), float32(want[1])
		}
		t := autograd.Tape{Grad: true}
		miss := t.Sub(n.Forward(&t, t.Floats(dev, x, batch, Inputs)), t.Floats(dev, y, batch, Outputs))
		loss := t.Mean(t.Mul(miss, miss))
		optim.ZeroGrad(ps)
		t.Backward(loss)
		if step >= steps-steps/10 {
			mse += float64(loss.Float()) / float64(steps/10)
		}
		t.Reset()
		o.Step(float32(schedule.At(step, steps)), 1)
	}
	for _, v := range n.Params() {
		weights = append(weights, v.T.Floats()...)
	}
	return weights, mse
}

// randomSignals covers what training shows, and more of where the rule changes its mind.
func randomSignals(rng *rand.Rand) optim.Signals {
	rho := 0.75 + 0.35*rng.NormFloat64()
	if rng.IntN(2) == 0 {
		rho = []float64{0.5, 0.93}[rng.IntN(2)] + 0.1*rng.NormFloat64()
	}
	u := func() float64 { return 2*rng.Float64() - 1 }
	return optim.Signals{LossTrend: rng.NormFloat64(), GradNorm: u(), Step: u(), Cosine: 3 * u(), Binding: u(),
		Rho: 2 * (rho - 0.75)}
}

// What Distill is called with for the weights that the package ships.
const (
	Seed  = 1
	Steps = 3000
)
