package tests

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"os"
	"slices"
	"testing"

	"setun/autograd"
	"setun/data"
	"setun/device"
	"setun/device/auto"
	"setun/device/cpu"
	"setun/device/cuda"
	"setun/device/cuda/ptx"
	"setun/llm"
	"setun/optim"
	"setun/tensor"
	"setun/ternary"
	"setun/train"
)

// TestCUDATraining trains a small model of models/gopher on the interpreter of the CUDA kernels and on the pure Go
// device, from the same weights: the losses agree, and no kernel runs on the host. Then both are given the same
// weights: codes and scales are equal to the bit, and so are the tokens that the frozen models generate.
func TestCUDATraining(t *testing.T) {
	for _, c := range []struct {
		name       string
		optimizer  optim.Config
		lambda     float32 // share of quantization in the first step: below 1, layers multiply floats too
		first, tol float64 // relative, of the loss before training, and of those of the steps, when codes flip
		math       ternary.Math
		bf16       bool // auto.AllowBF16
	}{
		{"adamw", optim.Config{Name: "adamw", LR: 2e-3}, 1, 1e-6, 3e-3, ternary.FP32, false},
		// Attention and products may be bfloat16, and are so only on the GPU.
		{"int8", optim.Config{Name: "adamw", LR: 2e-3}, 1, 3e-4, 5e-3, ternary.Int8, false},
		{"muon", optim.Config{Name: "muon"}, 0.5, 3e-4, 1e-2, ternary.Int8, false},
		{"bf16", optim.Config{Name: "adamw", LR: 2e-3}, 1, 1e-3, 1e-2, ternary.FP32, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg, steps := llm.Depth(2), 5
			cfg.SetWidth(64)
			cfg.Context, cfg.Quant.Math = 32, c.math
			if testing.Short() {
				if c.name != "adamw" {
					t.Skip("one optimizer is enough")
				}
				cfg.Depth, cfg.Context, steps = 1, 16, 2
			}
			gpu := openCUDA(t)
			if c.bf16 {
				auto.AllowBF16(gpu)
			}
			open := func(dev device.Device) *llm.Model {
				m, err := llm.New(tensor.NewMaker(dev, 1), cfg)
				if err != nil {
					t.Fatal(err)
				}
				return m
			}
			run := func(m *llm.Model) []float32 {
				windows, err := data.NewWindows(data.NewStream(tinyText(4000)), 2, cfg.Context, 3)
				if err != nil {
					t.Fatal(err)
				}
				rec := &recorder{Model: m}
				_, err = train.Run(t.Context(), train.Config{Steps: steps, Seed: 1, Optimizer: c.optimizer,
					OnStep: func(step int, _ float64) { m.SetLambda(min(1, c.lambda+float32(step)/2)) },
				}, rec, train.Data{Train: windows})
				if err != nil {
					t.Fatal(err)
				}
				return rec.losses
			}
			eval := func(m *llm.Model) float64 { // in float32, but for lambda < 1
				m.SetLambda(c.lambda)
				ids := make([]int32, cfg.Context+1)
				for i, c := range tinyText(len(ids)) {
					ids[i] = int32(c)
				}
				var tape autograd.Tape
				return float64(m.Loss(&tape, data.Batch{Shape: []int{1, cfg.Context}, Tokens: ids[:cfg.Context], Targets: ids[1:]}).Float())
			}
			near := func(what string, got, want, tol float64) {
				if !(math.Abs(got-want) <= tol*want) {
					t.Errorf("%s: loss %v, on cpu %v, tolerance %g", what, got, want, tol)
				}
			}
			host, there := open(cpu.New(0)), open(gpu)
			copyParams(there, host)
			compareCodes(t, "before training", there, host)
			near("before training", eval(there), eval(host), c.first)
			want, got := run(host), run(there)
			t.Logf("losses %v, on cpu %v", got, want)
			for i := range steps {
				near(fmt.Sprint("step ", i), float64(got[i]), float64(want[i]), c.tol)
			}
			if !(got[steps-1] < got[0]) {
				t.Errorf("the loss did not fall: %v", got)
			}
			copyParams(host, there)
			compareCodes(t, "after training", there, host)
			if _, err := host.Freeze(); err != nil {
				t.Fatal(err)
			}
			if _, err := there.Freeze(); err != nil {
				t.Fatal(err)
			}
			generate := func(m *llm.Model) (tokens []int32) {
				err := llm.Generate(t.Context(), m, []int32{1, 2, 3}, 6, llm.Sampling{}, func(token int32) bool {
					tokens = append(tokens, token)
					return true
				})
				if err != nil {
					t.Fatal(err)
				}
				return tokens
			}
			if got, want := generate(there), generate(host); !c.bf16 && !slices.Equal(got, want) {
				t.Errorf("generates %v, on cpu %v", got, want)
			}
			if err := gpu.Sync(); err != nil {
				t.Error(err)
			}
			if b := gpu.Bridged(); len(b) > 0 {
				t.Errorf("kernels ran on the host: %v", b)
			}
		})
	}
}

// openCUDA opens the interpreter, or with SETUN_CUDA a GPU.
func openCUDA(t *testing.T) *cuda.Device {
	t.Helper()
	open := func() (*cuda.Device, error) { return cuda.New(ptx.Open(ptx.Config{})) }
	if os.Getenv("SETUN_CUDA") != "" {
		open = cuda.Open
	}
	dev, err := open()
	if errors.Is(err, auto.ErrNone) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dev.Close() })
	return dev
}

// copyParams gives dst the parameters of src.
func copyParams(dst, src *llm.Model) {
	values := map[string][]float32{}
	for name, v := range src.Params() {
		values[name] = v.T.Floats()
	}
	for name, v := range dst.Params() {
		v.T.SetFloats(values[name])
		v.Changed()
	}
}

func compareCodes(t *testing.T, when string, got, want *llm.Model) {
	t.Helper()
	codes := func(m *llm.Model) (all [][]byte, scales [][]float32) {
		for name, l := range m.Linears() {
			p, err := l.Pack()
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			all, scales = append(all, p.Data), append(scales, p.Scales)
		}
		return all, scales
	}
	gotCodes, gotScales := codes(got)
	wantCodes, wantScales := codes(want)
	if len(wantCodes) == 0 {
		t.Error("no quantized layers")
	}
	for i := range wantCodes {
		if !bytes.Equal(gotCodes[i], wantCodes[i]) || !slices.Equal(gotScales[i], wantScales[i]) {
			t.Errorf("%s, codes or scales of layer %d differ from those on cpu", when, i)
		}
	}
}
