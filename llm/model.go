package llm

import (
	"fmt"
	"iter"
	"math"
	"slices"
	"strconv"

	"setun/autograd"
	"setun/data"
	"setun/device"
	"setun/nn"
	"setun/tensor"
	"setun/ternary"
)

// Model is a decoder-only transformer. For tokens ids (B, T):
//
//	x = Embed[ids]
//	for each block:  x += Attn(norm(x));  x += MLP(norm(x))
//	logits = norm(x) Headᵀ                                      (B, T, V)
//
// Attention is causal with rotary positions and grouped queries; the feed-forward block is SwiGLU or ReLU^2.
type Model struct {
	Embed  *nn.Embedding
	Blocks []*Block
	Norm   *nn.RMSNorm
	Head   *nn.Linear // nil: tied to Embed

	cfg Config
}

// Block is one layer of the transformer.
type Block struct {
	AttnNorm *nn.RMSNorm
	Attn     *nn.Attention
	MLPNorm  *nn.RMSNorm
	MLP      *nn.MLP

	dropout float32
}

// New builds a model with fresh weights:
//
//	embedding              normal, 0.02 tied (it is the head), else 1
//	attention q k v, mlp gate up    normal, 1/sqrt(in)
//	attention out, mlp down         normal, 1/sqrt(in) / sqrt(2 Depth): the residual stream starts close to the embedding
//	norm gains             1
func New(mk *tensor.Maker, c Config) (*Model, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	return build(mk, c, maker{
		table: func(_ string, rows, cols int, std float32) (*autograd.Value, error) {
			return autograd.NewParam(mk.Normal(std, rows, cols)), nil
		},
		linear: func(_ string, in, out int, scale float32) (nn.Layer, error) {
			return linear(mk, mk.Normal(nn.InvSqrt(in)*scale, out, in), c), nil
		},
	})
}

// maker makes the large weights of a model, by their names.
type maker struct {
	table  func(name string, rows, cols int, std float32) (*autograd.Value, error) // embedding and head
	linear func(name string, in, out int, scale float32) (nn.Layer, error)         // layers of the blocks
}

// linear makes a layer of the blocks from a float weight w (out, in).
func linear(mk *tensor.Maker, w *tensor.Tensor, c Config) nn.Layer {
	if c.Weights == FP32Weights {
		return &nn.Linear{Weight: autograd.NewParam(w), BF16: c.bf16()}
	}
	return ternary.FromWeight(mk, w, false, c.quant())
}

// build makes a model with the weights of a maker.
func build(mk *tensor.Maker, c Config, make maker) (*Model, error) {
	embedStd, residual := float32(1), float32(1/math.Sqrt(2*float64(c.Depth)))
	if c.Tied {
		embedStd = 0.02
	}
	norm := func(on bool, width int) *nn.RMSNorm {
		if !on {
			return nil
		}
		return nn.NewRMSNorm(mk, width, c.Eps)
	}
	dim := c.Width / c.Heads
	embed, err := make.table("embed.weight", c.Vocab, c.Width, embedStd)
	if err != nil {
		return nil, err
	}
	m := &Model{Embed: &nn.Embedding{Weight: embed}, cfg: c}
	table := tensor.RoPETable(mk.Device, c.Context, dim, c.Theta)
	for i := range c.Depth {
		b := &Block{AttnNorm: norm(true, c.Width), MLPNorm: norm(true, c.Width), dropout: c.Dropout}
		b.Attn = &nn.Attention{Heads: c.Heads, KVHeads: c.KVHeads, Dim: dim, Causal: true, RoPE: table,
			QNorm: norm(c.QKNorm, dim), KNorm: norm(c.QKNorm, dim), SubNorm: norm(c.SubNorm, c.Width), BF16: c.bf16()}
		b.MLP = &nn.MLP{SubNorm: norm(c.SubNorm, c.Hidden), Act: device.SiLU}
		if c.MLP != "swiglu" {
			b.MLP.Act = device.ReLU2
		}
		for _, l := range []struct {
			layer   *nn.Layer
			name    string
			in, out int
			scale   float32
		}{{&b.Attn.Q, "attn.q", c.Width, c.Width, 1}, {&b.Attn.K, "attn.k", c.Width, c.KVHeads * dim, 1},
			{&b.Attn.V, "attn.v", c.Width, c.KVHeads * dim, 1}, {&b.Attn.Out, "attn.out", c.Width, c.Width, residual},
			{&b.MLP.Up, "mlp.up", c.Width, c.Hidden, 1}, {&b.MLP.Down, "mlp.down", c.Hidden, c.Width, residual},
			{&b.MLP.Gate, "mlp.gate", c.Width, c.Hidden, 1}} {
			if l.name == "mlp.gate" && c.MLP == "relu2" {
				continue
			}
			if *l.layer, err = make.linear(fmt.Sprintf("blocks.%d.%s", i, l.name), l.in, l.out, l.scale); err != nil {
				return nil, err
			}
		}
		m.Blocks = append(m.Blocks, b)
	}
	m.Norm = norm(true, c.Width)
	if !c.Tied {
		head, err := make.table("head.weight", c.Vocab, c.Width, nn.InvSqrt(c.Width))
		if err != nil {
			return nil, err
		}
		m.Head = &nn.Linear{Weight: head}
	}
	if err := mk.Device.Sync(); err != nil { // memory ran out
		return nil, err
	}
	return m, nil
}

// Config is what the model was built from.
func (m *Model) Config() Config { return m.cfg }

// Params yields all parameters: "embed.weight", "blocks.0.attn.q.weight", ....
func (m *Model) Params() iter.Seq2[string, *autograd.Value] { return nn.Fields(m) }

// Params yields the block's parameters.
func (b *Block) Params() iter.Seq2[string, *autograd.Value] { return nn.Fields(b) }

// Forward maps tokens ids (B, T) to logits (B, T, V).
func (m *Model) Forward(t *autograd.Tape, ids *autograd.Value) *autograd.Value {
	x := m.Embed.Forward(t, ids)
	for _, b := range m.Blocks {
		if m.cfg.Checkpoint || !t.Grad { // without gradients, it frees what is inside the block
			x = t.Checkpoint(b.Forward, x)
		} else {
			x = b.Forward(t, x)
		}
	}
	return m.logits(t, x)
}

// Forward maps (B, T, C) to (B, T, C).
func (b *Block) Forward(t *autograd.Tape, x *autograd.Value) *autograd.Value {
	x = t.Add(x, t.Dropout(b.Attn.Forward(t, b.AttnNorm.Forward(t, x)), b.dropout))
	return t.Add(x, t.Dropout(b.MLP.Forward(t, b.MLPNorm.Forward(t, x)), b.dropout))
}

func (m *Model) logits(t *autograd.Tape, x *autograd.Value) *autograd.Value {
	x = m.Norm.Forward(t, x)
	head := m.Embed.Weight
	if m.Head != nil {
		head = m.Head.Weight
	}
	if t.Grad && m.cfg.bf16() { // evaluation and generation stay exact
		return t.LinearBF16(x, head, nil)
	}
	return t.Linear(x, head, nil)
}

// Decode maps the next tokens ids (B, T) to logits (B, T, V), with one cache a block that holds the tokens before.
func (m *Model) Decode(t *autograd.Tape, ids *autograd.Value, cache []*nn.KVCache) *autograd.Value {
	x := m.Embed.Forward(t, ids)
	for i, b := range m.Blocks {
		x = t.Add(x, b.Attn.Decode(t, b.AttnNorm.Forward(t, x), cache[i]))
		x = t.Add(x, b.MLP.Forward(t, b.MLPNorm.Forward(t, x)))
	}
	return m.logits(t, x)
}

// NewCache makes the caches for b sequences of up to the model's context.
func (m *Model) NewCache(b int) []*nn.KVCache {
	cache := make([]*nn.KVCache, len(m.Blocks))
	for i, blk := range m.Blocks {
		cache[i] = blk.Attn.NewCache(m.Device(), b, m.cfg.Context)
	}
	return cache
}

// Loss is the mean cross-entropy of the next token in nats: what training minimises.
func (m *Model) Loss(t *autograd.Tape, b data.Batch) *autograd.Value {
	ids, targets := m.inputs(t, b)
	return t.CrossEntropy(m.Forward(t, ids), targets)
}

// TokenLoss is the cross-entropy of every token in nats (B*T).
func (m *Model) TokenLoss(t *autograd.Tape, b data.Batch) *autograd.Value {
	ids, targets := m.inputs(t, b)
	return t.TokenLoss(m.Forward(t, ids), targets)
}

func (m *Model) inputs(t *autograd.Tape, b data.Batch) (ids, targets *autograd.Value) {
	rows := b.Shape[0]
	return t.Ints(m.Device(), b.Tokens, rows, len(b.Tokens)/rows), t.Ints(m.Device(), b.Targets, rows, len(b.Targets)/rows)
}

// Device is where the model lives.
func (m *Model) Device() device.Device { return m.Embed.Weight.Device() }

// A weight is a linear layer of the blocks: ternary, or else dense.
type weight struct {
	name    string // "blocks.0.attn.q"
	out, in int
	ternary *ternary.Linear
	dense   *nn.Linear
}

// weights yields the linear layers of the blocks.
func (m *Model) weights() iter.Seq[weight] {
	return func(yield func(weight) bool) {
		c := m.cfg
		kv := c.KVHeads * (c.Width / c.Heads)
		for i, b := range m.Blocks {
			for _, l := range []struct {
				name    string
				layer   nn.Layer
				out, in int
			}{{"attn.q", b.Attn.Q, c.Width, c.Width}, {"attn.k", b.Attn.K, kv, c.Width}, {"attn.v", b.Attn.V, kv, c.Width},
				{"attn.out", b.Attn.Out, c.Width, c.Width}, {"mlp.gate", b.MLP.Gate, c.Hidden, c.Width},
				{"mlp.up", b.MLP.Up, c.Hidden, c.Width}, {"mlp.down", b.MLP.Down, c.Width, c.Hidden}} {
				w := weight{name: "blocks." + strconv.Itoa(i) + "." + l.name, out: l.out, in: l.in}
				w.ternary, _ = l.layer.(*ternary.Linear)
				w.dense, _ = l.layer.(*nn.Linear)
				if (w.ternary != nil || w.dense != nil) && !yield(w) {
					return
				}
			}
		}
	}
}

// floats are the values that the layer multiplies with, row-major.
func (w weight) floats() ([]float32, error) {
	if w.dense != nil {
		return w.dense.Weight.T.Floats(), nil
	}
	p, err := w.ternary.Pack()
	if err != nil {
		return nil, err
	}
	return p.Dequantize()
}

// Linears yields the quantized layers with their names; none for fp32 weights.
func (m *Model) Linears() iter.Seq2[string, *ternary.Linear] {
	return func(yield func(string, *ternary.Linear) bool) {
		for w := range m.weights() {
			if w.ternary != nil && !yield(w.name, w.ternary) {
				return
			}
		}
	}
}

// SetLambda sets the share of quantization in every layer, see ternary.Linear.
func (m *Model) SetLambda(lambda float32) {
	for _, l := range m.Linears() {
		l.SetLambda(lambda)
	}
}

// A reader is what reads one input: ternary layers that share it, and the norm that it comes from, if there is one.
type reader struct {
	layers []*ternary.Linear
	norm   *nn.RMSNorm
	name   string // of the norm in the block
}

// readers are those of a block.
func (b *Block) readers() []reader {
	of := func(norm *nn.RMSNorm, name string, layers ...nn.Layer) reader {
		r := reader{norm: norm, name: name}
		for _, l := range layers {
			if q, ok := l.(*ternary.Linear); ok {
				r.layers = append(r.layers, q)
			}
		}
		return r
	}
	a, f := b.Attn, b.MLP
	return []reader{of(b.AttnNorm, "attn_norm", a.Q, a.K, a.V), of(a.SubNorm, "attn.sub_norm", a.Out),
		of(b.MLPNorm, "mlp_norm", f.Gate, f.Up), of(f.SubNorm, "mlp.sub_norm", f.Down)}
}

// columns are the column scales that all layers of r share, nil for none; ok is false if they do not share them.
func (r reader) columns() (s []float32, ok bool) {
	for i, l := range r.layers {
		var t []float32
		if l.Columns != nil {
			t = l.Columns.T.Floats()
		}
		if i == 0 {
			s = t
		}
		if !slices.Equal(s, t) {
			return nil, false
		}
	}
	return s, true
}

// Regroup clusters the columns of the quantized layers, see ternary.Regroup: once for the layers that share an input.
func (m *Model) Regroup() {
	for _, b := range m.Blocks {
		for _, r := range b.readers() {
			ternary.Regroup(r.layers...)
		}
	}
}

// foldedGains are the gains of norms, by the names of Params, times the column scales of the layers that read them: for
// formats without column scales. It is an error if a scaled input comes from no norm.
func (m *Model) foldedGains() (map[string][]float32, error) {
	gains := map[string][]float32{}
	for i, b := range m.Blocks {
		for _, r := range b.readers() {
			s, ok := r.columns()
			if ok && s == nil {
				continue
			}
			if !ok || r.norm == nil {
				return nil, fmt.Errorf("llm: column clusters scale an input of block %d that comes from no norm, and this format "+
					"has no place for the scales; write floats or setun's packed file, or train with -arch bitnet", i)
			}
			gain := r.norm.Weight.T.Floats()
			for j := range gain {
				gain[j] *= s[j]
			}
			gains[fmt.Sprintf("blocks.%d.%s.weight", i, r.name)] = gain
		}
	}
	return gains, nil
}

// Freeze packs every quantized layer and gives up the latent weights: the state for generation.
func (m *Model) Freeze() (map[string]*ternary.Packed, error) {
	out := map[string]*ternary.Packed{}
	for name, l := range m.Linears() {
		p, err := l.Freeze()
		if err != nil {
			return nil, err
		}
		out[name] = p
	}
	return out, nil
}
