package tests

import (
	"math"
	"runtime"
	"runtime/debug"
	"testing"

	"setun/autograd"
	"setun/data"
	"setun/device"
	"setun/device/auto"
	"setun/device/cpu"
	"setun/llm"
	"setun/nn"
	"setun/optim"
	"setun/tensor"
	"setun/ternary"
)

// TestAllocations measures training in its steady state: what a step allocates on the heap follows from the number of
// operations and not from the size of the data, and device memory comes from the pool alone.
func TestAllocations(t *testing.T) {
	if buildSetting("-race") == "true" {
		t.Skip("the race detector allocates")
	}
	defer debug.SetGCPercent(debug.SetGCPercent(-1)) // a collection empties the kernels' pools of scratch
	for _, dev := range []device.Device{cpu.New(1), fastest(t, 2)} {
		for _, weights := range []llm.Weights{llm.FP32Weights, llm.TernaryWeights} {
			gradSmall, optSmall := measureStep(t, dev, weights, 2, 8, 16)
			gradLarge, optLarge := measureStep(t, dev, weights, 8, 32, 64)
			for _, c := range []struct {
				what         string
				small, large cost
				limit        float64 // objects
			}{
				{"operation of a step", gradSmall, gradLarge, 3},
				{"parameter in the optimizer", optSmall, optLarge, 6}, // Muon takes some 30 operations for a matrix
			} {
				if c.small.objects > c.limit {
					t.Errorf("%s, %s: %.1f objects for each %s, want at most %.0f", dev.Name(), weights, c.small.objects, c.what,
						c.limit)
				}
				if c.large.objects > 1.1*c.small.objects || c.large.bytes > 1.1*c.small.bytes {
					t.Errorf("%s, %s: %+v for each %s with large sizes, %+v with small ones", dev.Name(), weights, c.large, c.what,
						c.small)
				}
			}
		}
	}
}

// TestMLPAllocations bounds the whole step of a classifier, 784-512-512-10 with batches of 128: forward, loss, backward,
// clipping and AdamW.
func TestMLPAllocations(t *testing.T) {
	if buildSetting("-race") == "true" {
		t.Skip("the race detector allocates")
	}
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	for _, dev := range []device.Device{cpu.New(1), cpu.New(2), fastest(t, 1), fastest(t, 2)} {
		for _, weights := range []string{"fp32", "ternary"} {
			mk := tensor.NewMaker(dev, 1)
			linear := func(in, out int) nn.Layer {
				if weights == "fp32" {
					return nn.NewLinear(mk, in, out, true)
				}
				return ternary.NewLinear(mk, in, out, true, ternary.Config{})
			}
			relu := nn.Func((*autograd.Tape).ReLU)
			model := nn.Sequential{linear(784, 512), relu, linear(512, 512), relu, linear(512, 10)}
			params := optim.Collect(model.Params())
			o, err := optim.New(optim.Config{Name: "adamw"}, params)
			if err != nil {
				t.Fatal(err)
			}
			const batch = 128
			pixels, classes := make([]float32, batch*784), make([]int32, batch)
			tape := autograd.Tape{Pool: tensor.NewPool(dev), Grad: true}
			step := func() {
				optim.ZeroGrad(params)
				y := model.Forward(&tape, tape.Floats(dev, pixels, batch, 784))
				loss := tape.CrossEntropy(y, tape.Ints(dev, classes, batch))
				tape.Backward(loss)
				loss.Float()
				tape.Reset()
				o.Step(1, optim.Clip(optim.GradNorm(params), 1))
			}
			step()
			c := allocated(step, 1)
			t.Logf("%s, %s: %.0f objects, %.0f bytes a step", dev.Name(), weights, c.objects, c.bytes)
			if c.objects > 40 || c.bytes > 4<<10 {
				t.Errorf("%s, %s: %.0f objects, %.0f bytes a step, want at most 40 and 4096", dev.Name(), weights,
					c.objects, c.bytes)
			}
		}
	}
}

// fastest is the device that models take by default.
func fastest(t *testing.T, threads int) device.Device {
	t.Helper()
	dev, err := auto.Open("auto", threads)
	if err != nil {
		t.Fatal(err)
	}
	return dev
}

type cost struct{ objects, bytes float64 }

// measureStep gives the cost of a step for each operation on the tape, and of the optimizer for each parameter.
func measureStep(t *testing.T, dev device.Device, weights llm.Weights, batch, context, width int) (grad, opt cost) {
	model, err := llm.New(tensor.NewMaker(dev, 1), llm.Config{Vocab: 64, Context: context, Depth: 2, Width: width,
		Heads: 2, KVHeads: 2, Hidden: 2 * width, Weights: weights, QKNorm: true, MLP: "swiglu", Tied: true,
		Theta: 10000, Eps: 1e-5})
	if err != nil {
		t.Fatal(err)
	}
	params := optim.Collect(model.Params())
	o, err := optim.New(optim.Config{}, params)
	if err != nil {
		t.Fatal(err)
	}
	windows, err := data.NewWindows(data.NewStream(tinyText(4*batch*context)), batch, context, 1)
	if err != nil {
		t.Fatal(err)
	}
	b, err := windows.Next(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	pool := tensor.NewPool(dev)
	tape := autograd.Tape{Pool: pool, Grad: true}
	nodes := 0
	gradient := func() {
		optim.ZeroGrad(params)
		loss := model.Loss(&tape, b)
		nodes = tape.Nodes()
		tape.Backward(loss)
		tape.Reset()
	}
	update := func() { o.Step(1, optim.Clip(optim.GradNorm(params), 1)) }
	gradient()
	update()
	held := pool.Held()
	grad, opt = allocated(gradient, float64(nodes)), allocated(update, float64(len(params)))
	if pool.Held() != held {
		t.Errorf("%s: the pool holds %d bytes after the first step, %d later", weights, held, pool.Held())
	}
	if pool.InUse() != 0 {
		t.Errorf("%s: %d bytes are in use between steps", weights, pool.InUse())
	}
	t.Logf("%s, %s, batch %d of %d, %d channels: %d operations of %.1f objects, %.0f bytes; peak of the tape %d kB; "+
		"%d parameters in the optimizer of %.1f objects, %.0f bytes", dev.Name(), weights, batch, context, width, nodes, grad.objects,
		grad.bytes, pool.Peak()>>10, len(params), opt.objects, opt.bytes)
	return grad, opt
}

// allocated is the least that f allocates, divided by n: now and then a sync.Pool loses a buffer.
func allocated(f func(), n float64) cost {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	f() // sync.Pool forgets when the number of processors changes
	least := cost{math.Inf(1), math.Inf(1)}
	for range 5 {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		f()
		runtime.ReadMemStats(&after)
		least.objects = min(least.objects, float64(after.Mallocs-before.Mallocs)/n)
		least.bytes = min(least.bytes, float64(after.TotalAlloc-before.TotalAlloc)/n)
	}
	return least
}

// TestDecodeAllocations: a step of decoding allocates nothing, for all graphs and kinds of caches, on one thread and two.
func TestDecodeAllocations(t *testing.T) {
	if buildSetting("-race") == "true" {
		t.Skip("the race detector allocates")
	}
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	for _, threads := range []int{1, 2} {
		dev := fastest(t, threads)
		for _, arch := range llm.Archs {
			c := llm.Depth(2)
			c.SetWidth(512) // large enough for kernels to use both threads
			c.Vocab, c.Context, c.Tied = 4096, 1024, arch != "llama"
			if err := c.SetArch(arch); err != nil {
				t.Fatal(err)
			}
			model, err := llm.New(tensor.NewMaker(dev, 1), c)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := model.Freeze(); err != nil {
				t.Fatal(err)
			}
			for name, kind := range map[string]llm.DecoderConfig{"one sequence": {}, "float32": {Float32: true},
				"int8": {Int8: true}, "two sequences": {Sequences: 2}} {
				if arch != "qwen3" && name != "one sequence" {
					continue
				}
				d, err := llm.NewDecoder(model, kind)
				if err != nil {
					t.Fatal(err)
				}
				b := max(kind.Sequences, 1)
				prompt, logits := make([]int32, b*600), make([]float32, b*c.Vocab)
				step := func() {
					if err := d.Next(prompt[:b], logits); err != nil {
						t.Fatal(err)
					}
				}
				if err := d.Next(prompt, logits); err != nil {
					t.Fatal(err)
				}
				step()
				if n := testing.AllocsPerRun(20, step); n != 0 {
					t.Errorf("%s, %s, %d threads: %.0f objects a step, want none", arch, name, threads, n)
				}
				d.Free()
			}
		}
	}
}
