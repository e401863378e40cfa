package autograd

// A slab hands out zero Ts and takes all of them back at once.
type slab[T any] struct {
	blocks [][]T
	used   int
}

const slabBlock = 32

func (s *slab[T]) next() *T {
	b, i := s.used/slabBlock, s.used%slabBlock
	if b == len(s.blocks) {
		s.blocks = append(s.blocks, make([]T, slabBlock))
	}
	s.used++
	return &s.blocks[b][i]
}

// reset zeroes what was handed out: a use after it panics until it is handed out again.
func (s *slab[T]) reset() {
	for _, b := range s.blocks {
		n := min(s.used, slabBlock)
		clear(b[:n])
		s.used -= n
	}
}
