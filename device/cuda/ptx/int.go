package ptx

import (
	"math/bits"
	"slices"
	"strings"
)

// mul compiles mul and mad.
func (c *compiler) mul() {
	op, t := c.s.op, c.last()
	n := 3
	if op == "mad" {
		n = 4
	}
	if op == "mad" && slices.Contains(c.m, "cc") {
		c.carry()
		return
	}
	if op == "mul" && (isFloat2(t)) {
		c.m = append(c.m, t)
		c.alu()
		return
	}
	if op == "mad" && isFloat2(t) { // of the same meaning as fma
		c.m = append(c.m, t)
		c.s.op = "fma"
		c.alu()
		c.s.op = "mad"
		return
	}
	c.nargs(n)
	kind := c.m.oneOf("lo", "hi", "wide")
	if kind == "" {
		c.fail("%s without .lo, .hi or .wide", op)
	}
	if kind != "wide" {
		c.table(op+"."+kind+"."+t, n, t, false, false)
		return
	}
	c.done()
	if typeSizes[t] == 2 {
		f := lookup(alu32, op+".wide."+t)
		if f == nil {
			c.fail("unknown instruction %s", c.s.full)
		}
		in := inst{kind: k32, f32: f}
		c.sources(&in, n, t[:1]+"32", t)
		c.emit(in)
		return
	}
	if t != "u32" && t != "s32" {
		c.fail("unknown instruction %s", c.s.full)
	}
	a, b := c.src(c.s.args[1], t), c.src(c.s.args[2], t)
	var z int32
	if n == 4 {
		z = c.src(c.s.args[3], t[:1]+"64")
	}
	d := c.dst(c.s.args[0], t[:1]+"64")
	switch {
	case t == "u32" && n == 3:
		c.w64(d, func(w *warp, d *col64) {
			a, b := &w.r32[a], &w.r32[b]
			for i := 0; i < 32; i += 4 {
				d[i] = uint64(a[i]) * uint64(b[i])
				d[i+1] = uint64(a[i+1]) * uint64(b[i+1])
				d[i+2] = uint64(a[i+2]) * uint64(b[i+2])
				d[i+3] = uint64(a[i+3]) * uint64(b[i+3])
			}
		})
	case t == "u32":
		c.w64(d, func(w *warp, d *col64) {
			a, b, z := &w.r32[a], &w.r32[b], &w.r64[z]
			for i := range d {
				d[i] = uint64(a[i])*uint64(b[i]) + z[i]
			}
		})
	case n == 3:
		c.w64(d, func(w *warp, d *col64) {
			a, b := i32s(&w.r32[a]), i32s(&w.r32[b])
			for i := range d {
				d[i] = uint64(int64(a[i]) * int64(b[i]))
			}
		})
	default:
		c.w64(d, func(w *warp, d *col64) {
			a, b, z := i32s(&w.r32[a]), i32s(&w.r32[b]), &w.r64[z]
			for i := range d {
				d[i] = uint64(int64(a[i])*int64(b[i])) + z[i]
			}
		})
	}
}

func isFloat2(t string) bool { return t != "" && isFloat(t) }

func (c *compiler) mul24() {
	t := c.last()
	n := 3
	if c.s.op == "mad24" {
		n = 4
	}
	c.nargs(n)
	if !c.m.has("lo") {
		c.fail("unknown instruction %s", c.s.full)
	}
	c.table(c.s.op+".lo."+t, n, t, false, false)
}

// div compiles div and rem. Division of integers by zero has no defined result and is an error.
func (c *compiler) div() {
	t := c.last()
	if isFloat2(t) {
		if c.s.op == "rem" {
			c.fail("unknown instruction %s", c.s.full)
		}
		c.m = append(c.m, t)
		c.alu()
		return
	}
	c.done()
	c.nargs(3)
	rem := c.s.op == "rem"
	size := typeSizes[t]
	if size < 2 || t[0] == 'b' {
		c.fail("unknown instruction %s", c.s.full)
	}
	a, b := c.src(c.s.args[1], t), c.src(c.s.args[2], t)
	d := c.dst(c.s.args[0], t)
	signed := t[0] == 's'
	if size == 8 {
		c.run(func(w *warp, m uint32) {
			d, a, b := &w.r64[d], &w.r64[a], &w.r64[b]
			for ; m != 0; m &= m - 1 {
				i := bits.TrailingZeros32(m) & 31
				x, y := a[i], b[i]
				switch {
				case y == 0:
					w.fail(codeLaunch, i, "division by zero")
				case x|y < 1<<32: // faster on many processors
					if rem {
						d[i] = uint64(uint32(x) % uint32(y))
					} else {
						d[i] = uint64(uint32(x) / uint32(y))
					}
				case signed && rem:
					d[i] = uint64(int64(x) % int64(y))
				case signed:
					d[i] = uint64(int64(x) / int64(y))
				case rem:
					d[i] = x % y
				default:
					d[i] = x / y
				}
			}
		})
		return
	}
	c.run(func(w *warp, m uint32) {
		d, a, b := &w.r32[d], &w.r32[a], &w.r32[b]
		for ; m != 0; m &= m - 1 {
			i := bits.TrailingZeros32(m) & 31
			x, y := int64(a[i]), int64(b[i])
			if signed {
				x, y = extend(a[i], size), extend(b[i], size)
			}
			if y == 0 {
				w.fail(codeLaunch, i, "division by zero")
			}
			if rem {
				x %= y
			} else {
				x /= y
			}
			d[i] = uint32(x) & uint32(1<<(8*size)-1)
		}
	})
}

// extend extends the sign of a 16- or 32-bit integer.
func extend(x uint32, size int) int64 {
	if size == 2 {
		return int64(int16(x))
	}
	return int64(int32(x))
}

// shift compiles shl and shr. Amounts beyond the width give 0, or the sign.
func (c *compiler) shift() {
	t := c.last()
	c.done()
	c.nargs(3)
	right, signed := c.s.op == "shr", t[:1] == "s"
	size := typeSizes[t]
	if size < 2 || isFloat(t) || !right && signed {
		c.fail("unknown instruction %s", c.s.full)
	}
	a := c.src(c.s.args[1], t)
	b := c.src(c.s.args[2], "u32")
	d := c.dst(c.s.args[0], t)
	switch {
	case size == 8 && !right:
		c.w64(d, func(w *warp, d *col64) {
			a, b := &w.r64[a], &w.r32[b]
			for i := range d {
				d[i] = a[i] << b[i]
			}
		})
	case size == 8 && signed:
		c.w64(d, func(w *warp, d *col64) {
			a, b := i64s(&w.r64[a]), &w.r32[b]
			for i := range d {
				d[i] = uint64(a[i] >> b[i])
			}
		})
	case size == 8:
		c.w64(d, func(w *warp, d *col64) {
			a, b := &w.r64[a], &w.r32[b]
			for i := range d {
				d[i] = a[i] >> b[i]
			}
		})
	case size == 4:
		f := fn32(func(d, a, b, _ *col32) {
			for i := range d {
				d[i] = a[i] >> b[i]
			}
		})
		if !right {
			f = func(d, a, b, _ *col32) {
				for i := range d {
					d[i] = a[i] << b[i]
				}
			}
		} else if signed {
			f = func(d, a, b, _ *col32) {
				for i := range d {
					d[i] = uint32(int32(a[i]) >> b[i])
				}
			}
		}
		c.emit(inst{kind: k32, d: d, a: a, b: b, f32: f})
	default:
		f := func(a, b uint32) uint32 { return a >> b }
		if !right {
			f = func(a, b uint32) uint32 { return a << b & 0xffff }
		} else if signed {
			f = func(a, b uint32) uint32 { return uint32(uint16(int16(a) >> b)) }
		}
		c.emit(inst{kind: k32, d: d, a: a, b: b, f32: each2(f)})
	}
}

func (c *compiler) shf() {
	t := c.last()
	left := c.m.oneOf("l", "r")
	mode := c.m.oneOf("wrap", "clamp")
	c.done()
	c.nargs(4)
	if t != "b32" || left == "" || mode == "" {
		c.fail("unknown instruction %s", c.s.full)
	}
	in := inst{kind: k32}
	c.sources(&in, 4, t, t)
	wrap := mode == "wrap"
	amount := func(c uint32) uint32 {
		if wrap {
			return c & 31
		}
		return min(c, 32)
	}
	if left == "l" {
		in.f32 = each3(func(a, b, c uint32) uint32 {
			return uint32((uint64(b)<<32 | uint64(a)) << amount(c) >> 32)
		})
	} else {
		in.f32 = each3(func(a, b, c uint32) uint32 { return uint32((uint64(b)<<32 | uint64(a)) >> amount(c)) })
	}
	c.emit(in)
}

// prmt picks bytes.
func (c *compiler) prmt() {
	t := c.last()
	mode := c.m.oneOf("f4e", "b4e", "rc8", "ecl", "ecr", "rc16")
	if t != "b32" { // the mode comes last
		mode = t
		t = c.last()
	}
	c.done()
	c.nargs(4)
	var f func(a, b, s uint32) uint32
	pick := func(sel func(s uint32) [4]uint32) func(a, b, s uint32) uint32 {
		return func(a, b, s uint32) uint32 {
			x := uint64(b)<<32 | uint64(a)
			var d uint32
			for i, k := range sel(s & 3) {
				d |= uint32(x>>(8*k)&0xff) << (8 * i)
			}
			return d
		}
	}
	switch mode {
	case "":
		f = func(a, b, s uint32) uint32 {
			x := uint64(b)<<32 | uint64(a)
			var d uint32
			for i := 0; i < 32; i += 8 {
				v := uint32(x>>(8*(s&7))) & 0xff
				if s&8 != 0 {
					v = uint32(int32(int8(v))>>7) & 0xff
				}
				d |= v << i
				s >>= 4
			}
			return d
		}
	case "f4e":
		f = pick(func(s uint32) [4]uint32 { return [4]uint32{s, s + 1, s + 2, s + 3} })
	case "b4e":
		f = pick(func(s uint32) [4]uint32 { return [4]uint32{s, (s + 7) & 7, (s + 6) & 7, (s + 5) & 7} })
	case "rc8":
		f = pick(func(s uint32) [4]uint32 { return [4]uint32{s, s, s, s} })
	case "ecl":
		f = pick(func(s uint32) [4]uint32 { return [4]uint32{s, max(s, 1), max(s, 2), max(s, 3)} })
	case "ecr":
		f = pick(func(s uint32) [4]uint32 { return [4]uint32{0, min(s, 1), min(s, 2), min(s, 3)} })
	case "rc16":
		f = pick(func(s uint32) [4]uint32 { s = s & 1 * 2; return [4]uint32{s, s + 1, s, s + 1} })
	}
	if f == nil || t != "b32" {
		c.fail("unknown instruction %s", c.s.full)
	}
	in := inst{kind: k32, f32: each3(f)}
	c.sources(&in, 4, t, t)
	c.emit(in)
}

// lop3 is any function of three bits, by its table.
func (c *compiler) lop3() {
	t := c.last()
	c.done()
	c.nargs(5)
	if t != "b32" || c.s.args[4].kind != aInt || c.s.args[4].bits > 255 {
		c.fail("unknown instruction %s", c.s.full)
	}
	table := uint32(c.s.args[4].bits)
	in := inst{kind: k32, f32: func(d, a, b, c *col32) {
		for i := range d {
			x, y, z := a[i], b[i], c[i]
			var r uint32
			for k := uint32(0); k < 8; k++ {
				if table>>k&1 != 0 {
					u, v, q := x, y, z
					if k&4 == 0 {
						u = ^u
					}
					if k&2 == 0 {
						v = ^v
					}
					if k&1 == 0 {
						q = ^q
					}
					r |= u & v & q
				}
			}
			d[i] = r
		}
	}}
	c.sources(&in, 4, t, t)
	c.emit(in)
}

func (c *compiler) bfe() {
	t := c.last()
	c.done()
	c.nargs(4)
	width := uint32(8 * typeSizes[t])
	if t != "u32" && t != "s32" && t != "u64" && t != "s64" {
		c.fail("unknown instruction %s", c.s.full)
	}
	signed := t[0] == 's'
	f := func(x uint64, pos, n uint32) uint64 {
		pos, n = pos&0xff, n&0xff
		if n == 0 {
			return 0
		}
		if signed {
			s := int64(x)
			if width == 32 {
				s = int64(int32(x))
			}
			s >>= min(pos, 63)
			if n < 64 {
				// The sign is the field's top bit, or the top bit of x where the field goes beyond it.
				s = s << (64 - n) >> (64 - n)
			}
			return uint64(s)
		}
		x >>= pos
		if n < 64 {
			x &= 1<<n - 1
		}
		return x
	}
	a := c.src(c.s.args[1], t)
	p, n := c.src(c.s.args[2], "u32"), c.src(c.s.args[3], "u32")
	d := c.dst(c.s.args[0], t)
	if width == 64 {
		c.w64(d, func(w *warp, d *col64) {
			a, p, n := &w.r64[a], &w.r32[p], &w.r32[n]
			for i := range d {
				d[i] = f(a[i], p[i], n[i])
			}
		})
		return
	}
	c.w32(d, func(w *warp, d *col32) {
		a, p, n := &w.r32[a], &w.r32[p], &w.r32[n]
		for i := range d {
			d[i] = uint32(f(uint64(a[i]), p[i], n[i]))
		}
	})
}

func (c *compiler) bfi() {
	t := c.last()
	c.done()
	c.nargs(5)
	if t != "b32" && t != "b64" {
		c.fail("unknown instruction %s", c.s.full)
	}
	f := func(x, y uint64, pos, n uint32, width uint32) uint64 {
		pos, n = pos&0xff, n&0xff
		if pos >= width || n == 0 {
			return y
		}
		mask := ^uint64(0)
		if n < 64 {
			mask = 1<<n - 1
		}
		return y&^(mask<<pos) | x&mask<<pos
	}
	a, b := c.src(c.s.args[1], t), c.src(c.s.args[2], t)
	p, n := c.src(c.s.args[3], "u32"), c.src(c.s.args[4], "u32")
	d := c.dst(c.s.args[0], t)
	if t == "b64" {
		c.w64(d, func(w *warp, d *col64) {
			a, b, p, n := &w.r64[a], &w.r64[b], &w.r32[p], &w.r32[n]
			for i := range d {
				d[i] = f(a[i], b[i], p[i], n[i], 64)
			}
		})
		return
	}
	c.w32(d, func(w *warp, d *col32) {
		a, b, p, n := &w.r32[a], &w.r32[b], &w.r32[p], &w.r32[n]
		for i := range d {
			d[i] = uint32(f(uint64(a[i]), uint64(b[i]), p[i], n[i], 32))
		}
	})
}

// count compiles popc, clz and bfind, which give 32 bits.
func (c *compiler) count() {
	t := c.last()
	amount := c.m.has("shiftamt")
	c.done()
	c.nargs(2)
	width := 8 * typeSizes[t]
	ok := t == "b32" || t == "b64"
	if c.s.op == "bfind" {
		ok = !ok && width >= 32 && !isFloat(t)
	}
	if !ok || amount && c.s.op != "bfind" {
		c.fail("unknown instruction %s", c.s.full)
	}
	var f func(x uint64) uint32
	switch c.s.op {
	case "popc":
		f = func(x uint64) uint32 { return uint32(bits.OnesCount64(x)) }
	case "clz":
		f = func(x uint64) uint32 { return uint32(bits.LeadingZeros64(x) - (64 - width)) }
	default:
		signed := t[0] == 's'
		f = func(x uint64) uint32 {
			if signed && width == 32 && int32(x) < 0 {
				x = uint64(^uint32(x))
			} else if signed && width == 64 && int64(x) < 0 {
				x = ^x
			}
			p := bits.Len64(x) - 1
			if amount && p >= 0 {
				p = width - 1 - p
			}
			return uint32(p)
		}
	}
	a := c.src(c.s.args[1], t)
	d := c.dst(c.s.args[0], "u32")
	if width == 64 {
		c.w32(d, func(w *warp, d *col32) {
			for i, x := range w.r64[a] {
				d[i] = f(x)
			}
		})
		return
	}
	c.w32(d, func(w *warp, d *col32) {
		a := &w.r32[a]
		for i := range d {
			d[i] = f(uint64(a[i]))
		}
	})
}

// dp4a compiles products of four bytes, and dp2a of two halves with two bytes.
func (c *compiler) dp4a() {
	tb := c.last()
	ta := c.last()
	hi := c.m.oneOf("lo", "hi")
	c.done()
	c.nargs(4)
	if ta != "u32" && ta != "s32" || tb != "u32" && tb != "s32" || (hi != "") != (c.s.op == "dp2a") {
		c.fail("unknown instruction %s", c.s.full)
	}
	sa, sb := ta == "s32", tb == "s32"
	byteOf := func(x uint32, i int, signed bool) int32 {
		if signed {
			return int32(int8(x >> (8 * i)))
		}
		return int32(x >> (8 * i) & 0xff)
	}
	in := inst{kind: k32}
	switch {
	case c.s.op == "dp4a" && sa && sb:
		in.f32 = func(d, a, b, c *col32) {
			for i := range d {
				x, y := int32(a[i]), int32(b[i])
				s := x << 24 >> 24 * (y << 24 >> 24)
				s += x << 16 >> 24 * (y << 16 >> 24)
				s += x << 8 >> 24 * (y << 8 >> 24)
				s += x >> 24 * (y >> 24)
				d[i] = c[i] + uint32(s)
			}
		}
	case c.s.op == "dp4a":
		in.f32 = each3(func(a, b, c uint32) uint32 {
			for i := range 4 {
				c += uint32(byteOf(a, i, sa) * byteOf(b, i, sb))
			}
			return c
		})
	default:
		at := 0
		if hi == "hi" {
			at = 2
		}
		in.f32 = each3(func(a, b, c uint32) uint32 {
			for i := range 2 {
				x := int32(a >> (16 * i) & 0xffff)
				if sa {
					x = int32(int16(a >> (16 * i)))
				}
				c += uint32(x * byteOf(b, at+i, sb))
			}
			return c
		})
	}
	c.sources(&in, 4, "s32", "s32")
	c.emit(in)
}

// carry compiles the instructions of extended precision, which pass a bit on in the condition code.
func (c *compiler) carry() {
	t := ""
	if len(c.m) > 0 {
		t = c.s.mods[len(c.s.mods)-1]
	}
	c.m = slices.Clone(c.s.mods[:max(0, len(c.s.mods)-1)])
	out := c.m.has("cc")
	op := c.s.op
	in := strings.HasSuffix(op, "c")
	part := ""
	if op[0] == 'm' {
		part = c.m.oneOf("lo", "hi")
	}
	c.done()
	size := typeSizes[t]
	if size < 4 || isFloat(t) || op[0] == 'm' && part == "" {
		c.fail("unknown instruction %s", c.s.full)
	}
	n := 3
	if op[0] == 'm' {
		n = 4
	}
	c.nargs(n)
	sub := op[0] == 's'
	signed := t[0] == 's'
	var idx [3]int32
	for i := range n - 1 {
		idx[i] = c.src(c.s.args[i+1], t)
	}
	d := c.dst(c.s.args[0], t)
	get := func(w *warp, r int32, i int) uint64 {
		if size == 8 {
			return w.r64[r][i]
		}
		return uint64(w.r32[r][i])
	}
	c.run(func(w *warp, m uint32) {
		for ; m != 0; m &= m - 1 {
			i := bits.TrailingZeros32(m) & 31
			x, y := get(w, idx[0], i), get(w, idx[1], i)
			if n == 4 {
				switch {
				case part == "lo":
					x = x * y
				case size == 8 && signed:
					x = mulHiS(x, y)
				case size == 8:
					x = mulHi(x, y)
				case signed:
					x = uint64(uint32(int64(int32(x)) * int64(int32(y)) >> 32))
				default:
					x = x * y >> 32
				}
				if size == 4 {
					x &= 0xffffffff
				}
				y = get(w, idx[2], i)
			}
			var cc uint64
			if in {
				cc = uint64(w.carry >> i & 1)
			}
			var r, o uint64
			if sub {
				r, o = bits.Sub64(x, y, cc)
				if size == 4 {
					o = r >> 32 & 1
				}
			} else {
				r, o = bits.Add64(x, y, cc)
				if size == 4 {
					o = r >> 32 & 1
				}
			}
			if size == 8 {
				w.r64[d][i] = r
			} else {
				w.r32[d][i] = uint32(r)
			}
			if out {
				w.carry = w.carry&^(1<<i) | uint32(o)<<i
			}
		}
	})
}
