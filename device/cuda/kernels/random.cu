#include "setun.h"

// A thread has the four elements of a counter.
#define COUNTERS(c, n) EACH(c, ((n) + 3) / 4)

DEVICE float4 getQuad(const float *x, long at, long n) {
	if (at + 4 <= n && aligned(x)) return get<float4>(x + at);
	float4 v = 0;
#pragma unroll
	for (int j = 0; j < 4; j++)
		if (at + j < n) v[j] = x[at + j];
	return v;
}
DEVICE void putQuad(float *x, long at, long n, float4 v) {
	if (at + 4 <= n && aligned(x)) {
		put(x + at, v);
		return;
	}
#pragma unroll
	for (int j = 0; j < 4; j++)
		if (at + j < n) x[at + j] = v[j];
}

KERNEL LAUNCH(BLOCK) dropout(float *dst, const float *x, float p, float keep, u64 seed, int acc, long n) {
	for (COUNTERS(c, n)) {
		Words r = philox(seed, c);
		float4 v = getQuad(x, 4 * c, n);
#pragma unroll
		for (int j = 0; j < 4; j++) v[j] = unit(r.w[j]) >= p ? v[j] * keep : 0;
		if (acc) v += getQuad(dst, 4 * c, n);
		putQuad(dst, 4 * c, n, v);
	}
}

KERNEL LAUNCH(BLOCK) uniform(float *dst, u64 seed, float lo, float width, long n) {
	for (COUNTERS(c, n)) {
		Words r = philox(seed, c);
		float4 v;
#pragma unroll
		for (int j = 0; j < 4; j++) v[j] = lo + width * unit(r.w[j]);
		putQuad(dst, 4 * c, n, v);
	}
}

DEVICE double fma(double a, double b, double c) { return __builtin_fma(a, b, c); }

// log of x in (0, 1]: x = 2^k m, log m = 2 atanh((m-1)/(m+1)).
DEVICE double log(double x) {
	u64 b = __builtin_bit_cast(u64, x);
	int k = (int)((long)(b - 0x3fe6a09e667f3bcd) >> 52);
	double m = __builtin_bit_cast(double, b - ((u64)k << 52)); // in [sqrt(1/2), sqrt(2))
	double s = (m - 1) / (m + 1), z = s * s, p = 1.0 / 23;
#pragma unroll
	for (int i = 21; i > 0; i -= 2) p = fma(p, z, 1.0 / i);
	return fma(k, 0.69314718055994531, 2 * s * p);
}

// sincos of 2 pi u, u in [0, 1): the turn is reduced exactly to an eighth around a multiple of a quarter.
DEVICE void sincosTurn(double u, double &sin, double &cos) {
	int q = (int)(u * 4 + 0.5);
	double a = (u - 0.25 * q) * 6.2831853071795865, z = a * a, s = 1, c = 1;
#pragma unroll
	for (int i = 16; i > 0; i -= 2) {
		s = fma(-s, z * (1.0 / (i * (i + 1))), 1);
		c = fma(-c, z * (1.0 / (i * (i - 1))), 1);
	}
	s *= a;
	double x = q & 1 ? s : c, y = q & 1 ? c : s;
	cos = (q + 1) & 2 ? -x : x;
	sin = q & 2 ? -y : y;
}

KERNEL LAUNCH(BLOCK) normal(float *dst, u64 seed, float std, long n) {
	for (COUNTERS(c, n)) {
		Words r = philox(seed, c);
		float4 v;
#pragma unroll
		for (int j = 0; j < 4; j += 2) {
			double t = __builtin_sqrt(-2 * log(((r.w[j] >> 8) + 1) * 0x1p-24)), sin, cos;
			sincosTurn((r.w[j + 1] >> 8) * 0x1p-24, sin, cos);
			v[j] = std * (float)(t * cos);
			v[j + 1] = std * (float)(t * sin);
		}
		putQuad(dst, 4 * c, n, v);
	}
}
