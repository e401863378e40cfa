// Attention in float32, see device.AttentionShape.
#include "setun.h"
#include "products.h"
#include "attention.h"

// A block has B queries of a head. Shared: B*stride for q, as much for k and then v, B*wide for the weights.
template <int D, int B>
DEVICE void forward(float *out, float *lse, const float *q, const void *k, const void *v, int halves, const Heads &s,
                    float scale, int vec) {
	using T = Tiles<D, B>;
	float *sq = pool, *sk = sq + B * T::stride, *sp = sk + B * T::stride;
	int i0 = block() * B, h = blockY(), rows = min(B, s.queries - i0), keys = s.sees(i0 + rows - 1);
	long b = blockZ(), at = s.atQ(b, i0, h), kv = s.atKV(b, h);
	T::load(sq, q, at, s.stepQ(), rows, s.dim, 0, vec);
	scale *= LOG2E;
	float o[4][T::columns], top[4], sum[4];
	T::clear(o);
#pragma unroll
	for (int i = 0; i < 4; i++) {
		top[i] = -inff();
		sum[i] = 0;
	}
	for (int j0 = 0; j0 < keys; j0 += B) {
		int n = min(B, keys - j0);
		barrier();
		T::load(sk, k, kv + j0 * s.stepKV, s.stepKV, n, s.dim, halves, vec);
		barrier();
		float p[4][4];
		T::dots(p, sq, sk, s.dim);
#pragma unroll
		for (int i = 0; i < 4; i++) {
			int end = s.sees(i0 + T::y() + T::N * i) - j0;
			float m = top[i];
#pragma unroll
			for (int j = 0; j < 4; j++) {
				p[i][j] = T::x() + T::N * j < end ? p[i][j] * scale : -inff();
				m = maxf(p[i][j], m);
			}
			m = T::template across<Max>(m);
			float shift = m == -inff() ? 0 : m, keep = exp2(top[i] - shift), part = 0;
			top[i] = m;
#pragma unroll
			for (int j = 0; j < 4; j++) {
				p[i][j] = exp2(p[i][j] - shift);
				part += p[i][j];
			}
			sum[i] = sum[i] * keep + part;
#pragma unroll
			for (int c = 0; c < T::columns; c++) o[i][c] = o[i][c] * keep;
		}
		T::put(sp, p);
		barrier();
		T::load(sk, v, kv + j0 * s.stepKV, s.stepKV, n, s.dim, halves, vec);
		barrier();
		T::add(o, sp, sk, n);
	}
#pragma unroll
	for (int i = 0; i < 4; i++) {
		sum[i] = T::template across<Sum>(sum[i]);
		float inv = sum[i] == 0 ? 0 : 1 / sum[i];
#pragma unroll
		for (int c = 0; c < T::columns; c++) o[i][c] = o[i][c] * inv;
		int r = T::y() + T::N * i;
		if (lse && T::x() == 0 && r < rows)
			lse[s.row(b, h, i0 + r)] = sum[i] == 0 ? -inff() : top[i] * LN2 + logf(sum[i]);
	}
	T::store(out + at, s.stepQ(), o, sk, rows, s.dim, vec, false);
}

#define ATTENTION(D, B)                                                                                               \
	KERNEL LAUNCH(B *B / 16) attention##D##x##B(float *out, float *lse, const float *q, const void *k, const void *v, \
	                                            int halves, SHAPE, float scale, int vec) {                            \
		forward<D, B>(out, lse, q, k, v, halves, HEADS, scale, vec);                                                  \
	}
ATTENTION(64, 64)
ATTENTION(128, 64)
ATTENTION(256, 32)

// Few queries over many keys: a block has eight rows at most, a row being a query of one of the heads that read a key
// head, and perPart keys in tiles of 64. It leaves sums of weighted values, tops and sums of weights in part, or the
// result.
enum { decodeRows = 8, decodeKeys = 64, decodeDim = 256 };

// Rows of int8 are codes, then a float32 scale; others have scale 1. kind: 0 float32, 1 half precision, 2 int8.
DEVICE f4 loadCodes(const void *p, long at, int n, int kind, int vec) {
	if (kind < 2) return load4(p, at, n, kind, vec);
	f4 v = {0, 0, 0, 0};
	const i8 *x = (const i8 *)p + at;
	if (vec) {
		int w = *(const int *)x;
		return {(float)(w << 24 >> 24), (float)(w << 16 >> 24), (float)(w << 8 >> 24), (float)(w >> 24)};
	}
#pragma unroll
	for (int i = 0; i < 4; i++)
		if (i < n) v[i] = x[i];
	return v;
}
DEVICE float loadScale(const void *p, long at, int kind, int vec) {
	if (kind < 2) return 1;
	const u8 *x = (const u8 *)p + at;
	if (vec) return *(const float *)x;
	return fromBits(x[0] | x[1] << 8 | x[2] << 16 | (u32)x[3] << 24);
}

KERNEL LAUNCH(BLOCK) attentionDecode(float *out, float *lse, const float *q, const void *k, const void *v, int kind,
                                     float *part, int perPart, SHAPE, float scale, int vec) {
	Heads s = HEADS;
	SHARED float sq[decodeRows][decodeDim] __attribute__((aligned(16)));
	SHARED float weights[decodeRows][decodeKeys];
	SHARED float keeps[decodeRows];
	SHARED f4 red[BLOCK];
	int all = queries * group, groups = (all + decodeRows - 1) / decodeRows;
	int kvHead = blockY() / groups, r0 = blockY() % groups * decodeRows, rows = min(decodeRows, all - r0);
	long b = blockZ(), kv = s.atKV(b, kvHead * group);
	int from = block() * perPart, end = min(keys, from + perPart), quads = (dim + 3) / 4;
	scale *= LOG2E;
	// Row r is query (r0+r)/group of head kvHead*group + (r0+r)%group.
	for (int e = tid(); e < decodeRows * decodeDim; e += BLOCK) {
		int r = e / decodeDim, d = e % decodeDim;
		sq[r][d] = r < rows && d < dim ? q[s.atQ(b, (r0 + r) / group, kvHead * group + (r0 + r) % group) + d] : 0;
	}
	int slots = quads <= 8 ? 8 : quads <= 16 ? 16 : quads <= 32 ? 32 : 64; // threads along a row of v
	int slice = tid() / slots, slices = BLOCK / slots, c = tid() % slots * 4;
	int w = warpId(), l = laneId();
	int sees = w < rows ? s.sees((r0 + w) / group) : 0;
	float top = -inff(), sum = 0; // of row w
	f4 o[decodeRows];
#pragma unroll
	for (int r = 0; r < decodeRows; r++) o[r] = {0, 0, 0, 0};
	barrier();
	for (int j0 = from; j0 < end; j0 += decodeKeys) {
		int n = min(decodeKeys, end - j0), key = tid() / 4;
		float dot[decodeRows], rescale = key < n ? scale * loadScale(k, kv + (j0 + key) * stepKV + dim, kind, vec) : 0;
#pragma unroll
		for (int r = 0; r < decodeRows; r++) dot[r] = 0;
		if (key < n)
			for (int d = tid() % 4 * 4; d < dim; d += 16) {
				f4 x = loadCodes(k, kv + (j0 + key) * stepKV + d, clampQuad(dim - d), kind, vec);
#pragma unroll
				for (int r = 0; r < decodeRows; r++) {
					if (r >= rows) break;
					f4 y = *(const f4 *)&sq[r][d];
#pragma unroll
					for (int e = 0; e < 4; e++) dot[r] = fma(x[e], y[e], dot[r]);
				}
			}
#pragma unroll
		for (int r = 0; r < decodeRows; r++) {
			if (r >= rows) break;
			float x = dot[r];
			x += shuffle(x, 1);
			x += shuffle(x, 2);
			if (tid() % 4 == 0) weights[r][key] = x * rescale;
		}
		barrier();
		if (w < rows) {
			float x0 = j0 + l < min(end, sees) ? weights[w][l] : -inff();
			float x1 = j0 + l + 32 < min(end, sees) ? weights[w][l + 32] : -inff();
			float m = warpReduce<Max>(maxf(maxf(x0, x1), top)), shift = m == -inff() ? 0 : m;
			float keep = exp2(top - shift);
			x0 = exp2(x0 - shift);
			x1 = exp2(x1 - shift);
			top = m;
			sum = sum * keep + warpReduce<Sum>(x0 + x1);
			weights[w][l] = x0;
			weights[w][l + 32] = x1;
			if (l == 0) keeps[w] = keep;
		}
		barrier();
#pragma unroll
		for (int r = 0; r < decodeRows; r++)
			if (r < rows) o[r] *= keeps[r];
		if (c < dim)
			for (int j = slice; j < n; j += slices) {
				f4 x = loadCodes(v, kv + (j0 + j) * stepKV + c, clampQuad(dim - c), kind, vec);
				x *= loadScale(v, kv + (j0 + j) * stepKV + dim, kind, vec);
#pragma unroll
				for (int r = 0; r < decodeRows; r++) {
					if (r >= rows) break;
#pragma unroll
					for (int e = 0; e < 4; e++) o[r][e] = fma(weights[r][j], x[e], o[r][e]);
				}
			}
		barrier();
	}
	// weights[r] = {top, sum} of row r.
	if (w < rows && l == 0) {
		weights[w][0] = top;
		weights[w][1] = sum;
	}
#pragma unroll
	for (int r = 0; r < decodeRows; r++) {
		if (r >= rows) break;
		if (r > 0) barrier();
		red[tid()] = o[r];
		barrier();
		int i = (r0 + r) / group, h = kvHead * group + (r0 + r) % group;
		float t = weights[r][0], z = weights[r][1];
		long row = s.row(b, h, i);
		float *to = part ? part + ((long)block() * gridZ() * heads * queries + row) * (dim + 2) : out + s.atQ(b, i, h);
		for (int d = tid(); d < dim; d += BLOCK) {
			float x = 0;
			for (int e = 0; e < slices; e++) x += ((const float *)&red[e * slots])[d];
			to[d] = part ? x : z == 0 ? 0 : x / z;
		}
		if (tid() == 0 && part) {
			to[dim] = t;
			to[dim + 1] = z;
		}
		if (tid() == 0 && !part && lse) lse[row] = z == 0 ? -inff() : t * LN2 + logf(z);
	}
}

// attentionCombine adds up the parts in order. A thread has an element of out.
KERNEL LAUNCH(BLOCK)
    attentionCombine(float *out, float *lse, const float *part, int parts, long rows, int queries, int heads, int dim) {
	for (EACH(e, rows * dim)) {
		long row = e / dim, d = e % dim;
		float top = -inff(), sum = 0, x = 0;
		for (int p = 0; p < parts; p++) top = maxf(part[(p * rows + row) * (dim + 2) + dim], top);
		for (int p = 0; p < parts; p++) {
			const float *from = part + (p * rows + row) * (dim + 2);
			float w = exp2(from[dim] - top); // some part has keys that the query sees
			x = fma(w, from[d], x);
			sum = fma(w, from[dim + 1], sum);
		}
		long b = row / queries / heads, h = row / queries % heads, i = row % queries;
		out[((b * queries + i) * heads + h) * dim + d] = sum == 0 ? 0 : x / sum;
		if (lse && d == 0) lse[row] = sum == 0 ? -inff() : top * LN2 + logf(sum);
	}
}
