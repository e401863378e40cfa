#include "setun.h"
#include "index.h"

// table is of floats, or of halves. n = rows * cols
KERNEL LAUNCH(BLOCK) gather(float *y, const float *table, const u16 *halves, const int *ids, long n, int cols,
                            long size, int *errs) {
	vectors(n, aligned(y, table, halves, cols), [=](auto v, long i) {
		int c;
		long r = divide(i, cols, c);
		int id = ids[r];
		if (id < 0 || id >= size) {
			if (c == 0) complain(errs, GatherError, r, id);
			return;
		}
		long at = (long)id * cols + c;
		put(y + i, halves ? getHalf<decltype(v)>(halves + at) : get<decltype(v)>(table + at));
	});
}

// ScatterAdd sorts the rows by id and, of one id, by number: as keys they differ. First blocks of rows by counting the
// smaller keys, then pairs of runs by counting those of the other run. Bad ids come last.
KERNEL LAUNCH(BLOCK) sortIds(u64 *keys, const int *ids, long rows, long size, int *errs) {
	SHARED u64 all[BLOCK];
	for (long first = (long)block() * BLOCK; first < rows; first += (long)blocks() * BLOCK) {
		long r = first + tid();
		u64 key = -1;
		if (r < rows) {
			int id = ids[r];
			if (id < 0 || id >= size) complain(errs, ScatterAddError, r, id);
			key = (u64)(u32)id << 32 | r;
		}
		barrier(); // of the block before
		all[tid()] = key;
		barrier();
		int smaller = 0;
#pragma unroll 16
		for (int i = 0; i < BLOCK; i++) smaller += all[i] < key;
		if (r < rows) keys[first + smaller] = key;
	}
}

KERNEL LAUNCH(BLOCK) mergeIds(u64 *out, const u64 *keys, long rows, long run) {
	for (EACH(i, rows)) {
		long mine = i / run, other = (mine ^ 1) * run, lo = other, hi = other + run;
		u64 key = keys[i];
		if (hi > rows) hi = rows;
		while (lo < hi) {
			long mid = (lo + hi) / 2;
			if (keys[mid] < key) lo = mid + 1;
			else hi = mid;
		}
		long smaller = other < rows ? lo - other : 0;
		out[mine / 2 * 2 * run + i % run + smaller] = key;
	}
}

// A warp has the rows of one id, from key i on, in strips of columns: grid (warps, strips).
template <typename V>
DEVICE void scatterAdd(float *dtable, const float *dy, const u64 *keys, long rows, int cols, long size) {
	int lane = tid() % 32, c = (blockY() * 32 + lane) * width<V>;
	for (long i = (long)block() * (BLOCK / 32) + tid() / 32; i < rows; i += (long)blocks() * (BLOCK / 32)) {
		u64 id = keys[i] >> 32;
		if ((long)id >= size) return;
		if (i > 0 && keys[i - 1] >> 32 == id) continue;
		long end = i;
		for (int found = 32; found == 32; end += found)
			found = warpReduce<Sum>(end + lane < rows && keys[end + lane] >> 32 == id ? 1 : 0);
		if (c >= cols) continue;
		float *d = dtable + id * cols + c;
		V sum = get<V>(d);
#pragma unroll 8
		for (long k = i; k < end; k++) sum += get<V>(dy + (long)(u32)keys[k] * cols + c);
		put(d, sum);
	}
}
KERNEL LAUNCH(BLOCK) scatterAdd4(float *dtable, const float *dy, const u64 *keys, long rows, int cols, long size) {
	scatterAdd<float4>(dtable, dy, keys, rows, cols, size);
}
KERNEL LAUNCH(BLOCK) scatterAdd1(float *dtable, const float *dy, const u64 *keys, long rows, int cols, long size) {
	scatterAdd<float>(dtable, dy, keys, rows, cols, size);
}

// x is (rows, heads, 2*half), table (positions, 2*half); a block has a row.
KERNEL LAUNCH(BLOCK) rope(float *y, const float *x, const float *table, long rows, int seq, int heads, int half,
                          int offset, int inverse, int acc) {
	auto rotate = [=](auto v, long r) {
		using V = decltype(v);
		const float *t = table + (offset + r % seq) * (2 * half);
		for (int i = tid() * width<V>; i < heads * half; i += BLOCK * width<V>) {
			int h = i / half, j = i - h * half;
			long at = (r * heads + h) * (2 * half) + j;
			V c = get<V>(t + j), s = get<V>(t + half + j), x1 = get<V>(x + at), x2 = get<V>(x + at + half);
			if (inverse) s = -s;
			V a = x1 * c - x2 * s, b = x2 * c + x1 * s;
			put(y + at, acc ? a + get<V>(y + at) : a);
			put(y + at + half, acc ? b + get<V>(y + at + half) : b);
		}
	};
	for (long r = block(); r < rows; r += blocks()) {
		if (aligned(y, x, table, half)) rotate(float4(), r);
		else rotate(float(), r);
	}
}
