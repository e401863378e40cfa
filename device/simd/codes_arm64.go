package simd

var tilesDot = [...]tileKernel{qtile1NEON, qtile2NEON, qtile3NEON, qtile4NEON, qtile5NEON, qtile6NEON}

// qtile is the kernel for the next rows, how many it takes, and how often it may.
func (d *Device) qtile(rows int) (kernel tileKernel, high, tiles int) {
	high = min(rows, len(tilesDot))
	return tilesDot[high-1], high, rows / high
}

// tileCols is the columns of a tile.
func (d *Device) tileCols() int { return 16 }

// blockShape gives the depth of k codes, and the rows of A a task.
func (d *Device) blockShape(k int) (depth, rows int) { return (k + 3) &^ 3, blockRows }

func (d *Device) block(p *qproduct, i, j int) { d.qblock(p, i, j) }

// codeTiles: there is no other way to have the codes of a gradient.
func (d *Device) codeTiles(*qproduct, []float32, []float32, []float32) bool { return false }

// fourDots: sum[j] = x . codes[j] over the first deep codes, rows of codes of len(x), whole fours of them.
func (d *Device) fourDots(sum []int32, x, codes []int8) (deep int) {
	deep = len(x) &^ 15
	if len(sum) > 0 {
		qdotNEON(&sum[0], &x[0], &codes[0], len(x), deep, len(sum)/4)
	}
	return deep
}

// sumWhole is the sum of the first n codes.
func (d *Device) sumWhole(x []int8) (sum int32, n int) {
	if n = len(x) &^ 15; n > 0 {
		sum = sumCodesNEON(&x[0], n)
	}
	return sum, n
}

// gradRow quantizes h = x * ws, or x, to q, 0 beyond, and gives its scale and compensation.
func (d *Device) gradRow(q []int8, x, ws []float32) (scale float32, comp int32) {
	n := len(x)
	var s float32
	var sum int32
	clear(q[n:])
	if ws == nil {
		scale, s = gradScale(gradRowMaxNEON(&x[0], n))
		sum = gradRowNEON(&q[0], &x[0], n, s)
	} else {
		scale, s = gradScale(gradRowMaxScaledNEON(&x[0], &ws[0], n))
		sum = gradRowScaledNEON(&q[0], &x[0], &ws[0], n, s)
	}
	return scale, -codeOffset * sum
}

// packedDepth is the depth of a row of activations, which has whole blocks.
func (d *Device) packedDepth(depth, m int) int { return depth }

// scratch is what a task needs.
func (p *packed) scratch() int { return 0 }

// rows multiplies the next rows of [i, end) with a panel and says how many.
func (p *packed) rows(panel []uint8, i, end, j, cols int, _ []int32) int {
	if end-i >= 4 {
		for c := 0; c < cols; c += 16 {
			p.tile(packed4NEON, panel[4*c:], i, j+c, min(16, cols-c))
		}
		return 4
	}
	p.tile(packed1NEON, panel, i, j, cols)
	return 1
}
