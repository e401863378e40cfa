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
//
// The other goroutines are workers that all calls share: a call that finds them busy, because it is nested or others
// run at the same time, computes with those that are free, or alone.
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
	l := loops.Get().(*loop)
	l.f, l.n, l.pieces = f, n, min((n-1)/grain+1, piecesPerThread*threads)
	l.next.Store(0)
	ws := crew(threads - 1)
	offered := l.offer(ws, min(threads, l.pieces)-1)
	l.run()
	l.wait(offered - l.retract(ws))
	p := l.panicked.Swap(nil)
	l.f = nil
	loops.Put(l)
	if p != nil {
		panic(*p)
	}
}

// Each is For with an argument for f: where f captures nothing, a call costs no memory.
func Each[A any](threads, n, grain int, a A, f func(a A, lo, hi int)) {
	Steps(threads, n, grain, n, a, f)
}

// Steps is Each with ranges of at most the given length.
func Steps[A any](threads, n, grain, most int, a A, f func(a A, lo, hi int)) {
	most = max(most, 1)
	if threads == 1 || n <= grain {
		for lo := 0; lo < n; lo += most {
			f(a, lo, min(lo+most, n))
		}
		return
	}
	p := callsWith[A]()
	c := p.Get().(*call[A])
	c.a, c.f, c.most = a, f, most
	For(threads, n, grain, c.run)
	*c = call[A]{run: c.run}
	p.Put(c)
}

// A call of Steps that more than one goroutine may run.
type call[A any] struct {
	a    A
	f    func(a A, lo, hi int)
	most int
	run  func(lo, hi int) // bound once
}

func (c *call[A]) ranges(lo, hi int) {
	for ; lo < hi; lo += c.most {
		c.f(c.a, lo, min(lo+c.most, hi))
	}
}

var calls sync.Map // pools of calls, by a nil pointer to their argument

func callsWith[A any]() *sync.Pool {
	key := any((*A)(nil))
	p, ok := calls.Load(key)
	if !ok {
		p, _ = calls.LoadOrStore(key, &sync.Pool{New: func() any {
			c := new(call[A])
			c.run = c.ranges
			return c
		}})
	}
	return p.(*sync.Pool)
}

// A loop is one call of For.
type loop struct {
	f         func(lo, hi int)
	n, pieces int
	next      atomic.Int64 // piece
	panicked  atomic.Pointer[any]
	busy      atomic.Int32  // workers that wait waits for, plus parked, minus those that have left
	left      chan struct{} // the last has left, for a caller that is parked
}

const parked = 1 << 30

var loops = sync.Pool{New: func() any { return &loop{left: make(chan struct{}, 1)} }}

// run takes pieces in order until none is left. The first n%pieces of them are one longer.
func (l *loop) run() {
	defer func() {
		if r := recover(); r != nil {
			p := r // on the heap only here
			l.panicked.CompareAndSwap(nil, &p)
			l.next.Store(int64(l.pieces))
		}
	}()
	for {
		i := int(l.next.Add(1)) - 1
		if i >= l.pieces {
			return
		}
		q, r := l.n/l.pieces, l.n%l.pieces
		lo := i*q + min(i, r)
		hi := lo + q
		if i < r {
			hi++
		}
		l.f(lo, hi)
	}
}

// Threads is the number of goroutines that a bound stands for: GOMAXPROCS if it is not positive.
func Threads(threads int) int {
	if threads <= 0 {
		return runtime.GOMAXPROCS(0)
	}
	return threads
}

// leave is the last that a worker does with l.
func (l *loop) leave() {
	if l.busy.Add(-1) == parked {
		l.left <- struct{}{}
	}
}

// wait returns when n workers have left.
func (l *loop) wait(n int) {
	if l.busy.Add(int32(n)) == 0 {
		return
	}
	for s := (spin{limit: finish}); s.more(); {
		if l.busy.Load() == 0 {
			return
		}
	}
	if l.busy.Add(parked) != parked {
		<-l.left
	}
	l.busy.Store(0)
}
