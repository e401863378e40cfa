// Convolution by patches, see device.ConvShape.
#include "setun.h"

// A thread has an element of the unrolled matrix.
KERNEL LAUNCH(BLOCK) im2col(float *cols, const float *x, long n, int h, int w, int c, int kh, int kw, int stride,
                            int pad, int outH, int outW) {
	for (EACH(e, n)) {
		int ch = e % c, dx = e / c % kw, dy = e / c / kw % kh;
		long patch = e / c / kw / kh;
		int left = patch % outW * stride - pad + dx, top = patch / outW % outH * stride - pad + dy;
		long b = patch / outW / outH;
		cols[e] = top >= 0 && top < h && left >= 0 && left < w ? x[((b * h + top) * w + left) * c + ch] : 0;
	}
}

// A thread has a pixel of a channel, and the patches that cover it in order.
KERNEL LAUNCH(BLOCK) col2im(float *dx, const float *cols, long n, int h, int w, int c, int kh, int kw, int stride,
                            int pad, int outH, int outW) {
	for (EACH(e, n)) {
		int ch = e % c, left = e / c % w + pad, top = e / c / w % h + pad;
		long b = e / c / w / h;
		float sum = dx[e];
		int i0 = top < kh ? 0 : (top - kh) / stride + 1, j0 = left < kw ? 0 : (left - kw) / stride + 1;
		for (int i = i0; i < outH && i * stride <= top; i++)
			for (int j = j0; j < outW && j * stride <= left; j++)
				sum += cols[((((b * outH + i) * outW + j) * kh + top - i * stride) * kw + left - j * stride) * c + ch];
		dx[e] = sum;
	}
}
