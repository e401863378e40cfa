// Kernels for the tests of the interpreter, and the same with planted bugs. kernels.ptx is made of it by
//
//	clang-19 -O3 -x cuda --cuda-device-only --cuda-gpu-arch=sm_80 --cuda-feature=+ptx71 -nocudainc -nocudalib
//	    -ffp-contract=off -S kernels.cu -o kernels.ptx

#define KERNEL extern "C" __attribute__((global)) void
#define DEVICE static __attribute__((device))
#define SHARED static __attribute__((device, shared))

DEVICE int tid() { return __nvvm_read_ptx_sreg_tid_x(); }
DEVICE int block() { return __nvvm_read_ptx_sreg_ctaid_x(); }
DEVICE int threads() { return __nvvm_read_ptx_sreg_ntid_x(); }
DEVICE void barrier() { __nvvm_bar_sync(0); }
DEVICE float shuffleDown(float x, int n) {
	return __builtin_bit_cast(float, __nvvm_shfl_sync_down_i32(-1, __builtin_bit_cast(int, x), n, 31));
}

// c (m,n) = a (m,k) b (k,n), a tile of 16 by 16 a block. Bug 1 leaves out the first barrier of a step, bug 2 the second.
template <int bug> DEVICE void matmul(float *c, const float *a, const float *b, int m, int n, int k) {
	SHARED float at[16][16], bt[16][17];
	int x = tid() % 16, y = tid() / 16;
	int row = __nvvm_read_ptx_sreg_ctaid_y() * 16 + y, col = block() * 16 + x;
	float sum = 0;
	for (int l = 0; l < k; l += 16) {
		at[y][x] = row < m && l + x < k ? a[row * k + l + x] : 0;
		bt[y][x] = l + y < k && col < n ? b[(l + y) * n + col] : 0;
		if (bug != 1) barrier();
		for (int i = 0; i < 16; i++) sum += at[y][i] * bt[i][x];
		if (bug != 2) barrier();
	}
	if (row < m && col < n) c[row * n + col] = sum;
}
KERNEL matmulRight(float *c, const float *a, const float *b, int m, int n, int k) { matmul<0>(c, a, b, m, n, k); }
KERNEL matmulNoFirstBarrier(float *c, const float *a, const float *b, int m, int n, int k) { matmul<1>(c, a, b, m, n, k); }
KERNEL matmulNoSecondBarrier(float *c, const float *a, const float *b, int m, int n, int k) { matmul<2>(c, a, b, m, n, k); }

// out[block] = sum of the block's part of x.
KERNEL blockSum(float *out, const float *x, int n) {
	SHARED float part[32];
	float s = 0;
	for (int i = block() * threads() + tid(); i < n; i += __nvvm_read_ptx_sreg_nctaid_x() * threads()) s += x[i];
	for (int d = 16; d > 0; d /= 2) s += shuffleDown(s, d);
	if (tid() % 32 == 0) part[tid() / 32] = s;
	barrier();
	if (tid() < 32) {
		s = tid() < threads() / 32 ? part[tid()] : 0;
		for (int d = 16; d > 0; d /= 2) s += shuffleDown(s, d);
		if (tid() == 0) out[block()] = s;
	}
}

// counts[v] += how often v (of 64) stands in x: atomics in shared memory, then in global memory.
KERNEL histogram(int *counts, const unsigned char *x, int n) {
	SHARED int mine[64];
	if (tid() < 64) mine[tid()] = 0;
	barrier();
	for (int i = block() * threads() + tid(); i < n; i += __nvvm_read_ptx_sreg_nctaid_x() * threads())
		__nvvm_atom_add_gen_i(&mine[x[i]], 1);
	barrier();
	if (tid() < 64) __nvvm_atom_add_gen_i(&counts[tid()], mine[tid()]);
}
// The counts are read without a barrier.
KERNEL histogramNoBarrier(int *counts, const unsigned char *x, int n) {
	SHARED int mine[64];
	if (tid() < 64) mine[tid()] = 0;
	barrier();
	for (int i = tid(); i < n; i += threads()) __nvvm_atom_add_gen_i(&mine[x[i]], 1);
	if (tid() < 64) counts[tid()] = mine[tid()];
}

// Reverses each block's part, in dynamic shared memory.
extern __attribute__((device, shared)) float dynamic[];
KERNEL reverse(float *y, const float *x) {
	int n = threads(), at = block() * n;
	dynamic[tid()] = x[at + tid()];
	barrier();
	y[at + tid()] = dynamic[n - 1 - tid()];
}

// Device functions that call each other, with memory of their own.
__attribute__((device, noinline)) int digits(int *out, unsigned x) {
	int n = 0;
	do {
		out[n++] = x % 10;
		x /= 10;
	} while (x);
	return n;
}
__attribute__((device, noinline)) unsigned reversed(unsigned x) {
	int d[10];
	int n = digits(d, x);
	unsigned r = 0;
	for (int i = 0; i < n; i++) r = r * 10 + d[i];
	return r;
}
KERNEL palindromes(int *y, const unsigned *x, int n) {
	int i = block() * threads() + tid();
	if (i < n) y[i] = reversed(x[i]) == x[i] ? (int)reversed(x[i] / 7) : -1;
}

// Lanes leave loops at different times, and some leave the kernel.
KERNEL collatz(int *y, const unsigned *x, int n) {
	int i = block() * threads() + tid();
	if (i >= n) return;
	unsigned v = x[i];
	int steps = 0;
	while (v != 1) {
		if (steps > 200) {
			y[i] = -1;
			return;
		}
		if (v % 2) {
			v = 3 * v + 1;
			if (v % 4 == 0) continue;
		} else {
			v /= 2;
		}
		steps++;
	}
	y[i] = steps;
}

__attribute__((device, constant)) int squares[8] = {0, 1, 4, 9, 16, 25, 36, 49};
__attribute__((device)) int bias = 100;
KERNEL lookup(int *y, const int *x) { y[tid()] = squares[x[tid()]] + bias; }

typedef float float4 __attribute__((ext_vector_type(4)));
KERNEL scale4(float4 *y, const float4 *x, float a, int n) {
	int i = block() * threads() + tid();
	if (i < n) y[i] = x[i] * a;
}

// Planted bugs.
KERNEL offByOne(float *y, const float *x, int n) {
	int i = block() * threads() + tid();
	if (i < n) y[i] = x[i + 1];
}
KERNEL divergentBarrier(float *y, const float *x) {
	SHARED float t[64];
	t[tid()] = x[tid()];
	if (x[tid()] > 0) {
		barrier();
		y[tid()] = t[63 - tid()];
	}
}
KERNEL otherBarrier(float *y, const float *x, int n) {
	SHARED float t[64];
	t[tid()] = x[tid()];
	if (tid() / 32 == 0) {
		barrier();
		y[tid()] = t[63 - tid()];
	} else {
		barrier();
		y[tid()] = 2 * t[63 - tid()];
	}
}
KERNEL misaligned(float *y, const float *x) {
	float4 v = *(const float4 *)(x + tid());
	y[tid()] = v.x + v.y + v.z + v.w;
}
KERNEL uninitialised(float *y, const float *x) {
	SHARED float t[64];
	if (tid() < 63) t[tid()] = x[tid()];
	barrier();
	y[tid()] = t[63 - tid()];
}
KERNEL absentLanes(float *y, const float *x, int n) {
	if (tid() < n) y[tid()] = x[tid()] + shuffleDown(x[tid()], 1);
}
KERNEL noWarpSync(float *y, const float *x) {
	SHARED volatile float t[32];
	t[tid()] = x[tid()];
	y[tid()] = t[31 - tid()];
}
KERNEL warpSync(float *y, const float *x) {
	SHARED volatile float t[32];
	t[tid()] = x[tid()];
	__nvvm_bar_warp_sync(-1);
	y[tid()] = t[31 - tid()];
}
KERNEL sameWord(int *y) {
	SHARED volatile int t[1];
	t[0] = tid();
	barrier();
	y[tid()] = t[0];
}
KERNEL endless(volatile int *y) {
	while (y[tid()] != 12345) {
	}
	y[tid()] = 1;
}
KERNEL sharedOverrun(float *y, int n) {
	SHARED volatile float a[32], b[32];
	a[tid()] = 1;
	b[tid()] = 2;
	barrier();
	y[tid()] = a[tid() + n] + b[tid()];
}
KERNEL nullPointer(float *y, const float *x) { y[tid()] = x ? x[tid()] : *(const volatile float *)(x + tid()); }
KERNEL bigStack(int *y, int n) {
	volatile int a[8];
	for (int i = 0; i < 8; i++) a[i] = i;
	y[tid()] = a[n];
}
