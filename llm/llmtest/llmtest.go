package llmtest

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"setun/format/gguf"
	"setun/internal/half"
)

// A Model is a GGUF file of architecture llama, qwen3, bitnet or bitnet-b1.58 in float64.
type Model struct {
	arch                           string
	layers, heads, kv, dim, hidden int
	eps, base                      float64
	w                              map[string][]float64
	dims                           map[string][]int
	types                          map[string]gguf.Type
}

// Open reads the weights of a file.
func Open(f *gguf.File) (*Model, error) {
	m := &Model{w: map[string][]float64{}, dims: map[string][]int{}, types: map[string]gguf.Type{}}
	m.arch, _ = f.Text("general.architecture", "")
	m.layers, _ = f.Int(m.arch+".block_count", 0)
	m.heads, _ = f.Int(m.arch+".attention.head_count", 0)
	m.kv, _ = f.Int(m.arch+".attention.head_count_kv", m.heads)
	m.hidden, _ = f.Int(m.arch+".embedding_length", 0)
	m.eps, _ = f.Float(m.arch+".attention.layer_norm_rms_epsilon", 1e-5)
	m.base, _ = f.Float(m.arch+".rope.freq_base", 10000)
	m.dim = m.hidden / m.heads
	for _, in := range f.Tensors() {
		t, err := f.Tensor(in.Name)
		if err != nil {
			return nil, err
		}
		x, err := gguf.Floats(t)
		if err != nil {
			return nil, err
		}
		y := make([]float64, len(x))
		for i, v := range x {
			y[i] = float64(v)
		}
		m.w[in.Name], m.dims[in.Name] = y, in.Dims
		m.types[in.Name] = t.Type
	}
	return m, nil
}

// linear is y = w quantize(x), times the scale.
func (m *Model) linear(name string, x []float64, quantize Rule) []float64 {
	w, in := m.w[name+".weight"], m.dims[name+".weight"][0]
	x = slices.Clone(x)
	quantize(x, m.types[name+".weight"])
	scale := 1.0
	if s, ok := m.w[name+".scale"]; ok {
		scale = s[0]
	}
	y := make([]float64, len(w)/in)
	for i := range y {
		for j, v := range w[i*in:][:in] {
			y[i] += v * x[j]
		}
		y[i] *= scale
	}
	return y
}

// A Rule rounds activations as an engine does before it multiplies them with a weight of a type.
type Rule func(x []float64, weight gguf.Type)

func ternary(t gguf.Type) bool { return t == gguf.TQ1_0 || t == gguf.TQ2_0 || t == gguf.I2_S }

// PerToken is what setun does: int8 with one scale per token, for ternary weights.
func PerToken(x []float64, weight gguf.Type) {
	if !ternary(weight) {
		return
	}
	a := float32(1e-5)
	for _, v := range x {
		a = max(a, float32(math.Abs(v)))
	}
	s := 127 / a
	for i, v := range x {
		x[i] = math.RoundToEven(float64(float32(v)*s)) * float64(a/127)
	}
}

// Q8K is what llama.cpp does: int8 in blocks of 256 for ternary weights, half precision for weights in it.
func Q8K(x []float64, weight gguf.Type) {
	if weight == gguf.F16 {
		for i, v := range x {
			x[i] = float64(half.FromF16(half.F16(float32(v))))
		}
	}
	Q8KFloat(x, weight)
}

// Q8KFloat is what llama.cpp's build for AMX does: as Q8K, but weights in half precision multiply activations as they are.
func Q8KFloat(x []float64, weight gguf.Type) {
	if !ternary(weight) {
		return
	}
	for b := 0; b < len(x); b += 256 {
		x := x[b:][:256]
		top := float32(0)
		for _, v := range x {
			if math.Abs(v) > math.Abs(float64(top)) {
				top = float32(v)
			}
		}
		if top == 0 {
			continue
		}
		s := -127 / top
		for i, v := range x {
			x[i] = min(127, math.RoundToEven(float64(s*float32(v)))) / float64(s)
		}
	}
}

func (m *Model) norm(x []float64, gain string) []float64 {
	g := m.w[gain]
	if g == nil {
		return x
	}
	y := make([]float64, len(x))
	for at := 0; at < len(x); at += len(g) {
		sum := 0.0
		for _, v := range x[at:][:len(g)] {
			sum += v * v
		}
		inv := 1 / math.Sqrt(sum/float64(len(g))+m.eps)
		for i := range g {
			y[at+i] = x[at+i] * inv * g[i]
		}
	}
	return y
}

func (m *Model) rope(x []float64, pos int) {
	for h := 0; h < len(x); h += m.dim {
		for i := range m.dim / 2 {
			a, b := h+i, h+i+m.dim/2
			if m.arch == "llama" {
				a, b = h+2*i, h+2*i+1
			}
			sin, cos := math.Sincos(float64(pos) * math.Pow(m.base, -2*float64(i)/float64(m.dim)))
			x[a], x[b] = x[a]*cos-x[b]*sin, x[a]*sin+x[b]*cos
		}
	}
}

// Forward gives the logits after each token.
func (m *Model) Forward(tokens []int32, quantize Rule) [][]float64 {
	keys, values := make([][][]float64, m.layers), make([][][]float64, m.layers)
	var out [][]float64
	for pos, id := range tokens {
		x := slices.Clone(m.w["token_embd.weight"][int(id)*m.hidden:][:m.hidden])
		for l := range m.layers {
			p := fmt.Sprintf("blk.%d.", l)
			h := m.norm(x, p+"attn_norm.weight")
			q, k, v := m.linear(p+"attn_q", h, quantize), m.linear(p+"attn_k", h, quantize), m.linear(p+"attn_v", h, quantize)
			q, k = m.norm(q, p+"attn_q_norm.weight"), m.norm(k, p+"attn_k_norm.weight")
			m.rope(q, pos)
			m.rope(k, pos)
			keys[l], values[l] = append(keys[l], k), append(values[l], v)
			o := make([]float64, m.hidden)
			for h := range m.heads {
				m.attend(o[h*m.dim:][:m.dim], q[h*m.dim:][:m.dim], keys[l], values[l], h*m.kv/m.heads*m.dim)
			}
			add(x, m.linear(p+"attn_output", m.norm(o, p+"attn_sub_norm.weight"), quantize))
			h = m.norm(x, p+"ffn_norm.weight")
			g, u := m.linear(p+"ffn_gate", h, quantize), m.linear(p+"ffn_up", h, quantize)
			for i, v := range g {
				if strings.HasSuffix(m.arch, "1.58") {
					u[i] *= max(v, 0) * max(v, 0)
				} else {
					u[i] *= v / (1 + math.Exp(-v))
				}
			}
			add(x, m.linear(p+"ffn_down", m.norm(u, p+"ffn_sub_norm.weight"), quantize))
		}
		head := "token_embd"
		if m.w["output.weight"] != nil {
			head = "output"
		}
		out = append(out, m.linear(head, m.norm(x, "output_norm.weight"), quantize))
	}
	return out
}

func (m *Model) attend(o, q []float64, keys, values [][]float64, at int) {
	p, top := make([]float64, len(keys)), math.Inf(-1)
	for j, k := range keys {
		for i, v := range q {
			p[j] += v * k[at+i]
		}
		p[j] /= math.Sqrt(float64(m.dim))
		top = max(top, p[j])
	}
	sum := 0.0
	for j := range p {
		p[j] = math.Exp(p[j] - top)
		sum += p[j]
	}
	for j, v := range values {
		for i := range o {
			o[i] += p[j] / sum * v[at+i]
		}
	}
}

func add(x, y []float64) {
	for i, v := range y {
		x[i] += v
	}
}
