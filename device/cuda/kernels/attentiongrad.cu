// The gradient of attention in float32, see device.AttentionShape.
#include "setun.h"
#include "products.h"
#include "attention.h"

// Gradients, with p = exp(scale*q k' - lse) and ds = p * (dout v' - delta): dv += p' dout, dk += scale*ds' q,
// dq += scale*ds k. Shared: four tiles of B*stride, and B*wide.

// A block has B keys of a key head, and all the query heads that read it. Rows are keys, T::columns queries.
template <int D, int B>
DEVICE void backwardKV(float *dk, float *dv, const float *dout, const float *lse, const float *delta, const float *q,
                       const float *k, const float *v, const Heads &s, float scale, int vec, int acc) {
	using T = Tiles<D, B>;
	float *sk = pool, *sv = sk + B * T::stride, *sq = sv + B * T::stride, *so = sq + B * T::stride,
	      *sp = so + B * T::stride;
	int j0 = block() * B, rows = min(B, s.keys - j0), first = blockY() * s.group;
	long b = blockZ(), kv = s.atKV(b, first) + j0 * s.stepKV;
	T::load(sk, k, kv, s.stepKV, rows, s.dim, 0, vec);
	T::load(sv, v, kv, s.stepKV, rows, s.dim, 0, vec);
	float ok[4][T::columns], ov[4][T::columns];
	T::clear(ok);
	T::clear(ov);
	int from = s.causal ? max(0, j0 - (s.keys - s.queries)) / B * B : 0;
	for (int h = first; h < first + s.group; h++)
		for (int i0 = from; i0 < s.queries; i0 += B) {
			int n = min(B, s.queries - i0);
			long at = s.atQ(b, i0, h);
			barrier();
			T::load(sq, q, at, s.stepQ(), n, s.dim, 0, vec);
			T::load(so, dout, at, s.stepQ(), n, s.dim, 0, vec);
			barrier();
			float p[4][4], ds[4][4];
			T::dots(p, sk, sq, s.dim);
			T::dots(ds, sv, so, s.dim);
#pragma unroll
			for (int j = 0; j < 4; j++) {
				int c = T::x() + T::N * j, end = c < n ? s.sees(i0 + c) - j0 : 0;
				float l = 0, mean = 0;
				if (c < n) {
					l = lse[s.row(b, h, i0 + c)] * LOG2E;
					mean = delta[s.row(b, h, i0 + c)];
				}
#pragma unroll
				for (int i = 0; i < 4; i++) {
					p[i][j] = T::y() + T::N * i < end ? exp2(fma(p[i][j], scale * LOG2E, -l)) : 0;
					ds[i][j] = p[i][j] * (ds[i][j] - mean) * scale;
				}
			}
			if (dv) {
				T::put(sp, p);
				T::add(ov, sp, so, n);
			}
			if (dk) {
				T::put(sp, ds);
				T::add(ok, sp, sq, n);
			}
		}
	if (dk) T::store(dk + kv, s.stepKV, ok, sk, rows, s.dim, vec, acc);
	if (dv) T::store(dv + kv, s.stepKV, ov, sv, rows, s.dim, vec, acc);
}

// A block has B queries of a head.
template <int D, int B>
DEVICE void backwardQ(float *dq, const float *dout, const float *lse, const float *delta, const float *q,
                      const float *k, const float *v, const Heads &s, float scale, int vec, int acc) {
	using T = Tiles<D, B>;
	float *sq = pool, *so = sq + B * T::stride, *sk = so + B * T::stride, *sv = sk + B * T::stride,
	      *sp = sv + B * T::stride;
	int i0 = block() * B, h = blockY(), rows = min(B, s.queries - i0), keys = s.sees(i0 + rows - 1);
	long b = blockZ(), at = s.atQ(b, i0, h), kv = s.atKV(b, h);
	T::load(sq, q, at, s.stepQ(), rows, s.dim, 0, vec);
	T::load(so, dout, at, s.stepQ(), rows, s.dim, 0, vec);
	float o[4][T::columns], l[4], mean[4];
	T::clear(o);
#pragma unroll
	for (int i = 0; i < 4; i++) {
		int r = T::y() + T::N * i;
		l[i] = mean[i] = 0;
		if (r < rows) {
			l[i] = lse[s.row(b, h, i0 + r)] * LOG2E;
			mean[i] = delta[s.row(b, h, i0 + r)];
		}
	}
	for (int j0 = 0; j0 < keys; j0 += B) {
		int n = min(B, keys - j0);
		barrier();
		T::load(sk, k, kv + j0 * s.stepKV, s.stepKV, n, s.dim, 0, vec);
		T::load(sv, v, kv + j0 * s.stepKV, s.stepKV, n, s.dim, 0, vec);
		barrier();
		float p[4][4], ds[4][4];
		T::dots(p, sq, sk, s.dim);
		T::dots(ds, so, sv, s.dim);
#pragma unroll
		for (int i = 0; i < 4; i++) {
			int end = T::y() + T::N * i < rows ? s.sees(i0 + T::y() + T::N * i) - j0 : 0;
#pragma unroll
			for (int j = 0; j < 4; j++) {
				float w = T::x() + T::N * j < end ? exp2(fma(p[i][j], scale * LOG2E, -l[i])) : 0;
				ds[i][j] = w * (ds[i][j] - mean[i]) * scale;
			}
		}
		T::put(sp, ds);
		T::add(o, sp, sk, n);
	}
	T::store(dq + at, s.stepQ(), o, sk, rows, s.dim, vec, acc);
}

#define GRAD(D, B)                                                                                                   \
	KERNEL LAUNCH(B *B / 16)                                                                                         \
	    attentionKV##D##x##B(float *dk, float *dv, const float *dout, const float *lse, const float *delta,          \
	                         const float *q, const float *k, const float *v, SHAPE, float scale, int vec, int acc) { \
		backwardKV<D, B>(dk, dv, dout, lse, delta, q, k, v, HEADS, scale, vec, acc);                                 \
	}                                                                                                                \
	KERNEL LAUNCH(B *B / 16)                                                                                         \
	    attentionQ##D##x##B(float *dq, const float *dout, const float *lse, const float *delta, const float *q,      \
	                        const float *k, const float *v, SHAPE, float scale, int vec, int acc) {                  \
		backwardQ<D, B>(dq, dout, lse, delta, q, k, v, HEADS, scale, vec, acc);                                      \
	}
GRAD(32, 32)
GRAD(64, 64)
GRAD(128, 64)
GRAD(128, 32)
GRAD(256, 32)

// delta[b,h,i] = dout times out, over a row of a head. A warp has a row.
KERNEL LAUNCH(BLOCK)
    attentionDelta(float *delta, const float *dout, const float *out, long rows, int queries, int heads, int dim) {
	long r = (long)block() * (BLOCK / 32) + warpId();
	if (r >= rows) return;
	float sum = 0;
	for (int d = laneId(); d < dim; d += 32) sum = fma(dout[r * dim + d], out[r * dim + d], sum);
	sum = warpReduce<Sum>(sum);
	long b = r / heads / queries;
	if (laneId() == 0) delta[(b * heads + r % heads) * queries + r / heads % queries] = sum;
}
