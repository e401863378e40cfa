package tensor

import (
	"math"

	"setun/device"
)

// attentionShape checks q, out (B, T, H, D) and k, v (B, S, KV, D) and scales by 1/sqrt(D).
func attentionShape(out, q, k, v *Tensor, causal bool, how device.Math) device.AttentionShape {
	const op = "Attention"
	const dims = "do not fit: q is (B, T, H, D), k and v are (B, S, KV, D)"
	check(q.dims == 4 && k.dims == 4 && v.dims == 4, op, dims, q, k, v)
	sameLen(op, out, q)
	sameLen(op, k, v)
	check(q.shape[0] == k.shape[0] && q.shape[3] == k.shape[3] && k.shape == v.shape && k.shape[2] > 0 &&
		q.shape[2]%k.shape[2] == 0, op, dims+", H a multiple of KV", q, k, v)
	check(!causal || k.shape[1] >= q.shape[1], op, "have fewer keys than queries", q, k)
	return device.AttentionShape{Batch: q.shape[0], Queries: q.shape[1], Keys: k.shape[1], Heads: q.shape[2],
		KVHeads: k.shape[2], Dim: q.shape[3], Causal: causal, Scale: float32(1 / math.Sqrt(float64(q.shape[3]))), Math: how}
}

// Attention: out = softmax(q kᵀ/sqrt(D) + mask) v for each head, q and out (B, T, H, D), k and v (B, S, KV, D). lse
// (B, H, T) is kept for the gradient and may be nil. With causal, query i sees keys j <= i + S - T. See [device.Math].
func Attention(out, lse, q, k, v *Tensor, causal bool, how device.Math) {
	s := attentionShape(out, q, k, v, causal, how)
	hasLen("Attention", lse, s.Batch*s.Heads*s.Queries)
	where("Attention", out, lse, q, k, v).Attention(out.mem, lse.Mem(), q.mem, k.mem, v.mem, s)
}

// cacheRow is the elements of a row of D numbers in a cache of this type.
func cacheRow(t device.Type, d int) int {
	if t == device.I8 {
		return device.Int8Row(d)
	}
	return d
}

// NewCache makes a cache of keys or values (B, KV, max, D) in float32 or half precision, or in int8, where a row of D has
// its scale behind it: (B, KV, max, device.Int8Row(D)).
func NewCache(dev device.Device, t device.Type, b, kv, max, d int) *Tensor {
	return New(dev, t, b, kv, max, cacheRow(t, d))
}

// CachedAttention is causal attention over the first keys of caches k and v, see NewCache.
func CachedAttention(out, q, k, v *Tensor, keys int) {
	const op = "CachedAttention"
	check(q.dims == 4 && k.dims == 4 && k.shape == v.shape && k.typ == v.typ && q.shape[0] == k.shape[0] &&
		cacheRow(k.typ, q.shape[3]) == k.shape[3] && k.shape[1] > 0 && q.shape[2]%k.shape[1] == 0, op,
		"do not fit: q is (B, T, H, D), k and v are caches (B, KV, max, D), H a multiple of KV", q, k, v)
	sameLen(op, out, q)
	check(keys >= q.shape[1] && keys <= k.shape[2], op, "have fewer keys than queries, or more than the cache", q, k)
	where(op, out, q, k, v).Attention(out.mem, device.Mem{}, q.mem, k.mem, v.mem, device.AttentionShape{
		Batch: q.shape[0], Queries: q.shape[1], Keys: keys, Heads: q.shape[2], KVHeads: k.shape[1], Dim: q.shape[3],
		Causal: true, Scale: float32(1 / math.Sqrt(float64(q.shape[3]))), Cache: k.shape[2], Row: k.shape[3]})
}

// Append writes x (B, n, KV, D) behind the first keys of a cache, see NewCache.
func Append(cache, x *Tensor, keys int) {
	check(cache.dims == 4 && x.dims == 4 && cache.shape[0] == x.shape[0] && cache.shape[1] == x.shape[2] &&
		cache.shape[3] == cacheRow(cache.typ, x.shape[3]) && keys >= 0 && keys+x.shape[1] <= cache.shape[2], "Append", "do not fit", cache, x)
	dev := where("Append", cache, x)
	n, heads, room, dim, row := x.shape[1], x.shape[2], cache.shape[2], x.shape[3], cache.shape[3]
	for b := range x.shape[0] {
		from, to := b*n*heads*dim, (b*heads*room+keys)*row
		if n == 1 { // all heads at once
			dev.CopyRows(cache.mem.Slice(to, cache.Len()), room*row, x.mem.Slice(from, x.Len()), dim, heads, dim, false)
			continue
		}
		for h := range heads {
			dev.CopyRows(cache.mem.Slice(to+h*room*row, cache.Len()), row, x.mem.Slice(from+h*dim, x.Len()), heads*dim, n, dim,
				false)
		}
	}
}

// AttentionGrad computes dq, dk and dv; with acc, it adds.
func AttentionGrad(dq, dk, dv, dout, out, lse, q, k, v *Tensor, causal bool, how device.Math, acc bool) {
	s := attentionShape(out, q, k, v, causal, how)
	s.Acc = acc
	dev := where("Attention", dq, dk, dv, dout, out, lse, q, k, v)
	into := func(dq, dk, dv *Tensor) {
		dev.AttentionGrad(dq.Mem(), dk.Mem(), dv.Mem(), dout.mem, out.mem, lse.mem, q.mem, k.mem, v.mem, s)
	}
	if !alias(dq, dk, dv) {
		into(dq, dk, dv)
		return
	}
	if !s.Acc {
		for _, d := range []*Tensor{dq, dk, dv} {
			if d != nil {
				Fill(d, 0)
			}
		}
		s.Acc = true
	}
	into(dq, nil, nil)
	into(nil, dk, nil)
	into(nil, nil, dv)
}
