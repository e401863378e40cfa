package llm_test

import (
	"bytes"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"setun/device"
	"setun/device/cpu"
	"setun/format/gguf"
	"setun/llm"
	"setun/llm/llmtest"
	"setun/tensor"
	"setun/ternary"
)

// exportable has the widths that the ternary types of GGUF need.
func exportable(change func(c *llm.Config)) llm.Config {
	c := llm.Depth(2)
	c.Context, c.Width, c.Heads, c.KVHeads, c.Hidden = 16, 256, 4, 2, 256
	change(&c)
	return c
}

func arch(name string) func(c *llm.Config) {
	return func(c *llm.Config) {
		if err := c.SetArch(name); err != nil {
			panic(err)
		}
	}
}

func writeGGUF(t *testing.T, m *llm.Model, typ gguf.Type) string {
	t.Helper()
	var b bytes.Buffer
	if err := m.WriteGGUF(&b, typ); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "model.gguf")
	if err := os.WriteFile(path, b.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestGGUF: what is exported and read again computes the same.
func TestGGUF(t *testing.T) {
	dev := cpu.New(0)
	for name, change := range map[string]func(c *llm.Config){
		"qwen3":        arch("qwen3"),
		"padded":       func(c *llm.Config) { c.Hidden = 320 },
		"untied":       func(c *llm.Config) { c.Tied = false },
		"llama":        arch("llama"),
		"bitnet":       arch("bitnet"),
		"bitnet-b1.58": arch("bitnet-b1.58"),
		"lsq":          func(c *llm.Config) { c.Quant.Rule = ternary.LSQ },
		"fp32":         func(c *llm.Config) { c.Weights = llm.FP32Weights },
		"five":         func(c *llm.Config) { c.Weights = llm.FiveWeights },
	} {
		if testing.Short() && name != "llama" && name != "padded" {
			continue
		}
		c := exportable(change)
		m, err := llm.New(tensor.NewMaker(dev, 3), c)
		if err != nil {
			t.Fatal(err)
		}
		ids := tokens(7, 12, 256)
		want := forward(m, ids)
		types := []gguf.Type{gguf.TQ1_0, gguf.TQ2_0}
		switch {
		case c.Weights != llm.TernaryWeights:
			types = []gguf.Type{gguf.F32, gguf.F16, gguf.BF16, gguf.Q8_0}
		case name == "bitnet-b1.58":
			types = []gguf.Type{gguf.I2_S}
		}
		for _, typ := range types {
			back, err := llm.ReadGGUF(dev, writeGGUF(t, m, typ), "")
			if err != nil {
				t.Fatalf("%s, %s: %v", name, typ, err)
			}
			if c.Weights == llm.TernaryWeights {
				for n, l := range back.Linears() {
					if !l.Frozen() {
						t.Errorf("%s, %s: %s is not frozen", name, typ, n)
					}
				}
			}
			worst := 0.0
			for i, v := range forward(back, ids) {
				worst = max(worst, math.Abs(float64(v-want[i])))
			}
			limit := map[gguf.Type]float64{gguf.F32: 1e-5, gguf.F16: 0.02, gguf.BF16: 0.1, gguf.Q8_0: 0.1}[typ]
			if c.Weights == llm.TernaryWeights {
				limit = 0.03 // the embedding is F16; int8 activations may move by a step
			}
			if c.Weights == llm.FiveWeights {
				continue // read as fp32 weights, without int8 activations
			}
			if worst > limit {
				t.Errorf("%s, %s: logits differ by %g", name, typ, worst)
			}
		}
	}
}

func forward(m *llm.Model, ids []int32) []float32 {
	d, err := llm.NewDecoder(m, llm.DecoderConfig{Float32: true})
	if err != nil {
		panic(err)
	}
	defer d.Free()
	y := make([]float32, m.Config().Vocab)
	if err := d.Next(ids, y); err != nil {
		panic(err)
	}
	return y
}

// Column scales go into the norms before the layers; where an input comes from none, floats have them.
func TestGGUFColumns(t *testing.T) {
	dev := cpu.New(0)
	ids := tokens(7, 12, 256)
	for _, a := range []string{"qwen3", "bitnet", "bitnet-b1.58"} {
		c := exportable(arch(a))
		c.Quant.Columns = 3
		m := uneven(t, dev, c)
		want := forward(m, ids)
		typ := gguf.TQ2_0
		if a == "bitnet-b1.58" {
			typ = gguf.I2_S
		}
		if a == "qwen3" {
			for _, err := range []error{m.WriteGGUF(new(bytes.Buffer), typ), m.WriteGGUF(new(bytes.Buffer), gguf.TQ1_0)} {
				if err == nil || !strings.Contains(err.Error(), "block 0 that comes from no norm") ||
					!strings.Contains(err.Error(), "write floats") {
					t.Errorf("%v", err)
				}
			}
			back, err := llm.ReadGGUF(dev, writeGGUF(t, m, gguf.F32), "")
			if err != nil {
				t.Fatal(err)
			}
			values := map[string][]float32{}
			for name, v := range back.Params() {
				values[name] = v.T.Floats()
			}
			for name, l := range m.Linears() {
				p, err := l.Pack()
				if err != nil {
					t.Fatal(err)
				}
				if w, err := p.Dequantize(); err != nil || !slices.Equal(values[name+".weight"], w) {
					t.Errorf("%s: other floats, %v", name, err)
				}
			}
			continue
		}
		back, err := llm.ReadGGUF(dev, writeGGUF(t, m, typ), "")
		if err != nil {
			t.Fatal(err)
		}
		checkFolded(t, a, forward(back, ids), want)
		dir := filepath.Join(t.TempDir(), "hf")
		if err := m.WriteHF(dir, true); err != nil {
			t.Fatal(err)
		}
		if back, err = llm.ReadHF(dev, dir, ""); err != nil {
			t.Fatal(err)
		}
		checkFolded(t, a+", HF", forward(back, ids), want)
	}
}

func checkFolded(t *testing.T, what string, got, want []float32) {
	t.Helper()
	worst := 0.0
	for i, v := range got {
		worst = max(worst, math.Abs(float64(v-want[i])))
	}
	if worst > 0.05 { // int8 activations may move by a step, and a GGUF's embedding is F16
		t.Errorf("%s: logits differ by %g", what, worst)
	}
}

// uneven is a model whose layers have columns of different sizes, in clusters.
func uneven(t *testing.T, dev device.Device, c llm.Config) *llm.Model {
	t.Helper()
	m, err := llm.New(tensor.NewMaker(dev, 3), c)
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range m.Linears() {
		w := l.Weight.T.Floats()
		for i := range w {
			w[i] *= []float32{0.3, 1, 4}[i%l.Weight.Dim(1)*7%3]
		}
		l.Weight.T.SetFloats(w)
		l.Weight.Changed()
	}
	before := forward(m, tokens(7, 12, 256))
	if m.Regroup(); slices.Equal(before, forward(m, tokens(7, 12, 256))) {
		t.Fatal("the clusters change nothing")
	}
	return m
}

// With the embedding in half precision to begin with, export and import are exact.
func TestGGUFExact(t *testing.T) {
	dev := cpu.New(0)
	for _, a := range []string{"qwen3", "llama", "bitnet"} {
		if testing.Short() && a != "llama" {
			continue
		}
		m, err := llm.New(tensor.NewMaker(dev, 3), exportable(arch(a)))
		if err != nil {
			t.Fatal(err)
		}
		first, err := llm.ReadGGUF(dev, writeGGUF(t, m, gguf.TQ2_0), "")
		if err != nil {
			t.Fatal(err)
		}
		for _, typ := range []gguf.Type{gguf.TQ1_0, gguf.TQ2_0} {
			again, err := llm.ReadGGUF(dev, writeGGUF(t, first, typ), "")
			if err != nil {
				t.Fatal(err)
			}
			ids := tokens(7, 12, 256)
			if !slices.Equal(forward(again, ids), forward(first, ids)) {
				t.Errorf("%s, %s: other logits", a, typ)
			}
		}
		// Read as weights to train on, TWN finds the codes and the scale again.
		masters, err := llm.ReadGGUF(dev, writeGGUF(t, first, gguf.TQ2_0), llm.TernaryWeights)
		if err != nil {
			t.Fatal(err)
		}
		ids := tokens(7, 12, 256)
		for name, l := range masters.Linears() {
			if l.Frozen() {
				t.Errorf("%s is frozen", name)
			}
		}
		for i, v := range forward(masters, ids) {
			if want := forward(first, ids)[i]; math.Abs(float64(v-want)) > 1e-4 {
				t.Fatalf("%s: trainable weights give %v, want %v", a, v, want)
			}
		}
	}
}

func TestGGUFErrors(t *testing.T) {
	dev := cpu.New(1)
	for _, tt := range []struct {
		want   string
		typ    gguf.Type
		change func(c *llm.Config)
	}{
		{"multiples of 256, not 256 and 320", gguf.TQ2_0, func(c *llm.Config) { c.SetArch("bitnet"); c.Hidden = 320 }},
		{"multiples of 256, not 128 and 256", gguf.TQ2_0, func(c *llm.Config) { c.Width = 128 }},
		{"ReLU^2 runs in bitnet.cpp only", gguf.TQ2_0, arch("bitnet-b1.58")},
		{"ReLU^2 block of two matrices", gguf.F16, func(c *llm.Config) { c.MLP = "relu2" }},
		{"both QK-norm and sub-norms", gguf.F16, func(c *llm.Config) { c.SubNorm = true }},
		{"has a tied head", gguf.F16, func(c *llm.Config) { c.SetArch("bitnet"); c.Tied = false }},
		{"norm before every layer", gguf.F16, func(c *llm.Config) { c.Quant.SubNorm = true }},
		{"one scale for a matrix", gguf.TQ1_0, func(c *llm.Config) { c.Quant.PerRow = true }},
		{"five weights have no codes", gguf.TQ1_0, func(c *llm.Config) { c.Weights = llm.FiveWeights }},
		{"I2_S is bitnet.cpp's", gguf.I2_S, func(c *llm.Config) {}},
		{"a vocabulary of 300", gguf.F16, func(c *llm.Config) { c.Vocab = 300 }},
	} {
		m, err := llm.New(tensor.NewMaker(dev, 3), exportable(tt.change))
		if err != nil {
			t.Fatal(err)
		}
		var b bytes.Buffer
		if err := m.WriteGGUF(&b, tt.typ); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("want %q, got %v", tt.want, err)
		}
		if b.Len() > 0 {
			t.Errorf("%s: half a file", tt.want)
		}
	}
	// Files that say something else than they hold.
	m, err := llm.New(tensor.NewMaker(dev, 3), exportable(arch("qwen3")))
	if err != nil {
		t.Fatal(err)
	}
	path := writeGGUF(t, m, gguf.TQ2_0)
	f, err := gguf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var tensors []gguf.Tensor
	for _, in := range f.Tensors() {
		x, err := f.Tensor(in.Name)
		if err != nil {
			t.Fatal(err)
		}
		tensors = append(tensors, x)
	}
	for want, change := range map[string]func(meta map[string]any, ts []gguf.Tensor) []gguf.Tensor{
		"is not one that this program computes": func(meta map[string]any, ts []gguf.Tensor) []gguf.Tensor {
			meta["general.architecture"] = "mamba"
			return ts
		},
		"cannot come from": func(meta map[string]any, ts []gguf.Tensor) []gguf.Tensor {
			meta["qwen3.block_count"] = uint32(1 << 20)
			return ts
		},
		"rotary positions": func(meta map[string]any, ts []gguf.Tensor) []gguf.Tensor {
			meta["qwen3.rope.scaling.type"] = "yarn"
			return ts
		},
		"needs heads of width/heads = 64": func(meta map[string]any, ts []gguf.Tensor) []gguf.Tensor {
			meta["qwen3.attention.key_length"] = uint32(128)
			return ts
		},
		"is too long for a file": func(meta map[string]any, ts []gguf.Tensor) []gguf.Tensor {
			meta["qwen3.context_length"] = uint32(1 << 24)
			return ts
		},
		"has no tensor \"blk.0.attn_k.weight\"": func(meta map[string]any, ts []gguf.Tensor) []gguf.Tensor { return slices.Delete(ts, 2, 3) },
		"does not know": func(meta map[string]any, ts []gguf.Tensor) []gguf.Tensor {
			x, err := gguf.Encode("blk.0.attn_q.bias", gguf.F32, []int{1}, []float32{1})
			if err != nil {
				t.Fatal(err)
			}
			return append(ts, x)
		},
		"is string, not an integer": func(meta map[string]any, ts []gguf.Tensor) []gguf.Tensor {
			meta["qwen3.block_count"] = "two"
			return ts
		},
	} {
		meta := map[string]any{}
		for _, k := range f.Keys() {
			meta[k], _ = f.Value(k)
		}
		ts := change(meta, slices.Clone(tensors))
		var kvs []gguf.KV
		for k, v := range meta {
			kvs = append(kvs, gguf.KV{Key: k, Value: v})
		}
		var b bytes.Buffer
		if err := gguf.Write(&b, kvs, ts); err != nil {
			t.Fatal(err)
		}
		bad := filepath.Join(t.TempDir(), "bad.gguf")
		if err := os.WriteFile(bad, b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := llm.ReadGGUF(dev, bad, ""); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q, got %v", want, err)
		}
	}
}

// TestGGUFReference: what is read computes what an independent float64 program does with the file.
func TestGGUFReference(t *testing.T) {
	ids := tokens(9, 14, 256)
	for _, a := range llm.Archs {
		if testing.Short() && a != "bitnet" {
			continue
		}
		types := []gguf.Type{gguf.F32, gguf.TQ1_0, gguf.TQ2_0}
		if a == "bitnet-b1.58" {
			types = []gguf.Type{gguf.I2_S}
		}
		for _, typ := range types {
			m, err := llm.New(tensor.NewMaker(cpu.New(0), 3), exportable(arch(a)))
			if err != nil {
				t.Fatal(err)
			}
			path := writeGGUF(t, m, typ)
			f, err := gguf.Open(path)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			ref, err := llmtest.Open(f)
			if err != nil {
				t.Fatal(err)
			}
			want := ref.Forward(ids, llmtest.PerToken)
			for _, dev := range []device.Device{cpu.New(0), best(t)} {
				back, err := llm.ReadGGUF(dev, path, "")
				if err != nil {
					t.Fatal(err)
				}
				d, err := llm.NewDecoder(back, llm.DecoderConfig{Float32: true})
				if err != nil {
					t.Fatal(err)
				}
				var far []float64 // of each token
				y := make([]float32, 256)
				for i := range ids {
					if err := d.Next(ids[i:i+1], y); err != nil {
						t.Fatal(err)
					}
					worst := 0.0
					for j, v := range y {
						worst = max(worst, math.Abs(float64(v)-want[i][j]))
					}
					far = append(far, worst)
				}
				d.Free()
				slices.Sort(far)
				// An activation on the edge of two codes may fall either way, and caches keep it.
				if far[len(far)/2] > 1e-5 && typ == gguf.F32 || far[0] > 1e-5 || far[len(far)-1] > 0.05 {
					t.Errorf("%s, %s on %s: logits differ by %.1e", a, typ, dev.Name(), far)
				}
			}
		}
	}
}
