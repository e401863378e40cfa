// Package par splits loops over goroutines. There is one function, [For]; what it computes may not depend on where the
// loop was cut, so that results have the same bits for every number of threads.
package par
