package llm

import (
	"fmt"

	"setun/autograd"
	"setun/device"
	"setun/nn"
	"setun/tensor"
	"setun/ternary"
)

// Decoder runs a model token by token over key-value caches. Frozen ternary models take a path of their own: products
// with packed weights, one quantization of an input that several layers read, and activations that are there from the
// start. Other models go over a tape.
type Decoder struct {
	m      *Model
	b, max int
	len    int

	k, v []*tensor.Tensor // a block each: caches (B, KV, max, D)
	head *tensor.Tensor   // (V, C)
	own  bool             // the head is a copy
	one  *activations     // of a step of one token
	many *activations     // of the latest piece of a prompt, nil before

	tape  *autograd.Tape // of models that are not frozen
	cache []*nn.KVCache
}

// DecoderConfig says what a Decoder has room for.
type DecoderConfig struct {
	Sequences int // that run side by side; 0: 1
	Context   int // tokens of each; 0: the model's context
	// Float32 keeps keys, values and the head in float32. Frozen models read them in half precision otherwise, which
	// halves what a step moves.
	Float32 bool
	// Int8 keeps keys and values in int8, with a scale for each head of each token: half of half precision, for long
	// contexts of frozen models.
	Int8 bool
}

// promptTokens is the most tokens of all sequences that go through the layers together.
const promptTokens = 512

// NewDecoder takes the memory for the caches of a model. Its weights must not change from then on.
func NewDecoder(m *Model, c DecoderConfig) (*Decoder, error) {
	d := &Decoder{m: m, b: max(c.Sequences, 1), max: c.Context}
	if d.max == 0 {
		d.max = m.cfg.Context
	}
	if d.max < 0 || d.max > m.cfg.Context {
		return nil, fmt.Errorf("llm: a context of %d tokens; the model has %d", d.max, m.cfg.Context)
	}
	dev := m.Device()
	if !m.packed() {
		d.tape = &autograd.Tape{Pool: tensor.NewPool(dev)}
		for _, blk := range m.Blocks {
			d.cache = append(d.cache, blk.Attn.NewCache(dev, d.b, d.max))
		}
		return d, dev.Sync()
	}
	typ := device.F16
	if c.Float32 {
		typ = device.F32
	}
	kv := typ
	if c.Int8 {
		kv = device.I8
	}
	for range m.Blocks {
		d.k = append(d.k, tensor.NewCache(dev, kv, d.b, m.cfg.KVHeads, d.max, m.cfg.Width/m.cfg.Heads))
		d.v = append(d.v, tensor.NewCache(dev, kv, d.b, m.cfg.KVHeads, d.max, m.cfg.Width/m.cfg.Heads))
	}
	d.head = m.Embed.Weight.T
	if m.Head != nil {
		d.head = m.Head.Weight.T
	}
	if d.head.Type() != typ && !c.Float32 {
		h := tensor.New(dev, typ, d.head.Shape()...)
		tensor.Copy(h, d.head)
		d.head, d.own = h, true
	}
	d.one = newActivations(m, d.b, 1, nil)
	return d, dev.Sync()
}

// packed reports whether all layers of the blocks are frozen and do nothing but quantize and multiply, those that read
// one input with the same column scales.
func (m *Model) packed() bool {
	n := 0
	for _, l := range m.Linears() {
		if !l.Frozen() || l.Config().FloatActs || l.Bias != nil || l.Gain != nil {
			return false
		}
		n++
	}
	for _, b := range m.Blocks {
		for _, r := range b.readers() {
			if _, ok := r.columns(); !ok {
				return false
			}
		}
	}
	return n > 0
}

// Free gives the memory back.
func (d *Decoder) Free() {
	if d.tape != nil {
		for _, c := range d.cache {
			c.Free()
		}
		d.tape.Pool.Close()
		return
	}
	for i := range d.k {
		d.k[i].Free()
		d.v[i].Free()
	}
	if d.own {
		d.head.Free()
	}
	d.one.free()
	if d.many != nil {
		d.many.free()
	}
}

// Len is the number of tokens of each sequence so far.
func (d *Decoder) Len() int { return d.len }

// Truncate forgets the tokens from n on.
func (d *Decoder) Truncate(n int) { d.len = min(d.len, max(n, 0)) }

// Next appends tokens (B, n), row-major, and writes the logits (B, V) of the last of each sequence to logits. Tokens must
// be in the vocabulary and fit the context.
func (d *Decoder) Next(tokens []int32, logits []float32) error {
	n := len(tokens) / d.b
	switch {
	case n == 0 || len(tokens) != n*d.b:
		return fmt.Errorf("llm: %d tokens for %d sequences", len(tokens), d.b)
	case d.len+n > d.max:
		return fmt.Errorf("llm: %d tokens more than the %d there do not fit a context of %d", n, d.len, d.max)
	case len(logits) != d.b*d.m.cfg.Vocab:
		return fmt.Errorf("llm: room for %d logits; %d sequences have %d", len(logits), d.b, d.b*d.m.cfg.Vocab)
	}
	for _, id := range tokens {
		if id < 0 || int(id) >= d.m.cfg.Vocab {
			return fmt.Errorf("llm: token %d is outside the vocabulary of %d", id, d.m.cfg.Vocab)
		}
	}
	if d.tape != nil {
		return d.onTape(tokens, n, logits)
	}
	if n == 1 {
		d.step(d.one, tokens, logits)
		return d.m.Device().Sync()
	}
	// A prompt goes in pieces; only the last gives logits.
	piece := max(promptTokens/d.b, 1)
	ids := make([]int32, 0, d.b*min(piece, n))
	for from := 0; from < n; from += piece {
		to := min(from+piece, n)
		ids = ids[:0]
		for b := range d.b {
			ids = append(ids, tokens[b*n+from:b*n+to]...)
		}
		if d.many == nil || d.many.n != to-from {
			d.many = newActivations(d.m, d.b, to-from, d.many)
		}
		var out []float32
		if to == n {
			out = logits
		}
		d.step(d.many, ids, out)
	}
	return d.m.Device().Sync()
}

func (d *Decoder) onTape(tokens []int32, n int, logits []float32) error {
	for _, c := range d.cache {
		c.Len = d.len
	}
	y := d.m.Decode(d.tape, d.tape.Ints(d.m.Device(), tokens, d.b, n), d.cache)
	rows := y.T.Reshape(d.b*n, d.m.cfg.Vocab)
	for b := range d.b {
		last := (b+1)*n - 1
		rows.Rows(last, last+1).ReadFloats(logits[b*d.m.cfg.Vocab:][:d.m.cfg.Vocab])
	}
	d.tape.Reset()
	d.len += n
	return d.m.Device().Sync()
}

// step appends n tokens of each sequence; with logits, it writes those of the last.
func (d *Decoder) step(a *activations, ids []int32, logits []float32) {
	c := d.m.cfg
	a.ids.SetInts(ids)
	tensor.Gather(a.x, d.m.Embed.Weight.T, a.ids)
	for i, b := range d.m.Blocks {
		at := b.Attn
		a.quantize(a.codes, a.rmsNorm(b.AttnNorm, a.x), at.Q)
		q, k, q2, k2 := a.q, a.k, a.q2, a.k2
		a.linear(k, a.codes, at.V)
		tensor.Append(d.v[i], k, d.len)
		a.linear(q.heads, a.codes, at.Q)
		a.linear(k, a.codes, at.K)
		if at.QNorm != nil {
			tensor.RMSNorm(q2.heads, a.invQ, q.heads, at.QNorm.Weight.T, at.QNorm.Eps)
			tensor.RMSNorm(k2, a.invK, k, at.KNorm.Weight.T, at.KNorm.Eps)
			q, k, q2, k2 = q2, k2, q, k
		}
		tensor.RoPE(q2.heads, q.heads, at.RoPE, d.len, false, false)
		tensor.RoPE(k2, k, at.RoPE, d.len, false, false)
		tensor.Append(d.k[i], k2, d.len)
		tensor.CachedAttention(q.heads, q2.heads, d.k[i], d.v[i], d.len+a.n)
		y := q.rows
		if at.SubNorm != nil {
			y = a.rmsNorm(at.SubNorm, y)
		}
		a.quantize(a.codes, y, at.Out)
		a.linear(a.norm, a.codes, at.Out)
		tensor.Add(a.x, a.x, a.norm)

		a.quantize(a.codes, a.rmsNorm(b.MLPNorm, a.x), b.MLP.Up)
		a.linear(a.up, a.codes, b.MLP.Up)
		if b.MLP.Gate != nil {
			a.linear(a.gate, a.codes, b.MLP.Gate)
			tensor.Gated(b.MLP.Act, a.up, a.gate, a.up)
		} else {
			tensor.Unary(b.MLP.Act, a.up, a.up)
		}
		h := a.up
		if b.MLP.SubNorm != nil {
			tensor.RMSNorm(a.gate, a.inv, h, b.MLP.SubNorm.Weight.T, c.Eps)
			h = a.gate
		}
		a.quantize(a.wide, h, b.MLP.Down)
		a.linear(a.norm, a.wide, b.MLP.Down)
		tensor.Add(a.x, a.x, a.norm)
	}
	d.len += a.n
	if logits == nil {
		return
	}
	x := a.x
	if a.n > 1 {
		x = a.last
		for b := range d.b {
			end := (b + 1) * a.n
			tensor.Copy(x.Rows(b, b+1), a.x.Rows(end-1, end))
		}
	}
	tensor.RMSNorm(a.lastNorm, a.invLast, x, d.m.Norm.Weight.T, c.Eps)
	tensor.Linear(a.logits, a.lastNorm, d.head, nil, device.MathFP32)
	a.logits.ReadFloats(logits)
}

// activations are what a step of n tokens of each of b sequences needs, R = b*n rows.
type activations struct {
	n               int
	ids             *tensor.Tensor // (R)
	x, norm         *tensor.Tensor // (R, C)
	q, q2           queries
	k, k2           *tensor.Tensor // (b, n, KV, D)
	gate, up        *tensor.Tensor // (R, hidden)
	codes, wide, xs *tensor.Tensor // int8 (R, C), int8 (R, hidden), and their scales (R)
	scaled          *tensor.Tensor // (R, C): times column scales; nil without
	scaledWide      *tensor.Tensor // (R, hidden)
	inv, invQ, invK *tensor.Tensor // of the norms
	last, lastNorm  *tensor.Tensor // (b, C)
	invLast, logits *tensor.Tensor // (b), (b, V)

	mem []*tensor.Tensor // of all of them, in order
}

// queries is one memory in two shapes.
type queries struct {
	heads *tensor.Tensor // (b, n, H, D)
	rows  *tensor.Tensor // (R, C)
}

// newActivations takes over the memory of old, which may be nil, where it is large enough.
func newActivations(m *Model, b, n int, old *activations) *activations {
	c, rows := m.cfg, b*n
	dim, kv := c.Width/c.Heads, c.KVHeads
	a := &activations{n: n}
	f := func(t device.Type, shape ...int) *tensor.Tensor {
		i, size := len(a.mem), 1
		for _, d := range shape {
			size *= d
		}
		var mem *tensor.Tensor
		if old != nil {
			mem = old.mem[i]
		}
		if mem == nil || mem.Len() < size {
			if mem != nil {
				mem.Free()
			}
			mem = tensor.New(m.Device(), t, size)
		}
		a.mem = append(a.mem, mem)
		return mem.Rows(0, size).Reshape(shape...)
	}
	const f32 = device.F32
	q := func() queries {
		x := f(f32, b, n, c.Heads, dim)
		return queries{x, x.Reshape(rows, c.Width)}
	}
	a.ids = f(device.I32, rows)
	a.x, a.norm = f(f32, rows, c.Width), f(f32, rows, c.Width)
	a.q, a.q2 = q(), q()
	a.k, a.k2 = f(f32, b, n, kv, dim), f(f32, b, n, kv, dim)
	a.gate, a.up = f(f32, rows, c.Hidden), f(f32, rows, c.Hidden)
	a.codes, a.wide, a.xs = f(device.I8, rows, c.Width), f(device.I8, rows, c.Hidden), f(f32, rows)
	if c.Quant.Columns > 1 {
		a.scaled, a.scaledWide = f(f32, rows, c.Width), f(f32, rows, c.Hidden)
	}
	a.inv, a.invQ, a.invK = f(f32, rows), f(f32, rows*c.Heads), f(f32, rows*kv)
	a.last, a.lastNorm, a.invLast, a.logits = f(f32, b, c.Width), f(f32, b, c.Width), f(f32, b), f(f32, b, c.Vocab)
	return a
}

func (a *activations) rmsNorm(n *nn.RMSNorm, x *tensor.Tensor) *tensor.Tensor {
	tensor.RMSNorm(a.norm, a.inv, x, n.Weight.T, n.Eps)
	return a.norm
}

// quantize makes codes of the input x of layer l.
func (a *activations) quantize(codes, x *tensor.Tensor, l nn.Layer) {
	if s := l.(*ternary.Linear).Columns; s != nil {
		y := a.scaled
		if codes == a.wide {
			y = a.scaledWide
		}
		tensor.AddRows(y, nil, s.T, 1)
		tensor.Mul(y, y, x)
		x = y
	}
	tensor.QuantizeRows(codes, a.xs, x)
}

// linear multiplies what was quantized last.
func (a *activations) linear(y, codes *tensor.Tensor, l nn.Layer) {
	w, scale := l.(*ternary.Linear).Panels()
	tensor.PackedLinear(y, codes, a.xs, w, scale, nil)
}

func (a *activations) free() {
	for _, t := range a.mem {
		t.Free()
	}
}
