// What attention and its gradient share. Queries and keys come in tiles of B rows of D columns, the dimension of a head
// rounded up; scores stay on the chip (Dao 2023, arXiv 2307.08691). A block is N x N threads; thread (y, x) has the
// rows y+N*i of a tile, and x+N*j of the other.

extern __attribute__((device, shared)) float pool[] __attribute__((aligned(16)));

#define LN2 0.69314718f
#define LOG2E 1.44269504f

// Where heads lie: query i of head h of a sequence, and key j of its key head. Query i sees the keys j < sees(i).
struct Heads {
	int queries, keys, heads, group, dim;
	long stepKV, headKV, batchKV;
	int causal;

	INLINE long atQ(long b, int i, int h) const { return ((b * queries + i) * heads + h) * dim; }
	INLINE long stepQ() const { return (long)heads * dim; }
	INLINE long atKV(long b, int h) const { return b * batchKV + h / group * headKV; }
	INLINE long row(long b, int h, int i) const { return (b * heads + h) * queries + i; } // of lse
	INLINE int sees(int i) const { return causal ? min(keys, max(0, i + 1 + keys - queries)) : keys; }
};

// storeRows: rows of the result are, or with add take, those of s, stride apart. vec: they lie on boundaries of four.
template <int THREADS>
DEVICE void storeRows(float *to, long step, const float *s, int stride, int rows, int dim, int vec, bool add) {
	int quads = (dim + 3) / 4;
#pragma unroll 1
	for (int q = tid(); q < rows * quads; q += THREADS) {
		int r = q / quads, d = q % quads * 4;
		f4 v = *(const f4 *)&s[r * stride + d];
		float *at = to + r * step + d;
		if (vec) {
			if (add) v += *(const f4 *)at;
			*(f4 *)at = v;
		} else {
#pragma unroll
			for (int j = 0; j < 4; j++)
				if (d + j < dim) at[j] = add ? at[j] + v[j] : v[j];
		}
	}
}

template <int D, int B> struct Tiles {
	static constexpr int N = B / 4, threads = N * N, stride = D + 4, wide = B + 4, columns = D / N;

	static INLINE int x() { return tid() % N; }
	static INLINE int y() { return tid() / N; }

	// load: rows of dim elements, step apart; the rest is 0. vec: all rows lie on boundaries of four.
	static INLINE void load(float *s, const void *p, long at, long step, int rows, int dim, int halves, int vec) {
		if (vec) {
#pragma unroll 4
			for (int i = 0; i < B * D / 4 / threads; i++) {
				int q = tid() + i * threads, r = q / (D / 4), c = q % (D / 4) * 4;
				f4 v = {0, 0, 0, 0};
				if (r < rows && c < dim) v = load4(p, at + r * step + c, 4, halves, 1);
				*(f4 *)&s[r * stride + c] = v;
			}
		} else {
#pragma unroll 1
			for (int e = tid(); e < B * D; e += threads) {
				int r = e / D, c = e % D;
				float v = 0;
				if (r < rows && c < dim)
					v = halves ? half(((const u16 *)p)[at + r * step + c]) : ((const float *)p)[at + r * step + c];
				s[r * stride + c] = v;
			}
		}
	}

	// dots: s[i][j] = row y+N*i of a times row x+N*j of b.
	static INLINE void dots(float (&s)[4][4], const float *a, const float *b, int dim) {
		a += y() * stride;
		b += x() * stride;
#pragma unroll
		for (int i = 0; i < 4; i++)
#pragma unroll
			for (int j = 0; j < 4; j++) s[i][j] = 0;
#pragma unroll 2
		for (int d = 0; d < dim; d += 4) {
			f4 va[4], vb[4];
#pragma unroll
			for (int i = 0; i < 4; i++) {
				va[i] = *(const f4 *)&a[i * N * stride + d];
				vb[i] = *(const f4 *)&b[i * N * stride + d];
			}
#pragma unroll
			for (int i = 0; i < 4; i++)
#pragma unroll
				for (int j = 0; j < 4; j++)
#pragma unroll
					for (int e = 0; e < 4; e++) s[i][j] = fma(va[i][e], vb[j][e], s[i][j]);
		}
	}

	// add: o[i] += the sum over k < n of p[y+N*i][k] * v[k], columns 4x+4N*c and the next three.
	static INLINE void add(float (&o)[4][columns], const float *p, const float *v, int n) {
		p += y() * wide;
		v += x() * 4;
#pragma unroll 1
		for (int k = 0; k < n; k += 4) {
			f4 w[4];
#pragma unroll
			for (int i = 0; i < 4; i++) w[i] = *(const f4 *)&p[i * N * wide + k];
#pragma unroll
			for (int e = 0; e < 4; e++)
#pragma unroll
				for (int c = 0; c < columns / 4; c++) {
					f4 u = *(const f4 *)&v[(k + e) * stride + c * 4 * N];
#pragma unroll
					for (int i = 0; i < 4; i++)
#pragma unroll
						for (int j = 0; j < 4; j++) o[i][c * 4 + j] = fma(w[i][e], u[j], o[i][c * 4 + j]);
				}
		}
	}

	// put: p[y+N*i][x+N*j] = s[i][j], read by the same warps.
	static INLINE void put(float *p, const float (&s)[4][4]) {
		warpBarrier();
#pragma unroll
		for (int i = 0; i < 4; i++)
#pragma unroll
			for (int j = 0; j < 4; j++) p[(y() + N * i) * wide + x() + N * j] = s[i][j];
		warpBarrier();
	}

	// store: the result is, or with add takes, o, by way of the tile s.
	static INLINE void store(float *to, long step, const float (&o)[4][columns], float *s, int rows, int dim, int vec,
	                         bool add) {
		barrier();
#pragma unroll
		for (int i = 0; i < 4; i++)
#pragma unroll
			for (int c = 0; c < columns; c += 4)
				*(f4 *)&s[(y() + N * i) * stride + x() * 4 + c * N] =
				    f4{o[i][c], o[i][c + 1], o[i][c + 2], o[i][c + 3]};
		barrier();
		storeRows<threads>(to, step, s, stride, rows, dim, vec, add);
	}

	template <typename Op> static INLINE float across(float v) { // a row
#pragma unroll
		for (int lanes = N / 2; lanes > 0; lanes /= 2) v = Op::of(v, shuffle(v, lanes));
		return v;
	}

	static INLINE void clear(float (&o)[4][columns]) {
#pragma unroll
		for (int i = 0; i < 4; i++)
#pragma unroll
			for (int c = 0; c < columns; c++) o[i][c] = 0;
	}
};

#define SHAPE int queries, int keys, int heads, int group, int dim, long stepKV, long headKV, long batchKV, int causal
#define HEADS \
	Heads { queries, keys, heads, group, dim, stepKV, headKV, batchKV, causal }
