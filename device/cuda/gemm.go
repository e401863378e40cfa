package cuda

import (
	"setun/device"
	"setun/device/cuda/driver"
)

// SetMath chooses how products are computed that ask for device.MathFP32, and attention of 16 queries and more that does:
// in float32, the default, or, with device.MathBF16, on tensor cores, the operands rounded to bfloat16 and the sums in
// float32. Memory stays float32: weights, gradients and activations keep their precision between products. Products of
// codes stay exact.
func (d *Device) SetMath(m device.Math) { d.math.Store(uint32(m)) }

func (d *Device) Gemm(c, a, b, bias device.Mem, s device.GemmShape) {
	if c.IsZero() {
		return
	}
	s = s.Tight()
	if s.Batch > 1 && s.StrideC == 0 { // one after the other: each adds to the same C
		one := s
		one.Batch = 1
		for z := range s.Batch {
			d.Gemm(c, a.Slice(z*s.StrideA, a.Len()), b.Slice(z*s.StrideB, b.Len()), bias, one)
		}
		return
	}
	d.multiply(product{
		m: s.M, n: s.N, k: s.K, alpha: s.Alpha, beta: s.Beta, math: s.Math,
		a: operand{p: addr(a), ld: s.LDA, turned: s.TransA, stride: s.StrideA},
		b: operand{p: addr(b), typ: b.Type(), ld: s.LDB, turned: !s.TransB, stride: s.StrideB},
		c: addr(c), ldc: s.LDC, bias: addr(bias), batch: s.Batch, strideC: s.StrideC,
	})
}

// An operand gives rows of k elements: element (i, l) is [i*ld+l], or [l*ld+i] if turned, times scale[0], or scale[l]
// with perDepth, if there is a scale.
type operand struct {
	p        uint64
	typ      device.Type // F32; F16 and I8 for B
	ld       int
	turned   bool
	stride   int // between the operands of a batch
	scale    uint64
	perDepth bool
}

// at is the operand of product z of a batch.
func (o operand) at(z int) operand {
	o.p += uint64(z * o.stride * o.typ.Size())
	return o
}

// quads reports whether four elements of a row that start at a multiple of four lie on a boundary of four.
func (o operand) quads() bool {
	return o.p%uint64(4*o.typ.Size()) == 0 && o.ld%4 == 0 && o.stride%4 == 0
}

// A product is C = alpha*A*B' + beta*C + bias, A (m, k) and B (n, k) as operands, for each of a batch.
type product struct {
	m, n, k             int
	alpha, beta         float32
	a, b                operand
	c                   uint64
	ldc, batch, strideC int
	bias                uint64
	math                device.Math
}

const (
	thinRows = 8       // a product of as many rows reads the other operand once
	bf16From = 1 << 18 // multiply-adds for which it pays to round the operands to bfloat16 first
)

func (d *Device) multiply(g product) {
	if g.m <= 0 || g.n <= 0 || g.batch <= 0 || d.failed() {
		return
	}
	if g.alpha == 0 || g.k < 0 {
		g.k = 0
	}
	if g.math == device.MathFP32 {
		g.math = device.Math(d.math.Load())
	}
	for ; g.batch > d.maxGrid; g.batch -= d.maxGrid {
		part := g
		part.batch = d.maxGrid
		d.multiply(part)
		g.a, g.b = g.a.at(d.maxGrid), g.b.at(d.maxGrid)
		g.c += uint64(4 * d.maxGrid * g.strideC)
	}
	if g.math == device.MathBF16 && min(g.m, g.n, g.k) > thinRows && g.m*g.n*g.k >= bf16From {
		d.bf16(g)
		return
	}
	var free, free2 func()
	g.a, free = d.scaled(g.a, g.m, g.k)
	defer free()
	g.b, free2 = d.scaled(g.b, g.n, g.k)
	defer free2()
	if g.m <= thinRows || g.n <= thinRows && g.b.typ == device.F32 {
		d.thin(g)
		return
	}
	d.tiled(g)
}

func nothing() {}

// scaled applies the scale of an operand, and gives codes in half precision, exactly.
func (d *Device) scaled(o operand, rows, k int) (operand, func()) {
	n := rows * k
	switch {
	case o.typ == device.I8:
		p, free := d.temp(2 * n)
		d.each("codesToHalf", n, p, o.p, num(n))
		o.p, o.typ = p, device.F16
		return o, free
	case o.scale != 0:
		p, free := d.temp(4 * n)
		d.each("gradScale", n, p, o.p, o.scale, flag(o.turned && o.perDepth), flag(!o.turned && o.perDepth), num(n),
			num(o.ld))
		o.p, o.scale = p, 0
		return o, free
	}
	return o, nothing
}

func ceil(n, unit int) int  { return (n + unit - 1) / unit }
func round(n, unit int) int { return ceil(n, unit) * unit }

// parts cuts the depth k of a product so that its blocks become about two a multiprocessor, no part shorter than least;
// the length of a part is a multiple of unit, which divides least.
func (d *Device) parts(blocks, k, least, unit int) (parts, length int) {
	parts = max(1, min(2*d.info.Multiprocessors/max(blocks, 1), k/least))
	length = max(unit, round(ceil(k, parts), unit))
	return max(1, ceil(k, length)), length
}

// partial is memory for the sums of parts, none for one part.
func (d *Device) partial(parts int, g product) (uint64, func()) {
	if parts == 1 {
		return 0, nothing
	}
	return d.temp(4 * parts * g.batch * g.m * g.n)
}

// tile is the side of the tiles that an m by n product is cut into: 128 if all multiprocessors then have one.
func (d *Device) tile(m, n, batch int) int {
	if ceil(m, 128)*ceil(n, 128)*batch >= d.info.Multiprocessors {
		return 128
	}
	return 64
}

// tiled multiplies in float32.
func (d *Device) tiled(g product) {
	side, kernel := d.tile(g.m, g.n, g.batch), "gemm128"
	threads := 256
	if side == 64 {
		kernel = "gemm64"
		if min(g.m, g.n) <= 32 {
			side, kernel, threads = 32, "gemm32", 64
		}
	}
	tiles := ceil(g.m, side) * ceil(g.n, side)
	parts, length := d.parts(tiles*g.batch, g.k, 256, 16)
	part, free := d.partial(parts, g)
	defer free()
	vec := flag(g.a.quads()) | flag(g.b.quads())<<1 | flag(g.c%16 == 0 && g.ldc%4 == 0 && g.strideC%4 == 0)<<2
	d.launch(kernel, driver.Dim{X: tiles, Y: parts, Z: g.batch}, driver.Dim{X: threads}, 0,
		g.c, g.a.p, g.b.p, g.bias, part, num(g.m), num(g.n), num(g.k), num(g.a.ld), num(g.b.ld), num(g.ldc),
		flag(g.a.turned), flag(g.b.turned), flag(g.b.typ == device.F16), vec, f32(g.alpha), f32(g.beta),
		num(g.a.stride), num(g.b.stride), num(g.strideC), num(length))
	d.reduceParts(g, part, parts, g.ldc, 1, false)
}

// reduceParts adds up the sums of parts, element (i, j) of C at [i*rowC+j*colC].
func (d *Device) reduceParts(g product, part uint64, parts, rowC, colC int, biasRow bool) {
	if parts > 1 {
		d.each("gemmReduce", g.batch*g.m*g.n, g.c, part, g.bias, num(parts), num(g.m), num(g.n), num(rowC), num(colC),
			num(g.strideC), num(g.batch), flag(biasRow), f32(g.alpha), f32(g.beta))
	}
}

// thin multiplies few rows, or few columns, in float32.
func (d *Device) thin(g product) {
	rowC, colC, turn := g.ldc, 1, g.m > thinRows
	if turn { // C' = B*A'
		g.m, g.n, g.a, g.b = g.n, g.m, g.b, g.a
		rowC, colC = colC, rowC
	}
	if o := g.a; o.turned || o.typ != device.F32 || !o.quads() || g.k%4 != 0 {
		batch, ld := 1, round(g.k, 4)
		if o.stride != 0 {
			batch = g.batch
			g.a.stride = g.m * ld
		}
		row, depth := o.ld, 1
		if o.turned {
			row, depth = 1, o.ld
		}
		p, free := d.temp(4 * batch * g.m * ld)
		defer free()
		d.each("gemmThin", batch*g.m*ld, p, o.p, flag(o.typ == device.F16), num(row), num(depth), num(g.k), num(ld),
			num(batch*g.m), num(g.m), num(o.stride))
		g.a.p, g.a.ld, g.a.turned = p, ld, false
	}
	kernel, blocks, least, unit := "gemmRow", ceil(g.n, 32), 256, 128
	if g.b.turned {
		kernel, blocks, least, unit = "gemmCol", ceil(g.n, 128), 64, 8
	}
	if g.m > 1 {
		kernel += "s"
	}
	parts, length := d.parts(blocks*g.batch, g.k, least, unit)
	part, free := d.partial(parts, g)
	defer free()
	d.launch(kernel, driver.Dim{X: blocks, Y: parts, Z: g.batch}, driver.Dim{X: blockSize}, 0,
		g.c, g.a.p, g.b.p, g.bias, part, num(g.m), num(g.n), num(g.k), num(g.a.ld), num(g.b.ld), num(rowC), num(colC),
		flag(g.b.typ == device.F16), flag(g.b.quads()), flag(turn), f32(g.alpha), f32(g.beta), num(g.a.stride),
		num(g.b.stride), num(g.strideC), num(length))
	d.reduceParts(g, part, parts, rowC, colC, turn)
}

// bf16 multiplies on tensor cores, of copies of the operands in bfloat16.
func (d *Device) bf16(g product) {
	a, strideA, free := d.rounded(g.a, g.m, g.k, g.batch)
	defer free()
	b, strideB := a, strideA
	if g.a != g.b || g.m != g.n {
		var free func()
		b, strideB, free = d.rounded(g.b, g.n, g.k, g.batch)
		defer free()
	}
	ld := 2 * round(g.k, 8) // bytes
	side := d.tile(g.m, g.n, g.batch)
	kernel := "gemmHalf64"
	if side == 128 {
		kernel = "gemmHalf128"
	}
	tiles := ceil(g.m, side) * ceil(g.n, side)
	parts, length := d.parts(tiles*g.batch, g.k, 512, 32)
	part, free2 := d.partial(parts, g)
	defer free2()
	vec := g.c%16 == 0 && g.ldc%4 == 0 && g.strideC%4 == 0
	d.launch(kernel, driver.Dim{X: tiles, Y: parts, Z: g.batch}, driver.Dim{X: mmaSize}, 0,
		g.c, a, b, g.bias, part, num(g.m), num(g.n), num(g.k), num(ld), num(ld), num(g.ldc), flag(vec), f32(g.alpha),
		f32(g.beta), num(strideA), num(strideB), num(g.strideC), num(length))
	d.reduceParts(g, part, parts, g.ldc, 1, false)
}

// rounded is an operand in bfloat16, its rows along the depth and whole units of 16 bytes; stride is in bytes.
func (d *Device) rounded(o operand, rows, k, batch int) (p uint64, stride int, free func()) {
	ld := round(k, 8)
	if o.stride == 0 {
		batch = 1
	} else {
		stride = 2 * rows * ld
	}
	p, free = d.temp(2 * batch * rows * ld)
	if o.turned {
		kind := 0
		switch o.typ {
		case device.F16:
			kind = 1
		case device.I8:
			kind = 2
		}
		grid := driver.Dim{X: ceil(rows, 64), Y: min(ceil(ld, 64), d.maxGrid), Z: batch}
		d.launch("bf16Turn", grid, driver.Dim{X: blockSize}, 0, p, o.p, o.scale, flag(o.perDepth), num(kind), num(rows),
			num(k), num(o.ld), num(o.stride), num(ld))
		return
	}
	d.each("bf16Rows", batch*rows*ld/8, p, o.p, o.scale, flag(o.perDepth), flag(o.typ == device.F16), num(batch*rows),
		num(rows), num(k), num(o.ld), num(o.stride), num(ld), flag(o.quads()))
	return
}
