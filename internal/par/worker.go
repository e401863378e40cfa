package par

import (
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// A worker is a goroutine that takes loops for ever. Waking a parked goroutine costs more than many a loop, so it spins
// for a while first.
type worker struct {
	job  atomic.Pointer[loop] // offered; nil: none; or one of the two below
	wake chan struct{}

	rest, tired int      // times to park at once: now, and after the latest vain spin
	_           [64]byte // no two in one cache line
}

var (
	taken  = new(loop) // the worker is in a loop
	asleep = new(loop) // the worker waits for wake
)

// How long to spin before parking: a worker until the next loop, a caller until the last piece is done. Waking costs 5 us, but
// 100 us and more where the processor of a virtual machine has halted meanwhile.
const (
	idle   = 500 * time.Microsecond
	finish = 100 * time.Microsecond
)

// exhausted is the most times that a worker parks without spinning first.
const exhausted = 255

// spin counts the turns of a loop that waits.
type spin struct {
	limit time.Duration
	turns int
	start time.Time
}

// more reports whether to go on. Now and then it lets other goroutines run.
func (s *spin) more() bool {
	s.turns++
	switch {
	case s.turns%64 != 0:
	case s.turns == 64:
		s.start = time.Now()
	case time.Since(s.start) > s.limit:
		return false
	case s.turns%1024 == 0:
		runtime.Gosched()
	}
	return true
}

var (
	workers  atomic.Pointer[[]*worker]
	starting sync.Mutex
)

// crew is all workers, at least n.
func crew(n int) []*worker {
	if ws := workers.Load(); ws != nil && len(*ws) >= n {
		return *ws
	}
	starting.Lock()
	defer starting.Unlock()
	var ws []*worker
	if old := workers.Load(); old != nil {
		ws = append(ws, *old...)
	}
	for len(ws) < n {
		w := &worker{wake: make(chan struct{}, 1)}
		ws = append(ws, w)
		go w.work()
	}
	workers.Store(&ws)
	return ws
}

func (w *worker) work() {
	for {
		w.help(w.take())
	}
}

func (w *worker) help(l *loop) {
	defer func() { // also when f ends the goroutine
		w.job.Store(nil) // before leave: the next call of the same goroutine finds w free
		l.leave()
	}()
	l.run()
}

// take waits for an offer. Where spinning is in vain, because loops are rare or other processes need the core, it spins
// ever less often.
func (w *worker) take() *loop {
	for {
		if w.rest > 0 {
			w.rest--
			if l := w.poll(); l != nil {
				return l
			}
		} else {
			s := spin{limit: idle}
			for s.more() {
				if l := w.poll(); l != nil {
					w.tired /= 2
					return l
				}
			}
			w.tired = min(2*w.tired+1, exhausted)
			if time.Since(s.start) > 5*idle { // something else ran on this core
				w.tired = exhausted
			}
			w.rest = w.tired
		}
		if w.job.CompareAndSwap(nil, asleep) {
			<-w.wake
		}
	}
}

func (w *worker) poll() *loop {
	if l := w.job.Load(); l != nil && w.job.CompareAndSwap(l, taken) {
		return l
	}
	return nil
}

// offer offers l to at most n workers that are free and returns to how many it did.
func (l *loop) offer(ws []*worker, n int) (offered int) {
	for _, w := range ws {
		if offered == n {
			break
		}
		switch j := w.job.Load(); {
		case j != nil && j != asleep || !w.job.CompareAndSwap(j, l):
			continue
		case j == asleep:
			w.wake <- struct{}{}
		}
		offered++
	}
	return offered
}

// retract takes back the offers that no worker has taken yet: on a busy machine the caller does not wait for them.
func (l *loop) retract(ws []*worker) (n int) {
	for _, w := range ws {
		if w.job.Load() == l && w.job.CompareAndSwap(l, nil) {
			n++
		}
	}
	return n
}
