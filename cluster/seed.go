package cluster

import (
	"context"
	"math"
	"math/rand/v2"
	"slices"
)

// seed chooses the first centres.
func (p *points) seed(ctx context.Context, c Config, rng *rand.Rand, centers []float32) error {
	if c.Init == "k-means||" && c.K > 1 && c.K < p.n/8 {
		return p.seedParallel(ctx, c.K, rng, centers)
	}
	return p.seedPlus(ctx, c.K, rng, centers)
}

// seedPlus is greedy k-means++: each centre is the best of 2+ln k rows drawn with probability proportional to weight
// times squared distance to the nearest centre so far.
func (p *points) seedPlus(ctx context.Context, k int, rng *rand.Rand, centers []float32) error {
	tries := 2 + int(math.Log(float64(k)))
	q := p.products(tries)
	defer q.free()
	near := make([]float64, p.n) // weight times squared distance
	for i := range near {
		near[i] = p.weight(i)
	}
	first := draw(near, rng)
	copy(centers, p.row(first))
	for i := range near {
		near[i] *= distance(p.row(i), centers[:p.d])
	}
	rows := make([]float32, tries*p.d)
	cand := make([][]float64, tries)
	for t := range cand {
		cand[t] = make([]float64, p.n)
	}
	for j := 1; j < k; j++ {
		if err := ctx.Err(); err != nil {
			return err
		}
		for t := range tries {
			copy(rows[t*p.d:], p.row(draw(near, rng)))
		}
		q.set(rows)
		q.each(nil, func(_, i int, score []float32) {
			for t, s := range score {
				cand[t][i] = min(near[i], p.weight(i)*max(0, p.sq[i]+float64(s)))
			}
		})
		best, at := math.Inf(1), 0
		for t := range tries {
			sum := 0.0
			for _, v := range cand[t] {
				sum += v
			}
			if sum < best {
				best, at = sum, t
			}
		}
		copy(centers[j*p.d:], rows[at*p.d:(at+1)*p.d])
		near, cand[at] = cand[at], near
	}
	return nil
}

// draw picks an index with probability proportional to w; any, if all are 0.
func draw(w []float64, rng *rand.Rand) int {
	total := 0.0
	for _, v := range w {
		total += v
	}
	u := rng.Float64() * total
	if !(total > 0) {
		return rng.IntN(len(w))
	}
	last := 0
	for i, v := range w {
		if v > 0 {
			last = i
			if u -= v; u < 0 {
				break
			}
		}
	}
	return last
}

// seedParallel is k-means||: five rounds that each draw about 2k rows at once, then k-means++ on those, weighted by the
// rows nearest to them.
func (p *points) seedParallel(ctx context.Context, k int, rng *rand.Rand, centers []float32) error {
	near := make([]float64, p.n)
	for i := range near {
		near[i] = p.weight(i)
	}
	chosen := []int{draw(near, rng)}
	owner := make([]int32, p.n)
	for i := range near {
		near[i] *= distance(p.row(i), p.row(chosen[0]))
	}
	for range 5 {
		if err := ctx.Err(); err != nil {
			return err
		}
		total := 0.0
		for _, v := range near {
			total += v
		}
		from := len(chosen)
		for i, v := range near {
			if rng.Float64()*total < 2*float64(k)*v {
				chosen = append(chosen, i)
			}
		}
		if len(chosen) == from {
			continue
		}
		fresh := make([]float32, 0, (len(chosen)-from)*p.d)
		for _, i := range chosen[from:] {
			fresh = append(fresh, p.row(i)...)
		}
		m := len(chosen) - from
		q := p.products(m)
		q.set(fresh)
		q.each(nil, func(_, i int, score []float32) {
			s, _, at := nearest(score)
			if v := p.weight(i) * max(0, p.sq[i]+float64(s)); v < near[i] {
				near[i], owner[i] = v, int32(from+at)
			}
		})
		q.free()
	}
	if len(chosen) <= k { // next to no distinct rows
		return p.seedPlus(ctx, k, rng, centers)
	}
	w := make([]float32, len(chosen))
	for i, o := range owner {
		w[o] += float32(p.weight(i))
	}
	x := make([]float32, 0, len(chosen)*p.d)
	for _, i := range chosen {
		x = append(x, p.row(i)...)
	}
	small, err := fromHost(p.dev, slices.Clone(x), len(chosen), p.d, w)
	if err != nil {
		return err
	}
	defer small.free()
	r, err := small.fit(ctx, Config{K: k, MaxIter: 20}.withDefaults(len(chosen)), rng)
	if err != nil {
		return err
	}
	copy(centers, r.Centers)
	return nil
}
