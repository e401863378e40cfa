package tensor

import (
	"math"

	"setun/device"
)

// attentionShape checks q, out (B, T, H, D) and k, v (B, S, KV, D) and scales by 1/sqrt(D). Only the first keys of the
// S are used.
func attentionShape(out, q, k, v *Tensor, keys int, causal bool) device.AttentionShape {
	const op = "Attention"
	const dims = "do not fit: q is (B, T, H, D), k and v are (B, S, KV, D)"
	check(q.dims == 4 && k.dims == 4 && v.dims == 4, op, dims, q, k, v)
	sameLen(op, out, q)
	sameLen(op, k, v)
	check(q.shape[0] == k.shape[0] && q.shape[3] == k.shape[3] && k.shape == v.shape && k.shape[2] > 0 &&
		q.shape[2]%k.shape[2] == 0, op, dims+", H a multiple of KV", q, k, v)
	check(keys >= 0 && keys <= k.shape[1] && (!causal || keys >= q.shape[1]), op, "have fewer keys than queries", q, k)
	return device.AttentionShape{Batch: q.shape[0], Queries: q.shape[1], Keys: keys, Heads: q.shape[2],
		KVHeads: k.shape[2], Dim: q.shape[3], Causal: causal, Scale: float32(1 / math.Sqrt(float64(q.shape[3]))),
		KVStride: k.shape[1] * k.shape[2] * k.shape[3]}
}

// Attention: out = softmax(q kᵀ/sqrt(D) + mask) v for each head, over the first keys of k and v. lse (B, H, T) is kept
// for the gradient and may be nil. With causal, query i sees keys j <= i + keys - T.
func Attention(out, lse, q, k, v *Tensor, keys int, causal bool) {
	s := attentionShape(out, q, k, v, keys, causal)
	hasLen("Attention", lse, s.Batch*s.Heads*s.Queries)
	where("Attention", out, lse, q, k, v).Attention(out.mem, lse.Mem(), q.mem, k.mem, v.mem, s)
}

// AttentionGrad accumulates dq, dk and dv, for attention over all keys.
func AttentionGrad(dq, dk, dv, dout, out, lse, q, k, v *Tensor, causal bool) {
	if alias(dq, dk, dv) {
		AttentionGrad(dq, nil, nil, dout, out, lse, q, k, v, causal)
		AttentionGrad(nil, dk, nil, dout, out, lse, q, k, v, causal)
		dq, dk = nil, nil
	}
	s := attentionShape(out, q, k, v, k.shape[1], causal)
	where("Attention", dq, dk, dv, dout, out, lse, q, k, v).
		AttentionGrad(dq.Mem(), dk.Mem(), dv.Mem(), dout.mem, out.mem, lse.mem, q.mem, k.mem, v.mem, s)
}
