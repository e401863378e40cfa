package tensor

// AddRows: y[g,r,c] = x[g,r,c] + alpha * b[g,c], with b (groups..., cols) and y, x (groups..., rows...,
// cols). A nil x counts as 0. A vector b is one group: a bias.
func AddRows(y, x, b *Tensor, alpha float32) {
	groups, rows, cols := grouped("AddRows", y, b)
	sameLen("AddRows", y, x)
	where("AddRows", y, x, b).AddRows(y.mem, x.Mem(), b.mem, alpha, groups, rows, cols)
}

// SumRows: d[g,c] += alpha * sum over r of x[g,r,c], with d (groups..., cols) and x (groups..., rows..., cols).
func SumRows(d, x *Tensor, alpha float32) {
	if d == nil {
		return
	}
	groups, rows, cols := grouped("SumRows", x, d)
	where("SumRows", d, x).SumRows(d.mem, x.mem, alpha, groups, rows, cols)
}

// grouped checks that x (b's leading dimensions..., rows..., cols) fits b (..., cols).
func grouped(op string, x, b *Tensor) (groups, rows, cols int) {
	groups, cols = b.matrix()
	_, c := x.matrix()
	ok := c == cols && x.dims >= b.dims
	for i := range b.dims - 1 {
		ok = ok && x.shape[i] == b.shape[i]
	}
	check(ok, op, "do not fit", x, b)
	rows = 1
	for i := max(b.dims-1, 0); i < x.dims-1; i++ {
		rows *= x.shape[i]
	}
	return groups, rows, cols
}

// Sum: d[0] += alpha * sum of x.
func Sum(d, x *Tensor, alpha float32) {
	hasLen("Sum", d, 1)
	where("Sum", d, x).SumRows(d.mem, x.mem, alpha, 1, x.Len(), 1)
}

// SumSquares: d[0] += sum of x*x.
func SumSquares(d, x *Tensor) {
	hasLen("SumSquares", d, 1)
	where("SumSquares", d, x).SumSquares(d.mem, x.mem)
}
