package llm

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"setun/device"
	"setun/format/safetensors"
	"setun/internal/atomicfile"
	"setun/ternary"
)

// hfNames are the tensors of Hugging Face's transformers, by ours without "blocks.N.".
var hfNames = map[string]string{
	"embed.weight": "model.embed_tokens.weight", "norm.weight": "model.norm.weight", "head.weight": "lm_head.weight",
	"attn_norm.weight": "input_layernorm.weight", "mlp_norm.weight": "post_attention_layernorm.weight",
	"attn.q.weight": "self_attn.q_proj.weight", "attn.k.weight": "self_attn.k_proj.weight",
	"attn.v.weight": "self_attn.v_proj.weight", "attn.out.weight": "self_attn.o_proj.weight",
	"attn.q_norm.weight": "self_attn.q_norm.weight", "attn.k_norm.weight": "self_attn.k_norm.weight",
	"attn.sub_norm.weight": "self_attn.attn_sub_norm.weight", "mlp.sub_norm.weight": "mlp.ffn_sub_norm.weight",
	"mlp.gate.weight": "mlp.gate_proj.weight", "mlp.up.weight": "mlp.up_proj.weight", "mlp.down.weight": "mlp.down_proj.weight",
}

func hfName(name string) string { return rename(name, hfNames, "model.layers.") }

// hfConfig is what config.json says of a model.
type hfConfig struct {
	Architectures []string `json:"architectures"`
	ModelType     string   `json:"model_type"`
	HiddenAct     string   `json:"hidden_act"`
	Width         int      `json:"hidden_size"`
	Hidden        int      `json:"intermediate_size"`
	Depth         int      `json:"num_hidden_layers"`
	Heads         int      `json:"num_attention_heads"`
	KVHeads       int      `json:"num_key_value_heads,omitempty"`
	HeadDim       int      `json:"head_dim,omitempty"`
	Context       int      `json:"max_position_embeddings"`
	Vocab         int      `json:"vocab_size"`
	Eps           float32  `json:"rms_norm_eps"`
	Theta         float64  `json:"rope_theta,omitempty"`
	Scaling       *hfRope  `json:"rope_scaling,omitempty"`
	Rope          *hfRope  `json:"rope_parameters,omitempty"` // since transformers 5, instead of the two
	Window        int      `json:"sliding_window,omitempty"`
	UseWindow     *bool    `json:"use_sliding_window,omitempty"`
	Tied          bool     `json:"tie_word_embeddings"`
	DType         string   `json:"torch_dtype,omitempty"`
	Quant         *hfQuant `json:"quantization_config,omitempty"`
}

type hfRope struct {
	Theta float64 `json:"rope_theta"`
	Type  string  `json:"rope_type"`
	Old   string  `json:"type"` // of rope_type
	Part  float64 `json:"partial_rotary_factor"`
}

type hfQuant struct {
	Method string `json:"quant_method"`
	Linear string `json:"linear_class,omitempty"`
	Mode   string `json:"quantization_mode,omitempty"`
}

// hfArchs are the classes of transformers that compute our graphs.
var hfArchs = map[string]string{"qwen3": "Qwen3ForCausalLM", "llama": "LlamaForCausalLM", "bitnet": "BitNetForCausalLM",
	"bitnet-b1.58": "BitNetForCausalLM"}

// WriteHF writes the model as it is now to a folder that Hugging Face's transformers load: config.json and
// model.safetensors. With packed, layers are two-bit codes in the layout of BitNet, which takes sub-norms (-arch bitnet
// or bitnet-b1.58); else they are the float32 values that they multiply with. No tokenizer is written.
func (m *Model) WriteHF(dir string, packed bool) error {
	c := m.cfg
	arch := "llama"
	switch {
	case c.Quant.SubNorm || c.MLP == "relu2" || c.QKNorm && c.SubNorm || c.MLP == "relu2-glu" && !c.SubNorm:
		return errors.New("llm: transformers has no class that computes this graph; train with -arch qwen3, llama, bitnet or bitnet-b1.58")
	case c.MLP == "relu2-glu":
		arch = "bitnet-b1.58"
	case c.SubNorm:
		arch = "bitnet"
	case c.QKNorm:
		arch = "qwen3"
	}
	if packed {
		switch {
		case !c.SubNorm:
			return errors.New("llm: only BitNet's class reads packed weights; write floats, or train with -arch bitnet")
		case c.Weights != TernaryWeights:
			return fmt.Errorf("llm: %s weights have no ternary codes to pack; write floats", c.Weights)
		case c.Quant.PerRow:
			return errors.New("llm: BitNet's layout has one scale for a matrix, not one per row; write floats")
		case c.Width%4 != 0 || c.Hidden%4 != 0 || c.KVHeads*(c.Width/c.Heads)%4 != 0:
			return errors.New("llm: BitNet's layout packs four rows in one; a matrix here has a number of rows that 4 does not divide")
		}
	}
	var gains map[string][]float32
	if packed {
		var err error
		if gains, err = m.foldedGains(); err != nil {
			return err
		}
	}
	h := hfConfig{Architectures: []string{hfArchs[arch]}, ModelType: strings.TrimSuffix(arch, "-b1.58"), HiddenAct: "silu",
		Width: c.Width, Hidden: c.Hidden, Depth: c.Depth, Heads: c.Heads, KVHeads: c.KVHeads, HeadDim: c.Width / c.Heads,
		Context: c.Context, Vocab: c.Vocab, Eps: c.Eps, Theta: c.Theta, Tied: c.Tied, DType: "float32"}
	if arch == "bitnet-b1.58" {
		h.HiddenAct = "relu2"
	}
	if packed {
		h.Quant = &hfQuant{"bitnet", "autobitlinear", "offline"}
	}
	inside := map[string]bool{}
	var tensors []safetensors.Tensor
	for l := range m.weights() {
		inside[l.name+".weight"], inside[l.name+".scale"], inside[l.name+".columns"] = true, true, true
		name := hfName(l.name + ".weight")
		if !packed {
			x, err := l.floats()
			if err != nil {
				return err
			}
			tensors = append(tensors, safetensors.New(name, []int{l.out, l.in}, x))
			continue
		}
		p, err := l.ternary.Pack()
		if err != nil {
			return err
		}
		codes, err := p.Unpack()
		if err != nil {
			return err
		}
		// Rows r, r+out/4, ... share the bits of row r.
		bytes, quarter := make([]uint8, len(codes)/4), len(codes)/4
		for i, c := range codes {
			bytes[i%quarter] |= uint8(c+1) << (2 * (i / quarter))
		}
		tensors = append(tensors, safetensors.New(name, []int{l.out / 4, l.in}, bytes),
			safetensors.New(name+"_scale", []int{1}, p.Scales))
	}
	for name, v := range m.Params() {
		if inside[name] {
			continue
		}
		x, ok := gains[name]
		if !ok {
			x = v.T.Floats()
		}
		tensors = append(tensors, safetensors.New(hfName(name), v.T.Shape(), x))
	}
	if err := m.Device().Sync(); err != nil {
		return err
	}
	config, err := json.MarshalIndent(h, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return atomicfile.Explain("make folder", dir, err)
	}
	if err := atomicfile.Write(filepath.Join(dir, "model.safetensors"), func(w io.Writer) error {
		return safetensors.Write(w, tensors, map[string]string{"format": "pt"})
	}); err != nil {
		return err
	}
	return atomicfile.Write(filepath.Join(dir, "config.json"), func(w io.Writer) error {
		_, err := w.Write(append(config, '\n'))
		return err
	})
}

// ReadHF reads a folder of Hugging Face: BitNet, packed or as master weights, and models of the classes Llama, Mistral
// and Qwen3, in one file or several. Packed weights give frozen layers. Others become what as says: by default ternary
// weights to train on for BitNet, quantized as it does (absmean), and fp32 for the rest. Of a model that attends to a
// sliding window the context is that window.
func ReadHF(dev device.Device, dir string, as Weights) (*Model, error) {
	m, err := readHF(dev, dir, as)
	return m, named(dir, err)
}

func readHF(dev device.Device, dir string, as Weights) (*Model, error) {
	path := filepath.Join(dir, "config.json")
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, atomicfile.Explain("read", path, err)
	}
	var h hfConfig
	if err := json.Unmarshal(text, &h); err != nil {
		return nil, fmt.Errorf("config.json is not readable: %w", err)
	}
	c := Config{Vocab: h.Vocab, Context: h.Context, Depth: h.Depth, Width: h.Width, Heads: h.Heads, KVHeads: h.KVHeads,
		Hidden: h.Hidden, Tied: h.Tied, Theta: h.Theta, Eps: h.Eps, Weights: as}
	if c.KVHeads == 0 {
		c.KVHeads = c.Heads
	}
	if h.Rope != nil && h.Rope.Theta != 0 {
		c.Theta = h.Rope.Theta
	}
	if c.Theta == 0 {
		c.Theta = 10000
	}
	if h.Window > 0 && (h.UseWindow == nil || *h.UseWindow) {
		c.Context = min(c.Context, h.Window)
	}
	class := strings.Join(h.Architectures, ", ")
	arch := map[string]string{"Qwen3ForCausalLM": "qwen3", "LlamaForCausalLM": "llama", "MistralForCausalLM": "llama",
		"BitNetForCausalLM": "bitnet", "BitnetForCausalLM": "bitnet"}[class]
	if arch == "" {
		return nil, fmt.Errorf("its class %q is not one that this program computes: BitNet, Llama, Mistral and Qwen3", class)
	}
	act := h.HiddenAct
	switch {
	case act == "relu2" && arch == "bitnet":
		arch = "bitnet-b1.58"
	case act != "silu":
		return nil, fmt.Errorf("its activation is %q; this program computes silu, and relu2 in BitNet", act)
	}
	if err := c.SetArch(arch); err != nil {
		return nil, err
	}
	for _, r := range []*hfRope{h.Scaling, h.Rope} {
		if r == nil {
			continue
		}
		if kind := cmp.Or(r.Type, r.Old, "default"); kind != "default" || r.Part != 0 && r.Part != 1 {
			return nil, fmt.Errorf("its rotary positions are of type %q, part %g; this program turns all channels, and does not scale",
				kind, cmp.Or(r.Part, 1))
		}
	}
	if c.Heads < 1 || h.HeadDim != 0 && h.HeadDim*c.Heads != c.Width {
		return nil, fmt.Errorf("heads of %d times %d are not its width of %d; this program needs that", h.HeadDim, c.Heads, c.Width)
	}
	src := &hfSource{where: map[string]*safetensors.File{}, used: map[string]bool{}}
	defer src.close()
	if err := src.open(dir); err != nil {
		return nil, err
	}
	first, ok := src.info(hfName("blocks.0.attn.q.weight"))
	if !ok {
		return nil, fmt.Errorf("it has no tensor %q", hfName("blocks.0.attn.q.weight"))
	}
	if src.packed = first.DType == safetensors.U8; src.packed {
		if src.thaw = as != ""; !src.thaw {
			c.Weights = TernaryWeights
		}
		src.divide = h.Quant == nil || h.Quant.Linear != "autobitlinear"
	}
	if c.Weights == "" {
		c.Weights = FP32Weights
		if strings.HasPrefix(arch, "bitnet") {
			c.Weights = TernaryWeights
		}
	}
	// Masters of BitNet; values of codes, as an export of floats has them, stay themselves by TWN.
	if c.Weights == TernaryWeights && !src.packed && strings.HasPrefix(arch, "bitnet") {
		c.Quant.Rule = ternary.AbsMean
	}
	m, err := load(dev, c, src)
	if err != nil {
		return nil, err
	}
	for _, name := range slices.Sorted(maps.Keys(src.where)) {
		if !src.used[name] && !strings.HasSuffix(name, "rotary_emb.inv_freq") && !(c.Tied && name == "lm_head.weight") {
			return nil, fmt.Errorf("it has a tensor %q that this program does not know: its output would be wrong", name)
		}
	}
	return m, nil
}

type hfSource struct {
	files  []*safetensors.File
	where  map[string]*safetensors.File // by tensor
	used   map[string]bool
	packed bool
	thaw   bool // packed layers become floats
	divide bool // scales are those of the input: 1/scale
}

// open lists the tensors of model.safetensors or, without it, of the files that an index names.
func (s *hfSource) open(dir string) error {
	const one, index = "model.safetensors", "model.safetensors.index.json"
	files := []string{one}
	if _, err := os.Stat(filepath.Join(dir, one)); errors.Is(err, fs.ErrNotExist) {
		text, err := os.ReadFile(filepath.Join(dir, index))
		if errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("it has neither %s nor %s", one, index)
		}
		if err != nil {
			return atomicfile.Explain("read", filepath.Join(dir, index), err)
		}
		var x struct {
			Map map[string]string `json:"weight_map"`
		}
		if err := json.Unmarshal(text, &x); err != nil {
			return fmt.Errorf("%s is not readable: %w", index, err)
		}
		files = slices.Compact(slices.Sorted(maps.Values(x.Map)))
	}
	for _, name := range files {
		if name == "" || name != filepath.Base(name) || strings.ContainsAny(name, `/\`) {
			return fmt.Errorf("%s names %q, which is not a file in its folder", index, name)
		}
		f, err := safetensors.Open(filepath.Join(dir, name))
		if err != nil {
			return err
		}
		s.files = append(s.files, f)
		for _, in := range f.Tensors() {
			if s.where[in.Name] != nil {
				return fmt.Errorf("two of its files have a tensor %q", in.Name)
			}
			s.where[in.Name] = f
		}
	}
	return nil
}

func (s *hfSource) close() {
	for _, f := range s.files {
		f.Close()
	}
}

func (s *hfSource) info(name string) (safetensors.Info, bool) {
	f := s.where[name]
	if f == nil {
		return safetensors.Info{}, false
	}
	return f.Info(name)
}

func (s *hfSource) size() (tensors int, bytes int64) {
	for name := range s.where {
		in, _ := s.info(name)
		bytes += in.Bytes()
	}
	return len(s.where), bytes
}

func (s *hfSource) check(name string, shape ...int) error {
	there := hfName(name)
	in, ok := s.info(there)
	if !ok {
		return fmt.Errorf("it has no tensor %q", there)
	}
	if in.DType == safetensors.U8 && len(shape) == 2 {
		shape = []int{shape[0] / 4, shape[1]}
	}
	if !slices.Equal(in.Shape, shape) {
		return fmt.Errorf("%q is %v, the model needs %v", there, in.Shape, shape)
	}
	return nil
}

func (s *hfSource) read(there string) ([]float32, error) {
	f := s.where[there]
	if f == nil {
		return nil, fmt.Errorf("it has no tensor %q", there)
	}
	s.used[there] = true
	return f.ReadF32(there)
}

func (s *hfSource) floats(name string, _ ...int) ([]float32, error) { return s.read(hfName(name)) }

func (s *hfSource) frozen() bool { return s.packed && !s.thaw }

func (s *hfSource) half(string) ([]uint16, bool, error) { return nil, false, nil }

func (s *hfSource) linear(name string, out, in int) (v values, err error) {
	there := hfName(name + ".weight")
	if !s.packed {
		v.floats, err = s.read(there)
		return v, err
	}
	var codes []int8
	s.used[there] = true
	if err := s.where[there].View(there, func(t safetensors.Tensor) error {
		if t.DType != safetensors.U8 || out%4 != 0 || len(t.Data) != out/4*in {
			return fmt.Errorf("%q is %s of %v; packed weights are U8 of [%d %d]", there, t.DType, t.Shape, out/4, in)
		}
		quarter := len(t.Data)
		codes = make([]int8, out*in)
		for i := range codes {
			c := t.Data[i%quarter] >> (2 * (i / quarter)) & 3
			if c == 3 {
				return fmt.Errorf("%q has a byte %#x at %d that is no ternary codes", there, t.Data[i%quarter], i%quarter)
			}
			codes[i] = int8(c) - 1
		}
		return nil
	}); err != nil {
		return v, err
	}
	scale, err := s.read(there + "_scale")
	if err != nil {
		return v, err
	}
	if len(scale) != 1 {
		return v, fmt.Errorf("%q has %d scales, not one", there, len(scale))
	}
	if s.divide {
		scale[0] = 1 / scale[0]
	}
	if s.thaw {
		return values{floats: dequantize(codes, scale)}, nil
	}
	return values{codes: codes, scales: scale}, nil
}

// Open reads a model in any form that this package reads: a GGUF file, a packed file, or a folder of Hugging Face.
// With as, all weights become floats to train on as it says; see ReadGGUF, ReadHF and ReadPacked for what they are
// without.
func Open(dev device.Device, path string, as Weights) (*Model, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, atomicfile.Explain("read", path, err)
	}
	if st.IsDir() {
		return ReadHF(dev, path, as)
	}
	if !st.Mode().IsRegular() {
		return nil, fmt.Errorf("llm: %s is not a file", path)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, atomicfile.Explain("read", path, err)
	}
	defer f.Close()
	var head [9]byte
	n, _ := io.ReadFull(f, head[:])
	switch {
	case n > 4 && string(head[:4]) == "GGUF":
		return ReadGGUF(dev, path, as)
	case n == len(head) && head[8] == '{': // of safetensors
		return ReadPacked(dev, path, as)
	}
	return nil, fmt.Errorf("llm: %s is no model: name a packed file, a GGUF file, or the folder of a run or of Hugging Face", path)
}
