#include "setun.h"
#include "row.h"
#include "index.h"

// A NaN in the row, an infinity at its top, or nothing but minus infinities: all NaN.
template <int T, typename V, bool keep> DEVICE void softmax(float *y, const float *x, long rows, int cols) {
	auto max = [](float a, float b) { return Max::of(a, b); }; // NaN is not above
	for (ROW(r, rows)) {
		Row<T, V, keep> row(x + r * cols, cols);
		V top = -inff(), sum = 0;
		share<T, V, keep>(cols, [&](int k, int j) { top = map(max, row.at(k, j), top); });
		float m = reduce<Max, T, true>(fold<Max>(top));
		share<T, V, keep>(cols, [&](int k, int j) {
			V e = map(expFast, row.at(k, j) - m);
			sum += e;
			if (keep) row.kept[k] = e;
		});
		float inv = 1 / reduce<Sum, T, true>(fold<Sum>(sum));
		share<T, V, keep>(cols, [&](int k, int j) {
			V e = keep ? row.kept[k] : map(expFast, row.at(k, j) - m);
			put(y + r * cols + j, e * inv);
		});
	}
}
ROWS(softmax, (float *y, const float *x, long rows, int cols), (y, x, rows, cols))

template <int T, typename V, bool keep>
DEVICE void softmaxGrad(float *dx, const float *dy, const float *y, long rows, int cols) {
	for (ROW(r, rows)) {
		Row<T, V, keep> g(dy + r * cols, cols), p(y + r * cols, cols);
		double sum = 0;
		share<T, V, keep>(cols, [&](int k, int j) { sum += dot(g.at(k, j), p.at(k, j)); });
		float mean = (float)reduce<Sum, T>(sum);
		share<T, V, keep>(cols, [&](int k, int j) {
			float *d = dx + r * cols + j;
			put(d, get<V>(d) + p.at(k, j) * (g.at(k, j) - mean));
		});
	}
}
ROWS(softmaxGrad, (float *dx, const float *dy, const float *y, long rows, int cols), (dx, dy, y, rows, cols))

// The loss of each row and its lse, in one pass: sum is that of exp(x - m), m being the greatest yet, made finite.
template <int T, typename V, bool keep>
DEVICE void crossEntropy(float *rowLoss, float *stats, const float *logits, const int *targets, long rows, int cols,
                         int *errs) {
	const float huge = 3.40282347e38f;
	for (ROW(r, rows)) {
		int t = targets[r];
		float lse = 0, loss = 0;
		if (t >= cols) {
			if (tid() % T == 0) complain(errs, CrossEntropyError, r, t);
		} else if (t >= 0) {
			const float *x = logits + r * cols;
			float m = -huge;
			V sum = 0;
			share<T, V, false>(cols, [&](int, int j) {
				V v = get<V>(x + j);
				float above = m;
				map([&](float e) { return above = Max::of(e, above); }, v); // NaN is not above
				above = minf(above, huge);
				sum = sum * expFast(m - above) + map(expFast, v - above);
				m = above;
			});
			float top = reduce<Max, T, true>(m), all = reduce<Sum, T, true>(fold<Sum>(sum) * expFast(m - top));
			lse = all == 0 ? -inff() : top + logf(all);
			loss = lse - x[t];
		}
		if (tid() % T == 0) {
			stats[r] = lse;
			rowLoss[r] = loss;
		}
	}
}
ROWS(crossEntropy,
     (float *rowLoss, float *stats, const float *logits, const int *targets, long rows, int cols, int *errs),
     (rowLoss, stats, logits, targets, rows, cols, errs))

// By one block. loss may be 0.
KERNEL LAUNCH(BLOCK) meanLoss(float *loss, float *stats, const float *rowLoss, const int *targets, long rows) {
	double sum = 0;
	int n = 0;
#pragma unroll 8
	for (long r = tid(); r < rows; r += BLOCK) {
		sum += rowLoss[r];
		n += targets[r] >= 0;
	}
	sum = reduce<Sum, BLOCK, true>(sum);
	n = reduce<Sum, BLOCK, true>(n);
	if (tid() == 0) {
		stats[rows] = n ? (float)(1 / (double)n) : 0;
		if (loss) loss[0] = n ? (float)(sum / n) : 0;
	}
}

template <int T, typename V, bool keep>
DEVICE void crossEntropyGrad(float *dlogits, const float *dloss, const float *stats, const float *logits,
                             const int *targets, long rows, int cols, int *errs) {
	float scale = dloss[0] * stats[rows];
	for (ROW(r, rows)) {
		int t = targets[r];
		if (t >= cols && tid() % T == 0) complain(errs, CrossEntropyGradError, r, t);
		if (t < 0 || t >= cols) continue;
		float lse = stats[r];
		const float *x = logits + r * cols;
		float *d = dlogits + r * cols;
		share<T, V, false>(cols, [&](int, int j) {
			V e = map(expFast, get<V>(x + j) - lse);
			int i = j;
			e = map([&](float e) { return i++ == t ? e - 1 : e; }, e);
			put(d + j, get<V>(d + j) + scale * e);
		});
	}
}
ROWS(crossEntropyGrad,
     (float *dlogits, const float *dloss, const float *stats, const float *logits, const int *targets, long rows,
      int cols, int *errs),
     (dlogits, dloss, stats, logits, targets, rows, cols, errs))
