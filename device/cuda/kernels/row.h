// Kernels of rows: T threads have a row, a warp of them or the block, and V is what a thread reads at a time. With
// keep, a row is read once and kept in registers: it has at most 32*T elements. ROWS makes the kernels of a template;
// device/cuda chooses one for the shape.

#define ROWS(name, params, args) \
	KERNEL LAUNCH(BLOCK, 2) name##Warp4 params { name<32, float4, true> args; } \
	KERNEL LAUNCH(BLOCK, 2) name##Block4 params { name<BLOCK, float4, true> args; } \
	KERNEL LAUNCH(BLOCK, 2) name##Warp1 params { name<32, float, false> args; } \
	KERNEL LAUNCH(BLOCK, 2) name##Block1 params { name<BLOCK, float, false> args; }

// for (ROW(r, rows)) loops over the rows of these T threads.
#define ROW(r, rows) \
	long r = (long)block() * (BLOCK / T) + tid() / T; r < (rows); r += (long)blocks() * (BLOCK / T)

// share calls f(k, j) for each element or vector of this thread: the k-th one, at column j.
template <int T, typename V, bool keep, typename F> DEVICE void share(int cols, F f) {
	constexpr int w = width<V>;
	if constexpr (keep) {
#pragma unroll
		for (int k = 0; k < 32 / w; k++) {
			int j = (k * T + tid() % T) * w;
			if (j < cols) f(k, j);
		}
	} else {
#pragma unroll 4
		for (int j = tid() % T * w; j < cols; j += T * w) f(0, j);
	}
}

// A Row is what a thread has of a row.
template <int T, typename V, bool keep> struct Row {
	const float *p;
	V kept[keep ? 32 / width<V> : 1];

	INLINE Row(const float *p, int cols) : p(p) {
		if constexpr (keep) share<T, V, keep>(cols, [&](int k, int j) { kept[k] = get<V>(p + j); });
	}
	INLINE V at(int k, int j) const {
		if constexpr (keep) return kept[k];
		else return get<V>(p + j);
	}
};

DEVICE double dot(float a, float b) { return (double)a * b; }
DEVICE double dot(float4 a, float4 b) {
	return ((double)a.x * b.x + (double)a.y * b.y) + ((double)a.z * b.z + (double)a.w * b.w);
}
