package ptx

import (
	"math"
	"math/bits"
	"strings"

	"setun/internal/half"
)

// Fragments of mma.m16n8: with g = lane/4, t = lane%4 and q elements in a register of 32 bits, element i of register r
// is
//
//	A: row g + 8*(r%2), column t*q + i + 4q*(r/2)
//	B: row t*q + i + 4q*r, column g
//	C, D: row g + 8*(r/2), column 2t + r%2
//
// Products are exact. In float types each element of D is c + a0*b0 + a1*b1 + .., in this order, every sum rounded to
// float32; a GPU takes them in another order, and rounds otherwise. Sums of integers are exact and wrap around.
func (c *compiler) mma() {
	mods := c.s.mods
	c.m.has("sync")
	c.m.has("aligned")
	shape := c.m.oneOf("m16n8k4", "m16n8k8", "m16n8k16", "m16n8k32", "m8n8k4")
	row, col := c.m.has("row"), c.m.has("col")
	sat := c.m.has("satfinite")
	if len(c.m) != 4 || !row || !col || len(mods) < 2 || mods[0] != "sync" || mods[1] != "aligned" {
		c.fail("unknown instruction %s", c.s.full)
	}
	td, ta, tb, tc := c.m[0], c.m[1], c.m[2], c.m[3]
	c.m = nil
	c.nargs(4)
	if shape == "m8n8k4" {
		c.mma64(td == "f64" && ta == "f64" && tb == "f64" && tc == "f64" && !sat)
		return
	}
	_, kText, _ := strings.Cut(shape, "n8k")
	k := map[string]int{"4": 4, "8": 8, "16": 16, "32": 32}[kText]
	isInt := ta == "s8" || ta == "u8"
	q := map[string]int{"f16": 2, "bf16": 2, "tf32": 1, "s8": 4, "u8": 4}[ta]
	ok := q > 0 && k%(4*q) == 0 && k/(4*q) <= 2
	if isInt {
		ok = ok && (tb == "s8" || tb == "u8") && td == "s32" && tc == "s32"
	} else {
		ok = ok && ta == tb && !sat && td == tc && (td == "f32" || td == "f16" && ta == "f16")
	}
	if !ok {
		c.fail("unknown instruction %s", c.s.full)
	}
	nb := k / (4 * q)
	regs := func(a arg, n int, t string, dst bool) []int32 {
		if a.kind != aVec || len(a.list) != n {
			if n != 1 || a.kind == aVec {
				c.fail("expected a vector of %d", n)
			}
			a.list = []arg{a}
		}
		out := make([]int32, n)
		for i, e := range a.list {
			if dst {
				out[i] = c.dst(e, t)
			} else {
				out[i] = c.src(e, t)
			}
		}
		return out
	}
	args := c.s.args
	ra, rb := regs(args[1], 2*nb, "b32", false), regs(args[2], nb, "b32", false)
	nc, ct := 4, "f32"
	switch td {
	case "f16":
		nc, ct = 2, "b32"
	case "s32":
		ct = "s32"
	}
	rc := regs(args[3], nc, ct, false)
	rd := regs(args[0], nc, ct, true)
	if isInt {
		c.mmaInt(k, ra, rb, rc, rd, ta == "s8", tb == "s8", sat)
		return
	}
	unpack := func(x uint32, i int) float32 { return half.FromF16(uint16(x >> (16 * i))) }
	switch ta {
	case "bf16":
		unpack = func(x uint32, i int) float32 { return math.Float32frombits(x >> (16 * i) << 16) }
	case "tf32": // the lowest 13 bits are ignored
		unpack = func(x uint32, _ int) float32 { return math.Float32frombits(x &^ 0x1fff) }
	}
	c.wholeWarp(func(w *warp) {
		var a [16][16]float32
		var b [16][8]float32
		for r, reg := range ra {
			for lane, x := range w.r32[reg] {
				for i := range q {
					a[lane/4+8*(r&1)][lane%4*q+i+4*q*(r>>1)] = unpack(x, i)
				}
			}
		}
		for r, reg := range rb {
			for lane, x := range w.r32[reg] {
				for i := range q {
					b[lane%4*q+i+4*q*r][lane/4] = unpack(x, i)
				}
			}
		}
		var d [16][8]float32
		if nc == 4 {
			for r, reg := range rc {
				for lane, x := range f32s(&w.r32[reg]) {
					d[lane/4+8*(r>>1)][lane%4*2+r&1] = x
				}
			}
		} else {
			for r, reg := range rc {
				for lane, x := range w.r32[reg] {
					d[lane/4+8*r][lane%4*2] = half.FromF16(uint16(x))
					d[lane/4+8*r][lane%4*2+1] = half.FromF16(uint16(x >> 16))
				}
			}
		}
		for i := range d {
			s0, s1, s2, s3, s4, s5, s6, s7 := d[i][0], d[i][1], d[i][2], d[i][3], d[i][4], d[i][5], d[i][6], d[i][7]
			for l, x := range a[i][:k] {
				y := &b[l]
				s0 += float32(x * y[0])
				s1 += float32(x * y[1])
				s2 += float32(x * y[2])
				s3 += float32(x * y[3])
				s4 += float32(x * y[4])
				s5 += float32(x * y[5])
				s6 += float32(x * y[6])
				s7 += float32(x * y[7])
			}
			d[i] = [8]float32{canon(s0), canon(s1), canon(s2), canon(s3), canon(s4), canon(s5), canon(s6), canon(s7)}
		}
		if nc == 4 {
			for r, reg := range rd {
				o := f32s(&w.r32[reg])
				for lane := range o {
					o[lane] = d[lane/4+8*(r>>1)][lane%4*2+r&1]
				}
			}
			return
		}
		for r, reg := range rd {
			for lane := range 32 {
				row := &d[lane/4+8*r]
				w.r32[reg][lane] = uint32(roundF16(float64(row[lane%4*2]))) | uint32(roundF16(float64(row[lane%4*2+1])))<<16
			}
		}
	})
}

// mmaInt multiplies two columns at once: in a sum of a*(b0 + b1<<32), the lower half is the first column's sum, and the
// upper half the second's, less the lower one's sign.
func (c *compiler) mmaInt(k int, ra, rb, rc, rd []int32, sa, sb, sat bool) {
	value := func(x uint32, i int, signed bool) int64 {
		if signed {
			return int64(int8(x >> (8 * i)))
		}
		return int64(x >> (8 * i) & 0xff)
	}
	c.wholeWarp(func(w *warp) {
		var a [16][32]int64
		var b [32][4]int64
		for r, reg := range ra {
			for lane, x := range w.r32[reg] {
				row := a[lane/4+8*(r&1)][lane%4*4+16*(r>>1):]
				row[0], row[1], row[2], row[3] = value(x, 0, sa), value(x, 1, sa), value(x, 2, sa), value(x, 3, sa)
			}
		}
		for r, reg := range rb {
			for lane, x := range w.r32[reg] {
				for i := range 4 {
					b[lane%4*4+i+16*r][lane/4/2] += value(x, i, sb) << (32 * (lane / 4 & 1))
				}
			}
		}
		var d [16][8]int32
		for i := range d {
			var s0, s1, s2, s3 int64
			for l, x := range a[i][:k] {
				y := &b[l]
				s0 += x * y[0]
				s1 += x * y[1]
				s2 += x * y[2]
				s3 += x * y[3]
			}
			for j, s := range [4]int64{s0, s1, s2, s3} {
				lo := int32(s)
				d[i][2*j], d[i][2*j+1] = lo, int32((s-int64(lo))>>32)
			}
		}
		for r := range rd {
			cc, o := w.r32[rc[r]], &w.r32[rd[r]]
			for lane := range o {
				p := d[lane/4+8*(r>>1)][lane%4*2+r&1]
				if sat {
					o[lane] = saturate(int64(p) + int64(int32(cc[lane])))
				} else {
					o[lane] = uint32(p) + cc[lane]
				}
			}
		}
	})
}

// mma64 is m8n8k4 in float64, each product fused with its sum.
func (c *compiler) mma64(ok bool) {
	if !ok {
		c.fail("unknown instruction %s", c.s.full)
	}
	one := func(a arg) arg {
		if a.kind == aVec && len(a.list) == 1 {
			return a.list[0]
		}
		return a
	}
	args := c.s.args
	if args[0].kind != aVec || len(args[0].list) != 2 || args[3].kind != aVec || len(args[3].list) != 2 {
		c.fail("expected vectors of 2")
	}
	a, b := c.src(one(args[1]), "f64"), c.src(one(args[2]), "f64")
	var rc, rd [2]int32
	for i := range 2 {
		rc[i] = c.src(args[3].list[i], "f64")
	}
	for i := range 2 {
		rd[i] = c.dst(args[0].list[i], "f64")
	}
	c.wholeWarp(func(w *warp) {
		a, b := *f64s(&w.r64[a]), *f64s(&w.r64[b])
		var out [2][32]float64
		for r := range 2 {
			for lane, s := range f64s(&w.r64[rc[r]]) {
				for l := range 4 {
					s = math.FMA(a[lane&^3+l], b[(lane%4*2+r)*4+l], s)
				}
				out[r][lane] = canon64(s)
			}
		}
		*f64s(&w.r64[rd[0]]), *f64s(&w.r64[rd[1]]) = out[0], out[1]
	})
}

// ldmatrix loads 8x8 matrices of 16-bit elements, whose rows stand where lanes 8i .. 8i+7 say for matrix i. A lane
// gets two elements of row lane/4, or of column lane/4 with .trans.
func (c *compiler) ldmatrix() {
	t := c.last()
	sync, aligned := c.m.has("sync"), c.m.has("aligned")
	shape := c.m.has("m8n8")
	n := map[string]int{"x1": 1, "x2": 2, "x4": 4}[c.m.oneOf("x1", "x2", "x4")]
	trans := c.m.has("trans")
	sp := c.space()
	c.done()
	c.nargs(2)
	if t != "b16" || !sync || !aligned || !shape || n == 0 || sp != shared && sp != generic {
		c.fail("unknown instruction %s", c.s.full)
	}
	list := []arg{c.s.args[0]}
	if c.s.args[0].kind == aVec {
		list = c.s.args[0].list
	}
	if len(list) != n {
		c.fail("expected a vector of %d", n)
	}
	mi := c.operand(c.s.args[1], sp, 16, false)
	dst := make([]int32, n)
	for i, a := range list {
		dst[i] = c.dst(a, "b32")
	}
	lanes := uint32(1<<(8*n) - 1)
	c.wholeWarp(func(w *warp) {
		s := &w.blk.shadow
		s.whole = true
		data, g := mi.resolve(w, lanes)
		s.whole = false
		if g != lanes || len(data) == 0 || &data[0] != &w.blk.shared[0] {
			w.fail(codeAddress, bits.TrailingZeros32(lanes&^g)&31, "ldmatrix from memory that is not shared")
		}
		off := &w.off
		for r, d := range dst {
			d := &w.r32[d]
			for lane := range d {
				g, t := uint64(lane/4), uint64(lane%4)
				if !trans {
					d[lane] = le.Uint32(data[off[8*r+int(g)]+4*t:])
					continue
				}
				lo, hi := off[8*r+int(2*t)], off[8*r+int(2*t)+1]
				d[lane] = uint32(le.Uint16(data[lo+2*g:])) | uint32(le.Uint16(data[hi+2*g:]))<<16
			}
		}
	})
}
