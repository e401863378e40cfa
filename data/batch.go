package data

// A Batch is the input of one training or evaluation step. Language models get Tokens and Targets, image classifiers
// Pixels and Targets; the other slice is nil. Rows are contiguous.
type Batch struct {
	Shape   []int     // of the input: (B T) with Tokens, (B H W C) with Pixels
	Tokens  []int32   // (B T)
	Pixels  []float32 // (B H W C), zero mean and unit deviation over the training set
	Targets []int32   // (B T): the token after each token; or (B): the class of each image
}

// Size is B, the number of rows.
func (b Batch) Size() int {
	if len(b.Shape) == 0 {
		return 0
	}
	return b.Shape[0]
}

// Rows is the batch of rows lo to hi, which shares memory with b: a micro-batch, or one worker's part. It panics if
// lo and hi are not a range of rows.
func (b Batch) Rows(lo, hi int) Batch {
	n := b.Size()
	if lo < 0 || hi < lo || hi > n {
		panic("data: Batch.Rows: rows out of range")
	}
	if n == 0 {
		return b
	}
	shape := append([]int(nil), b.Shape...)
	shape[0] = hi - lo
	return Batch{shape, rows(b.Tokens, n, lo, hi), rows(b.Pixels, n, lo, hi), rows(b.Targets, n, lo, hi)}
}

func rows[T any](x []T, n, lo, hi int) []T {
	if x == nil {
		return nil
	}
	w := len(x) / n
	return x[lo*w : hi*w : hi*w]
}
