package llm_test

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"setun/device/cpu"
	"setun/format/safetensors"
	"setun/internal/half"
	"setun/llm"
	"setun/tensor"
)

// TestHF: what is written and read again computes the same.
func TestHF(t *testing.T) {
	dev := cpu.New(0)
	ids := tokens(7, 12, 256)
	for _, a := range llm.Archs {
		for _, packed := range []bool{false, true} {
			if testing.Short() && a != "bitnet" {
				continue
			}
			c := exportable(arch(a))
			c.Hidden = 320
			m, err := llm.New(tensor.NewMaker(dev, 3), c)
			if err != nil {
				t.Fatal(err)
			}
			want := forward(m, ids)
			dir := filepath.Join(t.TempDir(), "model")
			err = m.WriteHF(dir, packed)
			if packed && !c.SubNorm {
				if err == nil || !strings.Contains(err.Error(), "only BitNet's class") {
					t.Errorf("%s, packed: %v", a, err)
				}
				continue
			}
			if err != nil {
				t.Fatal(err)
			}
			as := llm.Weights("")
			if !packed {
				as = llm.TernaryWeights
			}
			back, err := llm.Open(dev, dir, as)
			if err != nil {
				t.Fatalf("%s, packed %t: %v", a, packed, err)
			}
			for name, l := range back.Linears() {
				if l.Frozen() != packed {
					t.Errorf("%s: %s is frozen %t", a, name, l.Frozen())
				}
			}
			got := forward(back, ids)
			if packed && !slices.Equal(got, want) {
				t.Errorf("%s, packed: other logits", a)
			}
			// The values of codes, which BitNet's rule would scale anew, quantize to themselves.
			for i, v := range got {
				if !packed && !c.SubNorm && math.Abs(float64(v-want[i])) > 1e-3 {
					t.Fatalf("%s, as floats: logit %d is %v, it was %v", a, i, v, want[i])
				}
			}
			// An index that lies there from another model is not asked.
			writeJSON(t, filepath.Join(dir, "model.safetensors.index.json"), map[string]any{"weight_map": map[string]string{"a": "b"}})
			if _, err := llm.ReadHF(dev, dir, ""); err != nil {
				t.Errorf("%s: %v", a, err)
			}
		}
	}
}

// A small BitNet by the published layout: rows r, r+out/4, ... in one byte, scales that multiply or divide, bfloat16 in
// several files.
func TestHFLayout(t *testing.T) {
	dev := cpu.New(1)
	c := llm.Config{Vocab: 12, Context: 16, Depth: 2, Width: 8, Heads: 2, KVHeads: 1, Hidden: 12, Weights: llm.TernaryWeights,
		SubNorm: true, MLP: "relu2-glu", Tied: true, Theta: 500000, Eps: 1e-5}
	m, err := llm.New(tensor.NewMaker(dev, 5), c)
	if err != nil {
		t.Fatal(err)
	}
	ids := []int32{3, 1, 11, 0, 7}
	want := forward(m, ids)
	hf := strings.NewReplacer("blocks.", "model.layers.", ".attn_norm.", ".input_layernorm.", ".mlp_norm.",
		".post_attention_layernorm.", "attn.out", "self_attn.o_proj", "attn.sub_norm", "self_attn.attn_sub_norm", "mlp.sub_norm",
		"mlp.ffn_sub_norm", "mlp.gate", "mlp.gate_proj", "mlp.up", "mlp.up_proj", "mlp.down", "mlp.down_proj", "attn.q",
		"self_attn.q_proj", "attn.k", "self_attn.k_proj", "attn.v", "self_attn.v_proj", "embed.", "model.embed_tokens.")
	bf16 := func(name string, shape []int, x []float32) safetensors.Tensor {
		var data []byte
		for _, v := range x {
			h := half.BF16(v)
			data = append(data, byte(h), byte(h>>8))
		}
		return safetensors.Tensor{Name: name, DType: safetensors.BF16, Shape: shape, Data: data}
	}
	for _, divide := range []bool{false, true} {
		files := [2][]safetensors.Tensor{}
		put := func(x safetensors.Tensor) { files[len(files[0])%2] = append(files[len(files[0])%2], x) }
		for name, l := range m.Linears() {
			codes, scale := l.Quantized()
			q, s := codes.Codes(), scale.Floats()
			out, in := codes.Dim(0), codes.Dim(1)
			packed := make([]byte, out/4*in)
			for r := range out / 4 {
				for col := range in {
					for i := range 4 {
						packed[r*in+col] |= byte(q[(i*out/4+r)*in+col]+1) << (2 * i)
					}
				}
			}
			if divide {
				s[0] = 1 / s[0]
			}
			put(safetensors.New(hf.Replace(name)+".weight", []int{out / 4, in}, packed))
			put(safetensors.New(hf.Replace(name)+".weight_scale", []int{1}, s))
		}
		for name, v := range m.Params() {
			if strings.Contains(name, "norm") || name == "embed.weight" {
				there := hf.Replace(name)
				if name == "norm.weight" {
					there = "model.norm.weight"
				}
				if name == "embed.weight" {
					put(safetensors.New(there, v.T.Shape(), v.T.Floats()))
				} else {
					put(bf16(there, v.T.Shape(), v.T.Floats())) // ones, which bfloat16 has
				}
			}
		}
		dir := t.TempDir()
		index := map[string]string{}
		for i, ts := range files {
			name := fmt.Sprintf("model-%05d-of-00002.safetensors", i+1)
			f, err := os.Create(filepath.Join(dir, name))
			if err != nil {
				t.Fatal(err)
			}
			if err := safetensors.Write(f, ts, nil); err != nil {
				t.Fatal(err)
			}
			f.Close()
			for _, x := range ts {
				index[x.Name] = name
			}
		}
		writeJSON(t, filepath.Join(dir, "model.safetensors.index.json"), map[string]any{"weight_map": index})
		linear := "autobitlinear"
		if divide {
			linear = "bitlinear"
		}
		config := map[string]any{"architectures": []string{"BitNetForCausalLM"}, "model_type": "bitnet", "hidden_size": 8,
			"intermediate_size": 12, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1,
			"hidden_act": "relu2", "rms_norm_eps": 1e-5, "rope_theta": 500000.0, "max_position_embeddings": 16, "vocab_size": 12,
			"tie_word_embeddings": true, "rope_scaling": nil,
			"quantization_config": map[string]any{"quant_method": "bitnet", "linear_class": linear, "quantization_mode": "offline"}}
		path := filepath.Join(dir, "config.json")
		writeJSON(t, path, config)
		back, err := llm.ReadHF(dev, dir, "")
		if err != nil {
			t.Fatal(err)
		}
		for i, v := range forward(back, ids) {
			if math.Abs(float64(v-want[i])) > 1e-5 {
				t.Fatalf("divide %t: logit %d is %v, want %v", divide, i, v, want[i])
			}
		}
		// What does not fit is refused.
		for want, change := range map[string]func(m map[string]any){
			"its class":      func(m map[string]any) { m["architectures"] = []string{"GPT2LMHeadModel"} },
			"its activation": func(m map[string]any) { m["hidden_act"] = "gelu" },
			`of type "yarn"`: func(m map[string]any) { m["rope_scaling"] = map[string]any{"type": "yarn"} },
			`of type "llama3"`: func(m map[string]any) {
				m["rope_parameters"] = map[string]any{"rope_theta": 1e6, "rope_type": "llama3", "factor": 8.0}
			},
			"part 0.5": func(m map[string]any) {
				m["rope_parameters"] = map[string]any{"rope_type": "default", "partial_rotary_factor": 0.5}
			},
			"are not its width":         func(m map[string]any) { m["head_dim"] = 16 },
			"cannot come from":          func(m map[string]any) { m["num_hidden_layers"] = 1 << 20 },
			"is [12 8], the model need": func(m map[string]any) { m["vocab_size"] = 13 },
			"does not know":             func(m map[string]any) { m["num_hidden_layers"] = 1 },
			"not readable":              func(m map[string]any) { m["hidden_size"] = "8" },
		} {
			bad := map[string]any{}
			for k, v := range config {
				bad[k] = v
			}
			change(bad)
			writeJSON(t, path, bad)
			if _, err := llm.ReadHF(dev, dir, ""); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("want %q, got %v", want, err)
			}
		}
		// As transformers 5 writes it, and with a window.
		delete(config, "rope_theta")
		config["rope_parameters"] = map[string]any{"rope_theta": 500000.0, "rope_type": "default"}
		config["sliding_window"] = 7
		writeJSON(t, path, config)
		if back, err = llm.ReadHF(dev, dir, ""); err != nil {
			t.Fatal(err)
		}
		if c := back.Config(); c.Theta != 500000 || c.Context != 7 {
			t.Errorf("base %v and context %d, want 500000 and 7", c.Theta, c.Context)
		}
		config["use_sliding_window"] = false
		writeJSON(t, path, config)
		if back, err = llm.ReadHF(dev, dir, ""); err != nil || back.Config().Context != 16 {
			t.Errorf("without the window: context %d, %v", back.Config().Context, err)
		}
		writeJSON(t, filepath.Join(dir, "model.safetensors.index.json"),
			map[string]any{"weight_map": map[string]string{"a": "../../model.safetensors"}})
		if _, err := llm.ReadHF(dev, dir, ""); err == nil || !strings.Contains(err.Error(), "not a file in its folder") {
			t.Errorf("a path out of the folder: %v", err)
		}
	}
}

func writeJSON(t *testing.T, path string, v any) {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, text, 0o644); err != nil {
		t.Fatal(err)
	}
}
