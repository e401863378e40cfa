// Products of int8 codes with few rows, and what their gradients need. Rows of codes are on 16-byte boundaries, with
// zeros to a whole 16 bytes.
#include "setun.h"
#include "products.h"

// ROWS rows at most of xq (m, k) times codes (n, k): a warp has two of n.
template <int ROWS>
DEVICE void thin(float *y, const char *xq, const float *xs, const char *codes, const float *ws, const float *bias,
                 int m, int n, int k, long ldx, long ldc, int perColumn) {
	int j = (block() * (BLOCK / 32) + warpId()) * 2;
	if (j >= n) return;
	const char *c0 = codes + j * ldc, *c1 = j + 1 < n ? c0 + ldc : c0;
	int acc[ROWS][2];
#pragma unroll
	for (int i = 0; i < ROWS; i++) acc[i][0] = acc[i][1] = 0;
	for (int l = laneId() * 16; l < k; l += 512) {
		u4 v0 = *(const u4 *)(c0 + l), v1 = *(const u4 *)(c1 + l);
#pragma unroll
		for (int i = 0; i < ROWS; i++) {
			if (ROWS > 1 && i >= m) break;
			u4 x = *(const u4 *)(xq + i * ldx + l);
#pragma unroll
			for (int e = 0; e < 4; e++) {
				acc[i][0] = dot4(x[e], v0[e], acc[i][0]);
				acc[i][1] = dot4(x[e], v1[e], acc[i][1]);
			}
		}
	}
#pragma unroll
	for (int i = 0; i < ROWS; i++) {
		if (ROWS > 1 && i >= m) break;
		int s0 = warpReduce<Sum>(acc[i][0]), s1 = warpReduce<Sum>(acc[i][1]);
		int e = laneId();
		if (e < 2 && j + e < n) y[(long)i * n + j + e] = scaled(e ? s1 : s0, i, j + e, xs, ws, perColumn, bias);
	}
}

#define THIN(name, ROWS)                                                                                     \
	KERNEL LAUNCH(BLOCK) name(float *y, const char *xq, const float *xs, const char *codes, const float *ws, \
	                          const float *bias, int m, int n, int k, long ldx, long ldc, int perColumn) {   \
		thin<ROWS>(y, xq, xs, codes, ws, bias, m, n, k, ldx, ldc, perColumn);                                \
	}
THIN(qlinearRow, 1)
THIN(qlinearRows, 8)

// ROWS rows at most of xq times codes in panels. A block has half a panel, so that there are more of them: a lane has
// four rows of it, which lie together, and every 64th block of 16 columns, two at a time. The panel holds code+1, hence
// sum of code*x = sum of (code+1)*x - sum of x.
template <int ROWS>
DEVICE void thinPanel(float *y, const char *xq, const float *xs, const u32 *panels, const float *ws, const float *bias,
                      int m, int n, int k, long ldx, int perColumn, int levels) {
	SHARED int part[BLOCK / 32][ROWS][16];
	int blocks = (k + 15) / 16, l = laneId();
	int acc[ROWS][4], all[ROWS];
#pragma unroll
	for (int i = 0; i < ROWS; i++) acc[i][0] = acc[i][1] = acc[i][2] = acc[i][3] = all[i] = 0;
	for (int level = 0; level < levels; level++) {
		const u32 *p = panels + ((long)(block() / 2) * levels + level) * blocks * 32 + block() % 2 * 16 + l % 4 * 4;
		for (int b = warpId() * 8 + l / 4; b < blocks; b += BLOCK / 2) {
			int more = b + BLOCK / 4 < blocks;
			u4 w[2] = {*(const u4 *)(p + b * 32), {0, 0, 0, 0}};
			if (more) w[1] = *(const u4 *)(p + (b + BLOCK / 4) * 32);
#pragma unroll
			for (int two = 0; two < 2; two++) {
				if (two && !more) break;
#pragma unroll
				for (int i = 0; i < ROWS; i++) {
					if (ROWS > 1 && i >= m) break;
					u4 x = *(const u4 *)(xq + i * ldx + (b + two * BLOCK / 4) * 16);
#pragma unroll
					for (int e = 0; e < 4; e++) {
						all[i] = dot4(x[e], 0x01010101, all[i]);
#pragma unroll
						for (int r = 0; r < 4; r++) acc[i][r] = dot4(x[e], w[two][r] >> 2 * e & 0x03030303, acc[i][r]);
					}
				}
			}
		}
	}
#pragma unroll
	for (int i = 0; i < ROWS; i++) {
		if (ROWS > 1 && i >= m) break;
#pragma unroll
		for (int r = 0; r < 4; r++) {
			int sum = acc[i][r] - all[i];
			sum += shuffle(sum, 4);
			sum += shuffle(sum, 8);
			sum += shuffle(sum, 16);
			if (l < 4) part[warpId()][i][l * 4 + r] = sum;
		}
	}
	barrier();
	int i = tid() / 16, r = tid() % 16, j = block() * 16 + r;
	if (i < m && i < ROWS && j < n) {
		int sum = 0;
#pragma unroll
		for (int w = 0; w < BLOCK / 32; w++) sum += part[w][i][r];
		y[(long)i * n + j] = scaled(sum, i, j, xs, ws, perColumn, bias);
	}
}

#define PANEL(name, ROWS)                                                                                    \
	KERNEL LAUNCH(BLOCK) name(float *y, const char *xq, const float *xs, const u32 *panels, const float *ws, \
	                          const float *bias, int m, int n, int k, long ldx, int perColumn, int levels) { \
		thinPanel<ROWS>(y, xq, xs, panels, ws, bias, m, n, k, ldx, perColumn, levels);                       \
	}
PANEL(packedRow, 1)
PANEL(packedRows, 8)

KERNEL LAUNCH(BLOCK) unpackPanels(i8 *codes, const u8 *panels, int n, int k, int levels) {
	long plane = (long)((k + 15) / 16) * 128;
	for (EACH(e, (long)n * k)) {
		int i = e / k, j = e % k, shift = j % 16 / 4 * 2, code = 0;
		const u8 *p = panels + i / 32 * levels * plane + (long)(j / 16) * 128 + i % 32 * 4 + j % 4;
		for (int level = 0; level < levels; level++) code += (p[level * plane] >> shift & 3) - 1;
		codes[e] = code;
	}
}

// Rows of ld bytes, k of src and zeros.
KERNEL LAUNCH(BLOCK) padCodes(u32 *dst, const u8 *src, long rows, int k, int ld) {
	int words = ld / 4;
	for (EACH(q, rows * words)) {
		int l = q % words * 4;
		const u8 *x = src + q / words * k + l;
		u32 w = 0;
#pragma unroll
		for (int i = 0; i < 4; i++)
			if (l + i < k) w |= (u32)x[i] << 8 * i;
		dst[q] = w;
	}
}

// write16 are 16 rows of a column of a tile.
template <typename T> DEVICE void write16(i8 *dst, const T &tile, int l, int r) {
	u4 v;
#pragma unroll
	for (int i = 0; i < 4; i++) {
		u32 w = 0;
#pragma unroll
		for (int e = 0; e < 4; e++) w |= (u32)(u8)tile[l + 4 * i + e][r] << 8 * e;
		v[i] = w;
	}
	*(u4 *)dst = v;
}

// turnCodes: src (k, m) turned, to rows of ld bytes. A block has 64 by 64.
KERNEL LAUNCH(BLOCK) turnCodes(i8 *dst, const i8 *src, int m, int k, int ld) {
	SHARED i8 tile[64][68];
	int row = block() * 64;
	for (int l0 = blockY() * 64; l0 < ld; l0 += blocksY() * 64) {
		for (int i = tid(); i < 64 * 64; i += BLOCK) {
			int l = l0 + i / 64, r = row + i % 64;
			tile[i / 64][i % 64] = l < k && r < m ? src[(long)l * m + r] : 0;
		}
		barrier();
		int r = tid() / 4, l = tid() % 4 * 16;
		if (row + r < m && l0 + l < ld) write16(&dst[(long)(row + r) * ld + l0 + l], tile, l, r);
		barrier();
	}
}

// Gradients h in int8, above a floor for the largest (device.MathInt8).
struct Codes {
	float times, scale;
	bool zero;

	static INLINE Codes of(u32 largest) {
		if (!finite(largest)) return {0, nanf(), true};
		float a = maxf(fromBits(largest), 0x1p-119f);
		return {127 / a, a / 127, false};
	}
	INLINE int code(float h) const { return zero ? 0 : roundCode(h * times); }
};

DEVICE u32 magnitude(float x) { return bits(x) & 0x7fffffff; }

// gradRows: h = dy, or dy*ws with a scale for each column, by rows.
KERNEL LAUNCH(BLOCK) gradRows(i8 *q, float *scale, const float *dy, const float *ws, long rows, int n, int ld) {
	for (long r = block(); r < rows; r += blocks()) {
		const float *x = dy + r * n;
		u32 top = 0;
		for (int j = tid(); j < n; j += BLOCK) {
			u32 a = magnitude(ws ? x[j] * ws[j] : x[j]);
			top = a > top ? a : top;
		}
		Codes c = Codes::of(reduce<Max>(top));
		for (int j = tid(); j < ld; j += BLOCK) q[r * ld + j] = j < n ? c.code(ws ? x[j] * ws[j] : x[j]) : 0;
		if (tid() == 0) scale[r] = c.scale;
	}
}

// gradTops: part[slice, j] = the largest |h[i,j]| of a slice of rows, h = dy*xs. A block has 32 columns.
KERNEL LAUNCH(BLOCK) gradTops(u32 *part, const float *dy, const float *xs, int m, int n, int perSlice) {
	SHARED u32 tops[BLOCK / 32][32];
	int j = block() * 32 + laneId(), i = blockY() * perSlice, end = min(m, i + perSlice);
	u32 top = 0;
	if (j < n)
		for (i += warpId(); i < end; i += BLOCK / 32) {
			u32 a = magnitude(dy[(long)i * n + j] * xs[i]);
			top = a > top ? a : top;
		}
	tops[warpId()][laneId()] = top;
	barrier();
	if (warpId() > 0 || j >= n) return;
	for (int w = 1; w < BLOCK / 32; w++) top = tops[w][laneId()] > top ? tops[w][laneId()] : top;
	part[(long)blockY() * n + j] = top;
}

// gradCols: the codes of h by columns, turned: q (n, m), to rows of ld bytes. A block has 64 by 64.
KERNEL LAUNCH(BLOCK)
    gradCols(i8 *q, float *scale, const float *dy, const float *xs, const u32 *part, int slices, int m, int n, int ld) {
	SHARED Codes codes[64];
	SHARED i8 tile[64][68];
	int col = block() * 64;
	if (tid() < 64 && col + tid() < n) {
		u32 top = 0;
		for (int s = 0; s < slices; s++) {
			u32 a = part[(long)s * n + col + tid()];
			top = a > top ? a : top;
		}
		Codes c = Codes::of(top);
		codes[tid()] = c;
		if (blockY() == 0) scale[col + tid()] = c.scale;
	}
	barrier();
	for (int i0 = blockY() * 64; i0 < ld; i0 += blocksY() * 64) {
		for (int e = tid(); e < 64 * 64; e += BLOCK) {
			int i = i0 + e / 64, j = e % 64;
			tile[e / 64][j] = i < m && col + j < n ? codes[j].code(dy[(long)i * n + col + j] * xs[i]) : 0;
		}
		barrier();
		int r = tid() / 4, l = tid() % 4 * 16;
		if (col + r < n && i0 + l < ld) write16(&q[(long)(col + r) * ld + i0 + l], tile, l, r);
		barrier();
	}
}

// In float32: dst = dy times scale[row], scale[column] or scale[0]; and codes in half precision, exactly.
KERNEL LAUNCH(BLOCK)
    gradScale(float *dst, const float *dy, const float *scale, int perRow, int perColumn, long n, int cols) {
	for (EACH(e, n)) dst[e] = dy[e] * scale[perRow ? e / cols : perColumn ? e % cols : 0];
}
KERNEL LAUNCH(BLOCK) codesToHalf(u16 *dst, const i8 *src, long n) {
	for (EACH(e, n)) dst[e] = toHalf(src[e]);
}
