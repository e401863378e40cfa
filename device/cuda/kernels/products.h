// What matrix products and attention need beside setun.h: vectors, tensor cores, copies in the background.

typedef float f4 __attribute__((ext_vector_type(4)));
typedef u32 u4 __attribute__((ext_vector_type(4)));
typedef u16 h4 __attribute__((ext_vector_type(4)));

DEVICE long longMin(long a, long b) { return a < b ? a : b; }
DEVICE int clampQuad(long n) { return n <= 0 ? 0 : n >= 4 ? 4 : (int)n; }
DEVICE int gridZ() { return __nvvm_read_ptx_sreg_nctaid_z(); }

// load4 is n of four elements that lie together, of float32 or of half precision, and zeros; vec: they lie on a
// boundary of four.
DEVICE f4 load4(const void *p, long at, int n, int halves, int vec) {
	f4 v = {0, 0, 0, 0};
	if (halves) {
		const u16 *x = (const u16 *)p + at;
		if (vec && n == 4) {
			h4 h = *(const h4 *)x;
			return {half(h.x), half(h.y), half(h.z), half(h.w)};
		}
#pragma unroll
		for (int i = 0; i < 4; i++)
			if (i < n) v[i] = half(x[i]);
	} else {
		const float *x = (const float *)p + at;
		if (vec && n == 4) return *(const f4 *)x;
#pragma unroll
		for (int i = 0; i < 4; i++)
			if (i < n) v[i] = x[i];
	}
	return v;
}

// Shared memory by its own addresses.
DEVICE u32 sharedAddr(const void *p) { return (u32)(u64)(const __attribute__((address_space(3))) void *)p; }

// copy16 starts a copy of n <= 16 bytes to shared memory, the rest zeros; both lie on 16-byte boundaries.
DEVICE void copy16(u32 to, const void *from, int n) {
	asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(n) : "memory");
}
DEVICE void copyCommit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int N> DEVICE void copyWait() { asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory"); }

// loadMatrix gives a warp four matrices of 8 rows of 16 bytes: lane l has bytes 4*(l%4) to +3 of row l/4 of each. Lanes
// 8i to 8i+7 give the addresses of the rows of matrix i.
DEVICE void loadMatrix(u32 (&r)[4], u32 at) {
	asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
	             : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
	             : "r"(at)
	             : "memory");
}

// loadTurned is loadMatrix with each matrix turned: lane l has rows 2*(l%4) and the next of column l/4.
DEVICE void loadTurned(u32 (&r)[4], u32 at) {
	asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
	             : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
	             : "r"(at)
	             : "memory");
}

// mma: c += a*b' for a 16 rows, b 8 rows of 32 bytes. Lane l has of c the columns 2*(l%4) and the next, in rows l/4 (0,
// 1) and l/4+8 (2, 3).
DEVICE void mma(float (&c)[4], const u32 (&a)[4], u32 b0, u32 b1) {
	asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
	    : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
	    : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
DEVICE void mma(int (&c)[4], const u32 (&a)[4], u32 b0, u32 b1) {
	asm("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
	    : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3])
	    : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// dot4: c + the dot product of four int8 and four int8.
DEVICE int dot4(u32 a, u32 b, int c) {
	int d;
	asm("dp4a.s32.s32 %0, %1, %2, %3;" : "=r"(d) : "r"(a), "r"(b), "r"(c));
	return d;
}

// scaled is sum * xs * ws + bias, each step rounded. ws may have one element or be left out.
DEVICE float scaled(int sum, int i, int j, const float *xs, const float *ws, int perColumn, const float *bias) {
	float v = (float)sum * xs[i];
	if (ws) v = v * ws[perColumn ? j : 0];
	return bias ? v + bias[j] : v;
}

// bf16x2 rounds two numbers to bfloat16, to nearest even; lo is in the low half.
DEVICE u32 bf16x2(float lo, float hi) {
	u32 d;
	asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(d) : "f"(hi), "f"(lo));
	return d;
}

// exp2 is 2^x to 2 ulp.
DEVICE float exp2(float x) {
	float y;
	asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
	return y;
}

DEVICE void warpBarrier() { __nvvm_bar_warp_sync(-1); }
DEVICE int laneId() { return tid() & 31; }
DEVICE int warpId() { return tid() >> 5; }
