package llm

import (
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"

	"setun/device"
	"setun/format/gguf"
)

// ggufNames are the tensors of llama.cpp, by ours without "blocks.N.".
var ggufNames = map[string]string{
	"embed.weight": "token_embd.weight", "norm.weight": "output_norm.weight", "head.weight": "output.weight",
	"attn_norm.weight": "attn_norm.weight", "mlp_norm.weight": "ffn_norm.weight",
	"attn.q.weight": "attn_q.weight", "attn.k.weight": "attn_k.weight", "attn.v.weight": "attn_v.weight",
	"attn.out.weight": "attn_output.weight", "attn.q_norm.weight": "attn_q_norm.weight",
	"attn.k_norm.weight": "attn_k_norm.weight", "attn.sub_norm.weight": "attn_sub_norm.weight",
	"mlp.sub_norm.weight": "ffn_sub_norm.weight", "mlp.gate.weight": "ffn_gate.weight", "mlp.up.weight": "ffn_up.weight",
	"mlp.down.weight": "ffn_down.weight",
}

func ggufName(name string) string { return rename(name, ggufNames, "blk.") }

// rename looks a parameter up in the names of another program, which counts blocks behind prefix.
func rename(name string, table map[string]string, prefix string) string {
	if rest, ok := strings.CutPrefix(name, "blocks."); ok {
		n, rest, _ := strings.Cut(rest, ".")
		return prefix + n + "." + table[rest]
	}
	return table[name]
}

// ggufArch is the architecture of llama.cpp that computes the graph of c, or why there is none.
func (c Config) ggufArch(typ gguf.Type) (string, error) {
	switch {
	case c.Quant.SubNorm:
		return "", errors.New("llm: GGUF has no norm before every layer (quant.sub_norm); train with -arch bitnet instead")
	case c.MLP == "relu2":
		return "", errors.New("llm: no architecture of GGUF has a ReLU^2 block of two matrices; train with -arch qwen3 or bitnet")
	case c.MLP == "relu2-glu" && c.SubNorm && !c.QKNorm && c.Tied && typ == gguf.I2_S:
		return "bitnet-b1.58", nil
	case c.MLP == "relu2-glu":
		return "", errors.New("llm: ReLU^2 runs in bitnet.cpp only, with sub-norms and type I2_S; for llama.cpp train with -arch " +
			"qwen3 or bitnet")
	case typ == gguf.I2_S:
		return "", errors.New("llm: type I2_S is bitnet.cpp's; for llama.cpp use TQ2_0 or TQ1_0")
	case c.QKNorm && c.SubNorm:
		return "", errors.New("llm: no architecture of GGUF has both QK-norm and sub-norms; train with -arch qwen3 or bitnet")
	case c.QKNorm:
		return "qwen3", nil
	case c.SubNorm && !c.Tied:
		return "", errors.New("llm: llama.cpp's bitnet has a tied head; train with tied, or with -arch qwen3")
	case c.SubNorm:
		return "bitnet", nil
	}
	return "llama", nil
}

// fileTypes are the values of general.file_type, what most tensors are.
var fileTypes = map[gguf.Type]uint32{gguf.F32: 0, gguf.F16: 1, gguf.Q8_0: 7, gguf.BF16: 32, gguf.TQ1_0: 36, gguf.TQ2_0: 37}

// WriteGGUF writes the model as it is now for llama.cpp, the layers of the blocks as typ, with a vocabulary of bytes.
// Ternary types carry codes as they are, with exact scales beside them; column scales go into the norms before. The
// embedding is F32 if typ is, else F16. What the format or llama.cpp cannot express is an error that says what comes near.
func (m *Model) WriteGGUF(w io.Writer, typ gguf.Type) error {
	c := m.cfg
	arch, err := c.ggufArch(typ)
	if err != nil {
		return err
	}
	if c.Vocab != 256 {
		return fmt.Errorf("llm: a vocabulary of %d; the export writes vocabularies of 256 bytes", c.Vocab)
	}
	packed := typ == gguf.TQ1_0 || typ == gguf.TQ2_0 || typ == gguf.I2_S
	if packed && c.Weights != TernaryWeights {
		return fmt.Errorf("llm: %s weights have no codes for type %s; use F16", c.Weights, typ)
	}
	if packed && c.Quant.PerRow {
		return fmt.Errorf("llm: type %s has one scale for a matrix, not one per row; use F16", typ)
	}
	var gains map[string][]float32
	if packed {
		if gains, err = m.foldedGains(); err != nil {
			return err
		}
	}
	hidden := c.Hidden // channels of zeros fill it up to whole blocks
	if typ == gguf.TQ1_0 || typ == gguf.TQ2_0 {
		if hidden = (c.Hidden + 255) / 256 * 256; c.Width%256 != 0 || c.SubNorm && hidden != c.Hidden {
			return fmt.Errorf("llm: type %s needs a width, and with sub-norms a hidden size, of multiples of 256, not %d and %d; "+
				"use F16, or train with such sizes", typ, c.Width, c.Hidden)
		}
	}
	var tensors []gguf.Tensor
	float := func(name string, typ gguf.Type, dims []int, x []float32) error {
		t, err := gguf.Encode(name, typ, dims, x)
		tensors = append(tensors, t)
		return err
	}
	wide := gguf.F16
	if typ == gguf.F32 {
		wide = gguf.F32
	}
	inside := map[string]bool{}
	for l := range m.weights() {
		inside[l.name+".weight"], inside[l.name+".scale"], inside[l.name+".columns"] = true, true, true
		name, dims := ggufName(l.name+".weight"), []int{l.in, l.out}
		turn := arch == "llama" && (strings.HasSuffix(l.name, "attn.q") || strings.HasSuffix(l.name, "attn.k"))
		if packed {
			p, err := l.ternary.Pack()
			if err != nil {
				return err
			}
			codes, err := p.Unpack()
			if err != nil {
				return err
			}
			if turn {
				codes = interleave(codes, l.in, c.Width/c.Heads)
			}
			for i, d := range dims {
				if d == c.Hidden && hidden != d && strings.Contains(l.name, ".mlp.") {
					dims[i] = hidden
				}
			}
			codes = zeroPad(codes, l.in, dims[0], dims[1])
			scale := float32(1)
			if typ == gguf.I2_S {
				scale = p.Scales[0]
			}
			t, err := gguf.EncodeCodes(name, typ, dims, codes, scale)
			if err != nil {
				return err
			}
			tensors = append(tensors, t)
			if typ != gguf.I2_S {
				if err := float(strings.TrimSuffix(name, "weight")+"scale", gguf.F32, []int{1}, p.Scales); err != nil {
					return err
				}
			}
			continue
		}
		x, err := l.floats()
		if err != nil {
			return err
		}
		if turn {
			x = interleave(x, l.in, c.Width/c.Heads)
		}
		if err := float(name, typ, dims, x); err != nil {
			return err
		}
	}
	for name, v := range m.Params() {
		if inside[name] {
			continue
		}
		dims, as := slices.Clone(v.T.Shape()), gguf.F32
		slices.Reverse(dims)
		if len(dims) > 1 {
			as = wide
		}
		x, ok := gains[name]
		if !ok {
			x = v.T.Floats()
		}
		if err := float(ggufName(name), as, dims, x); err != nil {
			return err
		}
	}
	if err := m.Device().Sync(); err != nil {
		return err
	}
	u := func(n int) uint32 { return uint32(n) }
	meta := []gguf.KV{{Key: "general.architecture", Value: arch}, {Key: "general.name", Value: "setun"},
		{Key: "general.quantization_version", Value: u(2)}, {Key: arch + ".context_length", Value: u(c.Context)},
		{Key: arch + ".embedding_length", Value: u(c.Width)}, {Key: arch + ".block_count", Value: u(c.Depth)},
		{Key: arch + ".feed_forward_length", Value: u(hidden)}, {Key: arch + ".attention.head_count", Value: u(c.Heads)},
		{Key: arch + ".attention.head_count_kv", Value: u(c.KVHeads)},
		{Key: arch + ".attention.layer_norm_rms_epsilon", Value: c.Eps}, {Key: arch + ".rope.freq_base", Value: float32(c.Theta)},
		{Key: arch + ".rope.dimension_count", Value: u(c.Width / c.Heads)}, {Key: arch + ".vocab_size", Value: u(c.Vocab)}}
	if arch == "qwen3" {
		meta = append(meta, gguf.KV{Key: "qwen3.attention.key_length", Value: u(c.Width / c.Heads)},
			gguf.KV{Key: "qwen3.attention.value_length", Value: u(c.Width / c.Heads)})
	}
	if t, ok := fileTypes[typ]; ok {
		meta = append(meta, gguf.KV{Key: "general.file_type", Value: t})
	}
	return gguf.Write(w, append(meta, byteVocabulary()...), tensors)
}

// byteVocabulary is a SentencePiece vocabulary whose tokens are the bytes, in order.
func byteVocabulary() []gguf.KV {
	tokens, scores, types := make([]string, 256), make([]float32, 256), make([]int32, 256)
	for i := range tokens {
		tokens[i], types[i] = fmt.Sprintf("<0x%02X>", i), 6
	}
	const t = "tokenizer.ggml."
	return []gguf.KV{{Key: t + "model", Value: "llama"}, {Key: t + "tokens", Value: tokens}, {Key: t + "scores", Value: scores},
		{Key: t + "token_type", Value: types}, {Key: t + "bos_token_id", Value: uint32(0)},
		{Key: t + "eos_token_id", Value: uint32(0)}, {Key: t + "unknown_token_id", Value: uint32(0)},
		{Key: t + "add_bos_token", Value: false}, {Key: t + "add_space_prefix", Value: false}}
}

// zeroPad gives codes (any, in) as (rows, cols), with zeros for what is new.
func zeroPad(codes []int8, in, cols, rows int) []int8 {
	if in == cols && len(codes) == cols*rows {
		return codes
	}
	out := make([]int8, cols*rows)
	for i := range len(codes) / in {
		copy(out[i*cols:], codes[i*in:][:in])
	}
	return out
}

// interleave reorders the rows of each head of w (out, in) for rotary positions that turn neighbours, as llama.cpp's
// "llama" does: rows i and i+dim/2 become 2i and 2i+1.
func interleave[T any](w []T, in, dim int) []T {
	out := make([]T, 0, len(w))
	for head := 0; head < len(w); head += dim * in {
		for i := range dim / 2 {
			out = append(out, w[head+i*in:][:in]...)
			out = append(out, w[head+(i+dim/2)*in:][:in]...)
		}
	}
	return out
}

// separate undoes interleave.
func separate[T any](w []T, in, dim int) []T {
	out := make([]T, 0, len(w))
	for head := 0; head < len(w); head += dim * in {
		for i := range dim {
			out = append(out, w[head+(2*i%dim+2*i/dim)*in:][:in]...)
		}
	}
	return out
}

// ReadGGUF reads a model of llama.cpp or bitnet.cpp: architectures bitnet, llama, qwen3 and bitnet-b1.58, tensors of the
// types of package gguf. Ternary tensors give frozen layers; with as, other weights become what it says, by default
// fp32, which can be trained on. The vocabulary is not read: tokens are its numbers.
func ReadGGUF(dev device.Device, path string, as Weights) (*Model, error) {
	f, err := gguf.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	m, err := readGGUF(dev, f, as)
	return m, named(path, err)
}

func readGGUF(dev device.Device, f *gguf.File, as Weights) (*Model, error) {
	arch, err := f.Text("general.architecture", "")
	if err != nil {
		return nil, err
	}
	if arch == "bitnet-25" {
		arch = "bitnet-b1.58"
	}
	c := Config{Eps: 1e-5}
	if err := c.SetArch(arch); err != nil {
		return nil, fmt.Errorf("its architecture %q is not one that this program computes: %s", arch, strings.Join(Archs, ", "))
	}
	arch, _ = f.Text("general.architecture", "")
	key := func(name string) string { return arch + "." + name }
	for _, k := range []struct {
		key string
		to  *int
		def int
	}{{"context_length", &c.Context, 0}, {"embedding_length", &c.Width, 0}, {"block_count", &c.Depth, 0},
		{"feed_forward_length", &c.Hidden, 0}, {"attention.head_count", &c.Heads, 0},
		{"attention.head_count_kv", &c.KVHeads, -1}} {
		if *k.to, err = f.Int(key(k.key), k.def); err != nil {
			return nil, err
		}
	}
	if c.KVHeads == -1 {
		c.KVHeads = c.Heads
	}
	eps, err := f.Float(key("attention.layer_norm_rms_epsilon"), 1e-5)
	if err != nil {
		return nil, err
	}
	c.Eps = float32(eps)
	if c.Theta, err = f.Float(key("rope.freq_base"), 10000); err != nil {
		return nil, err
	}
	if c.Heads < 1 || c.Width < 1 {
		return nil, fmt.Errorf("it has %d heads and a width of %d", c.Heads, c.Width)
	}
	dim := c.Width / c.Heads
	for _, k := range []string{"rope.dimension_count", "attention.key_length", "attention.value_length"} {
		n, err := f.Int(key(k), dim)
		if err != nil {
			return nil, err
		}
		if n != dim {
			return nil, fmt.Errorf("%s is %d; this program needs heads of width/heads = %d, rotated whole", key(k), n, dim)
		}
	}
	scaling, err := f.Text(key("rope.scaling.type"), "none")
	if err != nil {
		return nil, err
	}
	factor, err := f.Float(key("rope.scaling.factor"), 1)
	if err != nil {
		return nil, err
	}
	if scaling != "none" && !(scaling == "linear" && factor == 1) {
		return nil, fmt.Errorf("it scales rotary positions (%s, %g), which this program does not", scaling, factor)
	}
	embed, ok := f.Info("token_embd.weight")
	if !ok || len(embed.Dims) != 2 {
		return nil, errors.New("it has no embedding (token_embd.weight)")
	}
	c.Vocab = embed.Dims[1]
	_, untied := f.Info("output.weight")
	c.Tied = !untied

	src := &ggufSource{f: f, dim: dim, turned: arch == "llama", used: map[string]bool{}}
	q, ok := f.Info("blk.0.attn_q.weight")
	if !ok {
		return nil, errors.New("it has no blk.0.attn_q.weight")
	}
	codes := q.Type == gguf.TQ1_0 || q.Type == gguf.TQ2_0 || q.Type == gguf.I2_S
	c.Weights = as
	switch {
	case as == "" && codes:
		c.Weights = TernaryWeights
	case as == "":
		c.Weights = FP32Weights
	}
	src.codes = codes && as == ""
	if src.codes {
		if c.Quant.PerRow, err = src.perRow(); err != nil {
			return nil, err
		}
		src.rows = c.Quant.PerRow
	}
	m, err := load(dev, c, src)
	if err != nil {
		return nil, err
	}
	for _, in := range f.Tensors() {
		if !src.used[in.Name] {
			return nil, fmt.Errorf("it has a tensor %q that this program does not know: its output would be wrong", in.Name)
		}
	}
	return m, nil
}

type ggufSource struct {
	f      *gguf.File
	dim    int
	turned bool // rows of q and k are interleaved
	codes  bool // layers are frozen
	rows   bool // with a scale per row
	used   map[string]bool
}

func (s *ggufSource) size() (tensors int, bytes int64) {
	all := s.f.Tensors()
	for _, in := range all {
		if n, err := in.Type.Size(in.Dims); err == nil {
			bytes += n
		}
	}
	return len(all), bytes
}

func (s *ggufSource) check(name string, shape ...int) error {
	there := ggufName(name)
	in, ok := s.f.Info(there)
	if !ok {
		return fmt.Errorf("it has no tensor %q", there)
	}
	dims := slices.Clone(in.Dims)
	slices.Reverse(dims)
	if !slices.Equal(dims, shape) {
		return fmt.Errorf("%q is %v, the model needs %v", there, dims, shape)
	}
	return nil
}

func (s *ggufSource) view(there string, use func(t gguf.Tensor) error) error {
	s.used[there] = true
	return s.f.View(there, use)
}

func (s *ggufSource) read(there string) (x []float32, err error) {
	err = s.view(there, func(t gguf.Tensor) error {
		x, err = gguf.Floats(t)
		return err
	})
	return x, err
}

func (s *ggufSource) floats(name string, _ ...int) ([]float32, error) { return s.read(ggufName(name)) }

func (s *ggufSource) frozen() bool { return s.codes }

func (s *ggufSource) half(name string) (x []uint16, ok bool, err error) {
	if in, ok := s.f.Info(ggufName(name)); !ok || in.Type != gguf.F16 {
		return nil, false, nil
	}
	err = s.view(ggufName(name), func(t gguf.Tensor) error {
		x = halves(t.Data)
		return nil
	})
	return x, err == nil, err
}

// scale is what a product with the weight is multiplied by.
func (s *ggufSource) scale(weight string) (float32, error) {
	name := strings.TrimSuffix(weight, "weight") + "scale"
	if _, ok := s.f.Info(name); !ok {
		return 1, nil
	}
	x, err := s.read(name)
	if err == nil && len(x) != 1 {
		err = fmt.Errorf("%q has %d numbers, not one", name, len(x))
	}
	if err != nil {
		return 0, err
	}
	return x[0], nil
}

func (s *ggufSource) linear(name string, out, in int) (v values, err error) {
	there := ggufName(name + ".weight")
	scale, err := s.scale(there)
	if err != nil {
		return v, err
	}
	turned := s.turned && (strings.HasSuffix(name, "attn.q") || strings.HasSuffix(name, "attn.k"))
	if !s.codes {
		x, err := s.read(there)
		if err != nil {
			return v, err
		}
		for i := range x {
			x[i] *= scale
		}
		if turned {
			x = separate(x, in, s.dim)
		}
		return values{floats: x}, nil
	}
	var codes []int8
	var scales []float32
	err = s.view(there, func(t gguf.Tensor) error {
		codes, scales, err = gguf.Codes(t)
		return err
	})
	if err != nil {
		return v, err
	}
	rows, ok := rowScales(scales, out)
	if !ok {
		return v, fmt.Errorf("the blocks of a row of %q differ in scale; read the file with weights fp32 or ternary", there)
	}
	for i := range rows {
		rows[i] *= scale
	}
	if turned {
		codes, rows = separate(codes, in, s.dim), separate(rows, 1, s.dim)
	}
	if !s.rows {
		rows = rows[:1]
	}
	return values{codes: codes, scales: rows}, nil
}

// perRow reports whether any ternary tensor has rows of different scales.
func (s *ggufSource) perRow() (bool, error) {
	for _, in := range s.f.Tensors() {
		if in.Type != gguf.TQ1_0 && in.Type != gguf.TQ2_0 || len(in.Dims) != 2 {
			continue
		}
		var scales []float32
		err := s.f.View(in.Name, func(t gguf.Tensor) (err error) {
			scales, err = gguf.Scales(t)
			return err
		})
		if err != nil {
			return false, err
		}
		if slices.ContainsFunc(scales, func(x float32) bool { return x != scales[0] }) {
			return true, nil
		}
	}
	return false, nil
}

// rowScales gives the scale of each row from those of its blocks; ok is false if they differ.
func rowScales(scales []float32, rows int) (_ []float32, ok bool) {
	if len(scales) == 1 {
		return slices.Repeat(scales, rows), true
	}
	each := len(scales) / max(rows, 1)
	out := make([]float32, rows)
	for i := range out {
		row := scales[i*each:][:each]
		out[i] = row[0]
		for _, s := range row {
			if s != row[0] || math.IsNaN(float64(s)) {
				return nil, false
			}
		}
	}
	return out, true
}
