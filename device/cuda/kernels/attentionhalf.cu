// Attention and its gradient on tensor cores: operands, and weights of values, are rounded to bfloat16, sums are
// float32.
#include "setun.h"
#include "products.h"
#include "attention.h"

// The operands are rows of heads, `width` elements of bfloat16 each, whole units of 16 bytes; HEADS and its strides
// count those. Results are float32, rows of dim.

// A tile has 64 rows of D elements in bfloat16, and room between rows, so that eight of them lie in different banks. A
// block is four warps; a warp has 16 rows of a tile times all rows of another. Lane l has rows l/4 (elements 0, 1) and
// l/4+8 (2, 3), and columns 8n + 2*(l%4) and the next.
template <int D> struct Half {
	static constexpr int B = 64, threads = 128, stride = D + 8, size = B * stride, wide = D + 4;
	static_assert(2 * size * 2 >= B * wide * 4, "two tiles have room for one of float32");

	static INLINE u16 *tile(int i) { return (u16 *)pool + i * size; }
	static INLINE int row(int e) { return warpId() * 16 + laneId() / 4 + e / 2 * 8; }
	static INLINE int column(int n, int e) { return n * 8 + laneId() % 4 * 2 + e % 2; }

	// start begins to copy rows of p, step apart, and zeros. One group of copies.
	static INLINE void start(u16 *s, const u16 *p, long step, int rows, int width) {
		u32 to = sharedAddr(s);
#pragma unroll 2
		for (int i = 0; i < B * D / 8 / threads; i++) {
			int q = tid() + i * threads, r = q / (D / 8), c = q % (D / 8) * 8, n = r < rows && c < width ? 16 : 0;
			copy16(to + (r * stride + c) * 2, p + (n ? r * step + c : 0), n);
		}
		copyCommit();
	}

	// dots: s = rows of a times rows of b.
	static INLINE void dots(float (&s)[8][4], const u16 *a, const u16 *b, int dim) {
		int l = laneId();
		u32 atA = sharedAddr(a + (warpId() * 16 + l % 16) * stride + l / 16 * 8);
		u32 atB = sharedAddr(b + (l % 8 + l / 16 * 8) * stride + l / 8 % 2 * 8);
#pragma unroll
		for (int n = 0; n < 8; n++)
#pragma unroll
			for (int e = 0; e < 4; e++) s[n][e] = 0;
#pragma unroll 1
		for (int d = 0; d < dim; d += 16) {
			u32 xa[4], xb[4];
			loadMatrix(xa, atA + d * 2);
#pragma unroll
			for (int n = 0; n < 8; n += 2) {
				loadMatrix(xb, atB + n * 8 * stride * 2 + d * 2);
				mma(s[n], xa, xb[0], xb[1]);
				mma(s[n + 1], xa, xb[2], xb[3]);
			}
		}
	}

	// add: o += p times the rows of b.
	static INLINE void add(float (&o)[D / 8][4], const float (&p)[8][4], const u16 *b) {
		int l = laneId();
		u32 at = sharedAddr(b + l % 16 * stride + l / 16 * 8);
#pragma unroll
		for (int k = 0; k < 8; k += 2) {
			u32 xa[4] = {bf16x2(p[k][0], p[k][1]), bf16x2(p[k][2], p[k][3]), bf16x2(p[k + 1][0], p[k + 1][1]),
			             bf16x2(p[k + 1][2], p[k + 1][3])};
#pragma unroll
			for (int n = 0; n < D / 8; n += 2) {
				u32 xb[4];
				loadTurned(xb, at + (k * 8 * stride + n * 8) * 2);
				mma(o[n], xa, xb[0], xb[1]);
				mma(o[n + 1], xa, xb[2], xb[3]);
			}
		}
	}

	static INLINE void clear(float (&o)[D / 8][4]) {
#pragma unroll
		for (int n = 0; n < D / 8; n++)
#pragma unroll
			for (int e = 0; e < 4; e++) o[n][e] = 0;
	}

	// store goes by way of the first two tiles.
	static INLINE void store(float *to, long step, const float (&o)[D / 8][4], int rows, int dim, int vec, bool add) {
		barrier();
#pragma unroll
		for (int n = 0; n < D / 8; n++)
#pragma unroll
			for (int e = 0; e < 4; e++) pool[row(e) * wide + column(n, e)] = o[n][e];
		barrier();
		storeRows<threads>(to, step, pool, wide, rows, dim, vec, add);
	}

	template <typename Op> static INLINE float across(float v) { // a row
		v = Op::of(v, shuffle(v, 1));
		return Op::of(v, shuffle(v, 2));
	}
};

// meet waits for all groups of copies but the last N, of all threads.
template <int N> DEVICE void meet() {
	copyWait<N>();
	barrier();
}

// A block has 64 queries of a head. Shared: three tiles. Values arrive while scores are computed, the next keys while
// values are added up.
template <int D>
DEVICE void forward(float *out, float *lse, const u16 *q, const u16 *k, const u16 *v, const Heads &s, float scale,
                    int vec, int dim) {
	using T = Half<D>;
	constexpr int B = T::B;
	u16 *sq = T::tile(0), *sk = T::tile(1), *sv = T::tile(2);
	int i0 = block() * B, h = blockY(), rows = min(B, s.queries - i0), keys = s.sees(i0 + rows - 1), width = s.dim;
	long b = blockZ(), at = s.atQ(b, i0, h);
	k += s.atKV(b, h);
	v += s.atKV(b, h);
	T::start(sq, q + at, s.stepQ(), rows, width);
	T::start(sk, k, s.stepKV, min(B, keys), width);
	scale *= LOG2E;
	float o[D / 8][4], top[2] = {-inff(), -inff()}, sum[2] = {0, 0};
	T::clear(o);
	for (int j0 = 0; j0 < keys; j0 += B) {
		T::start(sv, v + j0 * s.stepKV, s.stepKV, min(B, keys - j0), width);
		meet<1>();
		float p[8][4];
		T::dots(p, sq, sk, width);
		barrier();
		T::start(sk, k + (j0 + B) * s.stepKV, s.stepKV, max(0, min(B, keys - j0 - B)), width);
#pragma unroll
		for (int i = 0; i < 2; i++) {
			int end = s.sees(i0 + T::row(2 * i)) - j0;
			float m = top[i];
#pragma unroll
			for (int c = 0; c < 8; c++)
#pragma unroll
				for (int e = 2 * i; e < 2 * i + 2; e++) {
					p[c][e] = T::column(c, e) < end ? p[c][e] * scale : -inff();
					m = maxf(p[c][e], m);
				}
			m = T::template across<Max>(m);
			float shift = m == -inff() ? 0 : m, keep = exp2(top[i] - shift), part = 0;
			top[i] = m;
#pragma unroll
			for (int c = 0; c < 8; c++)
#pragma unroll
				for (int e = 2 * i; e < 2 * i + 2; e++) {
					p[c][e] = exp2(p[c][e] - shift);
					part += p[c][e];
				}
			sum[i] = sum[i] * keep + part;
#pragma unroll
			for (int c = 0; c < D / 8; c++) {
				o[c][2 * i] = o[c][2 * i] * keep;
				o[c][2 * i + 1] = o[c][2 * i + 1] * keep;
			}
		}
		meet<1>();
		T::add(o, p, sv);
		barrier();
	}
	copyWait<0>();
#pragma unroll
	for (int i = 0; i < 2; i++) {
		sum[i] = T::template across<Sum>(sum[i]);
		float inv = sum[i] == 0 ? 0 : 1 / sum[i];
#pragma unroll
		for (int c = 0; c < D / 8; c++) {
			o[c][2 * i] = o[c][2 * i] * inv;
			o[c][2 * i + 1] = o[c][2 * i + 1] * inv;
		}
		int r = T::row(2 * i);
		if (lse && laneId() % 4 == 0 && r < rows)
			lse[s.row(b, h, i0 + r)] = sum[i] == 0 ? -inff() : top[i] * LN2 + logf(sum[i]);
	}
	T::store(out + at / width * dim, (long)s.heads * dim, o, rows, dim, vec, false);
}

// The gradients, as in attentiongrad.cu. Shared: four tiles, and two numbers for each query of one. What comes next
// arrives as soon as its tile is free.

template <int D>
DEVICE void backwardKV(float *dk, float *dv, const u16 *dout, const float *lse, const float *delta, const u16 *q,
                       const u16 *k, const u16 *v, const Heads &s, float scale, int vec, int dim) {
	using T = Half<D>;
	constexpr int B = T::B;
	u16 *sk = T::tile(0), *sv = T::tile(1), *sq = T::tile(2), *so = T::tile(3);
	float *stats = (float *)T::tile(4);
	int j0 = block() * B, rows = min(B, s.keys - j0), first = blockY() * s.group, width = s.dim;
	long b = blockZ(), kv = s.atKV(b, first) + j0 * s.stepKV;
	T::start(sk, k + kv, s.stepKV, rows, width);
	T::start(sv, v + kv, s.stepKV, rows, width);
	float ok[D / 8][4], ov[D / 8][4];
	T::clear(ok);
	T::clear(ov);
	// Tile t is of head first + t/each, from its queries from + t%each*B on.
	int from = s.causal ? max(0, j0 - (s.keys - s.queries)) / B * B : 0;
	int each = (s.queries - from + B - 1) / B, tiles = from < s.queries ? each * s.group : 0;
	if (tiles > 0) {
		long at = s.atQ(b, from, first);
		T::start(sq, q + at, s.stepQ(), min(B, s.queries - from), width);
		T::start(so, dout + at, s.stepQ(), min(B, s.queries - from), width);
	}
	for (int t = 0; t < tiles; t++) {
		int i0 = from + t % each * B, h = first + t / each, n = min(B, s.queries - i0);
		int next = from + (t + 1) % each * B, rest = t + 1 < tiles ? min(B, s.queries - next) : 0;
		long at = rest > 0 ? s.atQ(b, next, first + (t + 1) / each) : 0;
		if (tid() < B) {
			bool in = tid() < n;
			stats[tid()] = in ? lse[s.row(b, h, i0 + tid())] * LOG2E : 0;
			stats[B + tid()] = in ? delta[s.row(b, h, i0 + tid())] : 0;
		}
		meet<1>();
		float p[8][4], ds[8][4];
		T::dots(p, sk, sq, width);
		meet<0>();
		T::dots(ds, sv, so, width);
#pragma unroll
		for (int c = 0; c < 8; c++)
#pragma unroll
			for (int e = 0; e < 2; e++) {
				int i = T::column(c, e), end = i < n ? s.sees(i0 + i) - j0 : 0;
				float l = stats[i], mean = stats[B + i];
#pragma unroll
				for (int x = e; x < 4; x += 2) {
					p[c][x] = T::row(x) < end ? exp2(fma(p[c][x], scale * LOG2E, -l)) : 0;
					ds[c][x] = p[c][x] * (ds[c][x] - mean) * scale;
				}
			}
		T::add(ok, ds, sq);
		barrier();
		T::start(sq, q + at, s.stepQ(), rest, width);
		T::add(ov, p, so);
		barrier();
		T::start(so, dout + at, s.stepQ(), rest, width);
	}
	copyWait<0>();
	kv = kv / width * dim;
	long step = s.stepKV / width * dim;
	if (dk) T::store(dk + kv, step, ok, rows, dim, vec, true);
	if (dv) T::store(dv + kv, step, ov, rows, dim, vec, true);
}

template <int D>
DEVICE void backwardQ(float *dq, const u16 *dout, const float *lse, const float *delta, const u16 *q, const u16 *k,
                      const u16 *v, const Heads &s, float scale, int vec, int dim) {
	using T = Half<D>;
	constexpr int B = T::B;
	u16 *sq = T::tile(0), *so = T::tile(1), *sk = T::tile(2), *sv = T::tile(3);
	int i0 = block() * B, h = blockY(), rows = min(B, s.queries - i0), keys = s.sees(i0 + rows - 1), width = s.dim;
	long b = blockZ(), at = s.atQ(b, i0, h);
	k += s.atKV(b, h);
	v += s.atKV(b, h);
	T::start(so, dout + at, s.stepQ(), rows, width);
	T::start(sq, q + at, s.stepQ(), rows, width);
	T::start(sv, v, s.stepKV, min(B, keys), width);
	T::start(sk, k, s.stepKV, min(B, keys), width);
	float o[D / 8][4], l[2], mean[2];
	T::clear(o);
#pragma unroll
	for (int i = 0; i < 2; i++) {
		int r = T::row(2 * i);
		l[i] = r < rows ? lse[s.row(b, h, i0 + r)] * LOG2E : 0;
		mean[i] = r < rows ? delta[s.row(b, h, i0 + r)] : 0;
	}
	for (int j0 = 0; j0 < keys; j0 += B) {
		int rest = max(0, min(B, keys - j0 - B));
		long next = (j0 + B) * s.stepKV;
		float p[8][4], ds[8][4];
		meet<1>();
		T::dots(ds, so, sv, width);
		meet<0>(); // keys are there, and nobody reads values any more
		T::start(sv, v + next, s.stepKV, rest, width);
		T::dots(p, sq, sk, width);
#pragma unroll
		for (int e = 0; e < 4; e++) {
			int r = T::row(e), end = r < rows ? s.sees(i0 + r) - j0 : 0;
#pragma unroll
			for (int c = 0; c < 8; c++) {
				float w = T::column(c, e) < end ? exp2(fma(p[c][e], scale * LOG2E, -l[e / 2])) : 0;
				ds[c][e] = w * (ds[c][e] - mean[e / 2]) * scale;
			}
		}
		T::add(o, ds, sk);
		barrier();
		T::start(sk, k + next, s.stepKV, rest, width);
	}
	copyWait<0>();
	T::store(dq + at / width * dim, (long)s.heads * dim, o, rows, dim, vec, true);
}

#define HALF(D)                                                                                                       \
	KERNEL LAUNCH(128) attentionHalf##D(float *out, float *lse, const u16 *q, const u16 *k, const u16 *v, SHAPE,      \
	                                    float scale, int vec, int headDim) {                                          \
		forward<D>(out, lse, q, k, v, HEADS, scale, vec, headDim);                                                    \
	}                                                                                                                 \
	KERNEL LAUNCH(128)                                                                                                \
	    attentionHalfKV##D(float *dk, float *dv, const u16 *dout, const float *lse, const float *delta, const u16 *q, \
	                       const u16 *k, const u16 *v, SHAPE, float scale, int vec, int headDim) {                    \
		backwardKV<D>(dk, dv, dout, lse, delta, q, k, v, HEADS, scale, vec, headDim);                                 \
	}                                                                                                                 \
	KERNEL LAUNCH(128)                                                                                                \
	    attentionHalfQ##D(float *dq, const u16 *dout, const float *lse, const float *delta, const u16 *q,             \
	                      const u16 *k, const u16 *v, SHAPE, float scale, int vec, int headDim) {                     \
		backwardQ<D>(dq, dout, lse, delta, q, k, v, HEADS, scale, vec, headDim);                                      \
	}
HALF(64)
HALF(128)
