package llm_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"setun/autograd"
	"setun/device"
	"setun/device/cpu"
	"setun/device/devicetest"
	"setun/format/safetensors"
	"setun/internal/half"
	"setun/llm"
	"setun/tensor"
	"setun/ternary"
)

func tiny(change func(c *llm.Config)) llm.Config {
	c := llm.Depth(2)
	c.Vocab, c.Context, c.Width, c.Heads, c.KVHeads, c.Hidden = 19, 16, 48, 4, 2, 56
	change(&c)
	return c
}

func logits(m *llm.Model) []float32 {
	tape := autograd.Tape{Pool: tensor.NewPool(m.Device())}
	defer tape.Pool.Close()
	ids := tape.Ints(m.Device(), []int32{1, 5, 18, 0, 7, 7}, 2, 3)
	return m.Forward(&tape, ids).T.Floats()
}

func writePacked(t *testing.T, m *llm.Model) (path string, size llm.Size) {
	t.Helper()
	var b bytes.Buffer
	size, err := m.WritePacked(&b, false)
	if err != nil {
		t.Fatal(err)
	}
	if size.File != int64(b.Len()) {
		t.Errorf("the file has %d bytes, Size says %d", b.Len(), size.File)
	}
	path = filepath.Join(t.TempDir(), "model")
	if err := os.WriteFile(path, b.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	return path, size
}

// TestPacked: a packed file gives the model's logits to the bit, on every device.
func TestPacked(t *testing.T) {
	for name, change := range map[string]func(c *llm.Config){
		"default":  func(c *llm.Config) {},
		"five":     func(c *llm.Config) { c.Weights = llm.FiveWeights },
		"per row":  func(c *llm.Config) { c.Quant.PerRow = true },
		"lsq":      func(c *llm.Config) { c.Quant.Rule = ternary.LSQ },
		"sub-norm": func(c *llm.Config) { c.Quant.SubNorm = true },
		"relu2":    func(c *llm.Config) { c.MLP, c.Tied, c.SubNorm, c.QKNorm = "relu2", false, true, false },
		"columns":  func(c *llm.Config) { c.Quant.Columns = 5 },
		"all": func(c *llm.Config) {
			c.Weights, c.Quant = llm.FiveWeights, ternary.Config{Columns: 2, PerRow: true, SubNorm: true}
		},
	} {
		for _, dev := range []device.Device{cpu.New(1), devicetest.Opaque(cpu.New(1))} {
			m, err := llm.New(tensor.NewMaker(dev, 3), tiny(change))
			if err != nil {
				t.Fatal(err)
			}
			m.Regroup()
			want := logits(m)
			path, size := writePacked(t, m)
			back, err := llm.ReadPacked(dev, path, "")
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if !slices.Equal(logits(back), want) {
				t.Errorf("%s: other logits after a round trip", name)
			}
			if back.Config() != m.Config() {
				t.Errorf("%s: other config: %+v", name, back.Config())
			}
			for n, l := range back.Linears() {
				if !l.Frozen() {
					t.Errorf("%s: %s is not frozen", name, n)
				}
			}
			if b := size.BitsPerWeight(); b < 0.5 || b > 3.1 {
				t.Errorf("%s: %.2f bits per weight", name, b)
			}
		}
	}
}

// TestPackedHalves: tables in half precision round once, and stay halves in a frozen model and in files made from it.
func TestPackedHalves(t *testing.T) {
	for _, tied := range []bool{true, false} {
		for _, dev := range []device.Device{cpu.New(1), devicetest.Opaque(cpu.New(1))} {
			m, err := llm.New(tensor.NewMaker(dev, 3), tiny(func(c *llm.Config) { c.Tied = tied }))
			if err != nil {
				t.Fatal(err)
			}
			var b, again bytes.Buffer
			size, err := m.WritePacked(&b, true)
			if err != nil {
				t.Fatal(err)
			}
			_, whole := writePacked(t, m)
			tables := 1
			if !tied {
				tables = 2
			}
			if saved := whole.File - size.File; saved < int64(tables*2*19*48)-100 || size.FileF32 != whole.FileF32 {
				t.Errorf("tied %v: halves save %d bytes, float32 has %d and %d", tied, saved, size.FileF32, whole.FileF32)
			}
			path := filepath.Join(t.TempDir(), "model")
			if err := os.WriteFile(path, b.Bytes(), 0o644); err != nil {
				t.Fatal(err)
			}
			back, err := llm.ReadPacked(dev, path, "")
			if err != nil {
				t.Fatal(err)
			}
			if back.Embed.Weight.T.Type() != device.F16 {
				t.Errorf("the embedding is %v", back.Embed.Weight.T.Type())
			}
			if _, err := back.WritePacked(&again, false); err != nil || !bytes.Equal(b.Bytes(), again.Bytes()) {
				t.Errorf("another file from the model that was read, %v", err)
			}
			// The model with its tables rounded gives the same logits; to train on, the tables are these in float32.
			thawed, err := llm.ReadPacked(dev, path, llm.FP32Weights)
			if err != nil {
				t.Fatal(err)
			}
			round := func(v, thawed *autograd.Value) {
				x := v.T.Floats()
				for i := range x {
					x[i] = half.FromF16(half.F16(x[i]))
				}
				v.T.SetFloats(x)
				v.Changed()
				if !slices.Equal(thawed.T.Floats(), x) || thawed.T.Type() != device.F32 {
					t.Error("a table is not rounded to the nearest halves")
				}
			}
			round(m.Embed.Weight, thawed.Embed.Weight)
			if !tied {
				round(m.Head.Weight, thawed.Head.Weight)
			}
			if !slices.Equal(logits(back), logits(m)) {
				t.Errorf("tied %v: other logits than those of the rounded model", tied)
			}
		}
	}
}

// TestPackedAgain: a model that was read writes the same file.
func TestPackedAgain(t *testing.T) {
	m, err := llm.New(tensor.NewMaker(cpu.New(1), 3), tiny(func(*llm.Config) {}))
	if err != nil {
		t.Fatal(err)
	}
	path, _ := writePacked(t, m)
	back, err := llm.ReadPacked(cpu.New(1), path, "")
	if err != nil {
		t.Fatal(err)
	}
	again, _ := writePacked(t, back)
	a, _ := os.ReadFile(path)
	b, _ := os.ReadFile(again)
	if !bytes.Equal(a, b) {
		t.Error("another file")
	}
}

// TestPackedColumns: the file counts the column scales, files without are of the older version, and floats of it are
// the layers' values.
func TestPackedColumns(t *testing.T) {
	dev := cpu.New(1)
	sizes := map[int]llm.Size{}
	for _, k := range []int{0, 4} {
		m, err := llm.New(tensor.NewMaker(dev, 3), tiny(func(c *llm.Config) { c.Quant.Columns = k }))
		if err != nil {
			t.Fatal(err)
		}
		m.Regroup()
		path, size := writePacked(t, m)
		sizes[k] = size
		f, err := safetensors.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		if v, want := f.Meta()["version"], map[int]string{0: "1", 4: "2"}[k]; v != want {
			t.Errorf("%d clusters: version %s, want %s", k, v, want)
		}
		f.Close()
		floats, err := llm.ReadPacked(dev, path, llm.FP32Weights)
		if err != nil {
			t.Fatal(err)
		}
		want := map[string][]float32{}
		for name, l := range m.Linears() {
			p, err := l.Pack()
			if err != nil {
				t.Fatal(err)
			}
			if want[name+".weight"], err = p.Dequantize(); err != nil {
				t.Fatal(err)
			}
		}
		for name, v := range floats.Params() {
			if w := want[name]; w != nil && !slices.Equal(v.T.Floats(), w) {
				t.Errorf("%d clusters: %s has other floats", k, name)
			}
		}
		again, err := llm.ReadPacked(dev, path, llm.TernaryWeights)
		if err != nil {
			t.Fatal(err)
		}
		for name, l := range again.Linears() {
			if (l.Columns != nil) != (k > 0) || l.Frozen() {
				t.Errorf("%d clusters: %s to train on", k, name)
			}
		}
	}
	// Of 14 layers: four scales and two bits a channel, where the codes are as many.
	if got := sizes[4].Ternary - sizes[0].Ternary; got < 14*(16+12)-200 || got > 14*(16+14)+200 {
		t.Errorf("column scales take %d bytes", got)
	}
}

func TestPackedErrors(t *testing.T) {
	dev := cpu.New(1)
	fp32, err := llm.New(tensor.NewMaker(dev, 1), tiny(func(c *llm.Config) { c.Weights = llm.FP32Weights }))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := fp32.WritePacked(new(bytes.Buffer), false); err == nil || !strings.Contains(err.Error(), "cannot be packed") {
		t.Errorf("fp32 weights: %v", err)
	}
	m, err := llm.New(tensor.NewMaker(dev, 1), tiny(func(c *llm.Config) { c.Quant.Columns = 3 }))
	if err != nil {
		t.Fatal(err)
	}
	m.Regroup()
	path, _ := writePacked(t, m)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for cut := range len(whole) {
		if cut%37 != 0 && cut > 64 {
			continue
		}
		if err := os.WriteFile(path, whole[:cut], 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := llm.ReadPacked(dev, path, ""); err == nil {
			t.Fatalf("read a file cut to %d bytes", cut)
		}
	}
	for at := 0; at < len(whole); at += 41 {
		bad := slices.Clone(whole)
		bad[at] ^= 1
		if err := os.WriteFile(path, bad, 0o644); err != nil {
			t.Fatal(err)
		}
		back, err := llm.ReadPacked(dev, path, "")
		if err == nil && back.Config() == m.Config() && !slices.Equal(logits(back), logits(m)) {
			t.Fatalf("a changed byte %d gives other logits and no error", at)
		}
	}
	// Configurations that the tensors do not bear out.
	if err := os.WriteFile(path, whole, 0o644); err != nil {
		t.Fatal(err)
	}
	f, err := safetensors.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var all []safetensors.Tensor
	for _, in := range f.Tensors() {
		x, err := f.Tensor(in.Name)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, x)
	}
	for want, change := range map[string]func(c *llm.Config){
		"cannot come from":       func(c *llm.Config) { c.Depth = 1 << 20 },
		"is too long for a file": func(c *llm.Config) { c.Context = 1 << 24 },
		"embed.weight":           func(c *llm.Config) { c.Vocab = 1 << 20 },
		"too few":                func(c *llm.Config) { c.Hidden = 1 << 20 },
		"it has no tensor":       func(c *llm.Config) { c.SubNorm = true },
		"fp32":                   func(c *llm.Config) { c.Weights = llm.FP32Weights },
		"unknown mlp":            func(c *llm.Config) { c.MLP = "x" },
		"the data is damaged":    func(c *llm.Config) { c.Hidden = 60 },
	} {
		c := m.Config()
		change(&c)
		config, err := json.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		meta := f.Meta()
		meta["config"] = string(config)
		var b bytes.Buffer
		if err := safetensors.Write(&b, all, meta); err != nil {
			t.Fatal(err)
		}
		bad := filepath.Join(t.TempDir(), "bad")
		if err := os.WriteFile(bad, b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := llm.ReadPacked(dev, bad, ""); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q, got %v", want, err)
		}
	}
}
