package cluster

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"sync"

	"setun/device"
	"setun/internal/par"
	"setun/tensor"
)

// Config configures [KMeans]; zero fields mean the defaults in brackets.
type Config struct {
	K       int    `json:"k"`
	Seed    uint64 `json:"seed,omitempty"`
	MaxIter int    `json:"max_iter,omitempty"` // most iterations (300)
	// Tol stops when all centres together move by less, in units of the data's deviation (0: when no label changes).
	Tol      float64 `json:"tol,omitempty"`
	Restarts int     `json:"restarts,omitempty"` // take the best of so many seeds (1)
	// Init: "k-means++" (Arthur and Vassilvitskii 2007, the best of 2+ln K candidates each; default up to a million rows) or
	// "k-means||" (Bahmani et al. 2012, arXiv 1203.6402; 5 rounds of 2K; default above).
	Init string `json:"init,omitempty"`
	// Batch > 0 is mini-batch K-means (Sculley 2010): each of MaxIter steps moves centres by that many random rows.
	Batch int `json:"batch,omitempty"`
	// Plain computes every distance in every iteration.
	Plain bool `json:"plain,omitempty"`

	Centers []float32 `json:"-"` // (K, d) to start from, instead of Init
	Weights []float32 `json:"-"` // of the rows (1), at least 0
	// Progress is called after every iteration with the number of rows that changed their cluster.
	Progress func(iter, changed int) `json:"-"`
}

func (c Config) withDefaults(n int) Config {
	if c.MaxIter == 0 {
		c.MaxIter = 300
	}
	if c.Restarts == 0 {
		c.Restarts = 1
	}
	if c.Init == "" {
		c.Init = "k-means++"
		if n > 1_000_000 {
			c.Init = "k-means||"
		}
	}
	return c
}

func (c Config) validate(n, d int) error {
	c = c.withDefaults(n)
	switch {
	case n == 0 || d == 0:
		return fmt.Errorf("cluster: nothing to cluster: the data is %d rows of %d columns", n, d)
	case c.K < 1 || c.K > n:
		return fmt.Errorf("cluster: k is %d; it must be at least 1 and at most the number of rows, %d", c.K, n)
	case c.MaxIter < 0 || c.Restarts < 0 || c.Batch < 0 || !(c.Tol >= 0):
		return fmt.Errorf("cluster: max_iter %d, restarts %d, batch %d and tol %g must not be negative", c.MaxIter, c.Restarts,
			c.Batch, c.Tol)
	case c.Init != "k-means++" && c.Init != "k-means||":
		return fmt.Errorf("cluster: unknown init %q; use k-means++ or k-means||", c.Init)
	case c.Centers != nil && len(c.Centers) != c.K*d:
		return fmt.Errorf("cluster: %d numbers for %d centres of %d columns", len(c.Centers), c.K, d)
	case c.Weights != nil && len(c.Weights) != n:
		return fmt.Errorf("cluster: %d weights for %d rows", len(c.Weights), n)
	}
	total := 0.0
	for i, w := range c.Weights {
		if !(w >= 0) || math.IsInf(float64(w), 0) {
			return fmt.Errorf("cluster: the weight of row %d is %g; it must be at least 0", i, w)
		}
		total += float64(w)
	}
	if c.Weights != nil && total == 0 {
		return fmt.Errorf("cluster: all weights are 0")
	}
	return nil
}

// Result is a clustering of n rows.
type Result struct {
	Centers    []float32 // (K, d)
	Labels     []int32   // cluster of each row: the nearest centre, of equally near ones the first
	Counts     []int     // rows of each cluster
	Inertia    float64   // sum over rows of weight times squared distance to the centre
	Iterations int
	Distances  int64 // distances from rows to centres computed by the iterations
	Converged  bool
}

// KMeans minimises the inertia of x (n, d), any leading dimensions counting as rows, by Lloyd's algorithm (1982): rows go
// to the nearest centre, centres to the mean of their rows. An empty cluster takes the row that is farthest from its
// centre. On one device the seed decides the result to the bit, whatever the threads; from given Centers the device
// does not matter either.
//
// Memory beside x: two copies of it, one in host memory, 60 bytes a row, and on each processor a block of 2048 rows and
// its K products. K-means++ needs 8 bytes a row for each of its candidates.
//
// Distances are |x|^2 - 2xc + |c|^2 from float32 products on x's device; where rounding could change which centre is
// nearest they are computed again in float64. A row is left out while the upper bound of its distance to its own centre
// is below the lower bound to any other (Hamerly 2010).
//
// Rows count by what they differ from the mean, in float32: one row a million times farther out than the rest costs the rest
// that many digits.
func KMeans(ctx context.Context, x *tensor.Tensor, c Config) (*Result, error) {
	n, d := 0, 0
	if x.Dims() > 0 && x.Len() > 0 {
		d = x.Dim(-1)
		n = x.Len() / d
	}
	if err := c.validate(n, d); err != nil {
		return nil, err
	}
	c = c.withDefaults(n)
	p, err := newPoints(x, n, d, c.Weights)
	if err != nil {
		return nil, err
	}
	defer p.free()
	var best *Result
	for try := range c.Restarts {
		r, err := p.fit(ctx, c, rand.New(rand.NewPCG(c.Seed, uint64(try))))
		if err != nil {
			return nil, err
		}
		if best == nil || r.Inertia < best.Inertia {
			best = r
		}
	}
	return best, p.dev.Sync()
}

// block is how many rows go to the device at once: with 64 centres their products fit a core's cache.
const block = 2048

// points is the data, shifted to mean 0, which makes products of rounding errors small.
type points struct {
	dev   device.Device
	n, d  int
	x     []float32      // on the host
	t     *tensor.Tensor // on the device
	mean  []float64
	sq    []float64 // |x|^2
	w     []float32 // nil: 1
	total float64   // of the weights
}

func newPoints(src *tensor.Tensor, n, d int, w []float32) (*points, error) {
	return fromHost(src.Device(), src.Floats(), n, d, w)
}

// fromHost takes x over.
func fromHost(dev device.Device, x []float32, n, d int, w []float32) (*points, error) {
	p := &points{dev: dev, n: n, d: d, x: x, mean: make([]float64, d), sq: make([]float64, n), w: w}
	sums := make([]float64, (n+chunk-1)/chunk*d)
	bad := make([]int, (n+chunk-1)/chunk)
	each(n, func(lo, hi int) {
		sum := sums[lo/chunk*d:][:d]
		for i := lo; i < hi; i++ {
			w := p.weight(i)
			for j, v := range p.row(i) {
				if v-v != 0 && bad[lo/chunk] == 0 {
					bad[lo/chunk] = i*d + j + 1
				}
				sum[j] += w * float64(v)
			}
		}
	})
	for c, b := range bad {
		if b > 0 {
			b--
			return nil, fmt.Errorf("cluster: row %d has %g in column %d; remove such rows or fill in the values", b/d, x[b], b%d)
		}
		for j := range d {
			p.mean[j] += sums[c*d+j]
		}
	}
	for i := range n {
		p.total += p.weight(i)
	}
	for j := range p.mean {
		p.mean[j] /= p.total
	}
	each(n, func(lo, hi int) {
		for i := lo; i < hi; i++ {
			row := p.row(i)
			for j := range row {
				row[j] = float32(float64(row[j]) - p.mean[j])
				p.sq[i] += float64(row[j]) * float64(row[j])
			}
		}
	})
	for i, sq := range p.sq {
		if sq > math.MaxFloat32/8 { // of a distance, too, float32 holds the square
			return nil, fmt.Errorf("cluster: row %d lies %.3g from the mean, and its square is too large for float32; divide all "+
				"values by a power of two", i, math.Sqrt(sq))
		}
	}
	p.t = tensor.FromFloats(p.dev, p.x, n, d)
	return p, p.dev.Sync()
}

func (p *points) free() { p.t.Free() }

func (p *points) row(i int) []float32 { return p.x[i*p.d : (i+1)*p.d] }

func (p *points) weight(i int) float64 {
	if p.w == nil {
		return 1
	}
	return float64(p.w[i])
}

// distance is |x_i - c|^2, the judge of near ties.
func distance(x []float32, c []float32) float64 {
	s := 0.0
	for j, v := range x {
		u := float64(v) - float64(c[j])
		s += u * u
	}
	return s
}

// products computes |c|^2 - 2 x c for rows of x and centres on the device.
type products struct {
	p       *points
	k       int
	w, bias *tensor.Tensor // -2c, |c|^2
	double  []float32
	norms   []float32
	maxNorm float64

	mu   sync.Mutex
	idle []*desk
}

// desk is where a goroutine works on a block.
type desk struct {
	x, y      *tensor.Tensor // (block, d), (block, k)
	some, out []float32
}

func (p *points) products(k int) *products {
	return &products{p: p, k: k, w: tensor.New(p.dev, device.F32, k, p.d), bias: tensor.New(p.dev, device.F32, k),
		double: make([]float32, k*p.d), norms: make([]float32, k)}
}

func (q *products) free() {
	q.w.Free()
	q.bias.Free()
	for _, d := range q.idle {
		d.x.Free()
		d.y.Free()
	}
}

func (q *products) set(centers []float32) {
	q.maxNorm = 0
	for j := range q.k {
		s := 0.0
		for i, v := range centers[j*q.p.d : (j+1)*q.p.d] {
			q.double[j*q.p.d+i] = -2 * v
			s += float64(v) * float64(v)
		}
		q.norms[j] = float32(s)
		q.maxNorm = max(q.maxNorm, math.Sqrt(s))
	}
	q.w.SetFloats(q.double)
	q.bias.SetFloats(q.norms)
}

// each calls f with the index r in rows, the row i and its scores, on all processors. rows rise; nil are all.
func (q *products) each(rows []int32, f func(r, i int, score []float32)) {
	n := len(rows)
	if rows == nil {
		n = q.p.n
	}
	par.For(0, (n+block-1)/block, 1, func(lo, hi int) {
		d := q.desk()
		for b := lo; b < hi; b++ {
			from, to := b*block, min((b+1)*block, n)
			x := q.load(d, rows, from, to)
			y, out := d.y.Rows(0, to-from), d.out[:(to-from)*q.k]
			tensor.Linear(y, x, q.w, q.bias, device.MathFP32)
			y.ReadFloats(out)
			for r := from; r < to; r++ {
				i := r
				if rows != nil {
					i = int(rows[r])
				}
				f(r, i, out[(r-from)*q.k:][:q.k])
			}
		}
		q.mu.Lock()
		q.idle = append(q.idle, d)
		q.mu.Unlock()
	})
}

// load gives rows[from:to] as a tensor.
func (q *products) load(d *desk, rows []int32, from, to int) *tensor.Tensor {
	if rows == nil {
		return q.p.t.Rows(from, to)
	}
	if first := int(rows[from]); int(rows[to-1])-first == to-1-from {
		return q.p.t.Rows(first, first+to-from)
	}
	d.some = d.some[:0]
	for _, i := range rows[from:to] {
		d.some = append(d.some, q.p.row(int(i))...)
	}
	x := d.x.Rows(0, to-from)
	x.SetFloats(d.some)
	return x
}

func (q *products) desk() *desk {
	q.mu.Lock()
	defer q.mu.Unlock()
	if n := len(q.idle); n > 0 {
		d := q.idle[n-1]
		q.idle = q.idle[:n-1]
		return d
	}
	rows := min(q.p.n, block)
	return &desk{x: tensor.New(q.p.dev, device.F32, rows, q.p.d), y: tensor.New(q.p.dev, device.F32, rows, q.k),
		out: make([]float32, rows*q.k)}
}

// slack bounds the rounding error of a score of a row with norm x: of a dot product of d float32 terms and a sum.
func (q *products) slack(sq float64) float64 {
	const eps = 1.0 / (1 << 24)
	x := math.Sqrt(sq)
	return eps * (float64(q.p.d+2)*2*x*q.maxNorm + 2*(q.maxNorm*q.maxNorm+2*x*q.maxNorm))
}

// lloyd is a run in progress.
type lloyd struct {
	*points
	k       int
	plain   bool
	centers []float32
	labels  []int32
	upper   []float64 // of the distance to the own centre
	lower   []float64 // of the distance to the next
	sums    []float64 // (k, d)
	mass    []float64
	counts  []int
	prod    *products
	moved   []float64 // distance that each centre has moved
	far     []float64 // half the distance from each centre to the next
	evals   int64
	rows    []int32 // that may have a nearer centre
	to      []int32 // their new clusters
	moves   []move
	first   []int32 // centre with the least score the last time
	second  []int32 // and with the next
}

func (p *points) fit(ctx context.Context, c Config, rng *rand.Rand) (*Result, error) {
	centers := make([]float32, c.K*p.d)
	if c.Centers != nil {
		for j := range centers {
			centers[j] = float32(float64(c.Centers[j]) - p.mean[j%p.d])
		}
	} else if err := p.seed(ctx, c, rng, centers); err != nil {
		return nil, err
	}
	l := &lloyd{points: p, k: c.K, plain: c.Plain, centers: centers, labels: make([]int32, p.n), upper: make([]float64, p.n),
		lower: make([]float64, p.n), sums: make([]float64, c.K*p.d), mass: make([]float64, c.K), counts: make([]int, c.K),
		prod: p.products(c.K), moved: make([]float64, c.K), far: make([]float64, c.K)}
	defer l.prod.free()
	l.first, l.second = make([]int32, p.n), make([]int32, p.n)
	for i := range l.labels {
		l.second[i] = int32(min(1, c.K-1))
		l.labels[i], l.upper[i] = -1, math.Inf(1)
	}
	r := &Result{}
	if c.Batch > 0 {
		if err := l.miniBatch(ctx, c, rng, r); err != nil {
			return nil, err
		}
	}
	deviation := 0.0
	for i, s := range p.sq {
		deviation += p.weight(i) * s
	}
	deviation /= p.total
	for r.Iterations < c.MaxIter && c.Batch == 0 {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		changed := l.assign()
		changed += l.repair()
		r.Iterations++
		if c.Progress != nil {
			c.Progress(r.Iterations, changed)
		}
		if changed == 0 {
			r.Converged = true
			break
		}
		if shift := l.update(); shift <= c.Tol*c.Tol*deviation && c.Tol > 0 {
			r.Converged = true
			break
		}
	}
	if !r.Converged || c.Tol > 0 { // labels of the last centres
		l.assign()
	}
	r.Distances, r.Labels, r.Counts = l.evals, l.labels, l.counts
	part := make([]float64, (p.n+chunk-1)/chunk)
	each(p.n, func(lo, hi int) {
		for i := lo; i < hi; i++ {
			a := int(l.labels[i])
			part[lo/chunk] += p.weight(i) * distance(p.row(i), l.centers[a*p.d:(a+1)*p.d])
		}
	})
	for _, v := range part {
		r.Inertia += v
	}
	r.Centers = centers
	for j := range centers {
		centers[j] = float32(float64(centers[j]) + p.mean[j%p.d])
	}
	return r, nil
}

// assign gives every row that may have a nearer centre its nearest and returns how many changed.
func (l *lloyd) assign() int {
	l.prod.set(l.centers)
	if !l.plain {
		l.separate()
	}
	rows := l.rows[:0]
	for lo := 0; lo < l.n; lo += block {
		hi, from := min(lo+block, l.n), len(rows)
		for i := lo; i < hi; i++ {
			if a := l.labels[i]; a < 0 || l.plain || !(l.upper[i] < max(l.lower[i], l.far[a])*(1-1e-9)) {
				rows = append(rows, int32(i))
			}
		}
		if n := len(rows) - from; n > (hi-lo)*3/4 && n < hi-lo { // all are sooner done than gathered
			rows = rows[:from]
			for i := lo; i < hi; i++ {
				rows = append(rows, int32(i))
			}
		}
	}
	l.rows = rows
	if len(rows) == 0 {
		return 0
	}
	l.evals += int64(len(rows)) * int64(l.k)
	l.to = slices.Grow(l.to[:0], len(rows))[:len(rows)]
	l.prod.each(rows, func(r, i int, score []float32) {
		best, next, at := nearestFrom(score, int(l.first[i]), int(l.second[i]))
		l.first[i], l.second[i] = int32(at[0]), int32(at[1])
		slack := l.prod.slack(l.sq[i])
		if float64(next)-float64(best) <= 2*slack {
			at[0] = l.judge(i, score, float64(best)+2*slack)
		}
		l.to[r] = int32(at[0])
		l.upper[i] = math.Sqrt(max(0, l.sq[i]+float64(best)+3*slack))
		l.lower[i] = math.Sqrt(max(0, l.sq[i]+float64(next)-slack))
	})
	return l.relabel(rows, l.to)
}

// nearest gives the least score, the next, and where the least is.
func nearest(s []float32) (best, next float32, at int) {
	best, next = float32(math.Inf(1)), float32(math.Inf(1))
	for j, v := range s {
		if v < next {
			if v < best {
				best, next, at = v, best, j
			} else {
				next = v
			}
		}
	}
	return
}

// nearestFrom is nearest, told where the least and the next were the last time, which spares most surprises.
func nearestFrom(s []float32, a, b int) (best, next float32, at [2]int) {
	if len(s) == 1 {
		return s[0], float32(math.Inf(1)), at
	}
	if s[b] < s[a] {
		a, b = b, a
	}
	best, next = s[a], s[b]
	for j := 0; j < len(s); j++ {
		for ; j+4 <= len(s); j += 4 {
			if q := s[j : j+4 : j+4]; q[0] < next || q[1] < next || q[2] < next || q[3] < next {
				break
			}
		}
		for end := min(j+4, len(s)); j < end; j++ {
			switch v := s[j]; {
			case !(v < next) || j == a || j == b:
			case v < best:
				best, next, a, b = v, best, j, a
			default:
				next, b = v, j
			}
		}
		j--
	}
	return best, next, [2]int{a, b}
}

// judge finds the nearest of the centres with a score up to limit in float64.
func (l *lloyd) judge(i int, score []float32, limit float64) int {
	at, best := 0, math.Inf(1)
	for j, s := range score {
		if float64(s) <= limit {
			if d := distance(l.row(i), l.centers[j*l.d:(j+1)*l.d]); d < best {
				at, best = j, d
			}
		}
	}
	return at
}

// relabel moves rows to clusters and returns how many were elsewhere. Each cluster sees its rows in order, whoever adds.
func (l *lloyd) relabel(rows, to []int32) int {
	l.moves = l.moves[:0]
	for r, i := range rows {
		if old := l.labels[i]; old != to[r] {
			l.moves = append(l.moves, move{i, old, to[r]})
			l.labels[i] = to[r]
			l.counts[to[r]]++
			if old >= 0 {
				l.counts[old]--
			}
		}
	}
	par.For(0, l.k, max(1, l.k/par.Threads(0)), l.add)
	return len(l.moves)
}

// move is a row that changes its cluster.
type move struct{ row, from, to int32 }

// add brings the sums of clusters lo to hi up to date.
func (l *lloyd) add(lo, hi int) {
	for _, m := range l.moves {
		w, x := l.weight(int(m.row)), l.row(int(m.row))
		if a := int(m.from); a >= lo && a < hi {
			l.mass[a] -= w
			s := l.sums[a*l.d:][:len(x)]
			for j, v := range x {
				s[j] -= w * float64(v)
			}
		}
		if a := int(m.to); a >= lo && a < hi {
			l.mass[a] += w
			s := l.sums[a*l.d:][:len(x)]
			for j, v := range x {
				s[j] += w * float64(v)
			}
		}
	}
}

// repair gives each empty cluster the row farthest from its centre.
func (l *lloyd) repair() int {
	n := 0
	for a := range l.k {
		if l.counts[a] > 0 {
			continue
		}
		far, at := -1.0, -1
		for i := range l.n {
			if own := int(l.labels[i]); l.counts[own] > 1 && l.weight(i) > 0 {
				if d := distance(l.row(i), l.centers[own*l.d:(own+1)*l.d]); d > far {
					far, at = d, i
				}
			}
		}
		if at < 0 || far == 0 {
			return n // fewer distinct rows than centres
		}
		l.relabel([]int32{int32(at)}, []int32{int32(a)})
		l.upper[at], l.lower[at] = math.Inf(1), 0
		n++
	}
	return n
}

// update moves the centres to the means, loosens the bounds and gives the sum of squared moves.
func (l *lloyd) update() float64 {
	most, second, mover, sum := 0.0, 0.0, -1, 0.0
	for a := range l.k {
		l.moved[a] = 0
		if l.counts[a] == 0 || !(l.mass[a] > 0) {
			continue
		}
		s := 0.0
		for j, v := range l.sums[a*l.d : (a+1)*l.d] {
			c := float32(v / l.mass[a])
			u := float64(c) - float64(l.centers[a*l.d+j])
			s += u * u
			l.centers[a*l.d+j] = c
		}
		sum += s
		l.moved[a] = math.Sqrt(s) * (1 + 1e-12)
		switch m := l.moved[a]; {
		case m > most:
			most, second, mover = m, most, a
		case m > second:
			second = m
		}
	}
	if !l.plain {
		each(l.n, func(lo, hi int) {
			for i := lo; i < hi; i++ {
				a := l.labels[i]
				l.upper[i] += l.moved[a]
				if int(a) == mover {
					l.lower[i] -= second
				} else {
					l.lower[i] -= most
				}
			}
		})
	}
	return sum
}

// separate finds half the distance from each centre to its nearest neighbour.
func (l *lloyd) separate() {
	each(l.k, func(lo, hi int) {
		for a := lo; a < hi; a++ {
			best := math.Inf(1)
			for b := range l.k {
				if a != b {
					best = min(best, distance(l.centers[a*l.d:(a+1)*l.d], l.centers[b*l.d:(b+1)*l.d]))
				}
			}
			l.far[a] = math.Sqrt(best) / 2 * (1 - 1e-12)
		}
	})
}

// miniBatch moves centres by random rows: after row x, centre c of its cluster becomes c + (x-c)/count.
func (l *lloyd) miniBatch(ctx context.Context, c Config, rng *rand.Rand, r *Result) error {
	batch := min(c.Batch, l.n)
	seen := make([]float64, l.k)
	rows, to := make([]int32, batch), make([]int32, batch)
	for r.Iterations < c.MaxIter {
		if err := ctx.Err(); err != nil {
			return err
		}
		for i := range rows {
			rows[i] = int32(rng.IntN(l.n))
		}
		slices.Sort(rows)
		l.prod.set(l.centers)
		l.prod.each(rows, func(r, _ int, score []float32) {
			_, _, a := nearest(score)
			to[r] = int32(a)
		})
		l.evals += int64(batch) * int64(l.k)
		before := slices.Clone(l.centers)
		for b, i := range rows {
			a, w := int(to[b]), l.weight(int(i))
			if w == 0 {
				continue
			}
			seen[a] += w
			center := l.centers[a*l.d : (a+1)*l.d]
			for j, v := range l.row(int(i)) {
				center[j] += float32(w / seen[a] * (float64(v) - float64(center[j])))
			}
		}
		r.Iterations++
		// A centre that has seen next to nothing starts again at a random row.
		if r.Iterations%50 == 0 {
			most := slices.Max(seen)
			for a := range seen {
				if seen[a] < most/1000 {
					copy(l.centers[a*l.d:(a+1)*l.d], l.row(rng.IntN(l.n)))
				}
			}
		}
		if c.Progress != nil {
			c.Progress(r.Iterations, batch)
		}
		if c.Tol > 0 {
			shift, size := 0.0, 0.0
			for j, v := range l.centers {
				u := float64(v) - float64(before[j])
				shift += u * u
				size += float64(v) * float64(v)
			}
			if shift <= c.Tol*c.Tol*size {
				r.Converged = true
				return nil
			}
		}
	}
	return nil
}
