package llm_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"setun/autograd"
	"setun/data"
	"setun/device"
	"setun/device/cpu"
	"setun/device/devicetest"
	"setun/llm"
	"setun/nn"
	"setun/optim"
	"setun/tensor"
	"setun/ternary"
)

// small is a model with grouped queries that runs in a millisecond.
func small() llm.Config {
	return llm.Config{Vocab: 17, Context: 16, Depth: 2, Width: 16, Heads: 4, KVHeads: 2, Hidden: 24,
		Weights: llm.TernaryWeights,
		QKNorm:  true, MLP: "swiglu", Tied: true, Theta: 100, Eps: 1e-5}
}

func build(t testing.TB, dev device.Device, c llm.Config) *llm.Model {
	t.Helper()
	m, err := llm.New(tensor.NewMaker(dev, 1), c)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func tokens(seed uint64, n, vocab int) []int32 {
	rng := rand.New(rand.NewPCG(seed, 2))
	x := make([]int32, n)
	for i := range x {
		x[i] = int32(rng.IntN(vocab))
	}
	return x
}

func batch(rows, n, vocab int) data.Batch {
	x := tokens(1, rows*n, vocab)
	y := tokens(2, rows*n, vocab)
	y[1] = -1 // ignored
	return data.Batch{Shape: []int{rows, n}, Tokens: x, Targets: y}
}

func pool(dev device.Device) *tensor.Pool {
	p := tensor.NewPool(dev)
	p.Poison = true
	return p
}

// step returns the loss and the gradients of one batch.
func step(t testing.TB, m *llm.Model, seed uint64) (loss float32, grads map[string][]float32) {
	t.Helper()
	tp := autograd.Tape{Pool: pool(m.Device()), Grad: true, Seed: seed}
	l := m.Loss(&tp, batch(2, 8, m.Config().Vocab))
	tp.Backward(l)
	loss = l.Float()
	tp.Reset()
	if n := tp.Pool.InUse(); n != 0 {
		t.Errorf("%d bytes in use after Reset", n)
	}
	grads = map[string][]float32{}
	for name, p := range m.Params() {
		if p.WantsGrad() && !p.HasGrad() {
			t.Errorf("%s has no gradient", name)
			continue
		}
		if grads[name] = p.Grad.Floats(); slices.ContainsFunc(grads[name], func(v float32) bool { return v != v }) {
			t.Errorf("%s has a gradient of NaN", name)
		}
	}
	return loss, grads
}

// Every combination of the switches builds, runs, and gives each parameter a gradient.
func TestEveryArchitecture(t *testing.T) {
	quants := map[llm.Weights][]ternary.Config{
		llm.FP32Weights:    {{}},
		llm.TernaryWeights: {{}, {Rule: ternary.LSQ, PerRow: true, SubNorm: true}},
		llm.FiveWeights:    {{}, {FloatActs: true}},
	}
	n := 0
	for weights, qs := range quants {
		for _, q := range qs {
			for _, mlp := range []string{"swiglu", "relu2", "relu2-glu"} {
				for bits := range 16 {
					c := small()
					c.Weights, c.Quant, c.MLP = weights, q, mlp
					c.QKNorm, c.SubNorm, c.Tied = bits&1 != 0, bits&2 != 0, bits&4 != 0
					c.KVHeads = 4 >> (bits >> 3)
					m := build(t, cpu.New(1), c)
					loss, grads := step(t, m, 1)
					if want := math.Log(17); math.Abs(float64(loss)-want) > 2.5 {
						t.Errorf("%+v: loss %g of a new model, want about %g", c, loss, want)
					}
					if t.Failed() {
						t.Fatalf("%+v", c)
					}
					if _, head := grads["head.weight"]; head == c.Tied {
						t.Errorf("tied %v, and a head: %v", c.Tied, head)
					}
					if n++; n%7 == 0 { // the parameters are counted, and there is one in each linear layer
						linears := 0
						for range m.Linears() {
							linears++
						}
						per := 7
						if mlp == "relu2" {
							per = 6
						}
						if want := per * c.Depth; weights != llm.FP32Weights && linears != want || weights == llm.FP32Weights &&
							linears != 0 {
							t.Errorf("%+v: %d quantized layers", c, linears)
						}
					}
				}
			}
		}
	}
}

func TestParamNames(t *testing.T) {
	c := small()
	c.Depth, c.SubNorm, c.Tied = 1, true, false
	var got []string
	for name, p := range build(t, cpu.New(1), c).Params() {
		got = append(got, fmt.Sprint(name, p.Shape()))
	}
	want := []string{"embed.weight[17 16]", "blocks.0.attn_norm.weight[16]", "blocks.0.attn.q.weight[16 16]",
		"blocks.0.attn.k.weight[8 16]", "blocks.0.attn.v.weight[8 16]", "blocks.0.attn.out.weight[16 16]",
		"blocks.0.attn.q_norm.weight[4]", "blocks.0.attn.k_norm.weight[4]", "blocks.0.attn.sub_norm.weight[16]",
		"blocks.0.mlp_norm.weight[16]", "blocks.0.mlp.gate.weight[24 16]", "blocks.0.mlp.up.weight[24 16]",
		"blocks.0.mlp.down.weight[16 24]", "blocks.0.mlp.sub_norm.weight[24]", "norm.weight[16]", "head.weight[17 16]"}
	if !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	var linears []string
	for name := range build(t, cpu.New(1), c).Linears() {
		linears = append(linears, name)
	}
	if want := []string{"blocks.0.attn.q", "blocks.0.attn.k", "blocks.0.attn.v", "blocks.0.attn.out", "blocks.0.mlp.gate",
		"blocks.0.mlp.up", "blocks.0.mlp.down"}; !slices.Equal(linears, want) {
		t.Errorf("got  %q\nwant %q", linears, want)
	}
}

// Recomputation changes no bit, with dropout as well.
func TestCheckpointGivesTheSameBits(t *testing.T) {
	for _, weights := range []llm.Weights{llm.FP32Weights, llm.TernaryWeights} {
		c := small()
		c.Weights, c.Dropout = weights, 0.2
		plain, want := step(t, build(t, cpu.New(0), c), 3)
		c.Checkpoint = true
		for _, dev := range []device.Device{cpu.New(0), devicetest.Opaque(cpu.New(1))} {
			loss, got := step(t, build(t, dev, c), 3)
			if loss != plain {
				t.Errorf("%s: loss %g, want %g", weights, loss, plain)
			}
			for name := range want {
				if !slices.Equal(got[name], want[name]) {
					t.Errorf("%s: %s has another gradient", weights, name)
				}
			}
			if err := dev.Sync(); err != nil {
				t.Error(err)
			}
		}
		if loss, _ := step(t, build(t, cpu.New(0), c), 4); loss == plain {
			t.Errorf("%s: another seed drops the same", weights)
		}
	}
}

func TestLossIsTheMeanOfTokenLoss(t *testing.T) {
	m := build(t, cpu.New(0), small())
	b := batch(3, 7, 17)
	var tp autograd.Tape
	each := m.TokenLoss(&tp, b).T.Floats()
	sum := 0.0
	for i, l := range each {
		if (l == 0) != (b.Targets[i] < 0) {
			t.Errorf("token %d has the loss %g", i, l)
		}
		sum += float64(l)
	}
	if got, want := float64(m.Loss(&tp, b).Float()), sum/20; math.Abs(got-want) > 1e-5 {
		t.Errorf("loss %g, want %g", got, want)
	}
	// A token sees nothing of what comes after it.
	b.Tokens[6] = (b.Tokens[6] + 1) % 17
	for i, l := range m.TokenLoss(&tp, b).T.Floats() {
		if i != 6 && l != each[i] {
			t.Errorf("a change of the last token moves the loss of token %d", i)
		}
	}
}

// Logits from the cache are those of the whole sequence, however it is cut.
func TestCachedLogits(t *testing.T) {
	for _, weights := range []llm.Weights{llm.FP32Weights, llm.TernaryWeights, llm.FiveWeights} {
		for _, frozen := range []bool{false, true} {
			if frozen && weights == llm.FP32Weights {
				continue
			}
			c := small()
			c.Weights, c.SubNorm = weights, true
			m := build(t, cpu.New(0), c)
			if frozen {
				if _, err := m.Freeze(); err != nil {
					t.Fatal(err)
				}
			}
			const b, n = 2, 16
			ids := tokens(5, b*n, 17)
			tp := autograd.Tape{Pool: pool(m.Device())}
			want := m.Forward(&tp, tp.Ints(m.Device(), ids, b, n)).T.Floats()
			tp.Reset()
			for _, pieces := range [][]int{{16}, {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1}, {5, 3, 1, 1, 6}, {15, 1}} {
				cache := m.NewCache(b)
				at, worst := 0, 0.0
				for _, k := range pieces {
					part := slices.Concat(ids[at:at+k], ids[n+at:n+at+k])
					got := m.Decode(&tp, tp.Ints(m.Device(), part, b, k), cache).T.Floats()
					tp.Reset()
					for s := range b {
						for i, v := range got[s*k*17:][:k*17] {
							worst = max(worst, math.Abs(float64(v-want[(s*n+at)*17+i])))
						}
					}
					at += k
				}
				// Where activations are rounded to int8, one that falls the other way moves a logit by a step.
				if limit := 1e-4; worst > limit {
					t.Errorf("%s, frozen %v, pieces %v: logits differ by %g", weights, frozen, pieces, worst)
				}
				if cache[0].Len != n {
					t.Errorf("the cache has %d tokens", cache[0].Len)
				}
			}
		}
	}
}

func generate(t testing.TB, m *llm.Model, prompt []int32, n int, s llm.Sampling) []int32 {
	t.Helper()
	var out []int32
	err := llm.Generate(context.Background(), m, prompt, n, s, func(id int32) bool {
		out = append(out, id)
		return true
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestGenerate(t *testing.T) {
	c := small()
	c.Tied = false // logits of size 1
	m := build(t, cpu.New(0), c)
	prompt := tokens(1, 5, 17)
	s := llm.Sampling{Temperature: 1, Seed: 7}
	want := generate(t, m, prompt, 9, s)
	if len(want) != 9 || slices.ContainsFunc(want, func(id int32) bool { return id < 0 || id >= 17 }) {
		t.Fatalf("got %v", want)
	}
	if got := generate(t, m, prompt, 9, s); !slices.Equal(got, want) {
		t.Error("the same seed gives other tokens")
	}
	if got := generate(t, build(t, devicetest.Opaque(cpu.New(1)), c), prompt, 9, s); !slices.Equal(got, want) {
		t.Error("another device gives other tokens")
	}
	s.Seed = 8
	if got := generate(t, m, prompt, 9, s); slices.Equal(got, want) {
		t.Error("another seed gives the same tokens")
	}
	// Without a temperature it is the most likely token, every time: by hand, from the whole sequence.
	greedy := generate(t, m, prompt, 9, llm.Sampling{})
	ids := slices.Clone(prompt)
	for i, id := range greedy {
		var tp autograd.Tape
		y := m.Forward(&tp, tp.Ints(m.Device(), ids, 1, len(ids))).T.Floats()
		last := y[len(y)-17:]
		if last[id] < slices.Max(last)-1e-4 {
			t.Fatalf("token %d is %d with logit %g, the largest is %g", i, id, last[id], slices.Max(last))
		}
		ids = append(ids, id)
	}
	for _, s := range []llm.Sampling{{Temperature: 1, TopK: 1}, {Temperature: 1, TopP: 1e-6}, {Temperature: 1e-6}} {
		if got := generate(t, m, prompt, 9, s); !slices.Equal(got, greedy) {
			t.Errorf("%+v gives %v, want %v", s, got, greedy)
		}
	}
	if got := generate(t, m, prompt, 0, s); got != nil {
		t.Errorf("0 tokens are %v", got)
	}
	if got := generate(t, m, prompt, -1, s); got != nil {
		t.Errorf("-1 tokens are %v", got)
	}
	if got, want := generate(t, m, nil, 4, llm.Sampling{}), generate(t, m, []int32{'\n'}, 4,
		llm.Sampling{}); !slices.Equal(got, want) {
		t.Errorf("an empty prompt gives %v, a newline %v", got, want)
	}
	if prompt[0] != tokens(1, 5, 17)[0] || len(prompt) != 5 {
		t.Error("the prompt has changed")
	}
	// emit stops it.
	n := 0
	err := llm.Generate(context.Background(), m, prompt, 9, s, func(int32) bool { n++; return n < 3 })
	if err != nil || n != 3 {
		t.Errorf("stopped after %d tokens, %v", n, err)
	}
}

// TopK and TopP keep the most likely tokens, and what is kept is drawn by its probability.
func TestSampling(t *testing.T) {
	if testing.Short() {
		t.Skip("draws thousands of tokens")
	}
	c := small()
	c.Tied, c.Context = false, 4
	m := build(t, cpu.New(1), c)
	var tp autograd.Tape
	y := m.Forward(&tp, tp.Ints(m.Device(), []int32{3}, 1, 1)).T.Floats()
	order := make([]int32, 17)
	for i := range order {
		order[i] = int32(i)
	}
	slices.SortFunc(order, func(a, b int32) int {
		if y[a] > y[b] {
			return -1
		}
		return 1
	})
	p := func(kept int, temperature float64) map[int32]float64 {
		sum := 0.0
		out := map[int32]float64{}
		for _, id := range order[:kept] {
			out[id] = math.Exp(float64(y[id]) / temperature)
			sum += out[id]
		}
		for id := range out {
			out[id] /= sum
		}
		return out
	}
	mass, nucleus := 0.0, 0
	for all := p(17, 1); mass < 0.6; nucleus++ {
		mass += all[order[nucleus]]
	}
	for _, tt := range []struct {
		s    llm.Sampling
		want map[int32]float64
	}{
		{llm.Sampling{Temperature: 1}, p(17, 1)},
		{llm.Sampling{Temperature: 1, TopK: 99, TopP: 1}, p(17, 1)},
		{llm.Sampling{Temperature: 0.5}, p(17, 0.5)},
		{llm.Sampling{Temperature: 1, TopK: 3}, p(3, 1)},
		{llm.Sampling{Temperature: 1, TopP: 0.6}, p(nucleus, 1)},
		{llm.Sampling{Temperature: 1, TopP: 0.6, TopK: 2}, p(2, 1)},
	} {
		const n = 600
		seen := map[int32]float64{}
		for seed := range uint64(n) {
			tt.s.Seed = seed
			seen[generate(t, m, []int32{3}, 1, tt.s)[0]] += 1. / n
		}
		if tt.s.TopK == 2 { // two of the nucleus: its mass is below TopP, or its first two
			if len(seen) > 2 {
				t.Errorf("%+v: drew %v", tt.s, seen)
			}
			continue
		}
		for id, f := range seen {
			if want := tt.want[id]; math.Abs(f-want) > 4*math.Sqrt(want/n)+1e-3 {
				t.Errorf("%+v: token %d has the share %.3f, want %.3f", tt.s, id, f, want)
			}
		}
	}
}

// Past the context, the older half is forgotten and the rest read again.
func TestContextOverflow(t *testing.T) {
	c := small()
	c.Context, c.Tied = 8, false
	m := build(t, cpu.New(0), c)
	for _, prompt := range [][]int32{tokens(1, 3, 17), tokens(1, 8, 17), tokens(1, 30, 17)} {
		got := generate(t, m, prompt, 25, llm.Sampling{})
		if len(got) != 25 {
			t.Fatalf("%d tokens", len(got))
		}
		// By hand: the tokens that the model sees.
		history, seen := slices.Clone(prompt), slices.Clone(prompt)
		for i, id := range got {
			if len(seen) > 8 {
				seen = slices.Clone(history[len(history)-4:])
			}
			var tp autograd.Tape
			y := m.Forward(&tp, tp.Ints(m.Device(), seen, 1, len(seen))).T.Floats()
			last := y[len(y)-17:]
			if last[id] < slices.Max(last)-1e-4 {
				t.Fatalf("prompt of %d: token %d is %d with logit %g, the largest is %g", len(prompt), i, id, last[id],
					slices.Max(last))
			}
			history, seen = append(history, id), append(seen, id)
		}
	}
	for _, context := range []int{1, 2, 3} {
		c.Context = context
		if got := generate(t, build(t, cpu.New(0), c), tokens(1, 5, 17), 9, llm.Sampling{}); len(got) != 9 {
			t.Errorf("context %d: %d tokens", context, len(got))
		}
	}
}

// Without a limit, emit ends the text.
func TestGenerateUntil(t *testing.T) {
	m, err := llm.New(tensor.NewMaker(cpu.New(1), 1), tiny(func(*llm.Config) {}))
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	err = llm.Generate(context.Background(), m, []int32{1, 2}, math.MaxInt, llm.Sampling{}, func(int32) bool { n++; return n < 20 })
	if err != nil || n != 20 {
		t.Errorf("%d tokens, %v", n, err)
	}
}

func TestGenerateErrors(t *testing.T) {
	m := build(t, cpu.New(1), small())
	cancelled, cancel := context.WithCancel(context.Background())
	cancel()
	broken := build(t, cpu.New(1), small())
	tensor.Fill(broken.Norm.Weight.T, float32(math.NaN()))
	failed := build(t, cpu.New(1), small())
	failed.Device().(*cpu.Device).Fail(errors.New("out of order"))
	for _, tt := range []struct {
		ctx    context.Context
		m      *llm.Model
		prompt []int32
		s      llm.Sampling
		want   string
	}{
		{context.Background(), m, []int32{17}, llm.Sampling{}, "llm: prompt token 17 is outside the vocabulary of 17"},
		{context.Background(), m, []int32{1, -1}, llm.Sampling{}, "llm: prompt token -1 is outside the vocabulary of 17"},
		{context.Background(), m, nil, llm.Sampling{Temperature: -1}, "llm: temperature is -1; it must be 0 or more"},
		{context.Background(), m, nil, llm.Sampling{Temperature: math.NaN()},
			"llm: temperature is NaN; it must be 0 or more"},
		{context.Background(), m, nil, llm.Sampling{Temperature: math.Inf(1)},
			"llm: temperature is +Inf; it must be 0 or more"},
		{context.Background(), m, nil, llm.Sampling{TopK: -1}, "llm: top-k is -1; it must be 0 (all) or more"},
		{context.Background(), m, nil, llm.Sampling{TopP: 1.5}, "llm: top-p is 1.5; it must be between 0 and 1"},
		{context.Background(), m, nil, llm.Sampling{TopP: math.NaN()}, "llm: top-p is NaN; it must be between 0 and 1"},
		{context.Background(), broken, nil, llm.Sampling{},
			"llm: the model gives NaN for token 0; its weights are damaged or training diverged"},
		{context.Background(), failed, nil, llm.Sampling{}, "out of order"},
		{cancelled, m, nil, llm.Sampling{}, "context canceled"},
	} {
		err := llm.Generate(tt.ctx, tt.m, tt.prompt, 3, tt.s, func(int32) bool { return true })
		if err == nil || err.Error() != tt.want {
			t.Errorf("got %v, want %s", err, tt.want)
		}
	}
	// Cancelled on the way.
	ctx, cancel := context.WithCancel(context.Background())
	n := 0
	err := llm.Generate(ctx, m, nil, 100, llm.Sampling{}, func(int32) bool {
		if n++; n == 3 {
			cancel()
		}
		return true
	})
	if !errors.Is(err, context.Canceled) || n != 3 {
		t.Errorf("%v after %d tokens", err, n)
	}
}

// Generation gives all memory back.
func TestGenerateFrees(t *testing.T) {
	dev := devicetest.Opaque(cpu.New(1))
	m := build(t, dev, small())
	generate(t, m, nil, 2, llm.Sampling{})
	live := dev.Live()
	generate(t, m, tokens(1, 5, 17), 20, llm.Sampling{Temperature: 1})
	if dev.Live() != live {
		t.Errorf("%d allocations live, %d before", dev.Live(), live)
	}
	if err := dev.Sync(); err != nil {
		t.Error(err)
	}
}

func TestFreeze(t *testing.T) {
	for _, weights := range []llm.Weights{llm.TernaryWeights, llm.FiveWeights, llm.FP32Weights} {
		c := small()
		c.Weights = weights
		m := build(t, cpu.New(0), c)
		var tp autograd.Tape
		b := batch(2, 8, 17)
		want := m.TokenLoss(&tp, b).T.Floats()
		before := nn.Count(m)
		packed, err := m.Freeze()
		if err != nil {
			t.Fatal(err)
		}
		if got := m.TokenLoss(&tp, b).T.Floats(); !slices.Equal(got, want) {
			t.Errorf("%s: a frozen model gives other bits", weights)
		}
		codes := 0
		for name, p := range packed {
			codes += p.Rows * p.Cols
			if !strings.HasPrefix(name, "blocks.") {
				t.Errorf("%s is packed", name)
			}
		}
		if got := nn.Count(m); got != before-codes {
			t.Errorf("%s: %d parameters are left of %d with %d packed", weights, got, before, codes)
		}
		if (len(packed) == 0) != (weights == llm.FP32Weights) {
			t.Errorf("%s: %d packed weights", weights, len(packed))
		}
	}
}

func TestSetLambda(t *testing.T) {
	fp := small()
	fp.Weights = llm.FP32Weights
	q := small()
	q.Quant.FloatActs = true
	float, m := build(t, cpu.New(0), fp), build(t, cpu.New(0), q)
	var tp autograd.Tape
	b := batch(2, 8, 17)
	loss := func(m *llm.Model) float64 { return float64(m.Loss(&tp, b).Float()) }
	m.SetLambda(0) // float weights, and the same from the same seed
	if got, want := loss(m), loss(float); math.Abs(got-want) > 1e-5 {
		t.Errorf("the loss at lambda 0 is %g, of a float model %g", got, want)
	}
	m.SetLambda(1)
	if got, want := loss(m), loss(float); math.Abs(got-want) < 1e-5 {
		t.Errorf("the loss at lambda 1 is that of a float model, %g", got)
	}
	float.SetLambda(0.5) // nothing to set
}

// A model that learns can know one small batch by heart.
func TestOverfitsOneBatch(t *testing.T) {
	if testing.Short() {
		t.Skip("trains four models")
	}
	for _, tt := range []struct {
		weights llm.Weights
		quant   ternary.Config
		opt     optim.Config
	}{
		{llm.FP32Weights, ternary.Config{}, optim.Config{Name: "adamw", LR: 1e-2}},
		{llm.TernaryWeights, ternary.Config{}, optim.Config{}},
		{llm.TernaryWeights, ternary.Config{Rule: ternary.LSQ, PerRow: true}, optim.Config{}},
		{llm.FiveWeights, ternary.Config{}, optim.Config{}},
	} {
		c := llm.Depth(1)
		c.SetWidth(32)
		c.Vocab, c.Context, c.Weights, c.Quant = 16, 16, tt.weights, tt.quant
		m := build(t, cpu.New(0), c)
		ps := optim.Collect(m.Params())
		o, err := optim.New(tt.opt, ps)
		if err != nil {
			t.Fatal(err)
		}
		b := batch(2, 16, 16)
		tp := autograd.Tape{Pool: tensor.NewPool(m.Device()), Grad: true}
		const steps = 150
		loss := float32(0)
		for i := range steps {
			optim.ZeroGrad(ps)
			l := m.Loss(&tp, b)
			tp.Backward(l)
			loss = l.Float()
			tp.Reset()
			o.Step(float32(optim.Schedule{}.At(i, steps)), optim.Clip(optim.GradNorm(ps), 1))
		}
		t.Logf("%s %s: loss %.3f", tt.weights, tt.quant.Rule, loss)
		if !(loss < 0.3) {
			t.Errorf("%s %s: loss %.3f after %d steps", tt.weights, tt.quant.Rule, loss, steps)
		}
	}
}

func TestConfigValidate(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(c *llm.Config)
		want   string
	}{
		{"good", func(c *llm.Config) {}, ""},
		{"vocab", func(c *llm.Config) { c.Vocab = 0 }, "llm: vocab is 0; it must be between 1 and 16777216"},
		{"context", func(c *llm.Config) { c.Context = -1 }, "llm: context is -1; it must be between 1 and 16777216"},
		{"depth", func(c *llm.Config) { c.Depth = 0 }, "llm: depth is 0; it must be between 1 and 16777216"},
		{"width", func(c *llm.Config) { c.Width = 1 << 25 }, "llm: width is 33554432; it must be between 1 and 16777216"},
		{"heads", func(c *llm.Config) { c.Heads = 0 }, "llm: heads is 0; it must be between 1 and 16777216"},
		{"kv_heads", func(c *llm.Config) { c.KVHeads = 0 }, "llm: kv_heads is 0; it must be between 1 and 16777216"},
		{"hidden", func(c *llm.Config) { c.Hidden = 0 }, "llm: hidden is 0; it must be between 1 and 16777216"},
		{"huge matrix", func(c *llm.Config) { c.Width, c.Hidden = 1<<20, 1<<20 },
			"llm: the projection of width x hidden has 1099511627776 numbers; choose smaller sizes"},
		{"huge table", func(c *llm.Config) { c.Context, c.Width, c.Vocab = 1<<24, 1<<12, 1 },
			"llm: the position table of context x width has 68719476736 numbers; choose smaller sizes"},
		{"width and heads", func(c *llm.Config) { c.Width = 18 },
			"llm: width 18 does not divide into 4 heads of even size; choose a multiple of 8"},
		{"odd heads", func(c *llm.Config) { c.Width = 12 },
			"llm: width 12 does not divide into 4 heads of even size; choose a multiple of 8"},
		{"groups", func(c *llm.Config) { c.KVHeads = 3 }, "llm: 4 heads are no multiple of 3 kv_heads"},
		{"more groups than heads", func(c *llm.Config) { c.KVHeads = 8 }, "llm: 4 heads are no multiple of 8 kv_heads"},
		{"weights", func(c *llm.Config) { c.Weights = "int4" }, `llm: unknown weights "int4"; use ternary, five or fp32`},
		{"no weights", func(c *llm.Config) { c.Weights = "" }, `llm: unknown weights ""; use ternary, five or fp32`},
		{"mlp", func(c *llm.Config) { c.MLP = "gelu" }, `llm: unknown mlp "gelu"; use swiglu, relu2 or relu2-glu`},
		{"theta", func(c *llm.Config) { c.Theta = 1 }, "llm: theta is 1; it must be above 1 (10000 is usual)"},
		{"theta NaN", func(c *llm.Config) { c.Theta = math.NaN() }, "llm: theta is NaN; it must be above 1 (10000 is usual)"},
		{"theta Inf", func(c *llm.Config) { c.Theta = math.Inf(1) },
			"llm: theta is +Inf; it must be above 1 (10000 is usual)"},
		{"eps", func(c *llm.Config) { c.Eps = 0 }, "llm: eps is 0; it must be small and positive (1e-5 is usual)"},
		{"eps NaN", func(c *llm.Config) { c.Eps = float32(math.NaN()) },
			"llm: eps is NaN; it must be small and positive (1e-5 is usual)"},
		{"dropout", func(c *llm.Config) { c.Dropout = 1 }, "llm: dropout is 1; it must be at least 0 and below 1"},
		{"dropout NaN", func(c *llm.Config) { c.Dropout = float32(math.NaN()) },
			"llm: dropout is NaN; it must be at least 0 and below 1"},
		{"rule", func(c *llm.Config) { c.Quant.Rule = "median" },
			`ternary: unknown rule "median"; use "absmean", "twn" or "lsq"`},
		{"five-level rule", func(c *llm.Config) { c.Weights, c.Quant.Rule = llm.FiveWeights, ternary.TWN },
			`ternary: rule "twn" has no five-level form; use "absmean" or "lsq"`},
		{"codebook", func(c *llm.Config) { c.Quant.Codebook = ternary.Five },
			`llm: weights "ternary" contradict the quant codebook "five"; leave the codebook empty`},
		{"codebook of five", func(c *llm.Config) { c.Weights, c.Quant.Codebook = llm.FiveWeights, ternary.Ternary },
			`llm: weights "five" contradict the quant codebook "ternary"; leave the codebook empty`},
	} {
		c := small()
		tt.change(&c)
		got := ""
		if err := c.Validate(); err != nil {
			got = err.Error()
		}
		if got != tt.want {
			t.Errorf("%s: got %q, want %q", tt.name, got, tt.want)
		}
		if _, err := llm.New(tensor.NewMaker(cpu.New(1), 1), c); (err == nil) != (tt.want == "") {
			t.Errorf("%s: New gives %v", tt.name, err)
		}
	}
	for depth := 1; depth <= 40; depth++ {
		if err := llm.Depth(depth).Validate(); err != nil {
			t.Errorf("Depth(%d): %v", depth, err)
		}
	}
	c := llm.Depth(4)
	if c.Depth != 4 || c.Width != 4*llm.Depth(1).Width || c.Weights != llm.TernaryWeights || c.Hidden%64 != 0 {
		t.Errorf("Depth(4) is %+v", c)
	}
	c.SetWidth(128)
	if c.Width != 128 || c.Heads != 4 || c.KVHeads != 4 || c.Hidden != 384 {
		t.Errorf("SetWidth(128) makes %+v", c)
	}
	b, err := json.Marshal(c)
	var back llm.Config
	if err == nil {
		err = json.Unmarshal(b, &back)
	}
	if err != nil || back != c {
		t.Errorf("JSON made %+v of %+v, %v", back, c, err)
	}
}

func TestSetArch(t *testing.T) {
	for name, want := range map[string]struct {
		qk, sub bool
		mlp     string
	}{"qwen3": {true, false, "swiglu"}, "bitnet": {false, true, "swiglu"}, "llama": {false, false, "swiglu"},
		"bitnet-b1.58": {false, true, "relu2-glu"}} {
		c := llm.Config{QKNorm: !want.qk, SubNorm: !want.sub}
		if err := c.SetArch(name); err != nil || c.QKNorm != want.qk || c.SubNorm != want.sub || c.MLP != want.mlp ||
			!slices.Contains(llm.Archs, name) {
			t.Errorf("%s: %+v, %v", name, c, err)
		}
	}
	var c llm.Config
	if err := c.SetArch("mamba"); err == nil || !strings.Contains(err.Error(), strings.Join(llm.Archs, ", ")) {
		t.Errorf("an unknown architecture gives %v", err)
	}
}

// Memory that the device does not have is an error, not a model.
func TestNewWithoutMemory(t *testing.T) {
	dev := cpu.New(1)
	dev.Fail(errors.New("no memory"))
	if m, err := llm.New(tensor.NewMaker(dev, 1), small()); err == nil || m != nil {
		t.Errorf("New gives %v, %v", m, err)
	}
}

// A model is planned without its memory.
func TestNullDevice(t *testing.T) {
	dev := device.NewNull()
	c := llm.Depth(12)
	m := build(t, dev, c)
	want := c.Vocab*c.Width + 12*(4*c.Width*c.Width+3*c.Width*c.Hidden+2*c.Width+2*c.Width/c.Heads) + c.Width
	if got := nn.Count(m); got != want {
		t.Errorf("%d parameters, want %d", got, want)
	}
	tp := autograd.Tape{Pool: tensor.NewPool(dev), Grad: true}
	tp.Backward(m.Loss(&tp, batch(1, 32, 256)))
	tp.Reset()
	if s := dev.Stats(); s.MulAdds < int64(3*32*want/2) || s.Peak < int64(4*want) {
		t.Errorf("planned %d multiply-adds and %d bytes", s.MulAdds, s.Peak)
	}
	if err := dev.Sync(); err != nil {
		t.Error(err)
	}
}
