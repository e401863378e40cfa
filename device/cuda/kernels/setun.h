// What the kernels need of CUDA, for clang without a CUDA toolkit. Products and sums are not contracted: where a fused
// multiply-add is meant, fma says so.

#pragma once

#define KERNEL extern "C" __attribute__((global)) void
#define INLINE inline __attribute__((device, always_inline))
#define DEVICE static INLINE
#define SHARED static __attribute__((device, shared))
#define BLOCK 256 // threads of every launch that does not say otherwise
#define LAUNCH(...) __attribute__((launch_bounds(__VA_ARGS__))) // threads, blocks to a multiprocessor

typedef unsigned char u8;
typedef signed char i8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long u64;

DEVICE int tid() { return __nvvm_read_ptx_sreg_tid_x(); }
DEVICE int block() { return __nvvm_read_ptx_sreg_ctaid_x(); }
DEVICE int blockY() { return __nvvm_read_ptx_sreg_ctaid_y(); }
DEVICE int blockZ() { return __nvvm_read_ptx_sreg_ctaid_z(); }
DEVICE int blocks() { return __nvvm_read_ptx_sreg_nctaid_x(); }
DEVICE int blocksY() { return __nvvm_read_ptx_sreg_nctaid_y(); }
DEVICE int blocksZ() { return __nvvm_read_ptx_sreg_nctaid_z(); }
DEVICE void barrier() { __syncthreads(); }

// Elements are shared out among all threads: for (EACH(i, n)).
#define EACH(i, n) long i = (long)block() * BLOCK + tid(); i < (n); i += (long)blocks() * BLOCK

DEVICE float fma(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
DEVICE float absf(float x) { return __builtin_fabsf(x); }
DEVICE u32 bits(float x) { return __builtin_bit_cast(u32, x); }
DEVICE float fromBits(u32 x) { return __builtin_bit_cast(float, x); }
DEVICE int min(int a, int b) { return a < b ? a : b; }
DEVICE int max(int a, int b) { return a > b ? a : b; }
DEVICE float maxf(float a, float b) { return a > b ? a : b; } // b if a is NaN
DEVICE float minf(float a, float b) { return a < b ? a : b; }
DEVICE float inff() { return fromBits(0x7f800000); }
DEVICE float nanf() { return fromBits(0x7fc00000); }
DEVICE bool finite(u32 absBits) { return absBits < 0x7f800000; }

// expFast is e^x to 2^-22 and |x| 2^-23: for the weights of a softmax, which are small where |x| is large.
DEVICE float expFast(float x) { return __nvvm_ex2_approx_ftz_f(x * 1.44269504f); }

DEVICE float half(u16 h) { return (float)__builtin_bit_cast(_Float16, h); }
DEVICE u16 toHalf(float x) { return __builtin_bit_cast(u16, (_Float16)x); }

// roundCode is roundEven(v) for |v| < 128.
DEVICE int roundCode(float v) { return (int)bits(v + 12582912.0f) - 0x4b400000; }

// expf is e^x to about an ulp: e^x = 2^k e^r with |r| <= ln(2)/2, and the Taylor series of e^r. 2^k is multiplied in
// two steps, so that the result may be subnormal.
DEVICE float expf(float x) {
	x = x < -105 ? -105 : x > 90 ? 90 : x; // 0 and infinity in the end
	float t = x * 1.44269504f + 12582912.0f, k = t - 12582912.0f;
	float r = fma(k, -0.693145752f, x); // the leading bits of ln 2
	r = fma(k, -1.42860677e-6f, r);
	float p = 1.0f / 5040;
	p = fma(p, r, 1.0f / 720);
	p = fma(p, r, 1.0f / 120);
	p = fma(p, r, 1.0f / 24);
	p = fma(p, r, 1.0f / 6);
	p = fma(p, r, 0.5f);
	p = fma(r * r, p, r) + 1;
	int n = (int)(bits(t) - 0x4b400000), half = n >> 1;
	return p * fromBits((u32)(127 + half) << 23) * fromBits((u32)(127 + n - half) << 23);
}

// logf is log(x) for normal x > 0: x = 2^k m, log m = 2 atanh((m-1)/(m+1)).
DEVICE float logf(float x) {
	if (!(x < inff())) return x;
	int k = (int)(bits(x) - 0x3f3504f3) >> 23;
	float m = fromBits(bits(x) - ((u32)k << 23)); // in [sqrt(1/2), sqrt(2))
	float s = (m - 1) / (m + 1), z = s * s, p = 1.0f / 11;
	p = fma(p, z, 1.0f / 9);
	p = fma(p, z, 1.0f / 7);
	p = fma(p, z, 1.0f / 5);
	p = fma(p, z, 1.0f / 3);
	float t = 2 * s;
	return fma((float)k, 0.693145752f, fma((float)k, 1.42860677e-6f, fma(t * z, p, t)));
}

DEVICE float sigmoid(float x) { return 1 / (1 + expf(-x)); }

DEVICE float tanhf(float x) {
	float a = absf(x), y;
	if (a < 0.25f) { // the odd series: 1 - 2/(e^2a + 1) would lose digits
		float z = a * a;
		float p = -0.008863236f;
		p = fma(p, z, 0.02186949f);
		p = fma(p, z, -0.05396825f);
		p = fma(p, z, 0.13333334f);
		p = fma(p, z, -0.33333334f);
		y = fma(a * z, p, a);
	} else {
		y = 1 - 2 / (expf(2 * a) + 1);
	}
	return x != x ? x : x < 0 ? -y : y;
}

// normalCDF is erfc(-x/sqrt 2)/2, erfc by a Chebyshev fit of relative error 1.2e-7 (Press et al., Numerical Recipes).
DEVICE float normalCDF(float x) {
	float z = absf(x) * 0.70710678f, t = 1 / fma(0.5f, z, 1);
	float p = 0.17087277f;
	p = fma(p, t, -0.82215223f);
	p = fma(p, t, 1.48851587f);
	p = fma(p, t, -1.13520398f);
	p = fma(p, t, 0.27886807f);
	p = fma(p, t, -0.18628806f);
	p = fma(p, t, 0.09678418f);
	p = fma(p, t, 0.37409196f);
	p = fma(p, t, 1.00002368f);
	p = fma(p, t, -1.26551223f);
	float c = 0.5f * t * expf(fma(-z, z, p));
	return x != x ? x : x < 0 ? c : 1 - c;
}

// Vectors. V is float or float4 in templates, and the code of both is written once.
typedef float float4 __attribute__((ext_vector_type(4)));
typedef i8 code4 __attribute__((ext_vector_type(4)));
typedef u16 half4 __attribute__((ext_vector_type(4)));
typedef u32 u32x4 __attribute__((ext_vector_type(4)));
typedef double double4 __attribute__((ext_vector_type(4)));

template <typename V> constexpr int width = sizeof(V) / 4;

// get and put move a vector of floats; it is aligned to its size.
template <typename V> DEVICE V get(const float *p) { return *(const V *)p; }
// old is what to add to: with acc what is there, else 0.
template <typename V> DEVICE V old(const float *p, int acc) { return acc ? get<V>(p) : V{}; }
DEVICE void put(float *p, float v) { *p = v; }
DEVICE void put(float *p, float4 v) { *(float4 *)p = v; }

// codes are converted to floats and back, the floats being whole.
template <typename V> DEVICE V getCodes(const i8 *p) {
	if constexpr (width<V> == 4) return __builtin_convertvector(*(const code4 *)p, float4);
	else return *p;
}
DEVICE void putCodes(i8 *p, float v) { *p = (i8)(int)v; }
DEVICE void putCodes(i8 *p, float4 v) {
	*(code4 *)p = code4{(i8)(int)v.x, (i8)(int)v.y, (i8)(int)v.z, (i8)(int)v.w};
}

// Half precision, in 16 bits.
template <typename V> DEVICE V getHalf(const u16 *p) {
	if constexpr (width<V> == 4) {
		half4 h = *(const half4 *)p;
		return {half(h.x), half(h.y), half(h.z), half(h.w)};
	} else {
		return half(*p);
	}
}
DEVICE void putHalf(u16 *p, float v) { *p = toHalf(v); }
DEVICE void putHalf(u16 *p, float4 v) { *(half4 *)p = half4{toHalf(v.x), toHalf(v.y), toHalf(v.z), toHalf(v.w)}; }

// map is f of each element.
template <typename F> DEVICE float map(F f, float x) { return f(x); }
template <typename F> DEVICE float4 map(F f, float4 x) { return {f(x.x), f(x.y), f(x.z), f(x.w)}; }
template <typename F> DEVICE float map(F f, float x, float y) { return f(x, y); }
template <typename F> DEVICE float4 map(F f, float4 x, float4 y) {
	return {f(x.x, y.x), f(x.y, y.y), f(x.z, y.z), f(x.w, y.w)};
}

// fold is op over the elements.
template <typename Op> DEVICE float fold(float x) { return x; }
template <typename Op> DEVICE float fold(float4 x) { return Op::of(Op::of(x.x, x.y), Op::of(x.z, x.w)); }

// aligned reports whether all addresses are those of vectors of four, and all counts whole numbers of them.
DEVICE u64 misfit(const float *p) { return (u64)p; }
DEVICE u64 misfit(const u16 *p) { return (u64)p << 1; }
DEVICE u64 misfit(const i8 *p) { return (u64)p << 2; }
DEVICE u64 misfit(long n) { return (u64)n << 2; }
DEVICE u64 misfit(int n) { return (u64)n << 2; }
template <typename... P> DEVICE bool aligned(P... p) { return ((misfit(p) | ...) & 15) == 0; }

// vectors calls f(v, i) for all i < n, v being a value of the type of the vector at i: float4 if wide, else float.
template <typename F> DEVICE void vectors(long n, bool wide, F f) {
	long whole = wide ? n / 4 : 0;
	for (EACH(i, whole)) f(float4(), 4 * i);
	for (EACH(i, n - 4 * whole)) f(float(), 4 * whole + i);
}

// divide is i / n and the rest; 32 bits do for nearly all sizes, and are several times faster.
DEVICE long divide(long i, int n, int &rest) {
	if (i >> 32 == 0) {
		rest = (int)((u32)i % (u32)n);
		return (u32)i / (u32)n;
	}
	rest = (int)(i % n);
	return i / n;
}

// Reductions, in a fixed order, the result in every thread.
DEVICE u32 shuffle(u32 x, int lanes) { return __nvvm_shfl_sync_bfly_i32(-1, x, lanes, 31); }
DEVICE int shuffle(int x, int lanes) { return __nvvm_shfl_sync_bfly_i32(-1, x, lanes, 31); }
DEVICE float shuffle(float x, int lanes) { return fromBits(shuffle(bits(x), lanes)); }
DEVICE u64 shuffle(u64 x, int lanes) {
	return (u64)shuffle((u32)(x >> 32), lanes) << 32 | shuffle((u32)x, lanes);
}
DEVICE double shuffle(double x, int lanes) {
	return __builtin_bit_cast(double, shuffle(__builtin_bit_cast(u64, x), lanes));
}

// broadcast is x of one lane.
DEVICE u32 broadcast(u32 x, int lane) { return __nvvm_shfl_sync_idx_i32(-1, x, lane, 31); }
DEVICE double broadcast(double x, int lane) {
	u64 b = __builtin_bit_cast(u64, x);
	b = (u64)broadcast((u32)(b >> 32), lane) << 32 | broadcast((u32)b, lane);
	return __builtin_bit_cast(double, b);
}

struct Sum {
	template <typename T> static INLINE T of(T a, T b) { return a + b; }
};
struct Max {
	template <typename T> static INLINE T of(T a, T b) { return a > b ? a : b; }
	static INLINE float of(float a, float b) { return __builtin_fmaxf(a, b); } // the other one if one is NaN
};

template <typename Op, typename T> DEVICE T warpReduce(T x) {
#pragma unroll
	for (int lanes = 16; lanes > 0; lanes /= 2) x = Op::of(x, shuffle(x, lanes));
	return x;
}

// reduce is over a block, or over a warp if that is all there is. Once: a barrier parts it from the reduction before
// with the same operation and type, as those of another one do.
template <typename Op, int threads = BLOCK, bool once = false, typename T> DEVICE T reduce(T x) {
	x = warpReduce<Op>(x);
	if constexpr (threads > 32) {
		SHARED T part[threads / 32];
		if constexpr (!once) barrier(); // of the reduction before
		if (tid() % 32 == 0) part[tid() / 32] = x;
		barrier();
		x = part[0];
#pragma unroll
		for (int i = 1; i < threads / 32; i++) x = Op::of(x, part[i]);
	}
	return x;
}

// Philox4x32-10, word i%4 of counter i/4.
struct Words {
	u32 w[4];
};
DEVICE Words philox(u64 key, u64 counter) {
	u32 c0 = (u32)counter, c1 = (u32)(counter >> 32), c2 = 0, c3 = 0, k0 = (u32)key, k1 = (u32)(key >> 32);
#pragma unroll
	for (int r = 0; r < 10; r++) {
		u32 h0 = __nvvm_mulhi_ui(0xD2511F53, c0), l0 = 0xD2511F53 * c0;
		u32 h1 = __nvvm_mulhi_ui(0xCD9E8D57, c2), l1 = 0xCD9E8D57 * c2;
		c0 = h1 ^ c1 ^ k0;
		c1 = l1;
		c2 = h0 ^ c3 ^ k1;
		c3 = l0;
		k0 += 0x9E3779B9;
		k1 += 0xBB67AE85;
	}
	return {{c0, c1, c2, c3}};
}
DEVICE float unit(u32 w) { return (float)(w >> 8) * (1.0f / 16777216); }
