#include "setun.h"
#include "row.h"

// Sums are float64, as in device/cpu: squares of floats can leave the range of floats.

// inverseRoot is 1/sqrt(m + eps): in floats where they hold m, since float64 is slow on many GPUs.
DEVICE float inverseRoot(double m, float eps) {
	m += eps;
	if (m > 1e-37 && m < 1e38) return 1 / __builtin_sqrtf((float)m);
	return (float)(1 / __builtin_sqrt(m));
}

// perCol is 1/cols. y, inv and gain may be 0.
template <int T, typename V, bool keep>
DEVICE void rmsNorm(float *y, float *inv, const float *x, const float *gain, long rows, int cols, double perCol,
                    float eps) {
	for (ROW(r, rows)) {
		Row<T, V, keep> row(x + r * cols, cols);
		double sum = 0;
		share<T, V, keep>(cols, [&](int k, int j) { sum += dot(row.at(k, j), row.at(k, j)); });
		float s = inverseRoot(reduce<Sum, T>(sum) * perCol, eps);
		if (inv && tid() % T == 0) inv[r] = s;
		if (y == 0) continue;
		share<T, V, keep>(cols, [&](int k, int j) {
			V v = row.at(k, j) * s;
			put(y + r * cols + j, gain ? v * get<V>(gain + j) : v);
		});
	}
}
ROWS(rmsNorm,
     (float *y, float *inv, const float *x, const float *gain, long rows, int cols, double perCol, float eps),
     (y, inv, x, gain, rows, cols, perCol, eps))

// gain may be 0.
template <int T, typename V, bool keep>
DEVICE void rmsNormGrad(float *dx, const float *dy, const float *x, const float *gain, const float *inv, int acc,
                        long rows, int cols, double perCol) {
	for (ROW(r, rows)) {
		Row<T, V, keep> g(dy + r * cols, cols), row(x + r * cols, cols);
		auto h = [&](int k, int j) { return gain ? g.at(k, j) * get<V>(gain + j) : g.at(k, j); };
		double sum = 0;
		share<T, V, keep>(cols, [&](int k, int j) { sum += dot(h(k, j), row.at(k, j)); });
		float s = inv[r], c = (float)((double)s * s * (reduce<Sum, T>(sum) * perCol));
		share<T, V, keep>(cols, [&](int k, int j) {
			float *d = dx + r * cols + j;
			put(d, old<V>(d, acc) + s * (h(k, j) - row.at(k, j) * c));
		});
	}
}
ROWS(rmsNormGrad,
     (float *dx, const float *dy, const float *x, const float *gain, const float *inv, int acc, long rows, int cols,
      double perCol),
     (dx, dy, x, gain, inv, acc, rows, cols, perCol))

DEVICE double sum(float v) { return v; }
DEVICE double sum(float4 v) { return ((double)v.x + v.y) + ((double)v.z + v.w); }

// y, mean, inv, gain and bias may be 0. The mean is two floats, high and low, so that x less it keeps its digits.
template <int T, typename V, bool keep>
DEVICE void layerNorm(float *y, float *mean, float *inv, const float *x, const float *gain, const float *bias,
                      long rows, int cols, double perCol, float eps) {
	for (ROW(r, rows)) {
		Row<T, V, keep> row(x + r * cols, cols);
		double total = 0, squares = 0;
		share<T, V, keep>(cols, [&](int k, int j) { total += sum(row.at(k, j)); });
		double m = reduce<Sum, T>(total) * perCol;
		float high = (float)m, low = (float)(m - high);
		share<T, V, keep>(cols, [&](int k, int j) {
			V c = (row.at(k, j) - high) - low;
			squares += dot(c, c);
		});
		float s = inverseRoot(reduce<Sum, T>(squares) * perCol, eps);
		if (tid() % T == 0) {
			if (mean) mean[r] = high;
			if (inv) inv[r] = s;
		}
		if (y == 0) continue;
		share<T, V, keep>(cols, [&](int k, int j) {
			V v = ((row.at(k, j) - high) - low) * s;
			if (gain) v *= get<V>(gain + j);
			if (bias) v += get<V>(bias + j);
			put(y + r * cols + j, v);
		});
	}
}
ROWS(layerNorm,
     (float *y, float *mean, float *inv, const float *x, const float *gain, const float *bias, long rows, int cols,
      double perCol, float eps),
     (y, mean, inv, x, gain, bias, rows, cols, perCol, eps))

// gain may be 0.
template <int T, typename V, bool keep>
DEVICE void layerNormGrad(float *dx, const float *dy, const float *x, const float *gain, const float *mean,
                          const float *inv, long rows, int cols, double perCol) {
	for (ROW(r, rows)) {
		Row<T, V, keep> g(dy + r * cols, cols), row(x + r * cols, cols);
		float m = mean[r], s = inv[r];
		auto h = [&](int k, int j) { return gain ? g.at(k, j) * get<V>(gain + j) : g.at(k, j); };
		auto hat = [&](int k, int j) { return (row.at(k, j) - m) * s; };
		double sh = 0, shx = 0;
		share<T, V, keep>(cols, [&](int k, int j) {
			sh += sum(h(k, j));
			shx += dot(h(k, j), hat(k, j));
		});
		float mh = (float)(reduce<Sum, T>(sh) * perCol), mhx = (float)(reduce<Sum, T>(shx) * perCol);
		share<T, V, keep>(cols, [&](int k, int j) {
			float *d = dx + r * cols + j;
			put(d, get<V>(d) + s * (h(k, j) - mh - hat(k, j) * mhx));
		});
	}
}
ROWS(layerNormGrad,
     (float *dx, const float *dy, const float *x, const float *gain, const float *mean, const float *inv, long rows,
      int cols, double perCol),
     (dx, dy, x, gain, mean, inv, rows, cols, perCol))
