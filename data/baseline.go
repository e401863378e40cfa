package data

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/bits"
)

const (
	maxOrder    = 6       // a context and the byte after it fit in seven bytes of a key
	maxScored   = 8 << 20 // bytes of validation text
	scoredBlock = 64 << 10
	readBlock   = 1 << 20
)

// Baseline trains byte n-gram models of orders 0 (no context) to orders (a context of that many bytes) on train, and
// returns the bits per byte of val under each: the number a language model has to beat. Order n is interpolated with
// order n-1 after Witten and Bell (1991):
//
//	p_n(b|x) = (c(x b) + u(x) p_(n-1)(b|x')) / (c(x) + u(x)),  p_(-1) = 1/256
//
// where c counts in train, u(x) is the number of different bytes that follow x there and x' is x without its first
// byte. Only contexts that occur in val are counted, so memory is bounded by val however long train is: 0.2 GiB for
// 4 MB of source code, at most about 2 GiB. Of a val longer than 8 MiB, 128 blocks spread over it are scored. train is
// read once for each order; ctx ends the work early.
func Baseline(ctx context.Context, train, val *Stream, orders int) ([]float64, error) {
	if orders < 0 || orders > maxOrder {
		return nil, fmt.Errorf("data: n-gram order %d; give 0 to %d", orders, maxOrder)
	}
	text, err := scored(val)
	if err != nil {
		return nil, err
	}
	p := make([]float64, len(text))
	for i := range p {
		p[i] = 1. / 256
	}
	bpb := make([]float64, 0, orders+1)
	for n := range orders + 1 {
		g := newGrams(n, text)
		if err := g.count(ctx, train); err != nil {
			return nil, err
		}
		g.refine(p, text)
		var sum float64
		for _, p := range p {
			sum -= math.Log2(p)
		}
		bpb = append(bpb, sum/float64(len(p)))
	}
	return bpb, nil
}

func scored(val *Stream) ([]byte, error) {
	size := val.Len()
	if size == 0 {
		return nil, errors.New("data: no validation text for the baseline; give more text")
	}
	text := make([]byte, min(size, maxScored))
	blocks := 1
	if size > maxScored {
		blocks = maxScored / scoredBlock
	}
	w := len(text) / blocks
	for i := range blocks {
		if _, err := val.ReadAt(text[i*w:(i+1)*w], spread(int64(i), int64(blocks), size)); err != nil {
			return nil, err
		}
	}
	return text, nil
}

// grams counts, for the contexts of n bytes and the (n+1)-grams of a scored text, how often they occur in train.
type grams struct {
	n          int
	ctx, pairs table
	after      []after // by context
	pair       []int64 // by (n+1)-gram
}

// after is what follows a context: c(x), and the set of different bytes.
type after struct {
	total int64
	seen  [4]uint64
}

func (g *grams) keys(hist uint64) (ctx, pair uint64) {
	pair = hist & (1<<(8*(g.n+1)) - 1)
	return pair >> 8, pair
}

func newGrams(n int, text []byte) *grams {
	g := &grams{n: n}
	var hist uint64
	for i, b := range text {
		hist = hist<<8 | uint64(b)
		if i >= n {
			c, p := g.keys(hist)
			g.ctx.add(c)
			g.pairs.add(p)
		}
	}
	g.after, g.pair = make([]after, g.ctx.n), make([]int64, g.pairs.n)
	return g
}

func (g *grams) count(ctx context.Context, train *Stream) error {
	var hist uint64
	buf := make([]byte, min(readBlock, train.Len()))
	for off := int64(0); off < train.Len(); off += int64(len(buf)) {
		if err := ctx.Err(); err != nil {
			return err
		}
		buf = buf[:min(int64(len(buf)), train.Len()-off)]
		if _, err := train.ReadAt(buf, off); err != nil {
			return err
		}
		skip := max(0, int64(g.n)-off)
		for i, b := range buf {
			hist = hist<<8 | uint64(b)
			if int64(i) < skip {
				continue
			}
			c, p := g.keys(hist)
			id := g.ctx.find(c)
			if id < 0 {
				continue
			}
			a := &g.after[id]
			a.total++
			a.seen[b>>6] |= 1 << (b & 63)
			if id := g.pairs.find(p); id >= 0 {
				g.pair[id]++
			}
		}
	}
	return nil
}

// refine turns p_(n-1) of every byte of text into p_n.
func (g *grams) refine(p []float64, text []byte) {
	var hist uint64
	for i, b := range text {
		hist = hist<<8 | uint64(b)
		if i < g.n {
			continue
		}
		kc, kp := g.keys(hist)
		if a := &g.after[g.ctx.find(kc)]; a.total > 0 {
			u := 0
			for _, w := range a.seen {
				u += bits.OnesCount64(w)
			}
			c := g.pair[g.pairs.find(kp)]
			p[i] = (float64(c) + float64(u)*p[i]) / float64(a.total+int64(u))
		}
	}
}

// A table numbers distinct keys from 0 in the order they come. Keys are below 1<<63; slots hold key+1.
type table struct {
	slots []slot
	n     int
}

type slot struct {
	key uint64 // plus 1; 0 is free
	id  int32
}

func (t *table) slot(key uint64) *slot {
	mask := uint64(len(t.slots) - 1)
	for i := mix(key) & mask; ; i = (i + 1) & mask {
		if s := &t.slots[i]; s.key == key+1 || s.key == 0 {
			return s
		}
	}
}

func (t *table) find(key uint64) int {
	if t.n == 0 {
		return -1
	}
	if s := t.slot(key); s.key != 0 {
		return int(s.id)
	}
	return -1
}

func (t *table) add(key uint64) {
	if 2*t.n >= len(t.slots) {
		old := t.slots
		t.slots = make([]slot, max(1024, 2*len(old)))
		for _, s := range old {
			if s.key != 0 {
				*t.slot(s.key - 1) = s
			}
		}
	}
	if s := t.slot(key); s.key == 0 {
		*s = slot{key + 1, int32(t.n)}
		t.n++
	}
}
