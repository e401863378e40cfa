package data

import (
	"context"
	"fmt"
	"math"
)

// A Sampler deals shuffled batches without end. In each epoch it visits every item once, in an order given by the seed
// and the epoch; a batch may begin in one epoch and end in the next. While a batch is in use the next one is being
// read. A Sampler serves one goroutine.
type Sampler struct {
	items   uint64 // in an epoch
	batch   int
	state   State
	fill    func(o order) (Batch, error)
	pending chan result // the batch being read, or nil
}

// State is what a Sampler has to remember: save it with a checkpoint, as JSON or otherwise.
type State struct {
	Seed     uint64 `json:"seed"`
	Position int64  `json:"position"` // items dealt since the start; the batch size may change on resuming
	Context  int    `json:"context,omitempty"`
	Digest   string `json:"digest"` // of the data
}

type result struct {
	batch Batch
	err   error
}

// An order yields the item and the epoch's key for successive positions.
type order struct {
	seed, items uint64
	pos, epoch  uint64
	perm        permutation
	key         uint64
}

func (o *order) next() (item, key uint64) {
	if e := o.pos / o.items; o.perm.n == 0 || e != o.epoch {
		o.epoch = e
		o.key = mix(mix(o.seed+golden) + e*golden)
		o.perm = newPermutation(o.items, o.key)
	}
	item = o.perm.at(o.pos % o.items)
	o.pos++
	return item, o.key
}

// Next is the next batch, or the error of ctx if that is done first; no batch is lost then.
func (s *Sampler) Next(ctx context.Context) (Batch, error) {
	if err := ctx.Err(); err != nil {
		return Batch{}, err
	}
	if s.pending == nil {
		s.prefetch()
	}
	select {
	case <-ctx.Done():
		return Batch{}, ctx.Err()
	case r := <-s.pending:
		s.pending = nil
		if r.err != nil {
			return Batch{}, r.err
		}
		s.state.Position += int64(s.batch)
		s.prefetch()
		return r.batch, nil
	}
}

func (s *Sampler) prefetch() {
	c := make(chan result, 1)
	s.pending = c
	o := order{seed: s.state.Seed, items: s.items, pos: uint64(s.state.Position)}
	go func() {
		b, err := s.fill(o)
		c <- result{b, err}
	}()
}

// Len is the number of items in an epoch.
func (s *Sampler) Len() int64 { return int64(s.items) }

// Epoch is the number of epochs dealt, with a fraction.
func (s *Sampler) Epoch() float64 { return float64(s.state.Position) / float64(s.items) }

// State is the state after the batches that Next returned.
func (s *Sampler) State() State { return s.state }

// Restore continues from st, with its seed: the next batch is the one that would have followed when State returned st.
// It refuses the state of other data or another context length, and then changes nothing.
func (s *Sampler) Restore(st State) error {
	switch {
	case st.Digest != s.state.Digest:
		return fmt.Errorf("data: state of other data (digest %q, here %q); use the same files or start anew",
			st.Digest, s.state.Digest)
	case st.Context != s.state.Context:
		return fmt.Errorf("data: state for context %d, here %d; use the same context or start anew",
			st.Context, s.state.Context)
	case st.Position < 0 || st.Position > math.MaxInt64/2:
		return fmt.Errorf("data: state at position %d; the checkpoint is damaged, use another", st.Position)
	}
	if s.pending != nil {
		<-s.pending // it reads what the next ones need
	}
	s.state, s.pending = st, nil
	return nil
}

// maxBatch bounds the numbers in one batch, against typing errors.
const maxBatch = 1 << 30

func checkBatch(batch, size int) error {
	if batch < 1 {
		return fmt.Errorf("data: batch of %d; give at least 1", batch)
	}
	if batch > maxBatch/size {
		return fmt.Errorf("data: batch of %d items of %d numbers each is more than %d; make them smaller",
			batch, size, maxBatch)
	}
	return nil
}
