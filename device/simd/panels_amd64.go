package simd

import "setun/device"

// packedTiles is the rows of activations from which AMX pays.
const packedTiles = 3

// scratch is what a task needs for the sums of a strip on AMX, and for two steps of a panel at a byte a code. It is not lent for
// each strip, as giving it back waits until the strip's results are in memory.
func (p *packed) scratch() int {
	if p.tier < AMX || p.m < packedTiles {
		return 0
	}
	return tileSums + 2*device.PanelRows*tileBytes/4
}

// packedDepth is the depth of a row of activations, which has whole blocks.
func (d *Device) packedDepth(depth, m int) int {
	if d.tier == AMX && m >= packedTiles {
		return ceil(depth, tileBytes) * tileBytes
	}
	return depth
}

// rows multiplies the next rows of [i, end) with a panel and says how many.
func (p *packed) rows(panel []uint8, i, end, j, cols int, buf []int32) int {
	if p.depth%tileBytes == 0 && p.tier == AMX && end-i >= packedTiles {
		rows := min(tileRows, end-i)
		p.strip(panel, i, rows, j, cols, buf)
		return rows
	}
	rows := min(packedRows, end-i)
	switch {
	case p.tier >= VNNI && (rows > 1 || p.blocks <= 1<<15):
		p.tile(packedVNNI[rows-1], panel, i, j, cols)
	case rows < 4:
		rows = 1
		p.tile(packed1AVX2, panel, i, j, cols)
	default:
		rows = 4
		for c := 0; c < cols; c += 8 {
			p.tile(packed4AVX2, panel[4*c:], i, j+c, min(8, cols-c))
		}
	}
	return rows
}

// strip computes rows of activations from i on, tileRows at most, columns [j, j+cols), on AMX.
func (p *packed) strip(panel []uint8, i, rows, j, cols int, buf []int32) {
	ws, bias, mode := p.scales(j)
	byHeight(rows, pstrip16AMX, pstrip32AMX)(&p.y[i*p.n+j], p.n, &p.x[i*p.depth], p.depth, &panel[0], p.blocks, &p.comp.X[i],
		&p.xs[i], ws, bias, mode, cols, rows, &shapes[rows][0], &buf[0], &buf[tileSums])
}

// By rows of activations.
var packedVNNI = [packedRows]packedKernel{packed1VNNI, packed2VNNI, packed3VNNI, packed4VNNI, packed5VNNI, packed6VNNI,
	packed7VNNI, packed8VNNI}
