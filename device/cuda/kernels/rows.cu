#include "setun.h"
#include "lanes.h"

// n = groups * rows * cols; x may be 0.
KERNEL LAUNCH(BLOCK) addRows(float *y, const float *x, const float *b, float alpha, int groups, int rows, int cols,
                             long n) {
	vectors(n, aligned(y, x, b, cols), [=](auto v, long i) {
		using V = decltype(v);
		int c, r;
		long row = divide(i, cols, c), g = groups > 1 ? divide(row, rows, r) : 0;
		v = alpha * get<V>(b + g * cols + c);
		put(y + i, x ? get<V>(x + i) + v : v);
	});
}

// Sums over rows, in float64. Grid: (tiles of 32 columns, splits of the rows, groups); a warp has every eighth row of
// the split. columns calls f(row, column, sum) to add to sum[N]. The sums of a split go to part (N, groups, splits,
// cols); if there is but one, part is 0, and alpha times the sums are added to d (groups, cols), where wanted.
template <int N, typename F>
DEVICE void columns(float *const (&d)[N], double *part, float alpha, int groups, long rows, int cols, F f) {
	SHARED double all[N][BLOCK / 32][32];
	int lane = tid() % 32, warp = tid() / 32, c = 32 * block() + lane, splits = blocksY();
	long each = (rows + splits - 1) / splits, first = each * blockY(), end = first + each < rows ? first + each : rows;
	for (int g = blockZ(); g < groups; g += blocksZ()) {
		double sum[N] = {};
		if (c < cols) {
#pragma unroll 4
			for (long r = first + warp; r < end; r += BLOCK / 32) f(g * rows + r, c, sum);
		}
		if (groups > 1) barrier(); // of the group before
#pragma unroll
		for (int k = 0; k < N; k++) all[k][warp][lane] = sum[k];
		barrier();
		if (warp >= N || c >= cols) continue;
		double total = 0;
#pragma unroll
		for (int w = 0; w < BLOCK / 32; w++) total += all[warp][w][lane];
		if (part) {
			part[(((long)warp * groups + g) * splits + blockY()) * cols + c] = total;
			continue;
		}
#pragma unroll
		for (int k = 0; k < N; k++)
			if (warp == k && d[k]) d[k][(long)g * cols + c] += alpha * (float)total;
	}
}

// d += alpha * the sums over splits of part, n = groups * cols
KERNEL LAUNCH(BLOCK) addColumns(float *d, const double *part, float alpha, int splits, int cols, long n) {
	for (EACH(i, n)) {
		int c;
		long g = divide(i, cols, c);
		double total = 0;
#pragma unroll 8
		for (int s = 0; s < splits; s++) total += part[(g * splits + s) * cols + c];
		d[i] += alpha * (float)total;
	}
}

KERNEL LAUNCH(BLOCK) sumRows(float *d, const float *x, float alpha, double *part, int groups, long rows, int cols) {
	columns<1>({d}, part, alpha, groups, rows, cols, [=](long r, int c, double *sum) { sum[0] += x[r * cols + c]; });
}

// The gradients of gain and bias.
KERNEL LAUNCH(BLOCK) rmsGain(float *dgain, const float *dy, const float *x, const float *inv, double *part, long rows,
                             int cols) {
	columns<1>({dgain}, part, 1, 1, rows, cols, [=](long r, int c, double *sum) {
		sum[0] += dy[r * cols + c] * (x[r * cols + c] * inv[r]);
	});
}
KERNEL LAUNCH(BLOCK) layerGain(float *dgain, float *dbias, const float *dy, const float *x, const float *mean,
                               const float *inv, double *part, long rows, int cols) {
	columns<2>({dgain, dbias}, part, 1, 1, rows, cols, [=](long r, int c, double *sum) {
		float g = dy[r * cols + c];
		sum[0] += g * ((x[r * cols + c] - mean[r]) * inv[r]);
		sum[1] += g;
	});
}

// Half a warp has a chunk, a thread a lane. x is (groups, n), part (groups, chunks). Above: |x| where it is above the
// cut of its group, NaN being above all; CountAbove: how many are.
KERNEL LAUNCH(BLOCK) laneChunks(double *part, const float *x, long groups, long n, int f, const float *cut) {
	long chunks = (n + LANE_CHUNK - 1) / LANE_CHUNK, all = groups * chunks;
	int lane = tid() % 16;
	for (long q = (long)block() * (BLOCK / 16) + tid() / 16; (q & ~1L) < all; q += (long)blocks() * (BLOCK / 16)) {
		double sum = 0;
		if (q < all) {
			long g = q / chunks, at = q % chunks * LANE_CHUNK;
			int len = n - at < LANE_CHUNK ? (int)(n - at) : LANE_CHUNK;
			const float *p = x + g * n + at;
			u32 c = cut ? bits(cut[g]) : 0;
			auto add = [&](auto f) {
#pragma unroll 32 // that many loads are on their way at a time
				for (int i = lane; i < len; i += 16) sum += f(p[i]);
			};
			switch (f) {
			case Squares: add([](float v) { return (double)v * v; }); break;
			case Absolutes: add([](float v) { return (double)absf(v); }); break;
			case Above: add([=](float v) { return bits(absf(v)) > c ? (double)absf(v) : 0; }); break;
			case CountAbove: add([=](float v) { return bits(absf(v)) > c ? 1.0 : 0; });
			}
		}
#pragma unroll
		for (int w = 8; w > 0; w /= 2) sum += shuffle(sum, w);
		if (lane == 0 && q < all) part[q] = sum;
	}
}

// By one warp.
KERNEL sumSquares(float *d, const double *part, long chunks) {
	double total = laneTotal(part, chunks);
	if (tid() == 0) d[0] += (float)total;
}
