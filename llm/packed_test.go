package llm_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"math"
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

// TestThaw: read as floats to train on, a model computes what it did, with learned scales too.
func TestThaw(t *testing.T) {
	dev := cpu.New(1)
	for _, rule := range []ternary.Rule{ternary.TWN, ternary.LSQ} {
		m, err := llm.New(tensor.NewMaker(dev, 3), tiny(func(c *llm.Config) { c.Quant.Rule = rule }))
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range m.Linears() {
			if l.Scale != nil {
				tensor.Scale(l.Scale.T, 0.9, l.Scale.T)
				l.Scale.Changed()
			}
		}
		path, _ := writePacked(t, m)
		back, err := llm.ReadPacked(dev, path, llm.TernaryWeights)
		if err != nil {
			t.Fatal(err)
		}
		if !near(logits(back), logits(m), 1e-4) {
			t.Errorf("%s: other logits", rule)
		}
	}
}

// TestAs: from fp32 weights to quantized ones, and what those multiply with as fp32 weights.
func TestAs(t *testing.T) {
	dev := cpu.New(1)
	fp32, err := llm.New(tensor.NewMaker(dev, 3), tiny(func(c *llm.Config) { c.Weights, c.Quant.Rule = llm.FP32Weights, ternary.LSQ }))
	if err != nil {
		t.Fatal(err)
	}
	quantized, err := fp32.As(llm.TernaryWeights)
	if err != nil {
		t.Fatal(err)
	}
	direct, err := llm.New(tensor.NewMaker(dev, 3), tiny(func(c *llm.Config) { c.Quant.Rule = ternary.LSQ }))
	if err != nil {
		t.Fatal(err)
	}
	if quantized.Config() != direct.Config() || !slices.Equal(logits(quantized), logits(direct)) {
		t.Error("not the ternary model of these weights")
	}
	for _, frozen := range []bool{false, true} {
		if frozen {
			if _, err := quantized.Freeze(); err != nil {
				t.Fatal(err)
			}
		}
		want := map[string][]float32{}
		for name, l := range quantized.Linears() {
			p, err := l.Pack()
			if err != nil {
				t.Fatal(err)
			}
			if want[name+".weight"], err = p.Dequantize(); err != nil {
				t.Fatal(err)
			}
		}
		back, err := quantized.As(llm.FP32Weights)
		if err != nil {
			t.Fatal(err)
		}
		for name, v := range back.Params() {
			if w := want[name]; w != nil && !slices.Equal(v.T.Floats(), w) {
				t.Errorf("frozen %t: %s has other values than the layer multiplies with", frozen, name)
			}
		}
	}
	norms, err := llm.New(tensor.NewMaker(dev, 3), tiny(func(c *llm.Config) { c.Quant.SubNorm = true }))
	if err != nil {
		t.Fatal(err)
	}
	path, _ := writePacked(t, norms)
	_, err1 := norms.As(llm.FP32Weights)
	_, err2 := llm.ReadPacked(dev, path, llm.FP32Weights)
	for _, err := range []error{err1, err2} {
		if err == nil || !strings.Contains(err.Error(), "norms of their own") {
			t.Errorf("fp32 layers with norms: %v", err)
		}
	}
}

func near(a, b []float32, tol float64) bool {
	return slices.EqualFunc(a, b, func(x, y float32) bool { return math.Abs(float64(x-y)) <= tol })
}

// TestPackedZeros: a layer that is all zero takes next to nothing when compressed, too little to be believed.
func TestPackedZeros(t *testing.T) {
	m, err := llm.New(tensor.NewMaker(cpu.New(1), 3), tiny(func(c *llm.Config) { c.Width, c.Hidden = 192, 256 }))
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range m.Linears() {
		tensor.Fill(l.Weight.T, 0)
		l.Weight.Changed()
	}
	path, _ := writePacked(t, m)
	back, err := llm.ReadPacked(cpu.New(1), path, "")
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(logits(back), logits(m)) {
		t.Error("other logits")
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
	// Codes by the name of a parameter of one dimension, with the right checksum.
	more := append(slices.Clone(all), safetensors.New("norm", []int{1}, []uint8{0}))
	slices.SortFunc(more, func(a, b safetensors.Tensor) int { return strings.Compare(a.Name, b.Name) })
	sum := sha256.New()
	for _, x := range more {
		sum.Write(x.Data)
	}
	meta := f.Meta()
	meta["sha256"] = hex.EncodeToString(sum.Sum(nil))
	var b bytes.Buffer
	if err := safetensors.Write(&b, more, meta); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path+"2", b.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := llm.ReadPacked(dev, path+"2", ""); err == nil || !strings.Contains(err.Error(), `no tensor "norm"`) {
		t.Errorf("a tensor too many: %v", err)
	}
	for want, change := range map[string]func(c *llm.Config){
		"cannot come from":       func(c *llm.Config) { c.Depth = 1 << 20 },
		"is too long for a file": func(c *llm.Config) { c.Context = 1 << 24 },
		"embed.weight":           func(c *llm.Config) { c.Vocab = 1 << 20 },
		"too few":                func(c *llm.Config) { c.Hidden = 1 << 20 },
		"it has no tensor":       func(c *llm.Config) { c.SubNorm = true },
		"fp32":                   func(c *llm.Config) { c.Weights = llm.FP32Weights },
		"names no tensor":        func(c *llm.Config) { c.Depth = 1 },
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
