//go:build amd64 || arm64

package simd

import (
	"sync"

	"setun/device"
	"setun/internal/par"
	"setun/internal/scratch"
)

// packedRows is the rows of activations of the largest tile.
const packedRows = 8

// chunkBytes is the activations that meet all panels before the next do: they stay in the second-level cache.
const chunkBytes = 1 << 19

// packed is a product with codes in panels. A task is a panel and a chunk of rows of activations, with all of the sums.
type packed struct {
	tier     Tier
	y        []float32
	m, n     int
	x        []int8 // rows of depth codes
	depth    int
	blocks   int // of a panel
	panels   []uint8
	ws, bias []float32
	xs       []float32
	comp     scratch.Buf[int32]
	mine     scratch.Buf[int8] // x, unless it is the caller's
	same     [device.PanelRows]float32
	chunk    int // rows of activations a task
	chunks   int

	run func(lo, hi int) // bound once: a step of decoding allocates nothing
}

var packeds = sync.Pool{New: func() any {
	p := new(packed)
	p.run = p.tasks
	return p
}}

func (d *Device) PackedLinear(y, xq, xs, panels, ws, bias device.Mem, m, n, k, levels int) {
	if !d.dots() || m <= 0 || n <= 0 || k <= 0 || y.IsZero() {
		d.Device.PackedLinear(y, xq, xs, panels, ws, bias, m, n, k, levels)
		return
	}
	y0, xq0, xs0, panels0, ws0, bias0 := y.F32(), xq.I8(), xs.F32(), panels.U8(), ws.F32(), bias.F32()
	if d.Failed() {
		return
	}
	p := packeds.Get().(*packed)
	p.tier, p.y, p.m, p.n, p.panels, p.ws, p.bias, p.xs = d.tier, y0, m, n, panels0, ws0, bias0, xs0
	p.blocks = device.PanelBlocks(k, levels)
	p.depth = p.blocks * device.PanelDepth
	plane := p.depth / levels
	p.depth = d.packedDepth(p.depth, m)
	if len(ws0) == 1 {
		for i := range p.same {
			p.same[i] = ws0[0]
		}
	}
	p.x = xq0
	if p.depth != k {
		p.mine = scratch.Get[int8](m * p.depth)
		p.x = p.mine.X
		for i := range m {
			row := p.x[i*p.depth:][:p.depth]
			clear(row)
			for l := range levels { // each plane meets the same activations
				copy(row[l*plane:], xq0[i*k:][:k])
			}
		}
	}
	p.comp = scratch.Get[int32](m)
	for i := range m {
		p.comp.X[i] = -int32(levels) * d.sumCodes(xq0[i*k:][:k])
	}
	count := ceil(n, device.PanelRows)
	p.chunks = ceil(m*p.depth, chunkBytes)
	if threads := par.Threads(d.Threads); count < 4*threads && threads > 1 {
		p.chunks = max(p.chunks, ceil(4*threads, count))
	}
	step := packedRows
	if m/p.chunks > 4*step { // strips of AMX
		step *= 4
	}
	p.chunk = ceil(ceil(m, p.chunks), step) * step
	p.chunks = ceil(m, p.chunk)
	work := p.blocks * (64 + 32*min(m, p.chunk)) // a block is 128 bytes, and 32 cycles for 4 rows
	par.For(d.Threads, count*p.chunks, max(1, taskBytes/work), p.run)
	p.comp.Free()
	p.mine.Free()
	*p = packed{run: p.run}
	packeds.Put(p)
}

func (p *packed) tasks(lo, hi int) {
	var buf scratch.Buf[int32]
	if n := p.scratch(); n > 0 {
		buf = scratch.Get[int32](n)
	}
	defer buf.Free()
	count := ceil(p.n, device.PanelRows)
	for t := lo; t < hi; t++ {
		i := t / count * p.chunk
		p.panel(t%count, i, min(i+p.chunk, p.m), buf.X)
	}
}

// panel multiplies rows [i, end) of the activations with panel j.
func (p *packed) panel(j, i, end int, buf []int32) {
	const size = device.PanelRows * device.PanelDepth / 4
	panel := p.panels[j*p.blocks*size:][:p.blocks*size]
	j *= device.PanelRows
	cols := min(device.PanelRows, p.n-j)
	for i < end {
		i += p.rows(panel, i, end, j, cols, buf)
	}
}

// tile computes rows from i on, columns [j, j+cols).
func (p *packed) tile(kernel packedKernel, panel []uint8, i, j, cols int) {
	ws, bias, _ := p.scales(j)
	kernel(&p.y[i*p.n+j], p.n, &p.x[i*p.depth], p.depth, &panel[0], p.blocks, &p.comp.X[i], &p.xs[i], ws, bias, cols)
}

// scales are those of columns from j on, and their bias.
func (p *packed) scales(j int) (ws, bias *float32, mode int) {
	ws, mode = &p.same[0], overwrite
	if len(p.ws) > 1 {
		ws = &p.ws[j]
	}
	if p.bias != nil {
		bias, mode = &p.bias[j], addBias
	}
	return ws, bias, mode
}

type packedKernel func(y *float32, ldy int, x *int8, ldx int, panel *uint8, blocks int, comp *int32, xs, ws, bias *float32,
	cols int)
