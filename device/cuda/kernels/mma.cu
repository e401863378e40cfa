// Products on tensor cores. Operands are rows along the depth, a (m, depth) and b (n, depth), on 16-byte boundaries:
// bfloat16 with float32 sums, or int8 with exact int32 sums. 32 bytes of depth lie alike for both.
#include "setun.h"
#include "products.h"

// A tile in shared memory: T rows of 64 bytes, of which the 16-byte chunks change places so that eight rows of a chunk
// lie in different banks.
enum { threads = 128, chunks = 4, rowBytes = 64, stages = 3 };
DEVICE u32 place(int row, int chunk) { return row * rowBytes + (chunk ^ (row >> 1 & 3)) * 16; }

// Rows are a matrix in device memory: rows of `bytes`, ld bytes apart, with whatever follows them up to 16 bytes. A
// thread's part of a tile are the same 16 bytes of some rows.
struct Rows {
	const char *p;
	long ld;
	int rows, bytes;

	static constexpr int apart = threads / chunks;

	// from turns to the thread's part of the tile at (row, at).
	INLINE void from(int row, int at) {
		at += tid() % chunks * 16;
		row += tid() / chunks;
		p += row * ld + at;
		rows -= row;
		bytes -= at;
	}
	// start begins to bring the tile, and goes on to the next.
	template <int T> INLINE void start(u32 to) {
		const char *q = p;
		to += place(tid() / chunks, tid() % chunks); // rows that are `apart` place their chunks alike
#pragma unroll
		for (int r = 0; r < T; r += apart) {
			copy16(to + r * rowBytes, q, r < rows && bytes > 0 ? 16 : 0);
			q += apart * ld;
		}
		p += rowBytes;
		bytes -= rowBytes;
	}
	INLINE void finish(char *) const {}
};

// spread gives the codes of a row in a block of a panel; two levels are sums of two planes.
DEVICE u4 spread(u32 w0, u32 w1, int levels) {
	u4 v;
#pragma unroll
	for (int i = 0; i < 4; i++) {
		u32 c = w0 >> 2 * i & 0x03030303;
		if (levels == 2) c += w1 >> 2 * i & 0x03030303;
		v[i] = ((c | 0x80808080) - 0x01010101 * levels) ^ 0x80808080;
	}
	return v;
}

// Panels are codes at two bits, see device.PackPanels. They pass through registers.
template <int T> struct Panels {
	const u32 *p;
	int panels, blocks, levels;
	int panel, block;
	u32 w[T * chunks / threads][2];

	INLINE void from(int row, int at) {
		panel = row / 32;
		block = at / 16 + tid() / 32;
	}
	template <int> INLINE void start(u32) {
#pragma unroll
		for (int i = 0; i < T / 32; i++) {
			long at = (long)(panel + i) * levels * blocks + block;
			bool in = panel + i < panels && block < blocks;
			w[i][0] = in ? p[at * 32 + laneId()] : 0;
			w[i][1] = in && levels == 2 ? p[(at + blocks) * 32 + laneId()] : 0;
		}
		block += chunks;
	}
	INLINE void finish(char *to) const {
#pragma unroll
		for (int i = 0; i < T / 32; i++) *(u4 *)(to + place(i * 32 + laneId(), warpId())) = spread(w[i][0], w[i][1], levels);
	}
};

// C = alpha*sum + beta*C + bias.
struct FloatResult {
	typedef float Sum;
	float *c;
	const float *bias;
	float alpha, beta;

	INLINE float of(float sum, int, int j, long at) const {
		float v = alpha * sum;
		if (beta != 0) v = fma(beta, c[at], v);
		return bias ? v + bias[j] : v;
	}
};

// y = sum * xs * ws + bias; with add, y +=.
struct IntResult {
	typedef int Sum;
	float *c;
	const float *xs, *ws, *bias;
	int perColumn, add;

	INLINE float of(int sum, int i, int j, long at) const {
		float v = scaled(sum, i, j, xs, ws, perColumn, bias);
		return add ? v + c[at] : v;
	}
};

// A block has T x T of C, a warp T/2 x T/2. With part, it leaves bare sums there for its share of the depth.
template <int T, typename B, typename R>
DEVICE void product(Rows a, B b, const R &out, long ldc, int m, int n, int bytes, int vec, typename R::Sum *part,
                    int perPart) {
	constexpr int N = T / 32;
	constexpr u32 size = T * rowBytes;
	SHARED char as[stages * size] __attribute__((aligned(16)));
	SHARED char bs[stages * size] __attribute__((aligned(16)));
	u32 toA = sharedAddr(as), toB = sharedAddr(bs);

	// Tiles go down in groups of eight, so that blocks that run together share operands.
	int tilesM = (m + T - 1) / T, tilesN = (n + T - 1) / T, perGroup = 8 * tilesN;
	int group = block() / perGroup * 8, height = min(8, tilesM - group), in = block() % perGroup;
	int row = (group + in % height) * T, col = in / height * T;

	int from = blockY() * perPart, tiles = (min(bytes - from, perPart) + rowBytes - 1) / rowBytes;
	a.from(row, from);
	b.from(col, from);
	typename R::Sum acc[N][2 * N][4];
#pragma unroll
	for (int i = 0; i < N; i++)
#pragma unroll
		for (int j = 0; j < 2 * N; j++)
#pragma unroll
			for (int e = 0; e < 4; e++) acc[i][j][e] = 0;

	int l = laneId(), warpRow = warpId() / 2 * (T / 2), warpCol = warpId() % 2 * (T / 2);
	u32 atA = place(warpRow + l % 16, l / 16), atB = place(warpCol + l % 8 + l / 16 * 8, l / 8 % 2);

	u32 to = 0, at = 0; // the stages that tiles come to and that they are taken from
	for (int t = 1 - stages; t < tiles; t++) {
		if (t >= 0) {
			copyWait<stages - 2>();
			barrier(); // tile t is there, and nobody reads tile t-1 any more
		}
		bool more = t + stages - 1 < tiles;
		if (more) {
			a.template start<T>(toA + to);
			b.template start<T>(toB + to);
		}
		copyCommit();
		if (t >= 0) {
#pragma unroll
			for (int s = 0; s < rowBytes / 32; s++) { // which turns a bit of a chunk's place
				u32 xa[N][4], xb[N][4];
#pragma unroll
				for (int i = 0; i < N; i++) loadMatrix(xa[i], toA + at + (atA ^ s * 32) + i * 16 * rowBytes);
#pragma unroll
				for (int j = 0; j < N; j++) loadMatrix(xb[j], toB + at + (atB ^ s * 32) + j * 16 * rowBytes);
#pragma unroll
				for (int i = 0; i < N; i++)
#pragma unroll
					for (int j = 0; j < 2 * N; j++) mma(acc[i][j], xa[i], xb[j / 2][j % 2 * 2], xb[j / 2][j % 2 * 2 + 1]);
			}
			at = at == (stages - 1) * size ? 0 : at + size;
		}
		if (more) b.finish(bs + to);
		to = to == (stages - 1) * size ? 0 : to + size;
	}

	// Sums go out by way of shared memory, 32 rows at a time, so that each row of C is written in one piece.
	typedef typename R::Sum Sum;
	typedef Sum Sum4 __attribute__((ext_vector_type(4)));
	constexpr int wide = T + 8;
	static_assert(sizeof(as) >= 32 * wide * 4, "the sums fit");
	Sum *sums = (Sum *)as, *bare = part ? part + ((long)blockY() * gridZ() + blockZ()) * m * n : 0;
#pragma unroll
	for (int i = 0; i < N; i++) {
		barrier();
#pragma unroll
		for (int e = 0; e < 2; e++)
#pragma unroll
			for (int j = 0; j < 2 * N; j++) {
				Sum *at = &sums[(warpRow / (T / 2) * 16 + e * 8 + l / 4) * wide + warpCol + j * 8 + l % 4 * 2];
				at[0] = acc[i][j][e * 2];
				at[1] = acc[i][j][e * 2 + 1];
			}
		barrier();
#pragma unroll 1
		for (int q = tid(); q < 32 * T / 4; q += threads) {
			int down = q / (T / 4), across = q % (T / 4) * 4;
			int r = row + down / 16 * (T / 2) + i * 16 + down % 16, c = col + across;
			if (r >= m) continue;
			Sum4 x = *(const Sum4 *)&sums[down * wide + across];
			long at = r * ldc + c;
			if (bare) {
#pragma unroll
				for (int e = 0; e < 4; e++)
					if (c + e < n) bare[(long)r * n + c + e] = x[e];
			} else if (vec && c + 4 <= n) {
				f4 v;
#pragma unroll
				for (int e = 0; e < 4; e++) v[e] = out.of(x[e], r, c + e, at + e);
				*(f4 *)&out.c[at] = v;
			} else {
#pragma unroll
				for (int e = 0; e < 4; e++)
					if (c + e < n) out.c[at + e] = out.of(x[e], r, c + e, at + e);
			}
		}
	}
}

// Strides of a and b are in bytes.
#define BF16(name, T)                                                                                                  \
	KERNEL LAUNCH(threads) name(float *c, const char *a, const char *b, const float *bias, float *part, int m, int n,    \
	                          int depth, long lda, long ldb, long ldc, int vec, float alpha, float beta, long strideA, \
	                          long strideB, long strideC, int perPart) {                                               \
		long z = blockZ();                                                                                             \
		FloatResult out = {c + z * strideC, bias, alpha, beta};                                                        \
		product<T>(Rows{a + z * strideA, lda, m, 2 * depth}, Rows{b + z * strideB, ldb, n, 2 * depth}, out, ldc, m, n, \
		           2 * depth, vec, part, 2 * perPart);                                                                 \
	}
BF16(gemmHalf128, 128)
BF16(gemmHalf64, 64)

#define INT8(name, T)                                                                                            \
	KERNEL LAUNCH(threads)                                                                                         \
	    name(float *y, const char *xq, const float *xs, const char *codes, const float *ws, const float *bias,   \
	         int *part, int m, int n, int k, long ldx, long ldc, int vec, int perColumn, int add, int perPart) { \
		IntResult out = {y, xs, ws, bias, perColumn, add};                                                       \
		product<T>(Rows{xq, ldx, m, k}, Rows{codes, ldc, n, k}, out, n, m, n, k, vec, part, perPart);            \
	}
INT8(qlinear128, 128)
INT8(qlinear64, 64)

#define PACKED(name, T)                                                                                             \
	KERNEL LAUNCH(threads)                                                                                            \
	    name(float *y, const char *xq, const float *xs, const u32 *panels, const float *ws, const float *bias,      \
	         int *part, int m, int n, int k, long ldx, int vec, int perColumn, int levels, int perPart) {           \
		IntResult out = {y, xs, ws, bias, perColumn, 0};                                                            \
		product<T>(Rows{xq, ldx, m, k}, Panels<T>{panels, (n + 31) / 32, (k + 15) / 16, levels}, out, n, m, n, k, vec, \
		           part, perPart);                                                                                  \
	}
PACKED(packed128, 128)
PACKED(packed64, 64)

KERNEL LAUNCH(BLOCK) qlinearReduce(float *y, const int *part, const float *xs, const float *ws, const float *bias,
                                   int parts, int m, int n, int perColumn, int add) {
	IntResult out = {y, xs, ws, bias, perColumn, add};
	long all = (long)m * n;
	for (EACH(e, all)) {
		int sum = part[e];
		for (int p = 1; p < parts; p++) sum += part[p * all + e];
		y[e] = out.of(sum, e / n, e % n, e);
	}
}

// Operands for tensor cores. Row r of dst, ld elements long, are k elements of src and zeros, times scale[0],
// scale[element] or nothing (per 0, 1, and scale zero).

DEVICE void put(u16 *to, const float (&v)[8]) {
	*(u4 *)to = u4{bf16x2(v[0], v[1]), bf16x2(v[2], v[3]), bf16x2(v[4], v[5]), bf16x2(v[6], v[7])};
}

// Kinds of elements in memory.
enum { F32, F16, I8 };
DEVICE float load1(const void *p, long at, int kind) {
	if (kind == F32) return ((const float *)p)[at];
	if (kind == F16) return half(((const u16 *)p)[at]);
	return ((const i8 *)p)[at];
}

// bf16Rows: src (batch, rows, k) as it lies, of float32 or half precision.
KERNEL LAUNCH(BLOCK) bf16Rows(u16 *dst, const void *src, const float *scale, int per, int halves, long rows, int m,
                              int k, long lds, long stride, int ld, int vec) {
	int each = ld / 8;
	for (EACH(q, rows * each)) {
		long r = q / each, at = r / m * stride + r % m * lds;
		int l = q % each * 8;
		f4 x = load4(src, at + l, clampQuad(k - l), halves, vec),
		   y = load4(src, at + l + 4, clampQuad(k - l - 4), halves, vec);
		float v[8] = {x.x, x.y, x.z, x.w, y.x, y.y, y.z, y.w};
		if (scale) {
#pragma unroll
			for (int i = 0; i < 8; i++)
				if (l + i < k) v[i] = v[i] * scale[per * (l + i)];
		}
		put(dst + r * ld + l, v);
	}
}

// bf16Turn: src (batch, k, m) turned. A block has 64 by 64.
KERNEL LAUNCH(BLOCK) bf16Turn(u16 *dst, const void *src, const float *scale, int per, int kind, int m, int k, long lds,
                              long stride, int ld) {
	SHARED float tile[64][65];
	int row = block() * 64;
	long z = blockZ();
	for (int l0 = blockY() * 64; l0 < ld; l0 += blocksY() * 64) {
		for (int i = tid(); i < 64 * 64; i += BLOCK) {
			int l = l0 + i / 64, r = row + i % 64;
			float v = l < k && r < m ? load1(src, z * stride + l * lds + r, kind) : 0;
			if (scale && l < k) v = v * scale[per * l];
			tile[i / 64][i % 64] = v;
		}
		barrier();
		for (int i = tid(); i < 64 * 8; i += BLOCK) {
			int r = i / 8, l = i % 8 * 8;
			if (row + r >= m || l0 + l >= ld) continue;
			float v[8];
#pragma unroll
			for (int j = 0; j < 8; j++) v[j] = tile[l + j][r];
			put(dst + (z * m + row + r) * ld + l0 + l, v);
		}
		barrier();
	}
}
