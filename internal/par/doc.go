// Package par splits loops over goroutines. There is one function, [For], and [Each] and [Steps] to call it without a
// closure. What they compute may not depend on where the loop was cut, so that results have the same bits for every
// number of threads.
package par
