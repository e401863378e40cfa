//go:build amd64 || arm64

package simd

import (
	"math"
	"sync"

	"setun/device"
	"setun/internal/par"
	"setun/internal/scratch"
)

// The quantized products are exact: VPDPBUSD sums four codes a lane in int32 (VPMADDWD in the lower tiers, SDOT on
// arm64). Operand A has rows, B columns; B is packed in panels, with codeOffset added to its codes. Every product takes
// two parallel loops: one prepares both operands, one multiplies, whole sums at a time, and scales them on the way to
// memory.
const (
	panelCols = 64
	blockRows = 48 // rows of A a task: a multiple of every tile's
	few       = 4  // rows at which packing B does not pay

	cachedB    = 1 << 19 // bytes of B that stay in the second-level cache
	callGroups = 1 << 16 // groups that the tiles of one call multiply: 1.5 million cycles
)

func (d *Device) QLinear(y, xq, xs, codes, ws, bias device.Mem, m, n, k int) {
	if !d.dots() || m <= 0 || n <= 0 || k <= 0 || y.IsZero() {
		d.Device.QLinear(y, xq, xs, codes, ws, bias, m, n, k)
		return
	}
	y0, xq0, xs0, codes0, ws0, bias0 := y.F32(), xq.I8(), xs.F32(), codes.I8(), ws.F32(), bias.F32()
	if d.Failed() {
		return
	}
	if m <= few {
		d.qdot(y0, xq0, xs0, codes0, ws0, bias0, m, n, k)
		return
	}
	p := d.newQProduct(m, n, k)
	defer p.free()
	p.c, p.rs = y0, xs0
	p.columnScale(ws0)
	if bias0 != nil {
		p.mode, p.bias = addBias, scratch.Get[float32](p.panels*panelCols)
		clear(p.bias.X[copy(p.bias.X, bias0[:n]):])
	}
	own := p.depth != k
	if own {
		p.ownA()
	} else {
		p.a = xq0
	}
	d.prepare(operands{p: p, b: codes0, pack: operands.packRows, codes: xq0, own: own, fill: operands.compensate}, m, k)
	d.qmultiply(p)
}

func (d *Device) QLinearGradX(dx, dy, codes, ws device.Mem, m, n, k int, math device.Math, acc bool) {
	if d.tier == None || math == device.MathInt8 && !d.dots() || m <= 0 || n <= 0 || k <= 0 || dx.IsZero() ||
		ws.Len() == 0 {
		d.Device.QLinearGradX(dx, dy, codes, ws, m, n, k, math, acc)
		return
	}
	dx0, dy0, codes0, ws0 := dx.F32(), dy.F32(), codes.I8(), ws.F32()
	if d.Failed() {
		return
	}
	if math != device.MathInt8 {
		w := scratch.Get[float32](n * k)
		defer w.Free()
		d.dequantize(w.X, codes0, ws0, n, k)
		g := gemm{m: m, n: k, k: n, a: matrix{dy0, n, 1}, b: matrix{w.X, k, 1}, c: dx0, ldc: k, alpha: 1}
		if acc {
			g.beta = 1
		}
		d.product(g, math, d.Threads)
		return
	}
	p := d.newQProduct(m, k, n)
	defer p.free()
	p.c, p.mode = dx0, overwrite
	if acc {
		p.mode = accumulate
	}
	p.ownA()
	hs := scratch.Get[float32](m)
	defer hs.Free()
	p.rs = hs.X
	if len(ws0) == 1 {
		p.columnScale(ws0)
		ws0 = nil
	} else {
		p.columnScale(one)
	}
	o := operands{p: p, b: codes0, pack: operands.packCols, dy: dy0, scale: ws0, fill: operands.gradRows}
	d.prepare(o, m, 8*n)
	d.qmultiply(p)
}

func (d *Device) QLinearGradW(dw, dy, xq, xs device.Mem, m, n, k int, math device.Math, acc bool) {
	if d.tier == None || math == device.MathInt8 && !d.dots() || m <= 0 || n <= 0 || k <= 0 || dw.IsZero() {
		d.Device.QLinearGradW(dw, dy, xq, xs, m, n, k, math, acc)
		return
	}
	dw0, dy0, xq0, xs0 := dw.F32(), dy.F32(), xq.I8(), xs.F32()
	if d.Failed() {
		return
	}
	if math != device.MathInt8 {
		x := scratch.Get[float32](m * k)
		defer x.Free()
		d.dequantize(x.X, xq0, xs0, m, k)
		g := gemm{m: n, n: k, k: m, a: matrix{dy0, 1, n}, b: matrix{x.X, k, 1}, c: dw0, ldc: k, alpha: 1}
		if acc {
			g.beta = 1
		}
		d.product(g, math, d.Threads)
		return
	}
	p := d.newQProduct(n, k, m)
	defer p.free()
	p.c, p.mode, p.turned = dw0, overwrite, true
	if acc {
		p.mode = accumulate
	}
	p.ownA()
	p.columnScale(one)
	hs := scratch.Get[float32](n)
	defer hs.Free()
	p.rs = hs.X
	d.gradCols(p, dy0, xq0, xs0)
	d.qmultiply(p)
}

var one = []float32{1}

// operands is what the product p is made from: codes b, and for A codes, or dy and a scale.
type operands struct {
	d     *Device
	p     *qproduct
	b     []int8
	codes []int8
	own   bool // p.a is not codes
	dy    []float32
	scale []float32
	top   []float32 // largest dy * scale of each column

	pack              func(o operands, j int)
	fill              func(o operands, lo, hi int)
	rows, step, tasks int
}

// prepare runs fill on ranges of rows and pack on every panel, in one parallel loop.
func (d *Device) prepare(o operands, rows, rowBytes int) {
	o.d, o.rows, o.step = d, rows, max(1, taskBytes/rowBytes)
	o.tasks = ceil(rows, o.step)
	par.Each(d.Threads, o.p.panels+o.tasks, 1, o, operands.run)
}

func (o operands) run(lo, hi int) {
	if lo < o.tasks {
		o.fill(o, lo*o.step, min(min(hi, o.tasks)*o.step, o.rows))
	}
	for t := max(lo, o.tasks); t < hi; t++ {
		o.pack(o, t-o.tasks)
	}
}

func (o operands) packRows(j int) { o.p.packRows(j, o.b) }
func (o operands) packCols(j int) { o.p.packCols(j, o.b, o.p.n, o.p.k) }

// compensate sums rows of A, and copies them where p has its own.
func (o operands) compensate(lo, hi int) {
	p := o.p
	for i := lo; i < hi; i++ {
		row := o.codes[i*p.k:][:p.k]
		if o.own {
			to := p.a[i*p.depth:][:p.depth]
			clear(to[copy(to, row):])
		}
		p.comp.X[i] = 0
		if codeOffset != 0 {
			p.comp.X[i] = -codeOffset * o.d.sumCodes(row)
		}
	}
}

// gradRows quantizes rows of dy * scale.
func (o operands) gradRows(lo, hi int) {
	p := o.p
	for i := lo; i < hi; i++ {
		p.rs[i], p.comp.X[i] = o.d.gradRow(p.a[i*p.depth:][:p.depth], o.dy[i*p.k:][:p.k], o.scale)
	}
}

// What a product does to its result.
const (
	overwrite = iota
	addBias
	accumulate
)

// qproduct is c = float32(a b) * rs * cs, then + bias or + c; a (m, k) and b (k, n).
type qproduct struct {
	c       []float32
	m, n, k int
	depth   int // k in whole groups, or tiles
	rows    int // of A a task
	panels  int
	mode    int
	rs      []float32

	// A is rows of depth codes, or with turned, blocks of [depth/4][blockRows][4], for AMX of [depth/64][tileRows][64].
	a      []int8
	turned bool
	comp   scratch.Buf[int32] // -codeOffset * the sum of a row
	b      scratch.Buf[uint8] // [panels][depth/4][panelCols][4]
	cs     scratch.Buf[float32]
	bias   scratch.Buf[float32]
	mine   scratch.Buf[int8] // a, unless it is the caller's

	mu sync.Mutex // of what the tasks add up
}

var qproducts = sync.Pool{New: func() any { return new(qproduct) }}

func (d *Device) newQProduct(m, n, k int) *qproduct {
	p := qproducts.Get().(*qproduct)
	p.m, p.n, p.k, p.panels = m, n, k, ceil(n, panelCols)
	p.depth, p.rows = d.blockShape(k)
	p.comp = scratch.Get[int32](ceil(m, blockRows) * blockRows)
	p.b = scratch.Get[uint8](p.panels * panelCols * p.depth)
	return p
}

func (p *qproduct) free() {
	p.comp.Free()
	p.b.Free()
	p.cs.Free()
	p.bias.Free()
	p.mine.Free()
	*p = qproduct{}
	qproducts.Put(p)
}

func (p *qproduct) ownA() {
	p.mine = scratch.Get[int8](ceil(p.m, p.rows) * p.rows * p.depth)
	p.a = p.mine.X
}

// columnScale keeps one scale for all columns, or one each.
func (p *qproduct) columnScale(ws []float32) {
	p.cs = scratch.Get[float32](p.panels * panelCols)
	if len(ws) > 1 {
		clear(p.cs.X[copy(p.cs.X, ws[:p.n]):])
		return
	}
	for j := range p.cs.X {
		p.cs.X[j] = ws[0]
	}
}

func (p *qproduct) panel(j int) []uint8 { return p.b.X[j*panelCols*p.depth:][:panelCols*p.depth] }

// packRows fills panel j from rows of codes (n, k).
func (p *qproduct) packRows(j int, codes []int8) {
	dst, k := p.panel(j), p.k
	rows := min(panelCols, p.n-j*panelCols)
	codes = codes[j*panelCols*k:][:rows*k]
	whole, units := rows&^7, k/32
	if units > 0 {
		for r := 0; r < whole; r += 8 {
			packRows8(&dst[4*r], &codes[r*k], k, units)
		}
	}
	for r := range rows {
		from := 0
		if r < whole {
			from = 32 * units
		}
		for l, c := range codes[r*k+from : (r+1)*k] {
			l += from
			dst[l/4*4*panelCols+4*r+l%4] = uint8(c) ^ codeOffset
		}
	}
}

// packCols fills panel j from columns of codes (k, n), rows of ld.
func (p *qproduct) packCols(j int, codes []int8, ld, k int) {
	dst := p.panel(j)
	cols := min(panelCols, p.n-j*panelCols)
	codes = codes[j*panelCols:]
	groups, units := k/4, cols/16
	step := max(1, callBytes/(4*panelCols))
	if units > 0 {
		for g := 0; g < groups; g += step {
			packCols16(&dst[g*4*panelCols], &codes[4*g*ld], ld, min(step, groups-g), units)
		}
	}
	for l := range k {
		from := 16 * units
		if l >= 4*groups {
			from = 0
		}
		for c := from; c < cols; c++ {
			dst[l/4*4*panelCols+4*c+l%4] = uint8(codes[l*ld+c]) ^ codeOffset
		}
	}
}

// qmultiply computes all tiles, row by row of blocks: c is written page after page. A B too large for the cache is kept
// a panel at a time instead, while the blocks of rows pass.
func (d *Device) qmultiply(p *qproduct) {
	blocks := ceil(p.m, p.rows)
	work := p.rows * panelCols * p.depth / 64 // cycles
	if d.tier == AMX {
		work /= 8
	}
	par.Each(d.Threads, p.panels*blocks, max(1, 1<<15/work), qblocks{d, p, blocks, len(p.b.X) <= cachedB}, qblocks.run)
}

type qblocks struct {
	d      *Device
	p      *qproduct
	blocks int // of rows
	byRow  bool
}

func (q qblocks) run(lo, hi int) {
	for t := lo; t < hi; t++ {
		j, b := t/q.blocks, t%q.blocks
		if q.byRow {
			b, j = t/q.p.panels, t%q.p.panels
		}
		q.d.block(q.p, b*q.p.rows, j*panelCols)
	}
}

// qblock computes rows [i, i+blockRows), columns [j, j+panelCols).
func (d *Device) qblock(p *qproduct, i, j int) {
	rows, cols := min(blockRows, p.m-i), min(panelCols, p.n-j)
	a, ars, aks := p.a[i*p.depth:], p.depth, 4
	if p.turned {
		ars, aks = 4, 4*blockRows
	}
	b, groups := p.panel(j/panelCols), p.depth/4
	width := d.tileCols()
	for x := 0; x < cols; x += width {
		bias := (*float32)(nil)
		if p.mode == addBias {
			bias = &p.bias.X[j+x]
		}
		for r := 0; r < rows; {
			kernel, mr, tiles := d.qtile(rows - r)
			tiles = min(tiles, max(1, callGroups/groups))
			kernel(&p.c[(i+r)*p.n+j+x], p.n, &a[r*ars], ars, aks, &b[4*x], groups, &p.comp.X[i+r], &p.rs[i+r],
				&p.cs.X[j+x], bias, p.mode, min(width, cols-x), tiles)
			r += tiles * mr
		}
	}
}

type tileKernel func(c *float32, ldc int, a *int8, ars, aks int, b *uint8, groups int, comp *int32,
	rs, cs, bias *float32, mode, cols, tiles int)

// qdot is QLinear for few rows: dot products with the rows of codes as they are.
func (d *Device) qdot(y []float32, xq []int8, xs []float32, codes []int8, ws, bias []float32, m, n, k int) {
	split(d, n, k, qdots{d, y, xq, xs, codes, ws, bias, m, n, k}, qdots.run)
}

type qdots struct {
	d        *Device
	y        []float32
	xq       []int8
	xs       []float32
	codes    []int8
	ws, bias []float32
	m, n, k  int
}

func (q qdots) run(lo, hi int) {
	buf := scratch.Get[int32](hi - lo)
	defer buf.Free()
	for i := range q.m {
		q.d.qdots(buf.X, q.xq[i*q.k:][:q.k], q.codes[lo*q.k:hi*q.k])
		for j, s := range buf.X {
			v := float32(float32(s) * q.xs[i])
			if len(q.ws) == 1 {
				v = float32(v * q.ws[0])
			} else {
				v = float32(v * q.ws[lo+j])
			}
			if q.bias != nil {
				v += q.bias[lo+j]
			}
			q.y[i*q.n+lo+j] = v
		}
	}
}

// qdots: sum[j] = x . codes[j], rows of codes of len(x).
func (d *Device) qdots(sum []int32, x, codes []int8) {
	k, fast := len(x), len(sum)&^3
	deep := d.fourDots(sum[:fast], x, codes)
	for j := range sum {
		from, s := 0, int32(0)
		if j < fast {
			from, s = deep, sum[j]
		}
		row := codes[j*k:][:k]
		for l := from; l < k; l++ {
			s += int32(x[l]) * int32(row[l])
		}
		sum[j] = s
	}
}

func (d *Device) sumCodes(x []int8) int32 {
	s, n := d.sumWhole(x)
	for _, c := range x[n:] {
		s += int32(c)
	}
	return s
}

// gradScale gives the scale of a group and what to multiply by, from the bits of its largest magnitude. With NaN or Inf
// the codes do not matter.
func gradScale(bits uint32) (scale, s float32) {
	a := math.Float32frombits(bits)
	if bits >= 0x7f800000 {
		return float32(math.NaN()), 1
	}
	a = max(a, device.GradFloor)
	return a / 127, 127 / a
}

// roundCode is roundEven(v) for |v| < 128: the sum leaves it in the low bits of the significand.
func roundCode(v float32) int8 { return int8(math.Float32bits(v + 3<<22)) }

// gradCols fills both operands of dw: the columns of dy * xs as A, those of xq as B. It reads dy four rows at a time,
// first for the maxima, then for the codes.
func (d *Device) gradCols(p *qproduct, dy []float32, xq []int8, xs []float32) {
	n := p.m // columns of dy
	groups, bytes := p.depth/4, 16*n
	top, s := scratch.Get[float32](n), scratch.Get[float32](n)
	defer top.Free()
	defer s.Free()
	clear(top.X)
	o := operands{p: p, b: xq, pack: operands.packCols, dy: dy, scale: xs, top: top.X, fill: operands.gradMaxima}
	d.prepare(o, groups, bytes)
	for j, v := range top.X {
		p.rs[j], s.X[j] = gradScale(magnitude(v))
	}
	sums := p.comp.X[:n]
	clear(sums)
	if d.codeTiles(p, dy, xs, s.X) {
		return
	}
	par.Each(d.Threads, groups, max(1, taskBytes/bytes), gradCodes{d, p, dy, xs, s.X}, gradCodes.run)
}

// gradMaxima finds the largest dy * scale of each column, of groups of four rows.
func (o operands) gradMaxima(lo, hi int) {
	n, m := o.p.m, o.p.k
	mine := scratch.Get[float32](n)
	defer mine.Free()
	clear(mine.X)
	for i := 4 * lo; i < min(4*hi, m); i += 4 {
		if i+4 <= m {
			gradColMaxRoutine[o.d.width()](&mine.X[0], &o.dy[i*n], n, &o.scale[i], n)
			continue
		}
		for e, v := range o.dy[i*n : m*n] {
			if h := v * o.scale[i+e/n]; magnitude(h) > magnitude(mine.X[e%n]) {
				mine.X[e%n] = h
			}
		}
	}
	o.p.mu.Lock()
	defer o.p.mu.Unlock()
	for j, v := range mine.X {
		if magnitude(v) > magnitude(o.top[j]) {
			o.top[j] = v
		}
	}
}

type gradCodes struct {
	d         *Device
	p         *qproduct
	dy, xs, s []float32
}

func (q gradCodes) run(lo, hi int) {
	n, m := q.p.m, q.p.k
	mine := scratch.Get[int32](n)
	defer mine.Free()
	clear(mine.X)
	for g := lo; g < hi; g++ {
		q.d.gradGroup(q.p, g, mine.X, q.dy[4*g*n:], q.xs[4*g:min(4*g+4, m)], q.s)
	}
	q.p.mu.Lock()
	defer q.p.mu.Unlock()
	for j, v := range mine.X {
		q.p.comp.X[j] -= codeOffset * v
	}
}

// gradGroup quantizes the rows of dy that have a scale in xs, at most four, to group g, and adds the codes to sums.
func (d *Device) gradGroup(p *qproduct, g int, sums []int32, dy, xs, s []float32) {
	n := len(s)
	if len(xs) == 4 {
		gradColRoutine[d.width()](&p.word(0, g)[0], blockRows*p.depth, &sums[0], &dy[0], n, &xs[0], &s[0], n)
		return
	}
	for j := range n {
		w := p.word(j, g)
		clear(w)
		for r, x := range xs {
			w[r] = roundCode(float32(float32(dy[r*n+j]*x) * s[j]))
			sums[j] += int32(w[r])
		}
	}
}

// magnitude is |v| as an ordered integer: NaN is above Inf, which is above all numbers.
func magnitude(v float32) uint32 { return math.Float32bits(v) &^ (1 << 31) }

// word is group g of row j of a turned A.
func (p *qproduct) word(j, g int) []int8 {
	return p.a[j/blockRows*blockRows*p.depth+4*(g*blockRows+j%blockRows):][:4]
}
