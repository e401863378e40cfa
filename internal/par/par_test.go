package par

import (
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

var race bool // set in race_test.go

func ExampleFor() {
	x := []int{1, 2, 3, 4}
	For(2, len(x), 1, func(lo, hi int) {
		for i := lo; i < hi; i++ {
			x[i] *= x[i]
		}
	})
	fmt.Println(x)
	// Output: [1 4 9 16]
}

// TestForCovers: every index exactly once, ranges neither empty nor out of order.
func TestForCovers(t *testing.T) {
	for _, threads := range []int{0, 1, 2, 3, 7, 64} {
		for _, n := range []int{-1, 0, 1, 2, 5, 63, 64, 1000} {
			for _, grain := range []int{-1, 0, 1, 3, 100, 5000} {
				seen := make([]atomic.Int32, max(n, 0))
				For(threads, n, grain, func(lo, hi int) {
					if lo < 0 || lo >= hi || hi > n {
						t.Errorf("threads %d, n %d, grain %d: range [%d, %d)", threads, n, grain, lo, hi)
					}
					for i := lo; i < hi; i++ {
						seen[i].Add(1)
					}
				})
				for i := range seen {
					if c := seen[i].Load(); c != 1 {
						t.Fatalf("threads %d, n %d, grain %d: index %d visited %d times", threads, n, grain, i, c)
					}
				}
			}
		}
	}
}

func TestForInline(t *testing.T) {
	for _, c := range []struct{ threads, n, grain int }{{1, 1000, 1}, {8, 100, 100}, {8, 1, 1}} {
		calls := 0 // would race if f ran elsewhere
		For(c.threads, c.n, c.grain, func(lo, hi int) {
			calls++
			if lo != 0 || hi != c.n {
				t.Errorf("%+v: range [%d, %d), want all of it", c, lo, hi)
			}
		})
		if calls != 1 {
			t.Errorf("%+v: %d calls, want 1", c, calls)
		}
	}
}

// TestForThreads: no more than threads ranges at once, and that many when each waits for the others.
func TestForThreads(t *testing.T) {
	const threads = 3
	var running, most atomic.Int32
	var barrier sync.WaitGroup
	barrier.Add(threads)
	For(threads, threads, 1, func(lo, hi int) {
		r := running.Add(1)
		for m := most.Load(); r > m && !most.CompareAndSwap(m, r); m = most.Load() {
		}
		barrier.Done()
		barrier.Wait()
		running.Add(-1)
	})
	if most.Load() != threads {
		t.Errorf("%d ranges at once, want %d", most.Load(), threads)
	}
	most.Store(0)
	For(threads, 1000, 1, func(lo, hi int) {
		r := running.Add(1)
		for m := most.Load(); r > m && !most.CompareAndSwap(m, r); m = most.Load() {
		}
		runtime.Gosched()
		running.Add(-1)
	})
	if most.Load() > threads {
		t.Errorf("%d ranges at once, want at most %d", most.Load(), threads)
	}
}

func TestForPanic(t *testing.T) {
	want := errors.New("worker failed")
	for _, threads := range []int{1, 2, 4} {
		for at := range 8 {
			func() {
				defer func() {
					if got := recover(); got != want {
						t.Errorf("threads %d, index %d: recovered %v, want %v", threads, at, got, want)
					}
				}()
				For(threads, 8, 1, func(lo, hi int) {
					if lo <= at && at < hi {
						panic(want)
					}
				})
				t.Errorf("threads %d, index %d: no panic", threads, at)
			}()
		}
	}
}

// TestForTogether: calls from several goroutines, each with calls inside and some that panic, all get their work done.
func TestForTogether(t *testing.T) {
	var callers sync.WaitGroup
	for c := range 8 {
		callers.Go(func() {
			for round := range 100 {
				var sum atomic.Int64
				For(4, 20, 1, func(lo, hi int) {
					for i := lo; i < hi; i++ {
						For(3, 10, 1, func(lo, hi int) { sum.Add(int64((hi - lo) * i)) })
					}
				})
				if sum.Load() != 1900 {
					t.Errorf("caller %d, round %d: sum %d, want 1900", c, round, sum.Load())
				}
				func() {
					defer func() {
						if recover() != round {
							t.Errorf("caller %d, round %d: the panic is lost", c, round)
						}
					}()
					For(4, 20, 1, func(lo, hi int) { panic(round) })
				}()
				if round%10 == 0 {
					time.Sleep(50 * time.Microsecond) // workers go to sleep
				}
			}
		})
	}
	callers.Wait()
}

func TestForAllocates(t *testing.T) {
	if race {
		t.Skip("the race detector empties pools at random")
	}
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	f := func(lo, hi int) {}
	if n := testing.AllocsPerRun(100, func() { For(4, 64, 1, f) }); n != 0 {
		t.Errorf("%.1f allocations, want none", n)
	}
	x, y := make([]int, 64), make([]float32, 64) // arguments of two types
	for _, threads := range []int{1, 4} {
		if n := testing.AllocsPerRun(100, func() {
			Each(threads, 64, 1, x, func(x []int, lo, hi int) { clear(x[lo:hi]) })
			Steps(threads, 64, 1, 3, y, func(y []float32, lo, hi int) { clear(y[lo:hi]) })
		}); n != 0 {
			t.Errorf("%d threads: %.1f allocations with arguments, want none", threads, n)
		}
	}
}

// TestSteps: every index exactly once, in ranges that are no longer than allowed.
func TestSteps(t *testing.T) {
	for _, threads := range []int{0, 1, 2, 7} {
		for _, n := range []int{-1, 0, 1, 5, 64, 1000} {
			for _, grain := range []int{-1, 1, 100} {
				for _, most := range []int{-1, 1, 3, 5000} {
					seen := make([]atomic.Int32, max(n, 0))
					Steps(threads, n, grain, most, seen, func(seen []atomic.Int32, lo, hi int) {
						if lo < 0 || lo >= hi || hi > n || hi-lo > max(most, 1) {
							t.Errorf("threads %d, n %d, grain %d, most %d: range [%d, %d)", threads, n, grain, most, lo, hi)
						}
						for i := lo; i < hi; i++ {
							seen[i].Add(1)
						}
					})
					for i := range seen {
						if c := seen[i].Load(); c != 1 {
							t.Fatalf("threads %d, n %d, grain %d, most %d: index %d visited %d times", threads, n, grain, most, i, c)
						}
					}
				}
			}
		}
	}
}

// BenchmarkFor: the cost of the call itself, and of a series of kernels of about 20 us with pauses between them.
func BenchmarkFor(b *testing.B) {
	for _, threads := range []int{1, 2, 4} {
		for _, c := range []struct {
			name        string
			item, pause int
		}{{"empty", 0, 0}, {"series", 1250, 0}, {"pauses", 1250, 5000}, {"rare", 1250, 100000}} {
			b.Run(fmt.Sprintf("%s/threads=%d", c.name, threads), func(b *testing.B) {
				for b.Loop() {
					For(threads, 16, 1, func(lo, hi int) { spend((hi - lo) * c.item) })
					spend(c.pause)
				}
			})
		}
	}
}

var spent atomic.Uint64

// spend takes about n ns.
func spend(n int) {
	x := uint64(n)
	for range n {
		x = x*6364136223846793005 + 1
	}
	if x == 1 {
		spent.Add(1)
	}
}
