package tests

import (
	"fmt"
	"runtime"
	"testing"

	"setun/autograd"
	"setun/data"
	"setun/device"
	"setun/llm"
	"setun/nn"
	"setun/optim"
	"setun/tensor"
)

// sevenB is a model of the size of LLaMA 7B (Touvron et al. 2023, arXiv 2302.13971).
var sevenB = llm.Config{Vocab: 32000, Context: 2048, Depth: 32, Width: 4096, Heads: 32, KVHeads: 32, Hidden: 11008,
	Weights: llm.TernaryWeights, MLP: "swiglu", Theta: 10000, Eps: 1e-5}

// plan is what a training step needs, in bytes.
type plan struct {
	weights, codes, gradients, optimizer int64
	act                                  int64 // activations, at most at once
	params, mulAdds                      int64 // not bytes: how many
}

// planStep takes one step of batch 1 on a device without memory.
func planStep(cfg llm.Config) (p plan, err error) {
	dev := device.NewNull()
	model, err := llm.New(tensor.NewMaker(dev, 1), cfg)
	if err != nil {
		return p, err
	}
	p.params = int64(nn.Count(model))
	for _, v := range model.Params() {
		p.weights += v.T.Bytes()
	}
	p.codes = dev.Stats().Live - p.weights // with scales and the table of positions

	params := optim.Collect(model.Params())
	live := dev.Stats().Live
	opt, err := optim.New(optim.Config{Name: "adamw"}, params)
	if err != nil {
		return p, err
	}
	p.optimizer = dev.Stats().Live - live

	tape := autograd.Tape{Pool: tensor.NewPool(dev), Grad: true}
	tokens := make([]int32, cfg.Context)
	tape.Backward(model.Loss(&tape, data.Batch{Shape: []int{1, cfg.Context}, Tokens: tokens, Targets: tokens}))
	tape.Reset()
	p.act = tape.Pool.Peak()
	tape.Pool.Close()
	p.gradients = dev.Stats().Live - p.weights - p.codes - p.optimizer
	opt.Step(1, optim.Clip(optim.GradNorm(params), 1))
	p.mulAdds = dev.Stats().MulAdds
	return p, dev.Sync()
}

// A model too big for this machine is planned on the null device, which counts memory instead of having it.
func Example_plan() {
	p, err := planStep(sevenB)
	if err != nil {
		fmt.Println(err)
		return
	}
	gb := func(n int64) string { return fmt.Sprintf("%.1f GB", float64(n)/1e9) }
	fmt.Printf("parameters  %.2f billion\n", float64(p.params)/1e9)
	fmt.Println("weights    ", gb(p.weights))
	fmt.Println("codes      ", gb(p.codes))
	fmt.Println("gradients  ", gb(p.gradients))
	fmt.Println("optimizer  ", gb(p.optimizer))
	fmt.Println("activations", gb(p.act))
	// Output:
	// parameters  6.74 billion
	// weights     27.0 GB
	// codes       6.5 GB
	// gradients   27.0 GB
	// optimizer   53.9 GB
	// activations 23.9 GB
}

func TestPlan(t *testing.T) {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	var acts [2]int64
	for i, recompute := range []bool{false, true} {
		cfg := sevenB
		cfg.Checkpoint = recompute
		p, err := planStep(cfg)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("recomputed blocks %t: %.2f billion parameters; GB: weights %.1f, codes %.1f, gradients %.1f, "+
			"optimizer %.1f, activations %.2f; %.1f Tera multiply-adds", recompute, float64(p.params)/1e9,
			float64(p.weights)/1e9,
			float64(p.codes)/1e9, float64(p.gradients)/1e9, float64(p.optimizer)/1e9, float64(p.act)/1e9,
			float64(p.mulAdds)/1e12)

		c, f, v := int64(cfg.Width), int64(cfg.Hidden), int64(cfg.Vocab)
		linear := int64(cfg.Depth) * (4*c*c + 3*c*f)
		params := linear + 2*v*c + int64(2*cfg.Depth+1)*c
		if p.params != params || p.weights != 4*params || p.gradients != 4*params || p.optimizer != 8*params {
			t.Errorf("%d parameters, %+v", params, p)
		}
		// A byte a code, a scale for each of seven matrices a block, and the table of positions.
		if want := linear + int64(cfg.Depth)*7*4 + int64(4*cfg.Context)*c/int64(cfg.Heads); p.codes != want {
			t.Errorf("%d bytes of codes, scales and angles, want %d", p.codes, want)
		}
		acts[i] = p.act
	}
	if acts[1] > acts[0]/4 {
		t.Errorf("activations of %d bytes, %d with recomputed blocks", acts[0], acts[1])
	}
	runtime.ReadMemStats(&after)
	if used := after.TotalAlloc - before.TotalAlloc; used > 64<<20 {
		t.Errorf("planning took %d MB of this machine's memory", used>>20)
	}
}
