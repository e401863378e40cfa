package llm_test

import (
	"math"
	"runtime"
	"slices"
	"strings"
	"testing"

	"setun/autograd"
	"setun/device"
	"setun/device/auto"
	"setun/device/cpu"
	"setun/device/devicetest"
	"setun/llm"
	"setun/tensor"
	"setun/ternary"
)

func frozen(t testing.TB, dev device.Device, c llm.Config) *llm.Model {
	t.Helper()
	m := build(t, dev, c)
	m.Regroup()
	if _, err := m.Freeze(); err != nil {
		t.Fatal(err)
	}
	return m
}

func best(t testing.TB) device.Device {
	t.Helper()
	dev, err := auto.Open("auto", 0)
	if err != nil {
		t.Fatal(err)
	}
	return dev
}

// TestDecoder: steps of any size give the last logits of Forward, for all graphs, on all devices.
func TestDecoder(t *testing.T) {
	for name, change := range map[string]func(c *llm.Config){
		"qwen3":   func(c *llm.Config) {},
		"llama":   func(c *llm.Config) { c.SetArch("llama"); c.Tied = false },
		"bitnet":  func(c *llm.Config) { c.SetArch("bitnet") },
		"b1.58":   func(c *llm.Config) { c.SetArch("bitnet-b1.58") },
		"relu2":   func(c *llm.Config) { c.MLP = "relu2" },
		"five":    func(c *llm.Config) { c.Weights = llm.FiveWeights },
		"rows":    func(c *llm.Config) { c.Quant.PerRow = true },
		"norms":   func(c *llm.Config) { c.Quant.SubNorm = true },
		"floats":  func(c *llm.Config) { c.Quant.FloatActs = true },
		"columns": func(c *llm.Config) { c.Quant.Columns = 3 },
		"heads32": func(c *llm.Config) { // without bfloat16 in Forward
			c.Width, c.Heads, c.KVHeads, c.Hidden, c.Quant.Math = 64, 2, 1, 96, ternary.FP32
		},
	} {
		for _, dev := range []device.Device{cpu.New(0), devicetest.Opaque(cpu.New(1)), best(t)} {
			c := small()
			change(&c)
			m := frozen(t, dev, c)
			if testing.Short() && dev.Name() != "simd" && name != "qwen3" {
				continue
			}
			const b, n = 2, 16
			v := c.Vocab
			ids := tokens(5, b*n, v)
			tp := autograd.Tape{Pool: pool(dev)}
			want := m.Forward(&tp, tp.Ints(dev, ids, b, n)).T.Floats()
			tp.Reset()
			for _, c := range []struct {
				llm.DecoderConfig
				limit float64 // what rounds caches moves int8 activations by a step
			}{{llm.DecoderConfig{Float32: true}, 2e-4}, {llm.DecoderConfig{}, 0.1}, {llm.DecoderConfig{Int8: true}, 0.2}} {
				c.Sequences = b
				d, err := llm.NewDecoder(m, c.DecoderConfig)
				if err != nil {
					t.Fatal(err)
				}
				limit := c.limit
				for _, pieces := range [][]int{{16}, slices.Repeat([]int{1}, 16), {5, 3, 1, 1, 6}, {15, 1}} {
					d.Truncate(0)
					got, at := make([]float32, b*v), 0
					for _, k := range pieces {
						if err := d.Next(slices.Concat(ids[at:at+k], ids[n+at:n+at+k]), got); err != nil {
							t.Fatal(err)
						}
						at += k
						for s := range b {
							for i, y := range got[s*v:][:v] {
								if diff := math.Abs(float64(y - want[(s*n+at-1)*v+i])); !(diff < limit) {
									t.Fatalf("%s on %s, %+v, pieces %v: logits differ by %g", name, dev.Name(), c, pieces, diff)
								}
							}
						}
					}
					if d.Len() != n {
						t.Errorf("%d tokens", d.Len())
					}
				}
				d.Truncate(7) // and again from there
				got := make([]float32, b*v)
				if err := d.Next(slices.Concat(ids[7:9], ids[n+7:n+9]), got); err != nil {
					t.Fatal(err)
				}
				if diff := math.Abs(float64(got[3] - want[8*v+3])); !(diff < limit) {
					t.Errorf("%s: after Truncate logits differ by %g", name, diff)
				}
				d.Free()
			}
		}
	}
}

// A long prompt is read in pieces.
func TestDecoderLongPrompt(t *testing.T) {
	c := small()
	c.Context = 700
	m := frozen(t, best(t), c)
	ids := tokens(3, 650, c.Vocab)
	run := func(pieces ...int) []float32 {
		d, err := llm.NewDecoder(m, llm.DecoderConfig{Float32: true})
		if err != nil {
			t.Fatal(err)
		}
		defer d.Free()
		y := make([]float32, c.Vocab)
		for at := 0; len(pieces) > 0; pieces = pieces[1:] {
			if err := d.Next(ids[at:at+pieces[0]], y); err != nil {
				t.Fatal(err)
			}
			at += pieces[0]
		}
		return y
	}
	whole, parts := run(650), run(100, 300, 250)
	for i, v := range whole {
		if math.Abs(float64(v-parts[i])) > 2e-4 {
			t.Fatalf("logit %d is %v in one prompt and %v in three", i, v, parts[i])
		}
	}
}

// A step of one token allocates no activations: only what starting a kernel costs, a few words each.
func TestDecoderAllocations(t *testing.T) {
	c := small()
	c.Width, c.Heads, c.KVHeads, c.Hidden, c.Context = 64, 4, 2, 192, 256
	dev, err := auto.Open("auto", 1)
	if err != nil {
		t.Fatal(err)
	}
	d, err := llm.NewDecoder(frozen(t, dev, c), llm.DecoderConfig{})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Free()
	y, ids := make([]float32, c.Vocab), []int32{3}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	const steps = 100
	for range steps {
		if err := d.Next(ids, y); err != nil {
			t.Fatal(err)
		}
	}
	runtime.ReadMemStats(&after)
	bytes, objects := (after.TotalAlloc-before.TotalAlloc)/steps, (after.Mallocs-before.Mallocs)/steps
	t.Logf("%d bytes in %d objects a step of %d layers", bytes, objects, c.Depth)
	if dev.Name() == "simd" && (objects > 100 || bytes > 32<<10) {
		t.Errorf("a step of %d layers allocates %d bytes in %d objects", c.Depth, bytes, objects)
	}
}

func TestDecoderErrors(t *testing.T) {
	m := frozen(t, cpu.New(1), small())
	if _, err := llm.NewDecoder(m, llm.DecoderConfig{Context: 17}); err == nil || !strings.Contains(err.Error(), "the model has 16") {
		t.Errorf("a context that is too long: %v", err)
	}
	d, err := llm.NewDecoder(m, llm.DecoderConfig{Sequences: 2, Context: 3})
	if err != nil {
		t.Fatal(err)
	}
	y := make([]float32, 34)
	for want, ids := range map[string][]int32{
		"5 tokens for 2 sequences":       {1, 2, 3, 4, 5},
		"0 tokens for 2":                 nil,
		"do not fit a context of 3":      {1, 2, 3, 4, 5, 6, 7, 8},
		"token 17 is outside":            {1, 17},
		"token -1 is outside the vocabu": {-1, 1},
	} {
		if err := d.Next(ids, y); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q, got %v", want, err)
		}
	}
	if err := d.Next([]int32{1, 2}, y[:20]); err == nil || !strings.Contains(err.Error(), "room for 20 logits") {
		t.Errorf("little room: %v", err)
	}
	if d.Len() != 0 {
		t.Errorf("errors left %d tokens", d.Len())
	}
}

// All memory of a device comes back.
func TestDecoderFrees(t *testing.T) {
	null := device.NewNull()
	mk := tensor.NewMaker(null, 1)
	for _, c := range []llm.Config{small(), func() llm.Config { c := small(); c.Weights = llm.FP32Weights; return c }()} {
		m, err := llm.New(mk, c)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := m.Freeze(); err != nil {
			t.Fatal(err)
		}
		before := null.Stats().Live
		d, err := llm.NewDecoder(m, llm.DecoderConfig{})
		if err != nil {
			t.Fatal(err)
		}
		y := make([]float32, c.Vocab)
		for _, n := range []int{5, 1, 1} {
			if err := d.Next(make([]int32, n), y); err != nil {
				t.Fatal(err)
			}
		}
		d.Free()
		if after := null.Stats().Live; after != before {
			t.Errorf("%d bytes are left", after-before)
		}
	}
}
