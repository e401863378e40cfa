package cluster

import "setun/internal/par"

// chunk is how many rows are summed at a time, so that sums do not depend on the number of threads.
const chunk = 512

// each calls f on chunks of [0, n), on all processors.
func each(n int, f func(lo, hi int)) {
	par.For(0, (n+chunk-1)/chunk, 1, func(lo, hi int) {
		for c := lo; c < hi; c++ {
			f(c*chunk, min((c+1)*chunk, n))
		}
	})
}
