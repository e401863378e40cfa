// Attention and its gradient on tensor cores: operands, and weights of values, are rounded to bfloat16, sums are
// float32.
#include "setun.h"
#include "products.h"
#include "attention.h"

// The operands are rows of heads, `width` elements of bfloat16 each, whole units of 16 bytes; HEADS and its strides
// count those. Results are float32, rows of dim.

// A tile has 64 rows of D elements in bfloat16, and room between rows, so that eight of them lie in different banks. A
// block is four warps; a warp has R times 16 rows of R tiles, times all rows of another one: what it takes of that from
// shared memory serves R products. Of 16 rows lane l has rows l/4 (elements 0, 1) and l/4+8 (2, 3), and columns 8n +
// 2*(l%4) and the next.
template <int D, int R> struct Half {
	static constexpr int B = 64, threads = 128, stride = D + 8, size = B * stride, wide = D + 4;
	static_assert(2 * size * 2 >= B * wide * 4, "two tiles have room for one of float32");

	static INLINE u16 *tile(int i) { return (u16 *)pool + i * size; }
	static INLINE int row(int i, int e) { return (warpId() * R + i) * 16 + laneId() / 4 + e / 2 * 8; }
	static INLINE int column(int n, int e) { return n * 8 + laneId() % 4 * 2 + e % 2; }

	// start begins to copy rows of p, step apart, and zeros, to N tiles. One group of copies.
	template <int N = 1> static INLINE void start(u16 *s, const u16 *p, long step, int rows, int width) {
		constexpr int apart = threads / (D / 8);
		int row = tid() / (D / 8), c = tid() % (D / 8) * 8;
		u32 to = sharedAddr(s + row * stride + c);
		p += row * step + c;
		rows = c < width ? rows - row : 0;
#pragma unroll 4
		for (int r = 0; r < N * B; r += apart) {
			copy16(to + r * stride * 2, p, r < rows ? 16 : 0);
			p += apart * step;
		}
		copyCommit();
	}

	// dots: s = rows of a times rows of b. Columns from dim on are zeros. U: how far the loop is unrolled.
	template <int U = 2> static INLINE void dots(float (&s)[R][8][4], const u16 *a, const u16 *b, int dim) {
		int l = laneId();
		u32 atA = sharedAddr(a + (warpId() * R * 16 + l % 16) * stride + l / 16 * 8);
		u32 atB = sharedAddr(b + (l % 8 + l / 16 * 8) * stride + l / 8 % 2 * 8);
#pragma unroll
		for (int i = 0; i < R; i++)
#pragma unroll
			for (int n = 0; n < 8; n++)
#pragma unroll
				for (int e = 0; e < 4; e++) s[i][n][e] = 0;
#pragma unroll 1
		do {
#pragma unroll
			for (int at = 0; at < 32 * U; at += 32) {
				u32 xa[R][4], xb[4];
#pragma unroll
				for (int i = 0; i < R; i++) loadMatrix(xa[i], atA + i * 16 * stride * 2 + at);
#pragma unroll
				for (int n = 0; n < 8; n += 2) {
					loadMatrix(xb, atB + n * 8 * stride * 2 + at);
#pragma unroll
					for (int i = 0; i < R; i++) {
						mma(s[i][n], xa[i], xb[0], xb[1]);
						mma(s[i][n + 1], xa[i], xb[2], xb[3]);
					}
				}
			}
			atA += 32 * U;
			atB += 32 * U;
			dim -= 16 * U;
		} while (dim > 0);
	}

	// add: o += p times the rows of b.
	static INLINE void add(float (&o)[R][D / 8][4], const float (&p)[R][8][4], const u16 *b) {
		int l = laneId();
		u32 at = sharedAddr(b + l % 16 * stride + l / 16 * 8);
#pragma unroll
		for (int k = 0; k < 8; k += 2) {
			u32 xa[R][4];
#pragma unroll
			for (int i = 0; i < R; i++)
#pragma unroll
				for (int e = 0; e < 4; e++) xa[i][e] = bf16x2(p[i][k + e / 2][e % 2 * 2], p[i][k + e / 2][e % 2 * 2 + 1]);
#pragma unroll
			for (int n = 0; n < D / 8; n += 2) {
				u32 xb[4];
				loadTurned(xb, at + (k * 8 * stride + n * 8) * 2);
#pragma unroll
				for (int i = 0; i < R; i++) {
					mma(o[i][n], xa[i], xb[0], xb[1]);
					mma(o[i][n + 1], xa[i], xb[2], xb[3]);
				}
			}
		}
	}

	static INLINE void clear(float (&o)[R][D / 8][4]) {
#pragma unroll
		for (int i = 0; i < R; i++)
#pragma unroll
			for (int n = 0; n < D / 8; n++)
#pragma unroll
				for (int e = 0; e < 4; e++) o[i][n][e] = 0;
	}

	// store goes by way of the first two tiles, for each of R.
	static INLINE void store(float *to, long step, const float (&o)[R][D / 8][4], int rows, int dim, int vec, bool add) {
		barrier();
#pragma unroll
		for (int i = 0; i < R; i++)
#pragma unroll
			for (int n = 0; n < D / 8; n++)
#pragma unroll
				for (int e = 0; e < 4; e++) pool[row(i, e) * wide + column(n, e)] = o[i][n][e];
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

// A block has 64 R queries of a head. Shared: R tiles and two. Values arrive while scores are computed, the next keys
// while values are added up. Where queries see only the keys before them, the last ones have the most to do and go first.
template <int D, int R>
DEVICE void forward(float *out, float *lse, const u16 *q, const u16 *k, const u16 *v, const Heads &s, float scale,
                    int vec, int dim) {
	using T = Half<D, R>;
	constexpr int B = T::B;
	u16 *sq = T::tile(0), *sk = T::tile(R), *sv = T::tile(R + 1);
	int i0 = (blocks() - 1 - block()) * R * B, h = blockY(), rows = min(R * B, s.queries - i0),
	    keys = s.sees(i0 + rows - 1), width = s.dim;
	long b = blockZ(), at = s.atQ(b, i0, h);
	k += s.atKV(b, h);
	v += s.atKV(b, h);
	T::template start<R>(sq, q + at, s.stepQ(), rows, width);
	T::start(sk, k, s.stepKV, min(B, keys), width);
	float sign = scale < 0 ? -1 : 1;
	scale = maxf(1e-30f, sign * scale * LOG2E); // what is masked, -inf, stays so
	float o[R][D / 8][4], top[R][2], sum[R][2];
	T::clear(o);
#pragma unroll
	for (int r = 0; r < R; r++)
#pragma unroll
		for (int i = 0; i < 2; i++) {
			top[r][i] = -inff();
			sum[r][i] = 0;
		}
	for (int j0 = 0; j0 < keys; j0 += B) {
		T::start(sv, v + j0 * s.stepKV, s.stepKV, min(B, keys - j0), width);
		meet<1>();
		float p[R][8][4];
		T::dots(p, sq, sk, width);
		barrier();
		T::start(sk, k + (j0 + B) * s.stepKV, s.stepKV, max(0, min(B, keys - j0 - B)), width);
		if (sign < 0 || s.sees(i0 + warpId() * R * 16) < j0 + B) { // the warp's first query does not see all of them
#pragma unroll
			for (int r = 0; r < R; r++)
#pragma unroll
				for (int e = 0; e < 4; e++) {
					int end = s.sees(i0 + T::row(r, e)) - j0;
#pragma unroll
					for (int c = 0; c < 8; c++) p[r][c][e] = T::column(c, e) < end ? p[r][c][e] * sign : -inff();
				}
		}
#pragma unroll
		for (int r = 0; r < R; r++)
#pragma unroll
			for (int i = 0; i < 2; i++) {
				float m = top[r][i];
#pragma unroll
				for (int c = 0; c < 8; c++) m = Max::of(Max::of(p[r][c][2 * i], p[r][c][2 * i + 1]), m);
				m = T::template across<Max>(m);
				float shift = m == -inff() ? 0 : m * scale, keep = exp2(fma(top[r][i], scale, -shift)), part = 0;
				top[r][i] = m;
#pragma unroll
				for (int c = 0; c < 8; c++)
#pragma unroll
					for (int e = 2 * i; e < 2 * i + 2; e++) {
						p[r][c][e] = exp2(fma(p[r][c][e], scale, -shift));
						part += p[r][c][e];
					}
				sum[r][i] = sum[r][i] * keep + part;
#pragma unroll
				for (int c = 0; c < D / 8; c++) {
					o[r][c][2 * i] = o[r][c][2 * i] * keep;
					o[r][c][2 * i + 1] = o[r][c][2 * i + 1] * keep;
				}
			}
		meet<1>();
		T::add(o, p, sv);
		barrier();
	}
	copyWait<0>();
#pragma unroll
	for (int r = 0; r < R; r++)
#pragma unroll
		for (int i = 0; i < 2; i++) {
			float all = T::template across<Sum>(sum[r][i]), inv = all == 0 ? 0 : 1 / all;
#pragma unroll
			for (int c = 0; c < D / 8; c++) {
				o[r][c][2 * i] = o[r][c][2 * i] * inv;
				o[r][c][2 * i + 1] = o[r][c][2 * i + 1] * inv;
			}
			int at = T::row(r, 2 * i);
			if (lse && laneId() % 4 == 0 && at < rows)
				lse[s.row(b, h, i0 + at)] = all == 0 ? -inff() : top[r][i] * scale * LN2 + logf(all);
		}
	T::store(out + at / width * dim, (long)s.heads * dim, o, rows, dim, vec, false);
}

// The gradients, as in attentiongrad.cu. Shared: four tiles, and two numbers for each query of one. What comes next
// arrives as soon as its tile is free.

template <int D>
DEVICE void backwardKV(float *dk, float *dv, const u16 *dout, const float *lse, const float *delta, const u16 *q,
                       const u16 *k, const u16 *v, const Heads &s, float scale, int vec, int dim, int acc) {
	using T = Half<D, 1>;
	constexpr int B = T::B;
	u16 *sk = T::tile(0), *sv = T::tile(1), *sq = T::tile(2), *so = T::tile(3);
	float *stats = (float *)T::tile(4);
	int j0 = block() * B, rows = min(B, s.keys - j0), first = blockY() * s.group, width = s.dim;
	long b = blockZ(), kv = s.atKV(b, first) + j0 * s.stepKV;
	T::start(sk, k + kv, s.stepKV, rows, width);
	T::start(sv, v + kv, s.stepKV, rows, width);
	float ok[1][D / 8][4], ov[1][D / 8][4];
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
		float p[1][8][4], ds[1][8][4];
		T::template dots<1>(p, sk, sq, width);
		meet<0>();
		T::template dots<1>(ds, sv, so, width);
#pragma unroll
		for (int c = 0; c < 8; c++)
#pragma unroll
			for (int e = 0; e < 2; e++) {
				int i = T::column(c, e), end = i < n ? s.sees(i0 + i) - j0 : 0;
				float l = stats[i], mean = stats[B + i];
#pragma unroll
				for (int x = e; x < 4; x += 2) {
					p[0][c][x] = T::row(0, x) < end ? exp2(fma(p[0][c][x], scale * LOG2E, -l)) : 0;
					ds[0][c][x] = p[0][c][x] * (ds[0][c][x] - mean) * scale;
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
	if (dk) T::store(dk + kv, step, ok, rows, dim, vec, acc);
	if (dv) T::store(dv + kv, step, ov, rows, dim, vec, acc);
}

template <int D>
DEVICE void backwardQ(float *dq, const u16 *dout, const float *lse, const float *delta, const u16 *q, const u16 *k,
                      const u16 *v, const Heads &s, float scale, int vec, int dim, int acc) {
	using T = Half<D, 1>;
	constexpr int B = T::B;
	u16 *sq = T::tile(0), *so = T::tile(1), *sk = T::tile(2), *sv = T::tile(3);
	int i0 = (blocks() - 1 - block()) * B, h = blockY(), rows = min(B, s.queries - i0), keys = s.sees(i0 + rows - 1),
	    width = s.dim;
	long b = blockZ(), at = s.atQ(b, i0, h);
	k += s.atKV(b, h);
	v += s.atKV(b, h);
	T::start(so, dout + at, s.stepQ(), rows, width);
	T::start(sq, q + at, s.stepQ(), rows, width);
	T::start(sv, v, s.stepKV, min(B, keys), width);
	T::start(sk, k, s.stepKV, min(B, keys), width);
	float o[1][D / 8][4], l[2], mean[2];
	T::clear(o);
#pragma unroll
	for (int i = 0; i < 2; i++) {
		int r = T::row(0, 2 * i);
		l[i] = r < rows ? lse[s.row(b, h, i0 + r)] * LOG2E : 0;
		mean[i] = r < rows ? delta[s.row(b, h, i0 + r)] : 0;
	}
	for (int j0 = 0; j0 < keys; j0 += B) {
		int rest = max(0, min(B, keys - j0 - B));
		long next = (j0 + B) * s.stepKV;
		float p[1][8][4], ds[1][8][4];
		meet<1>();
		T::dots(ds, so, sv, width);
		meet<0>(); // keys are there, and nobody reads values any more
		T::start(sv, v + next, s.stepKV, rest, width);
		T::dots(p, sq, sk, width);
#pragma unroll
		for (int e = 0; e < 4; e++) {
			int r = T::row(0, e), end = r < rows ? s.sees(i0 + r) - j0 : 0;
#pragma unroll
			for (int c = 0; c < 8; c++) {
				float w = T::column(c, e) < end ? exp2(fma(p[0][c][e], scale * LOG2E, -l[e / 2])) : 0;
				ds[0][c][e] = w * (ds[0][c][e] - mean[e / 2]) * scale;
			}
		}
		T::add(o, ds, sk);
		barrier();
		T::start(sk, k + next, s.stepKV, rest, width);
	}
	copyWait<0>();
	T::store(dq + at / width * dim, (long)s.heads * dim, o, rows, dim, vec, acc);
}

#define FORWARD(D, R, ROWS)                                                                                             \
	KERNEL LAUNCH(128)                                                                                                  \
	    attentionHalf##D##x##ROWS(float *out, float *lse, const u16 *q, const u16 *k, const u16 *v, SHAPE, float scale, \
	                              int vec, int headDim) {                                                               \
		forward<D, R>(out, lse, q, k, v, HEADS, scale, vec, headDim);                                                   \
	}
#define BACKWARD(D)                                                                                                 \
	KERNEL LAUNCH(128)                                                                                              \
	    attentionHalfKV##D##x64(float *dk, float *dv, const u16 *dout, const float *lse, const float *delta,        \
	                            const u16 *q, const u16 *k, const u16 *v, SHAPE, float scale, int vec, int headDim, \
	                            int acc) {                                                                          \
		backwardKV<D>(dk, dv, dout, lse, delta, q, k, v, HEADS, scale, vec, headDim, acc);                          \
	}                                                                                                               \
	KERNEL LAUNCH(128)                                                                                              \
	    attentionHalfQ##D##x64(float *dq, const u16 *dout, const float *lse, const float *delta, const u16 *q,      \
	                           const u16 *k, const u16 *v, SHAPE, float scale, int vec, int headDim, int acc) {     \
		backwardQ<D>(dq, dout, lse, delta, q, k, v, HEADS, scale, vec, headDim, acc);                               \
	}
FORWARD(64, 1, 64)
FORWARD(64, 2, 128)
FORWARD(128, 1, 64)
FORWARD(128, 2, 128)
BACKWARD(64)
BACKWARD(128)
