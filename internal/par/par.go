package par

import (
	"runtime"
	"sync"
	"sync/atomic"
)

// piecesPerThread cuts finer than the number of threads, so that a slow piece or a busy core holds up little.
const piecesPerThread = 4

// For calls f on contiguous ranges [lo, hi) that cover [0, n), on at most threads goroutines, the caller's included
// (threads <= 0: GOMAXPROCS), and returns when all are done. A range is at least about grain long; with n <= grain or
// one thread, f(0, n) runs inline. A panic in f stops the ranges not yet begun and panics again in the caller, with the
// same value.
func For(threads, n, grain int, f func(lo, hi int)) {
	if n <= 0 {
		return
	}
	if threads <= 0 {
		threads = runtime.GOMAXPROCS(0)
	}
	grain = max(grain, 1)
	if threads == 1 || n <= grain {
		f(0, n)
		return
	}
	pieces := min((n-1)/grain+1, piecesPerThread*threads)
	s := &loop{f: f, n: n, pieces: pieces}
	workers := min(threads, pieces) - 1
	s.wg.Add(workers)
	for range workers {
		go s.worker()
	}
	s.run()
	s.wg.Wait()
	if p := s.panicked.Load(); p != nil {
		panic(*p)
	}
}

type loop struct {
	f         func(lo, hi int)
	n, pieces int
	next      atomic.Int64
	wg        sync.WaitGroup
	panicked  atomic.Pointer[any]
}

func (s *loop) worker() {
	defer s.wg.Done()
	s.run()
}

// run takes pieces in order until none is left. The first n%pieces of them are one longer.
func (s *loop) run() {
	defer func() {
		if p := recover(); p != nil {
			s.panicked.CompareAndSwap(nil, &p)
			s.next.Store(int64(s.pieces))
		}
	}()
	for {
		i := int(s.next.Add(1)) - 1
		if i >= s.pieces {
			return
		}
		q, r := s.n/s.pieces, s.n%s.pieces
		lo := i*q + min(i, r)
		hi := lo + q
		if i < r {
			hi++
		}
		s.f(lo, hi)
	}
}

// Threads is the number of goroutines that a bound stands for: GOMAXPROCS if it is not positive.
func Threads(threads int) int {
	if threads <= 0 {
		return runtime.GOMAXPROCS(0)
	}
	return threads
}
