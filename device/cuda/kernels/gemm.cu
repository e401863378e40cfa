// C = alpha*op(A)*op(B) + beta*C + bias in float32. With several parts (blockY), part p multiplies its share of the
// depth and leaves bare sums in part[p], which gemmReduce adds up in order. blockZ counts the batch.
#include "setun.h"
#include "products.h"

struct Result {
	float *c;
	const float *bias;
	float alpha, beta;

	INLINE float of(float sum, long at, long j) const {
		float v = alpha * sum;
		if (beta != 0) v = fma(beta, c[at], v);
		return bias ? v + bias[j] : v;
	}
};

// A tile of an operand in shared memory: depth by depth, R rows. Element (row, depth) of the operand is [row*ld+depth],
// or [depth*ld+row] if turned.
template <int R, int K, int THREADS> struct Tile {
	static constexpr int quads = R * K / 4 / THREADS, stride = R + 4;
	static_assert(quads * 4 * THREADS == R * K, "a tile is whole quads of all threads");

	static INLINE void load(f4 (&v)[quads], const void *p, long ld, int turned, int kind, int vec, int row, int rows,
	                        int k, int end) {
#pragma unroll
		for (int i = 0; i < quads; i++) {
			int q = tid() + i * THREADS;
			if (turned) {
				int l = k + q / (R / 4), r = row + q % (R / 4) * 4;
				v[i] = load4(p, l * ld + r, l < end ? clampQuad(rows - r) : 0, kind, vec);
			} else {
				int l = k + q % (K / 4) * 4, r = row + q / (K / 4);
				v[i] = load4(p, r * ld + l, r < rows ? clampQuad(end - l) : 0, kind, vec);
			}
		}
	}
	static INLINE void store(float *s, const f4 (&v)[quads], int turned) {
#pragma unroll
		for (int i = 0; i < quads; i++) {
			int q = tid() + i * THREADS;
			if (turned) {
				*(f4 *)&s[q / (R / 4) * stride + q % (R / 4) * 4] = v[i];
			} else {
				float *to = &s[q % (K / 4) * 4 * stride + q / (K / 4)];
				to[0] = v[i].x;
				to[stride] = v[i].y;
				to[2 * stride] = v[i].z;
				to[3 * stride] = v[i].w;
			}
		}
	}
};

// A block has a tile of T x T, a thread 4*N rows by 4*N columns of it in groups of four, T/N apart.
template <int T, int K, int N>
DEVICE void gemm(float *c, const float *a, const void *b, const float *bias, float *part, int m, int n, int depth,
                 int lda, int ldb, int ldc, int turnA, int turnB, int halves, int vec, float alpha, float beta,
                 long strideA, long strideB, long strideC, int perPart) {
	constexpr int side = T / N / 4, threads = side * side;
	using Operand = Tile<T, K, threads>;
	SHARED float as[2][K * Operand::stride] __attribute__((aligned(16)));
	SHARED float bs[2][K * Operand::stride] __attribute__((aligned(16)));

	// Tiles go down in groups of eight, so that blocks that run together share operands.
	int tilesM = (m + T - 1) / T, tilesN = (n + T - 1) / T, perGroup = 8 * tilesN;
	int group = block() / perGroup * 8, height = min(8, tilesM - group), in = block() % perGroup;
	int row = (group + in % height) * T, col = in / height * T;

	long z = blockZ();
	a += z * strideA;
	b = (const char *)b + z * strideB * (halves ? 2 : 4);
	c += z * strideC;

	int k = blockY() * perPart, end = min(depth, k + perPart);
	float acc[4 * N][4 * N];
#pragma unroll
	for (int i = 0; i < 4 * N; i++)
#pragma unroll
		for (int j = 0; j < 4 * N; j++) acc[i][j] = 0;

	// While one tile is multiplied, the next is on its way.
	int at = 0, y = tid() / side * 4, x = tid() % side * 4;
	for (int l = k;; l += K) {
		bool more = l < end;
		f4 va[Operand::quads], vb[Operand::quads];
		if (more) {
			Operand::load(va, a, lda, turnA, 0, vec & 1, row, m, l, end);
			Operand::load(vb, b, ldb, turnB, halves, vec & 2, col, n, l, end);
		}
		if (l > k) {
			const float *pa = as[at] + y, *pb = bs[at] + x;
#pragma unroll
			for (int d = 0; d < K; d++) {
				f4 xa[N], xb[N];
#pragma unroll
				for (int g = 0; g < N; g++) {
					xa[g] = *(const f4 *)&pa[d * Operand::stride + g * T / N];
					xb[g] = *(const f4 *)&pb[d * Operand::stride + g * T / N];
				}
#pragma unroll
				for (int i = 0; i < 4 * N; i++)
#pragma unroll
					for (int j = 0; j < 4 * N; j++) acc[i][j] = fma(xa[i / 4][i % 4], xb[j / 4][j % 4], acc[i][j]);
			}
			at ^= 1;
		}
		if (!more) break;
		Operand::store(as[at], va, turnA);
		Operand::store(bs[at], vb, turnB);
		barrier();
	}

	Result out = {c, bias, alpha, beta};
	if (part) {
		out = {part + ((long)blockY() * gridZ() + z) * m * n, 0, 1, 0};
		ldc = n;
		vec = 0;
	}
#pragma unroll
	for (int i = 0; i < 4 * N; i++) {
		int r = row + y + i / 4 * (T / N) + i % 4;
		if (r >= m) continue;
#pragma unroll
		for (int g = 0; g < N; g++) {
			int j = col + x + g * (T / N);
			long to = (long)r * ldc + j;
			if (vec & 4 && j + 4 <= n) {
				f4 v;
#pragma unroll
				for (int e = 0; e < 4; e++) v[e] = out.of(acc[i][g * 4 + e], to + e, j + e);
				*(f4 *)&out.c[to] = v;
			} else {
#pragma unroll
				for (int e = 0; e < 4; e++)
					if (j + e < n) out.c[to + e] = out.of(acc[i][g * 4 + e], to + e, j + e);
			}
		}
	}
}

#define GEMM(name, T, K, N)                                                                                    \
	KERNEL LAUNCH((T / N / 4) * (T / N / 4))                                                                   \
	    name(float *c, const float *a, const void *b, const float *bias, float *part, int m, int n, int depth, \
	         int lda, int ldb, int ldc, int turnA, int turnB, int halves, int vec, float alpha, float beta,    \
	         long strideA, long strideB, long strideC, int perPart) {                                          \
		gemm<T, K, N>(c, a, b, bias, part, m, n, depth, lda, ldb, ldc, turnA, turnB, halves, vec, alpha, beta, \
		              strideA, strideB, strideC, perPart);                                                     \
	}
GEMM(gemm128, 128, 8, 2)
GEMM(gemm64, 64, 16, 1)
GEMM(gemm32, 32, 8, 1)

KERNEL LAUNCH(BLOCK) gemmReduce(float *c, const float *part, const float *bias, int parts, int m, int n, long rowC,
                                long colC, long strideC, int batch, int biasRow, float alpha, float beta) {
	Result out = {c, bias, alpha, beta};
	long mn = (long)m * n, all = mn * batch;
	for (EACH(e, all)) {
		float sum = part[e];
		for (int p = 1; p < parts; p++) sum += part[p * all + e];
		long i = e % mn / n, j = e % n, at = e / mn * strideC + i * rowC + j * colC;
		c[at] = out.of(sum, at, biasRow ? i : j);
	}
}

// A small operand as thin products want it: rows of float32 on 16-byte boundaries, with zeros to a whole quad.
KERNEL LAUNCH(BLOCK) gemmThin(float *dst, const void *src, int halves, long row, long depth, int k, int ld, long rows,
                              int m, long stride) {
	for (EACH(i, rows * ld)) {
		long r = i / ld, l = i % ld, at = r / m * stride + r % m * row + l * depth;
		dst[i] = l >= k ? 0 : halves ? half(((const u16 *)src)[at]) : ((const float *)src)[at];
	}
}

// Few rows, ROWS at most, times a matrix, each element of which is read once. Element (i, j) of C is [i*rowC+j*colC],
// so that a product with few columns is one with few rows.
struct Thin {
	Result out;
	long rowC, colC;
	int m, n, biasRow;

	INLINE void put(float sum, int i, int j) const {
		long at = i * rowC + j * colC;
		out.c[at] = out.of(sum, at, biasRow ? i : j);
	}
};

// B (n, depth) by rows: a warp has four of them.
template <int ROWS>
DEVICE void thinRows(Thin t, const float *a, int lda, const void *b, int halves, long ldb, int vec, int k, int end) {
	int j = (block() * (BLOCK / 32) + warpId()) * 4;
	if (j >= t.n) return;
	float acc[ROWS][4];
#pragma unroll
	for (int i = 0; i < ROWS; i++)
#pragma unroll
		for (int c = 0; c < 4; c++) acc[i][c] = 0;
	for (int l = k + laneId() * 4; l < end; l += 128) {
		int some = clampQuad(end - l);
		f4 vb[4];
#pragma unroll
		for (int c = 0; c < 4; c++) vb[c] = load4(b, (j + c) * ldb + l, j + c < t.n ? some : 0, halves, vec);
#pragma unroll
		for (int i = 0; i < ROWS; i++) {
			if (ROWS > 1 && i >= t.m) break;
			f4 va = *(const f4 *)&a[i * lda + l];
#pragma unroll
			for (int c = 0; c < 4; c++)
#pragma unroll
				for (int e = 0; e < 4; e++) acc[i][c] = fma(va[e], vb[c][e], acc[i][c]);
		}
	}
#pragma unroll
	for (int i = 0; i < ROWS; i++) {
		if (ROWS > 1 && i >= t.m) break;
#pragma unroll
		for (int c = 0; c < 4; c++) {
			float sum = warpReduce<Sum>(acc[i][c]);
			if (laneId() == 0 && j + c < t.n) t.put(sum, i, j + c);
		}
	}
}

// B (depth, n): a thread has four columns and every eighth row.
template <int ROWS>
DEVICE void thinCols(Thin t, const float *a, int lda, const void *b, int halves, long ldb, int vec, int k, int end) {
	SHARED f4 part[BLOCK / 32][32];
	int j = (block() * 32 + laneId()) * 4, some = clampQuad(t.n - j);
	f4 acc[ROWS];
#pragma unroll
	for (int i = 0; i < ROWS; i++) acc[i] = {0, 0, 0, 0};
	for (int l = k + warpId(); l < end; l += BLOCK / 32) {
		f4 vb = load4(b, l * ldb + j, some, halves, vec);
#pragma unroll
		for (int i = 0; i < ROWS; i++) {
			if (ROWS > 1 && i >= t.m) break;
			float va = a[i * lda + l];
#pragma unroll
			for (int e = 0; e < 4; e++) acc[i][e] = fma(va, vb[e], acc[i][e]);
		}
	}
#pragma unroll
	for (int i = 0; i < ROWS; i++) {
		if (ROWS > 1 && i >= t.m) break;
		if (i > 0) barrier();
		part[warpId()][laneId()] = acc[i];
		barrier();
		if (tid() < 128 && block() * 128 + tid() < t.n) {
			float sum = 0;
			for (int w = 0; w < BLOCK / 32; w++) sum += ((const float *)part[w])[tid()];
			t.put(sum, i, block() * 128 + tid());
		}
	}
}

#define THIN(name, form, ROWS)                                                                                       \
	KERNEL LAUNCH(BLOCK) name(float *c, const float *a, const void *b, const float *bias, float *part, int m, int n, \
	                          int depth, int lda, long ldb, long rowC, long colC, int halves, int vec, int biasRow,  \
	                          float alpha, float beta, long strideA, long strideB, long strideC, int perPart) {      \
		int k = blockY() * perPart;                                                                                  \
		long z = blockZ();                                                                                           \
		Thin t = {{c + z * strideC, bias, alpha, beta}, rowC, colC, m, n, biasRow};                                  \
		if (part) t = {{part + ((long)blockY() * gridZ() + z) * m * n, 0, 1, 0}, n, 1, m, n, 0};                     \
		b = (const char *)b + z * strideB * (halves ? 2 : 4);                                                        \
		form<ROWS>(t, a + z * strideA, lda, b, halves, ldb, vec, k, min(depth, k + perPart));                        \
	}
THIN(gemmRow, thinRows, 1)
THIN(gemmRows, thinRows, 8)
THIN(gemmCol, thinCols, 1)
THIN(gemmCols, thinCols, 8)
