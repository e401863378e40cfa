package cuda

import (
	"setun/device"
	"setun/device/cuda/driver"
)

func (d *Device) QLinear(y, xq, xs, codes, ws, bias device.Mem, m, n, k int) {
	if y.IsZero() || m <= 0 || n <= 0 || d.failed() {
		return
	}
	x, ldx, free := d.codeRows(addr(xq), m, k)
	defer free()
	c, ldc, free2 := d.codeRows(addr(codes), n, k)
	defer free2()
	q := codeProduct{y: addr(y), x: x, xs: addr(xs), codes: c, ws: addr(ws), bias: addr(bias), m: m, n: n, ldx: ldx,
		ldc: ldc, perColumn: ws.Len() > 1}
	if m <= thinRows {
		kernel := "qlinearRow"
		if m > 1 {
			kernel = "qlinearRows"
		}
		d.launch(kernel, driver.Dim{X: ceil(n, 16)}, driver.Dim{X: blockSize}, 0, q.y, q.x, q.xs, q.codes, q.ws, q.bias,
			num(m), num(n), num(ldx), num(ldx), num(ldc), flag(q.perColumn))
		return
	}
	d.codes(q)
}

// A codeProduct is y = sums * xs * ws + bias, or y += with add, with sums the product of codes x (m, ldx) and codes
// (n, ldc), or panels of levels.
type codeProduct struct {
	y, x, xs, codes, ws, bias uint64
	m, n, ldx, ldc            int
	perColumn, add            bool
	levels                    int
}

// codes multiplies on tensor cores.
func (d *Device) codes(q codeProduct) {
	side, kernel := d.tile(q.m, q.n, 1), "qlinear64"
	if side == 128 {
		kernel = "qlinear128"
	}
	tiles := ceil(q.m, side) * ceil(q.n, side)
	parts, length := d.parts(tiles, q.ldx, 1024, 64)
	part, free := d.partial(parts, product{batch: 1, m: q.m, n: q.n})
	defer free()
	grid, block, vec := driver.Dim{X: tiles, Y: parts}, driver.Dim{X: mmaSize}, flag(q.y%16 == 0 && q.n%4 == 0)
	if q.levels > 0 {
		kernel = "packed" + kernel[len("qlinear"):]
		d.launch(kernel, grid, block, 0, q.y, q.x, q.xs, q.codes, q.ws, q.bias, part, num(q.m), num(q.n), num(q.ldx),
			num(q.ldx), vec, flag(q.perColumn), num(q.levels), num(length))
	} else {
		d.launch(kernel, grid, block, 0, q.y, q.x, q.xs, q.codes, q.ws, q.bias, part, num(q.m), num(q.n), num(q.ldx),
			num(q.ldx), num(q.ldc), vec, flag(q.perColumn), flag(q.add), num(length))
	}
	if parts > 1 {
		d.each("qlinearReduce", q.m*q.n, q.y, part, q.xs, q.ws, q.bias, num(parts), num(q.m), num(q.n),
			flag(q.perColumn), flag(q.add))
	}
}

// codeRows gives codes (rows, k) as rows of ld, whole units of 16 bytes: in place if they lie so, else in scratch
// memory, with zeros.
func (d *Device) codeRows(p uint64, rows, k int) (q uint64, ld int, free func()) {
	if p%16 == 0 && k%16 == 0 {
		return p, k, nothing
	}
	ld = round(k, 16)
	q, free = d.temp(rows * ld)
	d.each("padCodes", rows*ld/4, q, p, num(rows), num(k), num(ld))
	return q, ld, free
}

// turned gives codes (k, rows) as rows of ld, like codeRows.
func (d *Device) turned(p uint64, rows, k int) (q uint64, ld int, free func()) {
	ld = round(k, 16)
	q, free = d.temp(rows * ld)
	grid := driver.Dim{X: ceil(rows, 64), Y: min(ceil(ld, 64), d.maxGrid)}
	d.launch("turnCodes", grid, driver.Dim{X: blockSize}, 0, q, p, num(rows), num(k), num(ld))
	return q, ld, free
}

func (d *Device) QLinearGradX(dx, dy, codes, ws device.Mem, m, n, k int, math device.Math, acc bool) {
	if dx.IsZero() || m <= 0 || k <= 0 || d.failed() {
		return
	}
	if ws.Len() == 0 { // n is 0
		d.start(acc, dx)
		return
	}
	beta := float32(0)
	if acc {
		beta = 1
	}
	perColumn := ws.Len() > 1
	if math != device.MathInt8 {
		d.multiply(product{m: m, n: k, k: n, alpha: 1, beta: beta, c: addr(dx), ldc: k, batch: 1, math: math,
			a: operand{p: addr(dy), ld: n, scale: addr(ws), perDepth: perColumn},
			b: operand{p: addr(codes), typ: device.I8, ld: k, turned: true}})
		return
	}
	turned, ld, free := d.turned(addr(codes), k, n)
	defer free()
	hq, free2 := d.temp(m * ld)
	defer free2()
	hs, free3 := d.temp(4 * m)
	defer free3()
	q := codeProduct{y: addr(dx), x: hq, xs: hs, codes: turned, m: m, n: k, ldx: ld, ldc: ld, add: acc}
	columns := addr(ws)
	if !perColumn {
		q.ws, columns = columns, 0
	}
	d.rows("gradRows", m, hq, hs, addr(dy), columns, num(m), num(n), num(ld))
	d.codes(q)
}

func (d *Device) QLinearGradW(dw, dy, xq, xs device.Mem, m, n, k int, math device.Math, acc bool) {
	if dw.IsZero() || n <= 0 || k <= 0 || d.failed() {
		return
	}
	if math != device.MathInt8 {
		p := product{m: n, n: k, k: m, alpha: 1, c: addr(dw), ldc: k, batch: 1, math: math,
			a: operand{p: addr(dy), ld: n, turned: true, scale: addr(xs), perDepth: true},
			b: operand{p: addr(xq), typ: device.I8, ld: k, turned: true}}
		if acc {
			p.beta = 1
		}
		d.multiply(p)
		return
	}
	turned, ld, free := d.turned(addr(xq), k, m)
	defer free()
	hq, free2 := d.temp(n * ld)
	defer free2()
	hs, free3 := d.temp(4 * n)
	defer free3()
	slices := max(1, min(32, ceil(m, 32)))
	tops, free4 := d.temp(4 * slices * n)
	defer free4()
	block := driver.Dim{X: blockSize}
	d.launch("gradTops", driver.Dim{X: ceil(n, 32), Y: slices}, block, 0, tops, addr(dy), addr(xs), num(m), num(n),
		num(ceil(m, slices)))
	grid := driver.Dim{X: ceil(n, 64), Y: min(ceil(ld, 64), d.maxGrid)}
	d.launch("gradCols", grid, block, 0, hq, hs, addr(dy), addr(xs), tops, num(slices), num(m), num(n), num(ld))
	d.codes(codeProduct{y: addr(dw), x: hq, xs: hs, codes: turned, m: n, n: k, ldx: ld, ldc: ld, add: acc})
}
