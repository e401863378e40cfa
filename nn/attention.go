package nn

import (
	"iter"

	"setun/autograd"
	"setun/device"
	"setun/tensor"
)

// Attention is multi-head self-attention with rotary positions and grouped queries (Vaswani et al. 2017; Ainslie et al.
// 2023, arXiv 2305.13245). The projections are Layers, so they may be nn.Linear or ternary.Linear.
type Attention struct {
	Q, K, V, Out Layer
	QNorm, KNorm *RMSNorm // over each head before RoPE; nil: none
	SubNorm      *RMSNorm // before Out; nil: none

	Heads, KVHeads, Dim int
	Causal              bool
	RoPE                *tensor.Tensor // table of positions; nil: none
	BF16                bool           // Forward's products may be computed in bfloat16, where the device is faster with it
}

// Params yields the projections and norms.
func (a *Attention) Params() iter.Seq2[string, *autograd.Value] { return Fields(a) }

// Forward maps (B, T, C) to (B, T, C).
func (a *Attention) Forward(t *autograd.Tape, x *autograd.Value) *autograd.Value {
	q, k, v := a.heads(t, x, 0)
	if a.BF16 {
		return a.project(t, t.AttentionBF16(q, k, v, a.Causal))
	}
	return a.project(t, t.Attention(q, k, v, a.Causal))
}

// heads computes the rotated queries (B, T, H, D), keys and values (B, T, KV, D) of tokens at positions from offset.
func (a *Attention) heads(t *autograd.Tape, x *autograd.Value, offset int) (q, k, v *autograd.Value) {
	b, n := x.Dim(0), x.Dim(1)
	q = t.Reshape(a.Q.Forward(t, x), b, n, a.Heads, a.Dim)
	k = t.Reshape(a.K.Forward(t, x), b, n, a.KVHeads, a.Dim)
	v = t.Reshape(a.V.Forward(t, x), b, n, a.KVHeads, a.Dim)
	if a.QNorm != nil {
		q, k = a.QNorm.Forward(t, q), a.KNorm.Forward(t, k)
	}
	if a.RoPE != nil {
		q, k = t.RoPE(q, a.RoPE, offset), t.RoPE(k, a.RoPE, offset)
	}
	return q, k, v
}

func (a *Attention) project(t *autograd.Tape, y *autograd.Value) *autograd.Value {
	y = t.Reshape(y, y.Dim(0), y.Dim(1), a.Heads*a.Dim)
	if a.SubNorm != nil {
		y = a.SubNorm.Forward(t, y)
	}
	return a.Out.Forward(t, y)
}

// KVCache keeps the keys and values of the tokens so far, (B, KV, max, D) each. Len is how many there are.
type KVCache struct {
	K, V *tensor.Tensor
	Len  int
}

// NewCache makes room for max tokens of b sequences.
func (a *Attention) NewCache(dev device.Device, b, max int) *KVCache {
	return &KVCache{K: tensor.Zeros(dev, b, a.KVHeads, max, a.Dim), V: tensor.Zeros(dev, b, a.KVHeads, max, a.Dim)}
}

// Free gives the cache's memory back.
func (c *KVCache) Free() { c.K.Free(); c.V.Free() }

// Decode is Forward for the next tokens of a sequence: x (B, T, C) at positions c.Len.... It appends to the cache and
// records no gradient.
func (a *Attention) Decode(t *autograd.Tape, x *autograd.Value, c *KVCache) *autograd.Value {
	q, k, v := a.heads(t, x, c.Len)
	tensor.Append(c.K, k.T, c.Len)
	tensor.Append(c.V, v.T, c.Len)
	c.Len += x.Dim(1)
	return a.project(t, t.CachedAttention(q, c.K, c.V, c.Len))
}
