// Package metrics records what happens in a training run, for programs (JSON lines, TensorBoard) and for people (a
// plot, a progress bar).
//
// A [Record] is what one step measured. A [JSONL] file keeps records across kills and resumes: a resumed run's file is
// the file of an uninterrupted run, apart from values that depend on the clock. A [TensorBoard] writes the same numbers
// as an event file. [WriteLossPNG] draws curves. [Progress] shows a live bar on a terminal and plain lines elsewhere.
//
// Nothing here draws random numbers or decides anything: training runs alike with and without it. A JSONL, a
// TensorBoard and a Progress may be used by several goroutines.
package metrics
