package ptx

import (
	"math"
	"strings"

	"setun/internal/half"
)

// mov compiles copies, addresses of variables, and packing and unpacking of vectors.
func (c *compiler) mov() {
	t := c.last()
	c.done()
	c.nargs(2)
	d, s := c.s.args[0], c.s.args[1]
	if t == "pred" {
		p, not := c.srcP(s)
		c.wp(c.dstP(d), func(w *warp) uint32 { return pmask(w.p[p], not) })
		return
	}
	size := typeSizes[t]
	if size < 2 {
		c.fail("unknown instruction %s", c.s.full)
	}
	switch {
	case s.kind == aVec:
		c.pack(d, s.list, t)
		return
	case d.kind == aVec:
		c.unpack(d.list, s, t)
		return
	case s.kind == aReg && strings.HasPrefix(s.name, "%clock") || s.kind == aReg && s.name == "%globaltimer":
		if size == 8 {
			c.w64(c.dst(d, t), func(w *warp, d *col64) {
				for i := range d {
					d[i] = uint64(w.steps)
				}
			})
			return
		}
		c.w32(c.dst(d, t), func(w *warp, d *col32) {
			for i := range d {
				d[i] = uint32(w.steps)
			}
		})
		return
	}
	if c.isShared(s) {
		c.minMem = min(c.minMem, 16)
	}
	a := c.src(s, t)
	in := inst{a: a, d: c.dst(d, t)}
	if size == 8 {
		in.kind, in.f64 = k64, copy64
	} else {
		in.kind, in.f32 = k32, copy32
	}
	c.emit(in)
}

func copy32(d, a, _, _ *col32) { *d = *a }
func copy64(d, a, _, _ *col64) { *d = *a }

func (c *compiler) isShared(a arg) bool {
	v := c.vars[a.name]
	return a.kind == aName && v != nil && v.space == shared
}

// partType is the type of an element of n in t.
func (c *compiler) partType(t string, n int) string {
	switch typeSizes[t] / n {
	case 2:
		return "b16"
	case 4:
		return "b32"
	}
	c.fail("%d elements in .%s", n, t)
	return ""
}

func (c *compiler) pack(d arg, list []arg, t string) {
	e := c.partType(t, len(list))
	src := make([]int32, len(list))
	for i, a := range list {
		src[i] = c.src(a, e)
	}
	shift := 8 * typeSizes[e]
	if typeSizes[t] == 8 {
		c.w64(c.dst(d, t), func(w *warp, d *col64) {
			var r col64
			for j, s := range src {
				s := &w.r32[s]
				for i := range r {
					r[i] |= uint64(s[i]) << (j * shift)
				}
			}
			*d = r
		})
		return
	}
	c.w32(c.dst(d, t), func(w *warp, d *col32) {
		var r col32
		for j, s := range src {
			s := &w.r32[s]
			for i := range r {
				r[i] |= s[i] << (j * shift)
			}
		}
		*d = r
	})
}

func (c *compiler) unpack(list []arg, s arg, t string) {
	e := c.partType(t, len(list))
	src := c.src(s, t)
	shift := 8 * typeSizes[e]
	mask := uint32(1<<shift - 1)
	dst := make([]int32, len(list))
	for j, a := range list {
		dst[j] = c.dst(a, e)
	}
	wide := typeSizes[t] == 8
	// The source is read in full before a part is written.
	c.run(func(w *warp, m uint32) {
		var x col64
		if wide {
			x = w.r64[src]
		} else {
			for i, v := range w.r32[src] {
				x[i] = uint64(v)
			}
		}
		for j, d := range dst {
			d := &w.r32[d]
			for i := range d {
				if m>>i&1 != 0 {
					d[i] = uint32(x[i]>>(j*shift)) & mask
				}
			}
		}
	})
}

// cvta compiles conversions between generic addresses and those of a space.
func (c *compiler) cvta() {
	t := c.last()
	to := c.m.has("to")
	s := c.m.oneOf("global", "shared", "local", "const")
	c.done()
	c.nargs(2)
	if s == "" || t != "u64" {
		c.fail("unknown instruction %s", c.s.full)
	}
	var base uint64
	switch s {
	case "shared":
		base = sharedWindow
	case "local":
		base = localWindow
	}
	if to {
		base = -base
	}
	a := c.src(c.s.args[1], t)
	d := c.dst(c.s.args[0], t)
	if base == 0 {
		c.emit(inst{kind: k64, d: d, a: a, f64: copy64})
		return
	}
	c.emit(inst{kind: k64, d: d, a: a, f64: func(d, a, _, _ *col64) {
		for i := range d {
			d[i] = a[i] + base
		}
	}})
}

func (c *compiler) isspacep() {
	s := c.m.oneOf("global", "shared", "local", "const")
	c.done()
	c.nargs(2)
	if s == "" {
		c.fail("unknown instruction %s", c.s.full)
	}
	want := spaces[s]
	a := c.src(c.s.args[1], "u64")
	c.wp(c.dstP(c.s.args[0]), func(w *warp) uint32 {
		var p uint32
		for i, x := range w.r64[a] {
			if spaceOf(x) == want {
				p |= 1 << i
			}
		}
		return p
	})
}

func spaceOf(x uint64) space {
	switch {
	case x-sharedWindow < windowSize:
		return shared
	case x-localWindow < windowSize:
		return local
	}
	return global
}

// Comparisons. The unordered ones also hold where an operand is NaN.
type compare[T any] func(a, b *[32]T) uint32

func compareInt[T uint32 | int32 | uint64 | int64](op string) compare[T] {
	switch op {
	case "eq":
		return func(a, b *[32]T) (p uint32) {
			for i := range a {
				if a[i] == b[i] {
					p |= 1 << i
				}
			}
			return p
		}
	case "ne":
		return func(a, b *[32]T) (p uint32) {
			for i := range a {
				if a[i] != b[i] {
					p |= 1 << i
				}
			}
			return p
		}
	case "lt", "lo":
		return func(a, b *[32]T) (p uint32) {
			for i := range a {
				if a[i] < b[i] {
					p |= 1 << i
				}
			}
			return p
		}
	case "le", "ls":
		return func(a, b *[32]T) (p uint32) {
			for i := range a {
				if a[i] <= b[i] {
					p |= 1 << i
				}
			}
			return p
		}
	case "gt", "hi":
		f := compareInt[T]("lt")
		return func(a, b *[32]T) uint32 { return f(b, a) }
	case "ge", "hs":
		f := compareInt[T]("le")
		return func(a, b *[32]T) uint32 { return f(b, a) }
	}
	return nil
}

func compareFloat[T float32 | float64](op string) compare[T] {
	// Each unordered comparison is the negation of the opposite ordered one.
	not := map[string]string{"equ": "ne", "neu": "eq", "ltu": "ge", "leu": "gt", "gtu": "le", "geu": "lt",
		"nan": "num"}[op]
	if not != "" {
		f := compareFloat[T](not)
		return func(a, b *[32]T) uint32 { return ^f(a, b) }
	}
	switch op {
	case "eq":
		return func(a, b *[32]T) (p uint32) {
			for i := range a {
				if a[i] == b[i] {
					p |= 1 << i
				}
			}
			return p
		}
	case "ne":
		return func(a, b *[32]T) (p uint32) {
			for i := range a {
				if a[i] < b[i] || a[i] > b[i] {
					p |= 1 << i
				}
			}
			return p
		}
	case "lt":
		return func(a, b *[32]T) (p uint32) {
			for i := range a {
				if a[i] < b[i] {
					p |= 1 << i
				}
			}
			return p
		}
	case "le":
		return func(a, b *[32]T) (p uint32) {
			for i := range a {
				if a[i] <= b[i] {
					p |= 1 << i
				}
			}
			return p
		}
	case "gt":
		f := compareFloat[T]("lt")
		return func(a, b *[32]T) uint32 { return f(b, a) }
	case "ge":
		f := compareFloat[T]("le")
		return func(a, b *[32]T) uint32 { return f(b, a) }
	case "num":
		return func(a, b *[32]T) (p uint32) {
			for i := range a {
				if a[i] == a[i] && b[i] == b[i] {
					p |= 1 << i
				}
			}
			return p
		}
	}
	return nil
}

// comparison emits d = a op b for operands of type t.
func (c *compiler) comparison(d int32, op, t string, a, b arg, ftz bool) {
	var g32 func(a, b *col32) uint32
	var g64 func(a, b *col64) uint32
	equal := op == "eq" || op == "ne"
	switch t {
	case "u32", "b32":
		if f := compareInt[uint32](op); f != nil && (t == "u32" || equal) {
			g32 = func(a, b *col32) uint32 { return f((*[32]uint32)(a), (*[32]uint32)(b)) }
		}
	case "s32":
		if f := compareInt[int32](op); f != nil && len(op) == 2 && op != "lo" && op != "ls" && op != "hi" && op != "hs" {
			g32 = func(a, b *col32) uint32 { return f(i32s(a), i32s(b)) }
		}
	case "u16", "b16":
		if f := compareInt[uint32](op); f != nil && (t == "u16" || equal) {
			g32 = func(a, b *col32) uint32 { return f((*[32]uint32)(a), (*[32]uint32)(b)) }
		}
	case "s16":
		if f := compareInt[int32](op); f != nil {
			g32 = func(a, b *col32) uint32 {
				var x, y [32]int32
				for i := range x {
					x[i], y[i] = int32(int16(a[i])), int32(int16(b[i]))
				}
				return f(&x, &y)
			}
		}
	case "u64", "b64":
		if f := compareInt[uint64](op); f != nil && (t == "u64" || equal) {
			g64 = func(a, b *col64) uint32 { return f((*[32]uint64)(a), (*[32]uint64)(b)) }
		}
	case "s64":
		if f := compareInt[int64](op); f != nil {
			g64 = func(a, b *col64) uint32 { return f(i64s(a), i64s(b)) }
		}
	case "f32":
		if f := compareFloat[float32](op); f != nil {
			g32 = func(a, b *col32) uint32 { return f(f32s(a), f32s(b)) }
			if ftz {
				g32 = func(a, b *col32) uint32 {
					var x, y col32
					for i := range x {
						x[i], y[i] = flush(a[i]), flush(b[i])
					}
					return f(f32s(&x), f32s(&y))
				}
			}
		}
	case "f64":
		if f := compareFloat[float64](op); f != nil {
			g64 = func(a, b *col64) uint32 { return f(f64s(a), f64s(b)) }
		}
	case "bf16":
		c.fail("%s needs sm_90", c.s.full)
	case "f16":
		wide := half.FromF16
		if f := compareFloat[float32](op); f != nil {
			g32 = func(a, b *col32) uint32 {
				var x, y [32]float32
				for i := range x {
					x[i], y[i] = wide(uint16(a[i])), wide(uint16(b[i]))
				}
				return f(&x, &y)
			}
		}
	}
	if g32 == nil && g64 == nil || ftz && t != "f32" {
		c.fail("unknown instruction %s", c.s.full)
	}
	in := inst{kind: kp32, d: d, a: c.src(a, t), b: c.src(b, t), p32: g32}
	if g64 != nil {
		in.kind, in.p64 = kp64, g64
	}
	c.emit(in)
}

// setp compares, perhaps combines with another predicate, and may also give the opposite.
func (c *compiler) setp() {
	t := c.last()
	if len(c.m) == 0 {
		c.fail("unknown instruction %s", c.s.full)
	}
	op := c.m[0]
	c.m = c.m[1:]
	ftz := c.m.has("ftz")
	combine := c.m.oneOf("and", "or", "xor")
	c.done()
	n := 3
	if combine != "" {
		n = 4
	}
	c.nargs(n)
	dst := c.s.args[0]
	two := dst.kind == aPair
	if !two && combine == "" {
		c.comparison(c.dstP(dst), op, t, c.s.args[1], c.s.args[2], ftz)
		return
	}
	d1, d2 := dst, dst
	if two {
		d1, d2 = dst.list[0], dst.list[1]
	}
	q, qn := c.alwaysP(), false
	if combine != "" {
		q, qn = c.srcP(c.s.args[3])
	}
	r := c.scratch(bankP)
	c.comparison(r, op, t, c.s.args[1], c.s.args[2], ftz)
	give := func(d int32, not bool) {
		c.wp(d, func(w *warp) uint32 {
			x, y := pmask(w.p[r], not), pmask(w.p[q], qn)
			switch combine {
			case "or":
				return x | y
			case "xor":
				return x ^ y
			}
			return x & y
		})
	}
	if two { // q may be one of the results
		save := c.scratch(bankP)
		old := q
		c.wp(save, func(w *warp) uint32 { return w.p[old] })
		q = save
	}
	give(c.dstP(d1), false)
	if two {
		give(c.dstP(d2), true)
	}
}

// set is a comparison whose result is -1 or 1.0.
func (c *compiler) set() {
	t := c.last()
	dt := c.last()
	if len(c.m) == 0 {
		c.fail("unknown instruction %s", c.s.full)
	}
	op := c.m[0]
	c.m = c.m[1:]
	ftz := c.m.has("ftz")
	c.done()
	c.nargs(3)
	yes := uint32(0xffffffff)
	switch dt {
	case "f32":
		yes = 0x3f800000
	case "u32", "s32":
	default:
		c.fail("unknown instruction %s", c.s.full)
	}
	r := c.scratch(bankP)
	c.comparison(r, op, t, c.s.args[1], c.s.args[2], ftz)
	c.w32(c.dst(c.s.args[0], dt), func(w *warp, d *col32) {
		p := w.p[r]
		for i := range d {
			d[i] = 0
			if p>>i&1 != 0 {
				d[i] = yes
			}
		}
	})
}

func (c *compiler) selp() {
	t := c.last()
	c.done()
	c.nargs(4)
	if typeSizes[t] < 2 {
		c.fail("unknown instruction %s", c.s.full)
	}
	a, b := c.src(c.s.args[1], t), c.src(c.s.args[2], t)
	p, not := c.srcP(c.s.args[3])
	if not {
		a, b = b, a
	}
	d := c.dst(c.s.args[0], t)
	if typeSizes[t] == 8 {
		c.w64(d, func(w *warp, d *col64) {
			a, b, p := &w.r64[a], &w.r64[b], w.p[p]
			for i := range d {
				v := b[i]
				if p>>i&1 != 0 {
					v = a[i]
				}
				d[i] = v
			}
		})
		return
	}
	c.w32(d, func(w *warp, d *col32) {
		a, b, p := &w.r32[a], &w.r32[b], w.p[p]
		switch p {
		case 0:
			*d = *b
		case allLanes:
			*d = *a
		default:
			for i := range d {
				v := b[i]
				if p>>i&1 != 0 {
					v = a[i]
				}
				d[i] = v
			}
		}
	})
}

// slct takes a where the third operand is at least zero, else b.
func (c *compiler) slct() {
	ct := c.last()
	t := c.last()
	ftz := c.m.has("ftz")
	c.done()
	c.nargs(4)
	if typeSizes[t] < 2 || ct != "s32" && ct != "f32" {
		c.fail("unknown instruction %s", c.s.full)
	}
	r := c.scratch(bankP)
	zero := arg{kind: aInt}
	if ct == "f32" {
		zero.kind = aFloat
	}
	c.comparison(r, "ge", ct, c.s.args[3], zero, ftz)
	a, b := c.src(c.s.args[1], t), c.src(c.s.args[2], t)
	d := c.dst(c.s.args[0], t)
	if typeSizes[t] == 8 {
		c.w64(d, func(w *warp, d *col64) {
			a, b, p := w.r64[a], w.r64[b], w.p[r]
			*d = b
			merge64(d, &a, p)
		})
		return
	}
	c.w32(d, func(w *warp, d *col32) {
		a, b, p := w.r32[a], w.r32[b], w.p[r]
		*d = b
		merge32(d, &a, p)
	})
}

func (c *compiler) testp() {
	t := c.last()
	op := c.last()
	c.done()
	c.nargs(2)
	if t != "f32" && t != "f64" {
		c.fail("unknown instruction %s", c.s.full)
	}
	tests := map[string]func(x float64) bool{
		"finite":   func(x float64) bool { return x-x == 0 },
		"infinite": func(x float64) bool { return math.IsInf(x, 0) },
		"number":   func(x float64) bool { return x == x },
		"notanumber": func(x float64) bool {
			return x != x
		},
	}
	least := 0x1p-1022
	if t == "f32" {
		least = 0x1p-126
	}
	tests["normal"] = func(x float64) bool { return x-x == 0 && math.Abs(x) >= least }
	tests["subnormal"] = func(x float64) bool { return x != 0 && math.Abs(x) < least }
	f := tests[op]
	if f == nil {
		c.fail("unknown instruction %s", c.s.full)
	}
	a := c.src(c.s.args[1], t)
	c.wp(c.dstP(c.s.args[0]), func(w *warp) (p uint32) {
		for i := range 32 {
			x := 0.0
			if t == "f32" {
				x = float64(f32s(&w.r32[a])[i])
			} else {
				x = f64s(&w.r64[a])[i]
			}
			if f(x) {
				p |= 1 << i
			}
		}
		return p
	})
}
