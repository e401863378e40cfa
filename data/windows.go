package data

import (
	"context"
	"fmt"
	"iter"
)

// NewWindows deals shuffled windows of s: Tokens are context bytes, Targets the bytes one further on. With L bytes an
// epoch has N = max(1, (L-1)/context - 1) windows side by side, which begin at an offset drawn anew for each epoch, so
// that windows are cut at other places each time and every byte comes up; what an epoch leaves out at the two ends is
// less than two windows.
func NewWindows(s *Stream, batch, context int, seed uint64) (*Sampler, error) {
	n, err := windows(s, batch, context)
	if err != nil {
		return nil, err
	}
	if n > 1 {
		n--
	}
	slack := uint64(s.Len()-1) - uint64(n)*uint64(context)
	return &Sampler{
		items: uint64(n),
		batch: batch,
		state: State{Seed: seed, Context: context, Digest: s.Digest()},
		fill: func(o order) (Batch, error) {
			starts := make([]int64, batch)
			for i := range starts {
				w, key := o.next()
				starts[i] = int64(mix(key)%(slack+1) + w*uint64(context))
			}
			return readWindows(s, starts, context)
		},
	}, nil
}

// NewStrataWindows is NewWindows with strata: the text is cut into as many equal parts as a batch has rows, in the order of
// its files, so that neighbours in folders fall into one part; row i of every batch comes from part i, each part walked
// in an order of its own. The mean over a batch stays an unbiased estimate of that over the text, and its variance is
// that within parts only (Zhao and Zhang 2014, arXiv 1405.3080). An epoch leaves out up to batch windows at the end.
func NewStrataWindows(s *Stream, batch, context int, seed uint64) (*Sampler, error) {
	w, err := NewWindows(s, batch, context, seed)
	if err != nil {
		return nil, err
	}
	part := w.items / uint64(batch)
	if part == 0 {
		return nil, fmt.Errorf("data: %s of text are too few for %d parts of windows of %d; give more text or a smaller batch",
			count(s.Len(), "byte"), batch, context)
	}
	slack := uint64(s.Len()-1) - w.items*uint64(context)
	w.items = part * uint64(batch)
	w.state.Digest += fmt.Sprintf("+%d", batch)
	w.fill = func(o order) (Batch, error) {
		n := o.pos / uint64(batch)
		key := mix(o.seed + (n/part+1)*golden) // of the epoch: where windows are cut
		starts := make([]int64, batch)
		for i := range starts {
			row := order{seed: mix(o.seed+uint64(i)*golden) ^ 0x73747261, items: part, pos: n}
			at, _ := row.next()
			starts[i] = int64(key%(slack+1) + (uint64(i)*part+at)*uint64(context))
		}
		return readWindows(s, starts, context)
	}
	return w, nil
}

// windows is the number of windows of context+1 bytes in s that share only their end bytes.
func windows(s *Stream, batch, context int) (int64, error) {
	if context < 1 {
		return 0, fmt.Errorf("data: context of %d; give at least 1", context)
	}
	if err := checkBatch(batch, context); err != nil {
		return 0, err
	}
	n := (s.Len() - 1) / int64(context)
	if n < 1 {
		return 0, fmt.Errorf("data: %s of text are too few for a context of %d; give more text or a shorter context",
			count(s.Len(), "byte"), context)
	}
	return n, nil
}

func readWindows(s *Stream, starts []int64, context int) (Batch, error) {
	n := len(starts) * context
	b := Batch{Shape: []int{len(starts), context}, Tokens: make([]int32, n), Targets: make([]int32, n)}
	buf := make([]byte, context+1)
	for i, start := range starts {
		if _, err := s.ReadAt(buf, start); err != nil {
			return Batch{}, err
		}
		tok, tgt := b.Tokens[i*context:], b.Targets[i*context:]
		for j := range context {
			tok[j], tgt[j] = int32(buf[j]), int32(buf[j+1])
		}
	}
	return b, nil
}

// An Eval is a fixed sequence of batches, the same each time.
type Eval struct {
	items, batch, targets int
	fill                  func(lo, hi int) (Batch, error)
}

// ValWindows spreads at most limit windows (0: as many as fit) evenly over s. They do not overlap: every target is
// scored once.
func ValWindows(s *Stream, batch, context, limit int) (*Eval, error) {
	fit, err := windows(s, batch, context)
	if err != nil {
		return nil, fmt.Errorf("held-out text: %w", err)
	}
	if limit < 0 {
		return nil, fmt.Errorf("data: at most %d validation windows; give a positive number, or 0 for all", limit)
	}
	n := fit
	if limit > 0 {
		n = min(n, int64(limit))
	}
	return &Eval{int(n), batch, int(n) * context, func(lo, hi int) (Batch, error) {
		starts := make([]int64, hi-lo)
		for i := range starts {
			starts[i] = spread(int64(lo+i), n, fit) * int64(context)
		}
		return readWindows(s, starts, context)
	}}, nil
}

// spread is i*fit/n without overflow, for i < n <= fit.
func spread(i, n, fit int64) int64 { return i*(fit/n) + i*(fit%n)/n }

// Len is the number of windows or images.
func (e *Eval) Len() int { return e.items }

// Targets is the number of targets in all: scored bytes, or images.
func (e *Eval) Targets() int { return e.targets }

// Batches yields the batches in order; the last may be smaller. It ends after the first error, such as that of ctx.
func (e *Eval) Batches(ctx context.Context) iter.Seq2[Batch, error] {
	return func(yield func(Batch, error) bool) {
		for lo := 0; lo < e.items; lo += e.batch {
			err := ctx.Err()
			var b Batch
			if err == nil {
				b, err = e.fill(lo, min(lo+e.batch, e.items))
			}
			if !yield(b, err) || err != nil {
				return
			}
		}
	}
}
