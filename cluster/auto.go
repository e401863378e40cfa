package cluster

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"

	"gonum.org/v1/gonum/mat"

	"setun/tensor"
)

// AutoConfig configures [AutoK]; zero fields mean the defaults in brackets.
type AutoConfig struct {
	Min int `json:"min,omitempty"` // least number of clusters (2; gap always looks at 1 too)
	Max int `json:"max,omitempty"` // most (20)
	// Method: "gap" (default up to 20,000 rows), "knee" (default above), "silhouette" or "bic".
	Method     string `json:"method,omitempty"`
	References int    `json:"references,omitempty"` // data sets without clusters that gap compares with (3)
	Sample     int    `json:"sample,omitempty"`     // rows that the choice is made on (5000; silhouette 1000)
	KMeans     Config `json:"kmeans,omitzero"`      // of each fit, without K and Centers (3 restarts)
}

// Score is what a method thinks of k clusters; the choice has the largest Value, but for gap, which takes the first k
// whose Value is at least the next one's less its Error.
type Score struct {
	K              int
	Inertia, Value float64
	Error          float64 // of gap
}

// AutoK chooses the number of clusters and clusters x with it.
//
//	gap         mean over references of log W_k, less log W_k (Tibshirani et al. 2001); references are uniform in the box
//	            that the data fills along its principal axes
//	knee        where the curve of inertia, both axes scaled to [0, 1], is farthest below its chord (Satopaa et al. 2011)
//	silhouette  mean of (b-a)/max(a, b), a and b the mean distances to the own and the next cluster (Rousseeuw 1987)
//	bic         Bayesian information criterion of spherical Gaussians with mixing weights (Pelleg and Moore 2000), negated
//
// W_k is the inertia.
func AutoK(ctx context.Context, x *tensor.Tensor, c AutoConfig) (*Result, []Score, error) {
	n, d := 0, 0
	if x.Dims() > 0 && x.Len() > 0 {
		d = x.Dim(-1)
		n = x.Len() / d
	}
	if c.Min == 0 {
		c.Min = 2
	}
	if c.Max == 0 {
		c.Max = min(20, n)
	}
	if c.Method == "" {
		c.Method = "gap"
		if n > 20_000 {
			c.Method = "knee"
		}
	}
	if c.References == 0 {
		c.References = 3
	}
	if c.Sample == 0 {
		c.Sample = 5000
		if c.Method == "silhouette" {
			c.Sample = 1000
		}
	}
	if c.KMeans.Restarts == 0 {
		c.KMeans.Restarts = 3
	}
	switch {
	case !slices.Contains([]string{"gap", "knee", "silhouette", "bic"}, c.Method):
		return nil, nil, fmt.Errorf("cluster: unknown method %q; use gap, knee, silhouette or bic", c.Method)
	case c.Min < 1 || c.Max < c.Min || c.Max > n:
		return nil, nil, fmt.Errorf("cluster: k from %d to %d; it must be 1 <= min <= max <= %d rows", c.Min, c.Max, n)
	case c.References < 1 || c.Sample < c.Max:
		return nil, nil, fmt.Errorf("cluster: %d references and a sample of %d; at least 1 and max, %d", c.References,
			c.Sample, c.Max)
	case c.KMeans.Weights != nil:
		return nil, nil, fmt.Errorf("cluster: the choice of k takes no weights; repeat rows instead")
	}
	rng := rand.New(rand.NewPCG(c.KMeans.Seed, 0x6b))
	part := x.Reshape(n, d)
	if n > c.Sample {
		host, rows := x.Floats(), rng.Perm(n)[:c.Sample]
		slices.Sort(rows)
		some := make([]float32, 0, c.Sample*d)
		for _, i := range rows {
			some = append(some, host[i*d:(i+1)*d]...)
		}
		part = tensor.FromFloats(x.Device(), some, c.Sample, d)
		defer part.Free()
	}
	first := c.Min
	if c.Method == "gap" {
		first = 1
	}
	scores, err := c.scores(ctx, part, first, rng)
	if err != nil {
		return nil, nil, err
	}
	fit := c.KMeans
	fit.K = c.choose(scores)
	r, err := KMeans(ctx, x, fit)
	return r, scores, err
}

// choose picks k; with too few values for a knee, the first.
func (c AutoConfig) choose(scores []Score) int {
	best := scores[0]
	for i, s := range scores {
		if c.Method == "gap" && s.K >= c.Min && (i+1 == len(scores) || s.Value >= scores[i+1].Value-scores[i+1].Error) {
			return s.K
		}
		if s.Value > best.Value {
			best = s
		}
	}
	return max(best.K, c.Min)
}

func (c AutoConfig) scores(ctx context.Context, x *tensor.Tensor, first int, rng *rand.Rand) ([]Score, error) {
	n, d := x.Dim(0), x.Dim(1)
	var refs []*tensor.Tensor
	if c.Method == "gap" {
		box, err := newBox(x)
		if err != nil {
			return nil, err
		}
		for range c.References {
			r := tensor.FromFloats(x.Device(), box.draw(n, rng), n, d)
			defer r.Free()
			refs = append(refs, r)
		}
	}
	var dist []float64
	if c.Method == "silhouette" {
		dist = distances(x.Floats(), n, d)
	}
	var scores []Score
	for k := first; k <= c.Max; k++ {
		fit := c.KMeans
		fit.K, fit.Progress = k, nil
		r, err := KMeans(ctx, x, fit)
		if err != nil {
			return nil, err
		}
		s := Score{K: k, Inertia: r.Inertia}
		switch c.Method {
		case "gap":
			var logs []float64
			mean := 0.0
			for _, ref := range refs {
				rr, err := KMeans(ctx, ref, fit)
				if err != nil {
					return nil, err
				}
				logs = append(logs, math.Log(max(rr.Inertia, math.SmallestNonzeroFloat32)))
				mean += logs[len(logs)-1] / float64(len(refs))
			}
			for _, l := range logs {
				s.Error += (l - mean) * (l - mean) / float64(len(refs))
			}
			s.Error = math.Sqrt(s.Error * (1 + 1/float64(len(refs))))
			s.Value = mean - math.Log(max(r.Inertia, math.SmallestNonzeroFloat32))
		case "silhouette":
			s.Value = silhouette(dist, r)
		case "bic":
			s.Value = -bic(r, n, d)
		}
		scores = append(scores, s)
	}
	if c.Method == "knee" {
		lo, hi := scores[0], scores[len(scores)-1]
		for i := range scores {
			s := &scores[i]
			if span := lo.Inertia - hi.Inertia; span > 0 {
				s.Value = 1 - (s.Inertia-hi.Inertia)/span - float64(s.K-lo.K)/float64(max(hi.K-lo.K, 1))
			}
		}
	}
	return scores, nil
}

// bic: n d log s2 + d (n-k) - 2 sum_j n_j log(n_j/n) + k (d+1) log n with s2 = W/(d (n-k)).
func bic(r *Result, n, d int) float64 {
	k := len(r.Counts)
	if n <= k {
		return math.Inf(1)
	}
	free := float64(d) * float64(n-k)
	v := float64(n)*float64(d)*math.Log(max(r.Inertia/free, math.SmallestNonzeroFloat32)) + free +
		float64(k)*float64(d+1)*math.Log(float64(n))
	for _, c := range r.Counts {
		if c > 0 {
			v -= 2 * float64(c) * math.Log(float64(c)/float64(n))
		}
	}
	return v
}

func distances(x []float32, n, d int) []float64 {
	dist := make([]float64, n*n)
	each(n, func(lo, hi int) {
		for i := lo; i < hi; i++ {
			for j := range n {
				dist[i*n+j] = math.Sqrt(distance(x[i*d:(i+1)*d], x[j*d:(j+1)*d]))
			}
		}
	})
	return dist
}

func silhouette(dist []float64, r *Result) float64 {
	n, k := len(r.Labels), len(r.Counts)
	sum := 0.0
	to := make([]float64, k)
	for i := range n {
		clear(to)
		for j, a := range r.Labels {
			to[a] += dist[i*n+j]
		}
		own := int(r.Labels[i])
		if r.Counts[own] < 2 {
			continue // 0 by definition
		}
		a, b := to[own]/float64(r.Counts[own]-1), math.Inf(1)
		for j, v := range to {
			if j != own && r.Counts[j] > 0 {
				b = min(b, v/float64(r.Counts[j]))
			}
		}
		if m := max(a, b); m > 0 && !math.IsInf(b, 1) {
			sum += (b - a) / m
		}
	}
	return sum / float64(n)
}

// box is the smallest box along the principal axes of data that holds it.
type box struct {
	mean   []float64
	axes   *mat.Dense // columns
	lo, hi []float64
}

func newBox(x *tensor.Tensor) (*box, error) {
	n, d := x.Dim(0), x.Dim(1)
	host := x.Floats()
	b := &box{mean: make([]float64, d), axes: new(mat.Dense), lo: make([]float64, d), hi: make([]float64, d)}
	for i, v := range host {
		b.mean[i%d] += float64(v) / float64(n)
	}
	m := mat.NewDense(n, d, nil)
	for i, v := range host {
		m.Set(i/d, i%d, float64(v)-b.mean[i%d])
	}
	var cov mat.SymDense
	cov.SymOuterK(1/float64(n), m.T())
	var eig mat.EigenSym
	if !eig.Factorize(&cov, true) {
		return nil, fmt.Errorf("cluster: the principal axes of the data cannot be found; are its numbers too large?")
	}
	eig.VectorsTo(b.axes)
	var p mat.Dense
	p.Mul(m, b.axes)
	for j := range d {
		col := mat.Col(nil, j, &p)
		b.lo[j], b.hi[j] = slices.Min(col), slices.Max(col)
	}
	return b, nil
}

func (b *box) draw(n int, rng *rand.Rand) []float32 {
	d := len(b.mean)
	u := mat.NewDense(n, d, nil)
	for i := range n {
		for j := range d {
			u.Set(i, j, b.lo[j]+(b.hi[j]-b.lo[j])*rng.Float64())
		}
	}
	var y mat.Dense
	y.Mul(u, b.axes.T())
	out := make([]float32, n*d)
	for i := range out {
		out[i] = float32(y.At(i/d, i%d) + b.mean[i%d])
	}
	return out
}
