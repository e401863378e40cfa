package auxnet_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"setun/nn"
	"setun/optim"
	"setun/optim/auxnet"
)

func shipped(t *testing.T, c auxnet.Config) *auxnet.Net {
	t.Helper()
	n, err := auxnet.New(c)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func weights(n *auxnet.Net) (w []float32) {
	for _, v := range n.Params() {
		w = append(w, v.T.Floats()...)
	}
	return w
}

// What is shipped is what go generate makes.
func TestDistilled(t *testing.T) {
	got, mse := auxnet.Distill(auxnet.Seed, auxnet.Steps)
	n := shipped(t, auxnet.Config{})
	if len(got) != 146 || nn.Count(n) != 146 {
		t.Errorf("%d parameters, want 146", len(got))
	}
	if !slices.Equal(got, weights(n)) {
		t.Error("weights.go is stale: run go generate ./optim/auxnet")
	}
	if !(mse < 0.02) {
		t.Errorf("mean squared error %g", mse)
	}
}

// Away from the thresholds the network does what the rule does; its outputs are bounded whatever it is told.
func TestAdvise(t *testing.T) {
	n := shipped(t, auxnet.Config{})
	rng := rand.New(rand.NewPCG(3, 3))
	for range 500 {
		s := optim.Signals{LossTrend: rng.NormFloat64(), GradNorm: rng.Float64() - 0.5, Step: rng.Float64() - 0.5,
			Cosine: rng.Float64(), Binding: []float64{-0.8, 0.8}[rng.IntN(2)],
			Rho: 2 * ([]float64{0.1, 0.7, 1.1}[rng.IntN(3)] - 0.75)}
		want := auxnet.Rule(s)
		rate, radius := n.Advise(s)
		if math.Abs(rate-auxnet.MaxRate*want[0]) > 0.15 || math.Abs(radius) > 0.05 {
			t.Fatalf("%+v: rate %.3f, radius %.3f, want %.3f and 0", s, rate, radius, auxnet.MaxRate*want[0])
		}
	}
	for _, v := range []float64{math.NaN(), math.Inf(1), math.Inf(-1), 1e30} {
		rate, radius := n.Advise(optim.Signals{LossTrend: v, GradNorm: v, Step: v, Cosine: v, Binding: v, Rho: v})
		if !(math.Abs(rate) <= auxnet.MaxRate && math.Abs(radius) <= auxnet.MaxRadius) {
			t.Errorf("signals of %g: %g, %g", v, rate, radius)
		}
	}
}

// Online it moves towards the rule where it errs and stays near its first weights; frozen it does not move.
func TestOnline(t *testing.T) {
	first := weights(shipped(t, auxnet.Config{}))
	s := optim.Signals{Rho: 2 * (0.47 - 0.75), Binding: -0.5}
	miss := func(n *auxnet.Net) float64 {
		rate, _ := n.Advise(s)
		return math.Abs(rate - auxnet.MaxRate*auxnet.Rule(s)[0])
	}
	frozen, online := shipped(t, auxnet.Config{}), shipped(t, auxnet.Config{Mode: "online", LR: 0.05})
	before := miss(frozen)
	for range 200 {
		frozen.Advise(s)
		online.Advise(s)
	}
	if !slices.Equal(weights(frozen), first) {
		t.Error("the frozen network has moved")
	}
	if after := miss(online); !(after < before/2) {
		t.Errorf("online: off by %g, before %g", after, before)
	}
	far := 0.0
	for i, w := range weights(online) {
		far = max(far, math.Abs(float64(w-first[i])))
	}
	if far == 0 || far > 0.5 {
		t.Errorf("a weight has moved by %g", far)
	}
}

// Its weights go to checkpoints under stable names.
func TestState(t *testing.T) {
	n := shipped(t, auxnet.Config{})
	names := []string{}
	for name := range n.State() {
		names = append(names, name)
	}
	want := []string{"auxnet/in.weight", "auxnet/in.bias", "auxnet/out.weight", "auxnet/out.bias"}
	if !slices.Equal(names, want) {
		t.Errorf("state %q, want %q", names, want)
	}
}

func TestValidate(t *testing.T) {
	for _, tt := range []struct {
		c    auxnet.Config
		want string
	}{{auxnet.Config{Mode: "on"}, "unknown mode"}, {auxnet.Config{LR: -1}, "lr"}, {auxnet.Config{Pull: 2}, "pull"}} {
		if _, err := auxnet.New(tt.c); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%+v: %v", tt.c, err)
		}
	}
}

func Example() {
	net, err := auxnet.New(auxnet.Config{})
	if err != nil {
		fmt.Println(err)
		return
	}
	rate, _ := net.Advise(optim.Signals{Rho: 2 * (0.2 - 0.75)}) // the loss fell by a fifth of what was predicted
	fmt.Printf("%d parameters; rate x %.1f\n", nn.Count(net), math.Exp(rate))
	// Output: 146 parameters; rate x 0.7
}
