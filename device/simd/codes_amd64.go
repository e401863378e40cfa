package simd

// By rows, or by tier.
var (
	tilesVNNI = [...]tileKernel{qtile1VNNI, qtile2VNNI, qtile3VNNI, qtile4VNNI, qtile5VNNI, qtile6VNNI}
	tiles1    = [AMX + 1]tileKernel{AVX2: qtile1AVX2, AVX512: qtile1AVX512}
	tiles4    = [AMX + 1]tileKernel{AVX2: qtile4AVX2, AVX512: qtile4AVX512}
)

// qtile is the kernel for the next rows, how many it takes, and how often it may.
func (d *Device) qtile(rows int) (kernel tileKernel, high, tiles int) {
	if d.tier >= VNNI {
		high = min(rows, 6)
		return tilesVNNI[high-1], high, rows / high
	}
	if rows >= 4 {
		return tiles4[d.tier], 4, rows / 4
	}
	return tiles1[d.tier], 1, rows
}

// tileCols is the columns of a tile.
func (d *Device) tileCols() int {
	switch {
	case d.tier >= VNNI:
		return panelCols
	case d.tier == AVX512:
		return 32
	}
	return 16
}

// blockShape gives the depth of k codes, and the rows of A a task.
func (d *Device) blockShape(k int) (depth, rows int) {
	if d.tier == AMX {
		return (k + 63) &^ 63, blockRowsAMX
	}
	return (k + 3) &^ 3, blockRows
}

// block computes rows [i, i+p.rows), columns [j, j+panelCols).
func (d *Device) block(p *qproduct, i, j int) {
	if d.tier == AMX {
		p.blockAMX(i, j)
	} else {
		d.qblock(p, i, j)
	}
}

// codeTiles is gradCodes for AMX.
func (d *Device) codeTiles(p *qproduct, dy, xs, s []float32) bool {
	if d.tier == AMX {
		d.gradTiles(p, dy, xs, s)
	}
	return d.tier == AMX
}

// fourDots: sum[j] = x . codes[j] over the first deep codes, rows of codes of len(x), whole fours of them.
func (d *Device) fourDots(sum []int32, x, codes []int8) (deep int) {
	k := len(x)
	if deep = k &^ 15; d.tier >= VNNI {
		deep = k
	}
	switch {
	case len(sum) == 0:
	case d.tier >= VNNI:
		qdotVNNI(&sum[0], &x[0], &codes[0], k, k, len(sum)/4, -128*d.sumCodes(x))
	default:
		qdotAVX2(&sum[0], &x[0], &codes[0], k, deep, len(sum)/4)
	}
	return deep
}

// sumWhole is the sum of the first n codes.
func (d *Device) sumWhole(x []int8) (sum int32, n int) {
	if d.tier >= AVX512 {
		return sumCodesAVX512(&x[0], len(x)), len(x)
	}
	if n = len(x) &^ 31; n > 0 {
		sum = sumCodesAVX2(&x[0], n)
	}
	return sum, n
}

// gradRow quantizes h = x * ws, or x, to q, 0 beyond, and gives its scale and compensation.
func (d *Device) gradRow(q []int8, x, ws []float32) (scale float32, comp int32) {
	n := len(x)
	var s float32
	var sum int32
	clear(q[n:])
	switch {
	case d.tier >= AVX512 && ws == nil:
		scale, s = gradScale(gradRowMaxAVX512(&x[0], n))
		sum = gradRowAVX512(&q[0], &x[0], n, s)
	case d.tier >= AVX512:
		scale, s = gradScale(gradRowMaxScaledAVX512(&x[0], &ws[0], n))
		sum = gradRowScaledAVX512(&q[0], &x[0], &ws[0], n, s)
	default:
		fast := n &^ 31
		if ws == nil {
			scale, s = gradScale(gradRowMaxAVX2(&x[0], n))
			sum = gradRowAVX2(&q[0], &x[0], fast, s)
		} else {
			scale, s = gradScale(gradRowMaxScaledAVX2(&x[0], &ws[0], n))
			sum = gradRowScaledAVX2(&q[0], &x[0], &ws[0], fast, s)
		}
		for j := fast; j < n; j++ {
			h := x[j]
			if ws != nil {
				h *= ws[j]
			}
			q[j] = roundCode(float32(h * s))
			sum += int32(q[j])
		}
	}
	return scale, -128 * sum
}
