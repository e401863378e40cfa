// Attention and its gradient on tensor cores: operands, and weights of values, are rounded to bfloat16, sums are
// float32.
#include "setun.h"
#include "products.h"
#include "attention.h"

// A tile has 64 rows of D elements in bfloat16, and room between rows, so that eight of them lie in different banks. A
// block is four warps; a warp has 16 rows of a tile times all rows of another. Lane l has rows l/4 (elements 0, 1) and
// l/4+8 (2, 3), and columns 8n + 2*(l%4) and the next.
template <int D> struct Half {
	static constexpr int B = 64, threads = 128, stride = D + 8, size = B * stride, wide = D + 4;
	static_assert(2 * size * 2 >= B * wide * 4, "two tiles have room for one of float32");

	static INLINE u16 *tile(int i) { return (u16 *)pool + i * size; }
	static INLINE int row(int e) { return warpId() * 16 + laneId() / 4 + e / 2 * 8; }
	static INLINE int column(int n, int e) { return n * 8 + laneId() % 4 * 2 + e % 2; }

	static INLINE void load(u16 *s, const void *p, long at, long step, int rows, int dim, int halves, int vec) {
#pragma unroll 2
		for (int i = 0; i < B * D / 8 / threads; i++) {
			int q = tid() + i * threads, r = q / (D / 8), c = q % (D / 8) * 8;
			int n = r < rows ? dim - c : 0;
			f4 x = load4(p, at + r * step + c, clampQuad(n), halves, vec);
			f4 y = load4(p, at + r * step + c + 4, clampQuad(n - 4), halves, vec);
			*(u4 *)&s[r * stride + c] = u4{bf16x2(x.x, x.y), bf16x2(x.z, x.w), bf16x2(y.x, y.y), bf16x2(y.z, y.w)};
		}
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

// A block has 64 queries of a head. Shared: three tiles.
template <int D>
DEVICE void forward(float *out, float *lse, const float *q, const void *k, const void *v, int halves, const Heads &s,
                    float scale, int vec) {
	using T = Half<D>;
	constexpr int B = T::B;
	u16 *sq = T::tile(0), *sk = T::tile(1), *sv = T::tile(2);
	int i0 = block() * B, h = blockY(), rows = min(B, s.queries - i0), keys = s.sees(i0 + rows - 1);
	long b = blockZ(), at = s.atQ(b, i0, h), kv = s.atKV(b, h);
	T::load(sq, q, at, s.stepQ(), rows, s.dim, 0, vec);
	scale *= LOG2E;
	float o[D / 8][4], top[2] = {-inff(), -inff()}, sum[2] = {0, 0};
	T::clear(o);
	for (int j0 = 0; j0 < keys; j0 += B) {
		int n = min(B, keys - j0);
		barrier();
		T::load(sk, k, kv + j0 * s.stepKV, s.stepKV, n, s.dim, halves, vec);
		T::load(sv, v, kv + j0 * s.stepKV, s.stepKV, n, s.dim, halves, vec);
		barrier();
		float p[8][4];
		T::dots(p, sq, sk, s.dim);
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
		T::add(o, p, sv);
	}
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
	T::store(out + at, s.stepQ(), o, rows, s.dim, vec, false);
}

// The gradients, as in attentiongrad.cu. Shared: four tiles.

template <int D>
DEVICE void backwardKV(float *dk, float *dv, const float *dout, const float *lse, const float *delta, const float *q,
                       const float *k, const float *v, const Heads &s, float scale, int vec) {
	using T = Half<D>;
	constexpr int B = T::B;
	u16 *sk = T::tile(0), *sv = T::tile(1), *sq = T::tile(2), *so = T::tile(3);
	int j0 = block() * B, rows = min(B, s.keys - j0), first = blockY() * s.group;
	long b = blockZ(), kv = s.atKV(b, first) + j0 * s.stepKV;
	T::load(sk, k, kv, s.stepKV, rows, s.dim, 0, vec);
	T::load(sv, v, kv, s.stepKV, rows, s.dim, 0, vec);
	float ok[D / 8][4], ov[D / 8][4];
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
			float p[8][4], ds[8][4];
			T::dots(p, sk, sq, s.dim);
			T::dots(ds, sv, so, s.dim);
#pragma unroll
			for (int c = 0; c < 8; c++)
#pragma unroll
				for (int e = 0; e < 2; e++) {
					int i = T::column(c, e), end = 0;
					float l = 0, mean = 0;
					if (i < n) {
						end = s.sees(i0 + i) - j0;
						l = lse[s.row(b, h, i0 + i)] * LOG2E;
						mean = delta[s.row(b, h, i0 + i)];
					}
#pragma unroll
					for (int x = e; x < 4; x += 2) {
						p[c][x] = T::row(x) < end ? exp2(fma(p[c][x], scale * LOG2E, -l)) : 0;
						ds[c][x] = p[c][x] * (ds[c][x] - mean) * scale;
					}
				}
			T::add(ov, p, so);
			T::add(ok, ds, sq);
		}
	if (dk) T::store(dk + kv, s.stepKV, ok, rows, s.dim, vec, true);
	if (dv) T::store(dv + kv, s.stepKV, ov, rows, s.dim, vec, true);
}

template <int D>
DEVICE void backwardQ(float *dq, const float *dout, const float *lse, const float *delta, const float *q,
                      const float *k, const float *v, const Heads &s, float scale, int vec) {
	using T = Half<D>;
	constexpr int B = T::B;
	u16 *sq = T::tile(0), *so = T::tile(1), *sk = T::tile(2), *sv = T::tile(3);
	int i0 = block() * B, h = blockY(), rows = min(B, s.queries - i0), keys = s.sees(i0 + rows - 1);
	long b = blockZ(), at = s.atQ(b, i0, h), kv = s.atKV(b, h);
	T::load(sq, q, at, s.stepQ(), rows, s.dim, 0, vec);
	T::load(so, dout, at, s.stepQ(), rows, s.dim, 0, vec);
	float o[D / 8][4], l[2], mean[2];
	T::clear(o);
#pragma unroll
	for (int i = 0; i < 2; i++) {
		int r = T::row(2 * i);
		l[i] = r < rows ? lse[s.row(b, h, i0 + r)] * LOG2E : 0;
		mean[i] = r < rows ? delta[s.row(b, h, i0 + r)] : 0;
	}
	for (int j0 = 0; j0 < keys; j0 += B) {
		int n = min(B, keys - j0);
		barrier();
		T::load(sk, k, kv + j0 * s.stepKV, s.stepKV, n, s.dim, 0, vec);
		T::load(sv, v, kv + j0 * s.stepKV, s.stepKV, n, s.dim, 0, vec);
		barrier();
		float p[8][4], ds[8][4];
		T::dots(p, sq, sk, s.dim);
		T::dots(ds, so, sv, s.dim);
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
	}
	T::store(dq + at, s.stepQ(), o, rows, s.dim, vec, true);
}

#define HALF(D)                                                                                               \
	KERNEL LAUNCH(128) attentionHalf##D(float *out, float *lse, const float *q, const void *k, const void *v, \
	                                    int halves, SHAPE, float scale, int vec) {                            \
		forward<D>(out, lse, q, k, v, halves, HEADS, scale, vec);                                             \
	}                                                                                                         \
	KERNEL LAUNCH(128)                                                                                        \
	    attentionHalfKV##D(float *dk, float *dv, const float *dout, const float *lse, const float *delta,     \
	                       const float *q, const float *k, const float *v, SHAPE, float scale, int vec) {     \
		backwardKV<D>(dk, dv, dout, lse, delta, q, k, v, HEADS, scale, vec);                                  \
	}                                                                                                         \
	KERNEL LAUNCH(128)                                                                                        \
	    attentionHalfQ##D(float *dq, const float *dout, const float *lse, const float *delta, const float *q, \
	                      const float *k, const float *v, SHAPE, float scale, int vec) {                      \
		backwardQ<D>(dq, dout, lse, delta, q, k, v, HEADS, scale, vec);                                       \
	}
HALF(64)
HALF(128)
