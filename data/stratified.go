package data

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash/fnv"
)

const maxStrata = 1 << 16 // or as many as there are images

// Stratified deals batches whose items come from each stratum in proportion to its size; strata[i] is that of image i, at
// least 0. A stratum with the share w of the images has floor(w*batch) of every batch, and one more as often as makes the
// mean w*batch: all images are dealt equally often, and the mean over a batch is an unbiased estimate. Each stratum is
// walked in an order of its own, new in every epoch. The variance of a mean over a batch is that within strata only
// (Zhao and Zhang 2014, arXiv 1405.3080).
func (s *Split) Stratified(batch int, seed uint64, strata []int32) (*Sampler, error) {
	shuffled, err := s.Shuffled(batch, seed)
	if err != nil {
		return nil, err
	}
	if len(strata) != s.N {
		return nil, fmt.Errorf("data: %d strata for %d images; give one for each", len(strata), s.N)
	}
	var members [][]int32
	h := fnv.New64a()
	for i, k := range strata {
		if k < 0 || int(k) >= max(s.N, maxStrata) {
			return nil, fmt.Errorf("data: image %d is in stratum %d; number them from 0 to %d at most", i, k, max(s.N, maxStrata)-1)
		}
		for int(k) >= len(members) {
			members = append(members, nil)
		}
		members[k] = append(members[k], int32(i))
		var b [4]byte
		binary.LittleEndian.PutUint32(b[:], uint32(k))
		h.Write(b[:])
	}
	shuffled.state.Digest += "+" + hex.EncodeToString(h.Sum(nil))
	d := &dealer{members: members, items: s.N, batch: batch, dealt: make([]int, len(members)),
		take: make([]int, len(members))}
	shuffled.fill = func(o order) (Batch, error) {
		images := d.deal(o.seed, int(o.pos)/batch)
		return s.gather(batch, func(i int) int { return int(images[i]) }), nil
	}
	return shuffled, nil
}

// A dealer chooses the images of batches. What it has dealt follows from the seed and the number of batches.
type dealer struct {
	members      [][]int32
	items, batch int
	seed         uint64
	batches      int   // dealt
	dealt        []int // of each stratum
	take         []int // of the batch
}

// deal gives batch n (from 0), walking there from the start unless it is the next.
func (d *dealer) deal(seed uint64, n int) []int32 {
	if seed != d.seed || n < d.batches {
		d.seed, d.batches = seed, 0
		clear(d.dealt)
	}
	for ; d.batches < n; d.batches++ {
		d.share(d.batches)
		for h, k := range d.take {
			d.dealt[h] += k
		}
	}
	d.share(n)
	images := make([]int32, 0, d.batch)
	for h, k := range d.take {
		m := d.members[h]
		o := order{seed: mix(seed+uint64(h)*golden) ^ 0x73747261, items: uint64(len(m)), pos: uint64(d.dealt[h])}
		for range k {
			i, _ := o.next()
			images = append(images, m[i])
		}
	}
	return images
}

// share says how many each stratum has of batch n: whole numbers, and of what is left over systematically at one random
// offset.
func (d *dealer) share(n int) {
	offset := float64(mix(mix(d.seed^0x6f666673)+uint64(n)*golden)>>11) / (1 << 53)
	left, total := 0.0, 0
	for h, m := range d.members {
		exact := d.batch * len(m)
		d.take[h] = exact / d.items
		before := int(left + 1 - offset) // marks at offset, offset+1, ...
		left += float64(exact%d.items) / float64(d.items)
		if int(left+1-offset) > before {
			d.take[h]++
		}
		total += d.take[h]
	}
	for h := len(d.take) - 1; total != d.batch; h-- { // rounding at the last mark
		switch m := len(d.members[h]); {
		case m == 0:
		case total < d.batch:
			d.take[h]++
			total++
		case d.take[h] > 0:
			d.take[h]--
			total--
		}
	}
}
