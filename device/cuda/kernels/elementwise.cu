#include "setun.h"

KERNEL LAUNCH(BLOCK) fill4(u32 *dst, u32 v, long n) {
	for (EACH(i, n)) dst[i] = v;
}
KERNEL LAUNCH(BLOCK) fill2(u16 *dst, u32 v, long n) {
	for (EACH(i, n)) dst[i] = v;
}
KERNEL LAUNCH(BLOCK) fill1(u8 *dst, u32 v, long n) {
	for (EACH(i, n)) dst[i] = v;
}
KERNEL LAUNCH(BLOCK) narrow(u16 *dst, const float *src, long n) {
	for (EACH(i, n)) dst[i] = toHalf(src[i]);
}
KERNEL LAUNCH(BLOCK) widen(float *dst, const u16 *src, long n) {
	for (EACH(i, n)) dst[i] = half(src[i]);
}
KERNEL LAUNCH(BLOCK) copyRows(float *dst, long ldd, const float *src, long lds, long n, int cols, int acc) {
	for (EACH(i, n)) {
		long r = i / cols, c = i % cols;
		float v = src[r * lds + c];
		dst[r * ldd + c] = acc ? dst[r * ldd + c] + v : v;
	}
}
KERNEL LAUNCH(BLOCK) narrowRows(u16 *dst, long ldd, const float *src, long lds, long n, int cols) {
	for (EACH(i, n)) {
		long r = i / cols, c = i % cols;
		dst[r * ldd + c] = toHalf(src[r * lds + c]);
	}
}
KERNEL LAUNCH(BLOCK) add(float *dst, const float *a, const float *b, long n) {
	for (EACH(i, n)) dst[i] = a[i] + b[i];
}
KERNEL LAUNCH(BLOCK) mul(float *dst, const float *a, const float *b, long n) {
	for (EACH(i, n)) dst[i] = a[i] * b[i];
}
KERNEL LAUNCH(BLOCK) mulAdd(float *d, const float *a, const float *b, long n) {
	for (EACH(i, n)) d[i] = d[i] + a[i] * b[i];
}
KERNEL LAUNCH(BLOCK) scale(float *dst, float alpha, const float *x, long n) {
	for (EACH(i, n)) dst[i] = alpha * x[i];
}
KERNEL LAUNCH(BLOCK) axpy(float *d, float alpha, const float *x, long n) {
	for (EACH(i, n)) d[i] = d[i] + alpha * x[i];
}

// Activations, in the order of device.UnaryOp.
enum { SiLU, ReLU, ReLU2, GELU, Sigmoid, Tanh, Exp };

DEVICE float value(int f, float x) {
	switch (f) {
	case SiLU: return x == -inff() ? nanf() : x * sigmoid(x);
	case ReLU: return x > 0 || x != x ? x : 0;
	case ReLU2: return x > 0 || x != x ? x * x : 0;
	case GELU: return x * normalCDF(x);
	case Sigmoid: return sigmoid(x);
	case Tanh: return tanhf(x);
	default: return expf(x);
	}
}

DEVICE float slope(int f, float x) {
	float s;
	switch (f) {
	case SiLU: s = sigmoid(x); return s + x * s * (1 - s);
	case ReLU: return x > 0 ? 1 : 0;
	case ReLU2: return x > 0 || x != x ? 2 * x : 0;
	case GELU: return normalCDF(x) + x * (expf(-0.5f * x * x) * 0.3989422804f);
	case Sigmoid: s = sigmoid(x); return s * (1 - s);
	case Tanh: s = tanhf(x); return (1 - s) * (1 + s);
	default: return expf(x);
	}
}

KERNEL LAUNCH(BLOCK) unary(int f, float *dst, const float *x, long n) {
	for (EACH(i, n)) dst[i] = value(f, x[i]);
}
KERNEL LAUNCH(BLOCK) unaryGrad(int f, float *dx, const float *dy, const float *x, long n) {
	for (EACH(i, n)) dx[i] = dx[i] + dy[i] * slope(f, x[i]);
}
KERNEL LAUNCH(BLOCK) gated(int f, float *dst, const float *g, const float *u, long n) {
	for (EACH(i, n)) dst[i] = value(f, g[i]) * u[i];
}
KERNEL LAUNCH(BLOCK) gatedGrad(int f, float *dg, float *du, const float *dy, const float *g, const float *u, long n) {
	for (EACH(i, n)) {
		float d = dy[i], x = g[i];
		if (dg) dg[i] = dg[i] + d * u[i] * slope(f, x);
		if (du) du[i] = du[i] + d * value(f, x);
	}
}

// A thread has the four elements of a counter.
KERNEL LAUNCH(BLOCK) dropout(float *dst, const float *x, float p, u64 seed, int acc, long n) {
	float keep = 1 / (1 - p);
	for (EACH(c, (n + 3) / 4)) {
		Words r = philox(seed, c);
#pragma unroll
		for (int j = 0; j < 4; j++) {
			long i = 4 * c + j;
			if (i >= n) break;
			float v = unit(r.w[j]) >= p ? x[i] * keep : 0;
			dst[i] = acc ? dst[i] + v : v;
		}
	}
}
KERNEL LAUNCH(BLOCK) uniform(float *dst, u64 seed, float lo, float width, long n) {
	for (EACH(c, (n + 3) / 4)) {
		Words r = philox(seed, c);
#pragma unroll
		for (int j = 0; j < 4; j++)
			if (4 * c + j < n) dst[4 * c + j] = lo + width * unit(r.w[j]);
	}
}

// sincos of 2 pi u, u in [0, 1): the turn is reduced exactly to an eighth around a multiple of a quarter.
DEVICE void sincosTurn(float u, float &sin, float &cos) {
	int q = (int)(u * 4 + 0.5f);
	float a = (u - 0.25f * q) * 6.2831853071795865f, z = a * a;
	float s = 2.7557319e-6f;
	s = fma(s, z, -1.9841270e-4f);
	s = fma(s, z, 8.3333333e-3f);
	s = fma(s, z, -0.16666667f);
	s = fma(a * z, s, a);
	float c = 2.4801587e-5f;
	c = fma(c, z, -1.3888889e-3f);
	c = fma(c, z, 4.1666667e-2f);
	c = fma(c, z, -0.5f);
	c = fma(c, z, 1);
	float x = q & 1 ? s : c, y = q & 1 ? c : s;
	cos = q + 1 & 2 ? -x : x;
	sin = q & 2 ? -y : y;
}

KERNEL LAUNCH(BLOCK) normal(float *dst, u64 seed, float std, long n) {
	for (EACH(c, (n + 3) / 4)) {
		Words r = philox(seed, c);
#pragma unroll
		for (int j = 0; j < 4; j += 2) {
			float u = (float)((r.w[j] >> 8) + 1) * (1.0f / 16777216), sin, cos;
			float t = __builtin_sqrtf(-2 * logf(u));
			sincosTurn(unit(r.w[j + 1]), sin, cos);
			if (4 * c + j < n) dst[4 * c + j] = std * (t * cos);
			if (4 * c + j + 1 < n) dst[4 * c + j + 1] = std * (t * sin);
		}
	}
}

KERNEL LAUNCH(BLOCK) adamW(float *w, float *m, float *v, const float *g, float lr, float beta1, float beta2, float eps,
                           float decay, float corr1, float corr2, float gradScale, long n) {
	float keep = 1 - lr * decay, c1 = 1 - beta1, c2 = 1 - beta2;
	for (EACH(i, n)) {
		float x = gradScale * g[i], a = beta1 * m[i] + c1 * x, b = beta2 * v[i] + c2 * x * x;
		m[i] = a;
		v[i] = b;
		w[i] = w[i] * keep - lr * (a * corr1) / (__builtin_sqrtf(b * corr2) + eps);
	}
}

// Indices. An id outside the table stops the kernel's effect on that row and leaves {kernel, row, id} in err.
DEVICE void complain(int *err, int kernel, long row, int id) {
	int old;
	asm volatile("atom.global.cas.b32 %0, [%1], 0, %2;" : "=r"(old) : "l"(err), "r"(kernel) : "memory");
	if (old == 0) {
		err[1] = (int)row;
		err[2] = id;
	}
}
enum { GatherError = 1, ScatterError, CrossEntropyError, CrossEntropyGradError };

KERNEL LAUNCH(BLOCK) gather(float *y, const float *table, const u16 *halves, const int *ids, long rows, int cols, long size,
                            int *err) {
	for (EACH(i, rows * cols)) {
		long r = i / cols, c = i % cols;
		int id = ids[r];
		if (id < 0 || id >= size) {
			if (c == 0) complain(err, GatherError, r, id);
		} else {
			y[i] = halves ? half(halves[(long)id * cols + c]) : table[(long)id * cols + c];
		}
	}
}

KERNEL LAUNCH(BLOCK) checkIds(const int *ids, long rows, long size, int skip, int kernel, int *err) {
	for (EACH(i, rows))
		if (ids[i] >= size || (ids[i] < 0 && !skip)) complain(err, kernel, i, ids[i]);
}

// A block has a row of the table, and adds what belongs to it in the order of the ids.
KERNEL LAUNCH(BLOCK) scatterAdd(float *dtable, const float *dy, const int *ids, long rows, int cols, long size) {
	SHARED int mine[BLOCK];
	for (long id = block(); id < size; id += blocks()) {
		for (long from = 0; from < rows; from += BLOCK) {
			int n = rows - from < BLOCK ? (int)(rows - from) : BLOCK;
			barrier();
			mine[tid()] = tid() < n ? ids[from + tid()] : -1;
			barrier();
			for (int j = 0; j < n; j++)
				if (mine[j] == id)
					for (int c = tid(); c < cols; c += BLOCK)
						dtable[id * cols + c] = dtable[id * cols + c] + dy[(from + j) * cols + c];
		}
	}
}

// Convolution by patches. x is (batch, channels, h, w); cols is (batch*outH*outW, channels*kh*kw).
struct Conv {
	int c, h, w, kh, kw, outH, outW, sh, sw, ph, pw;
};

KERNEL LAUNCH(BLOCK) rope(float *y, const float *x, const float *table, long pairs, int seq, int heads, int dim, int offset,
                          int inverse, int acc) {
	int half = dim / 2;
	for (EACH(i, pairs)) {
		long rh = i / half, r = rh / heads;
		int j = i % half;
		const float *t = table + (offset + r % seq) * dim;
		float c = t[j], s = inverse ? -t[half + j] : t[half + j];
		long at = rh * dim + j;
		float x1 = x[at], x2 = x[at + half];
		float a = x1 * c - x2 * s, b = x2 * c + x1 * s;
		y[at] = acc ? a + y[at] : a;
		y[at + half] = acc ? b + y[at + half] : b;
	}
}
