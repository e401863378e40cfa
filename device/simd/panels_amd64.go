package simd

import (
	"setun/device"
	"setun/internal/scratch"
)

// packedTiles is the rows of activations from which AMX pays.
const packedTiles = 9

// packedDepth is the depth of a row of activations, which has whole blocks.
func (d *Device) packedDepth(depth, m int) int {
	if d.tier == AMX && m >= packedTiles {
		return ceil(depth, tileBytes) * tileBytes
	}
	return depth
}

// rows multiplies the next rows of [i, end) with a panel and says how many.
func (p *packed) rows(panel []uint8, i, end, j, cols int) int {
	if p.depth%tileBytes == 0 && p.tier == AMX && end-i >= packedTiles {
		p.tiles(panel, i, end, j, cols)
		return end - i
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

// tiles computes rows [i, end) of activations, columns [j, j+cols), on AMX, from the panel at a byte a code.
func (p *packed) tiles(panel []uint8, i, end, j, cols int) {
	codes, sums := scratch.Get[uint8](device.PanelRows*p.depth), scratch.Get[int32](tileSums)
	defer codes.Free()
	defer sums.Free()
	unpackPanelAVX512(&codes.X[0], &panel[0], p.blocks)
	ws, bias, mode := &p.same[0], (*float32)(nil), overwrite
	if len(p.ws) > 1 {
		ws = &p.ws[j]
	}
	if p.bias != nil {
		bias, mode = &p.bias[j], addBias
	}
	for i < end {
		strips, high := max(1, (end-i)/tileRows), min(end-i, tileRows)
		strips = min(strips, max(1, callGroups/p.depth))
		byHeight(high, qstrip16AMX, qstrip32AMX)(&p.y[i*p.n+j], p.n, &p.x[i*p.depth], p.depth, tileBytes, &codes.X[0], 4*device.PanelRows, p.depth/tileBytes,
			&p.comp.X[i], &p.xs[i], ws, bias, mode, cols, high, strips, &shapes[high][0], &sums.X[0])
		i += strips * high
	}
}

// By rows of activations.
var packedVNNI = [packedRows]packedKernel{packed1VNNI, packed2VNNI, packed3VNNI, packed4VNNI, packed5VNNI, packed6VNNI,
	packed7VNNI, packed8VNNI}
