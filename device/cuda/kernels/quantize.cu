#include "setun.h"
#include "row.h"
#include "lanes.h"

DEVICE float roundEven(float v) { return (v + 12582912.0f) - 12582912.0f; } // for |v| < 2^22

// absBits are those of the largest |v|: NaN is above Inf, which is above all numbers.
DEVICE u32 absBits(float v) { return bits(absf(v)); }
DEVICE u32 absBits(float4 v) {
	return Max::of(Max::of(absBits(v.x), absBits(v.y)), Max::of(absBits(v.z), absBits(v.w)));
}

template <int T, typename V, bool keep>
DEVICE void quantizeRows(i8 *q, float *scale, const float *x, long rows, int cols) {
	for (ROW(r, rows)) {
		Row<T, V, keep> row(x + r * cols, cols);
		u32 top = 0;
		share<T, V, keep>(cols, [&](int k, int j) { top = Max::of(absBits(row.at(k, j)), top); });
		top = reduce<Max, T>(top);
		bool ok = finite(top);
		float a = maxf(fromBits(top), 1e-5f), s = 127 / a;
		if (tid() % T == 0) scale[r] = ok ? a / 127 : nanf();
		share<T, V, keep>(cols, [&](int k, int j) {
			putCodes(q + r * cols + j, map([=](float v) { return ok ? roundEven(v * s) : 0; }, row.at(k, j)));
		});
	}
}
ROWS(quantizeRows, (i8 *q, float *scale, const float *x, long rows, int cols), (q, scale, x, rows, cols))

// Below, x is (groups, n), with a scale for each group. A warp has a group where sums of chunks add up.
#define GROUP(g, groups) \
	long g = ((long)block() * BLOCK + tid()) / 32; g < (groups); g += (long)blocks() * (BLOCK / 32)

DEVICE bool finite(double x) { return __builtin_fabs(x) < __builtin_inf(); }

// scale = max(factor * mean, 1e-8); with given, that one. NaN if the sum of |w| is not finite.
KERNEL LAUNCH(BLOCK) weightScale(float *scale, const double *sums, const float *given, float factor, long groups,
                                 long n, long chunks) {
	for (GROUP(g, groups)) {
		double sum = laneTotal(sums + g * chunks, chunks);
		float s = (float)(factor * (sum / n));
		s = s < 1e-8f ? 1e-8f : s;
		if (tid() % 32 == 0) scale[g] = !finite(sum) ? nanf() : given ? given[g] : s;
	}
}

// encode: q = clip(roundEven(w/scale)). 0/0 and a NaN scale give code 0. all = groups * n.
KERNEL LAUNCH(BLOCK) encode(i8 *q, const float *w, const float *scale, float levels, long all, int groups, int n) {
	vectors(all, aligned(q, w, n), [=](auto v, long i) {
		int rest;
		float s = scale[groups > 1 ? divide(i, n, rest) : 0];
		putCodes(q + i, map([=](float w) {
			float v = w / s;
			v = v > levels ? levels : v < -levels ? -levels : v;
			return v != v ? 0 : roundEven(v);
		}, get<decltype(v)>(w + i)));
	});
}

// TWN: cut = max(factor * mean, 0), NaN if the sum of |w| is not finite; and, as scale, max(mean, 1e-8).
KERNEL LAUNCH(BLOCK) signCut(float *cut, float *scale, const double *sums, float factor, long groups, long n,
                             long chunks) {
	for (GROUP(g, groups)) {
		double sum = laneTotal(sums + g * chunks, chunks), mean = sum / n;
		float c = (float)(factor * mean), m = (float)mean;
		if (tid() % 32 != 0) continue;
		cut[g] = !finite(sum) ? nanf() : c < 0 ? 0 : c;
		scale[g] = m < 1e-8f ? 1e-8f : m;
	}
}
// scale = mean of the kept |w|, if any are kept.
KERNEL LAUNCH(BLOCK) signScale(float *scale, const float *cut, const double *sums, const double *kept, long groups,
                               long chunks) {
	for (GROUP(g, groups)) {
		double sum = laneTotal(sums + g * chunks, chunks), n = laneTotal(kept + g * chunks, chunks);
		if (tid() % 32 != 0) continue;
		if (cut[g] != cut[g]) scale[g] = nanf();
		else if (n > 0) scale[g] = (float)(sum / n);
	}
}
// signs: q = sign(w) where |w| > cut, else 0.
KERNEL LAUNCH(BLOCK) signs(i8 *q, const float *w, const float *cut, long all, int groups, int n) {
	vectors(all, aligned(q, w, n), [=](auto v, long i) {
		int rest;
		float c = cut[groups > 1 ? divide(i, n, rest) : 0];
		putCodes(q + i, map([=](float w) { return absf(w) > c ? w > 0 ? 1.0f : -1.0f : 0; }, get<decltype(v)>(w + i)));
	});
}

// Absolute maxima of chunks, as bits. A warp has a chunk.
KERNEL LAUNCH(BLOCK) maxChunks(u32 *part, const float *x, long groups, long n, long chunks) {
	for (GROUP(q, groups * chunks)) {
		long g = q / chunks, at = q % chunks * LANE_CHUNK;
		int len = n - at < LANE_CHUNK ? (int)(n - at) : LANE_CHUNK;
		const float *p = x + g * n + at;
		u32 top = 0;
#pragma unroll 8
		for (int i = tid() % 32; i < len; i += 32) top = Max::of(absBits(p[i]), top);
		top = warpReduce<Max>(top);
		if (tid() % 32 == 0) part[q] = top;
	}
}

// scale = max(a, floor)/levels with a = max|x|, but at most clip * rms if there are squares; with given, that one. NaN
// if a is not finite.
KERNEL LAUNCH(BLOCK) stochasticScale(float *scale, const u32 *tops, const double *squares, const float *given,
                                     float clip, float levels, long groups, long n, long chunks) {
	for (GROUP(g, groups)) {
		u32 top = 0;
#pragma unroll 8
		for (long i = tid() % 32; i < chunks; i += 32) top = Max::of(tops[g * chunks + i], top);
		top = warpReduce<Max>(top);
		float a = fromBits(top);
		if (squares) {
			double rms = __builtin_sqrt(laneTotal(squares + g * chunks, chunks) / n);
			a = minf(a, (float)(clip * rms));
		}
		if (tid() % 32 == 0) scale[g] = !finite(top) ? nanf() : given ? given[g] : maxf(a, 0x1p-119f) / levels;
	}
}

// q = clip(floor(v) + [u < v - floor(v)]) with v = x/scale, NaN giving 0. A thread has the four elements of a
// counter.
KERNEL LAUNCH(BLOCK) encodeStochastic(i8 *q, const float *x, const float *scale, float levels, u64 seed, long all,
                                      int groups, int n) {
	bool wide = aligned(q, x, n, all);
	for (EACH(c, (all + 3) / 4)) {
		Words r = philox(seed, c);
		int rest;
		auto code = [=](float x, float s, u32 word) {
			float v = x / s;
			v = v > levels ? levels : v < -levels ? -levels : v;
			v = v != v ? 0 : v;
			float f = __builtin_floorf(v);
			return unit(word) < v - f ? f + 1 : f;
		};
		if (wide) { // the elements are in one group
			float s = scale[groups > 1 ? divide(4 * c, n, rest) : 0];
			float4 v = get<float4>(x + 4 * c);
			v = {code(v.x, s, r.w[0]), code(v.y, s, r.w[1]), code(v.z, s, r.w[2]), code(v.w, s, r.w[3])};
			putCodes(q + 4 * c, v);
			continue;
		}
#pragma unroll
		for (int j = 0; j < 4; j++) {
			long i = 4 * c + j;
			if (i < all) putCodes(q + i, code(x[i], scale[groups > 1 ? divide(i, n, rest) : 0], r.w[j]));
		}
	}
}

// n = rows * cols
KERNEL LAUNCH(BLOCK) dequantize(float *y, const i8 *codes, const float *scale, int scales, long n, int cols) {
	vectors(n, aligned(y, codes, cols), [=](auto v, long i) {
		int c;
		float s = scale[scales > 1 ? divide(i, cols, c) : 0];
		put(y + i, getCodes<decltype(v)>(codes + i) * s);
	});
}

// The sum of each row: to sums or, times alpha, to dscale.
template <int T, typename V, bool keep>
DEVICE void lsqGrad(float *dscale, double *sums, const float *dq, const float *w, const float *scale, int scales,
                    float levels, float alpha, long rows, int cols) {
	for (ROW(r, rows)) {
		float s = scale[scales > 1 ? r : 0];
		double sum = 0;
		share<T, V, false>(cols, [&](int, int j) {
			V v = map([=](float w) {
				float v = w / s;
				return v >= levels ? levels : v <= -levels ? -levels : roundEven(v) - v;
			}, get<V>(w + r * cols + j));
			sum += dot(get<V>(dq + r * cols + j), v);
		});
		sum = reduce<Sum, T>(sum);
		if (tid() % T != 0) continue;
		if (sums) sums[r] = sum;
		else dscale[r] += alpha * (float)sum;
	}
}
ROWS(lsqGrad,
     (float *dscale, double *sums, const float *dq, const float *w, const float *scale, int scales, float levels,
      float alpha, long rows, int cols),
     (dscale, sums, dq, w, scale, scales, levels, alpha, rows, cols))

// d[0] += alpha * sum of sums, by one block.
KERNEL LAUNCH(BLOCK) addSums(float *d, const double *sums, float alpha, long n) {
	double total = 0;
#pragma unroll 8
	for (long i = tid(); i < n; i += BLOCK) total += sums[i];
	total = reduce<Sum, BLOCK, true>(total);
	if (tid() == 0) d[0] += alpha * (float)total;
}

// Rows of a cache in int8: cols codes, then the bytes of their scale (device.Int8Row). A warp has a row.
KERNEL LAUNCH(BLOCK) int8Rows(i8 *dst, long ldd, const float *src, long lds, long rows, int cols) {
	for (GROUP(r, rows)) {
		const float *x = src + r * lds;
		u32 top = 0;
		for (int j = tid() % 32; j < cols; j += 32) top = Max::of(absBits(x[j]), top);
		top = warpReduce<Max>(top);
		bool ok = finite(top);
		float a = maxf(fromBits(top), 1e-5f), s = 127 / a;
		u32 scale = bits(ok ? a / 127 : nanf());
		i8 *q = dst + r * ldd;
		for (int j = tid() % 32; j < cols; j += 32) q[j] = ok ? (i8)roundEven(x[j] * s) : 0;
		if (tid() % 32 < 4) q[cols + tid() % 32] = (i8)(scale >> 8 * (tid() % 32));
	}
}
KERNEL LAUNCH(BLOCK) fromInt8Rows(float *dst, const i8 *src, long rows, int cols, int keys, int room) {
	for (GROUP(r, rows)) { // the first keys of each head of a cache with room for more
		if (r % room >= keys) continue;
		const i8 *q = src + r * (cols + 4);
		u32 scale = 0;
		for (int i = 0; i < 4; i++) scale |= (u32)(u8)q[cols + i] << 8 * i;
		for (int j = tid() % 32; j < cols; j += 32) dst[r * cols + j] = q[j] * fromBits(scale);
	}
}
