package llm

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
)

// Sampling says how the next token is chosen. The zero Sampling takes the most likely one.
type Sampling struct {
	Temperature float64 // 0: most likely token; 1: the model's distribution
	TopK        int     // keep the k most likely tokens; 0: all
	TopP        float64 // keep the most likely tokens that together have this probability; 0 or 1: all
	Seed        uint64
}

// Validate reports a field out of range.
func (s Sampling) Validate() error {
	switch {
	case !(s.Temperature >= 0) || math.IsInf(s.Temperature, 0):
		return fmt.Errorf("llm: temperature is %g; it must be 0 or more", s.Temperature)
	case s.TopK < 0:
		return fmt.Errorf("llm: top-k is %d; it must be 0 (all) or more", s.TopK)
	case !(s.TopP >= 0 && s.TopP <= 1):
		return fmt.Errorf("llm: top-p is %g; it must be between 0 and 1", s.TopP)
	}
	return nil
}

// Generate continues prompt by up to n tokens and hands each to emit as soon as it is there; emit returns false to
// stop. An empty prompt starts from token '\n'. When the context is full, the older half is forgotten and the rest is
// read again. The same seed gives the same tokens. A frozen model reads its head and caches in half precision.
func Generate(ctx context.Context, m *Model, prompt []int32, n int, s Sampling, emit func(token int32) bool) error {
	if err := s.Validate(); err != nil {
		return err
	}
	for _, id := range prompt {
		if id < 0 || int(id) >= m.cfg.Vocab {
			return fmt.Errorf("llm: prompt token %d is outside the vocabulary of %d", id, m.cfg.Vocab)
		}
	}
	if len(prompt) == 0 {
		prompt = []int32{'\n' % int32(m.cfg.Vocab)}
	}
	rng := rand.New(rand.NewPCG(s.Seed, 0x5e7))
	room := min(m.cfg.Context, len(prompt)+min(max(n, 0), m.cfg.Context))
	d, err := NewDecoder(m, DecoderConfig{Context: room})
	if err != nil {
		return err
	}
	defer d.Free()
	history := slices.Clone(prompt)
	next := history // tokens not in the cache yet
	logits := make([]float32, m.cfg.Vocab)
	for range n {
		if err := ctx.Err(); err != nil {
			return err
		}
		if d.Len()+len(next) > room {
			d.Truncate(0)
			next = history[len(history)-max(1, room/2):]
		}
		if err := d.Next(next, logits); err != nil {
			return err
		}
		id, err := s.sample(rng, logits)
		if err != nil {
			return err
		}
		if !emit(id) {
			return nil
		}
		history = append(history, id)
		next = history[len(history)-1:]
	}
	return nil
}

// sample draws a token from logits.
func (s Sampling) sample(rng *rand.Rand, logits []float32) (int32, error) {
	type candidate struct {
		id int32
		p  float64
	}
	best := 0
	for i, l := range logits {
		if math.IsNaN(float64(l)) || math.IsInf(float64(l), 0) {
			return 0, fmt.Errorf("llm: the model gives %g for token %d; its weights are damaged or training diverged", l, i)
		}
		if l > logits[best] {
			best = i
		}
	}
	if s.Temperature == 0 {
		return int32(best), nil
	}
	// Tokens that are e^-40 times as likely as the best do not matter, but would have to be sorted.
	least := float64(logits[best]) - 40*s.Temperature
	cs := make([]candidate, 0, 256)
	for i, l := range logits {
		if float64(l) >= least {
			cs = append(cs, candidate{int32(i), float64(l)})
		}
	}
	slices.SortStableFunc(cs, func(a, b candidate) int { return cmp.Compare(b.p, a.p) })
	if s.TopK > 0 && s.TopK < len(cs) {
		cs = cs[:s.TopK]
	}
	top, sum := cs[0].p, 0.0
	for i := range cs {
		cs[i].p = math.Exp((cs[i].p - top) / s.Temperature)
		sum += cs[i].p
	}
	if s.TopP > 0 && s.TopP < 1 {
		mass := 0.0
		for i := range cs {
			mass += cs[i].p
			if mass >= s.TopP*sum {
				cs, sum = cs[:i+1], mass
				break
			}
		}
	}
	r := rng.Float64() * sum
	for _, c := range cs {
		if r -= c.p; r < 0 {
			return c.id, nil
		}
	}
	return cs[len(cs)-1].id, nil
}
