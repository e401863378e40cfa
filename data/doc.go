// Package data feeds training from the host's files: text as a stream of bytes, and images of the MNIST family.
//
// There are few types. A [Batch] is what one step consumes: plain slices and a shape. A [Text] lists files and splits
// them into two [Stream] values, training and validation; a Stream is the concatenation of its files, read on demand.
// [Images] holds a training and a test [Split] in memory. A [Sampler] ([NewWindows], [Split.Shuffled]) deals shuffled
// batches without end; an [Eval] ([ValWindows], [Split.Eval]) gives the same fixed batches each time. [Baseline]
// scores byte n-gram models: the number a language model has to beat.
//
// # Invariants
//
//   - A corpus is never loaded whole: a Text keeps names and sizes, and at most a few files open.
//   - The split of a Text, the order of its files and every batch depend only on relative names, sizes, contents and
//     the seed: not on the machine, the folder's place or the number of CPUs.
//   - A Sampler has no hidden state. Item number p of a run is item perm(p mod N) of epoch p/N, so its whole [State]
//     is a few integers, memory does not grow with the corpus, and a restored run sees the very same batches.
//   - A Batch belongs to the caller: nothing else writes to it.
//   - What is wrong with a file or a setting is a one-line error that says what, where and what to do.
package data
