#include "setun.h"

KERNEL LAUNCH(BLOCK) fill4(float *dst, float x, long n) {
	vectors(n, aligned(dst), [=](auto v, long i) { put(dst + i, decltype(v)(x)); });
}
KERNEL LAUNCH(BLOCK) fill2(u16 *dst, u32 x, long n) {
	for (EACH(i, n)) dst[i] = (u16)x;
}
KERNEL LAUNCH(BLOCK) fill1(u8 *dst, u32 x, long n) {
	for (EACH(i, n)) dst[i] = (u8)x;
}

KERNEL LAUNCH(BLOCK) narrow(u16 *dst, const float *src, long n) {
	vectors(n, aligned(dst, src), [=](auto v, long i) { putHalf(dst + i, get<decltype(v)>(src + i)); });
}
KERNEL LAUNCH(BLOCK) widen(float *dst, const u16 *src, long n) {
	vectors(n, aligned(dst, src), [=](auto v, long i) { put(dst + i, getHalf<decltype(v)>(src + i)); });
}

// n = rows * cols
KERNEL LAUNCH(BLOCK) copyRows(float *dst, long ldd, const float *src, long lds, long n, int cols, int acc) {
	vectors(n, aligned(dst, src, ldd, lds, cols), [=](auto v, long i) {
		int c;
		long r = divide(i, cols, c);
		float *d = dst + r * ldd + c;
		v = get<decltype(v)>(src + r * lds + c);
		put(d, acc ? get<decltype(v)>(d) + v : v);
	});
}
KERNEL LAUNCH(BLOCK) narrowRows(u16 *dst, long ldd, const float *src, long lds, long n, int cols) {
	vectors(n, aligned(dst, src, ldd, lds, cols), [=](auto v, long i) {
		int c;
		long r = divide(i, cols, c);
		putHalf(dst + r * ldd + c, get<decltype(v)>(src + r * lds + c));
	});
}

KERNEL LAUNCH(BLOCK) add(float *dst, const float *a, const float *b, long n) {
	vectors(n, aligned(dst, a, b), [=](auto v, long i) {
		using V = decltype(v);
		put(dst + i, get<V>(a + i) + get<V>(b + i));
	});
}
KERNEL LAUNCH(BLOCK) mul(float *dst, const float *a, const float *b, long n) {
	vectors(n, aligned(dst, a, b), [=](auto v, long i) {
		using V = decltype(v);
		put(dst + i, get<V>(a + i) * get<V>(b + i));
	});
}
KERNEL LAUNCH(BLOCK) mulAdd(float *d, const float *a, const float *b, long n) {
	vectors(n, aligned(d, a, b), [=](auto v, long i) {
		using V = decltype(v);
		put(d + i, get<V>(d + i) + get<V>(a + i) * get<V>(b + i));
	});
}
KERNEL LAUNCH(BLOCK) scale(float *dst, float alpha, const float *x, long n) {
	vectors(n, aligned(dst, x), [=](auto v, long i) { put(dst + i, alpha * get<decltype(v)>(x + i)); });
}
KERNEL LAUNCH(BLOCK) axpy(float *d, float alpha, const float *x, long n) {
	vectors(n, aligned(d, x), [=](auto v, long i) {
		using V = decltype(v);
		put(d + i, get<V>(d + i) + alpha * get<V>(x + i));
	});
}

// Activations, in the order of device.UnaryOp.
enum { SiLU, ReLU, ReLU2, GELU, Sigmoid, Tanh, Exp };

DEVICE float positive(float x) { return x > 0 || x != x ? x : 0; }

template <typename V> DEVICE V value(int f, V x) {
	switch (f) {
	case SiLU: return map([](float x) { return x * sigmoid(x); }, x);
	case ReLU: return map([](float x) { return positive(x); }, x);
	case ReLU2: return map([](float x) { return positive(x) * positive(x); }, x);
	case GELU: return map([](float x) { return x * normalCDF(x); }, x);
	case Sigmoid: return map([](float x) { return sigmoid(x); }, x);
	case Tanh: return map([](float x) { return tanhf(x); }, x);
	default: return map([](float x) { return expf(x); }, x);
	}
}

template <typename V> DEVICE V slope(int f, V x) {
	switch (f) {
	case SiLU:
		return map([](float x) {
			float s = sigmoid(x);
			return s + x * s * (1 - s);
		}, x);
	case ReLU: return map([](float x) { return x > 0 ? 1.0f : 0.0f; }, x);
	case ReLU2: return map([](float x) { return 2 * positive(x); }, x);
	case GELU: return map([](float x) { return normalCDF(x) + x * (expf(-0.5f * x * x) * 0.3989422804f); }, x);
	case Sigmoid:
		return map([](float x) {
			float s = sigmoid(x);
			return s * (1 - s);
		}, x);
	case Tanh:
		return map([](float x) {
			float t = tanhf(x);
			return (1 - t) * (1 + t);
		}, x);
	default: return map([](float x) { return expf(x); }, x);
	}
}

KERNEL LAUNCH(BLOCK) unary(int f, float *dst, const float *x, long n) {
	vectors(n, aligned(dst, x), [=](auto v, long i) { put(dst + i, value(f, get<decltype(v)>(x + i))); });
}
KERNEL LAUNCH(BLOCK) unaryGrad(int f, float *dx, const float *dy, const float *x, int acc, long n) {
	vectors(n, aligned(dx, dy, x), [=](auto v, long i) {
		using V = decltype(v);
		put(dx + i, old<V>(dx + i, acc) + get<V>(dy + i) * slope(f, get<V>(x + i)));
	});
}
KERNEL LAUNCH(BLOCK) gated(int f, float *dst, const float *g, const float *u, long n) {
	vectors(n, aligned(dst, g, u), [=](auto v, long i) {
		using V = decltype(v);
		put(dst + i, value(f, get<V>(g + i)) * get<V>(u + i));
	});
}
// dg or du may be 0.
KERNEL LAUNCH(BLOCK) gatedGrad(int f, float *dg, float *du, const float *dy, const float *g, const float *u, int acc,
                               long n) {
	vectors(n, aligned(dg, du, dy, g, u), [=](auto v, long i) {
		using V = decltype(v);
		V d = get<V>(dy + i), x = get<V>(g + i);
		if (dg) put(dg + i, old<V>(dg + i, acc) + d * slope(f, x) * get<V>(u + i));
		if (du) put(du + i, old<V>(du + i, acc) + d * value(f, x));
	});
}

KERNEL LAUNCH(BLOCK) adamW(float *w, float *m, float *v, const float *g, float lr, float beta1, float beta2, float eps,
                           float decay, float corr1, float corr2, float gradScale, long n) {
	float keep = 1 - lr * decay, c1 = 1 - beta1, c2 = 1 - beta2;
	vectors(n, aligned(w, m, v, g), [=](auto t, long i) {
		using V = decltype(t);
		V x = gradScale * get<V>(g + i), a = beta1 * get<V>(m + i) + c1 * x, b = beta2 * get<V>(v + i) + c2 * x * x;
		put(m + i, a);
		put(v + i, b);
		put(w + i, get<V>(w + i) * keep - lr * (a * corr1) / (__builtin_elementwise_sqrt(b * corr2) + eps));
	});
}
