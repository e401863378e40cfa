package ptx

import (
	"math"
	"math/bits"
	"slices"
	"strings"
)

// atom compiles atom and red. Lanes take effect in their order; kernels with atomics in global memory run block by
// block.
func (c *compiler) atom() {
	red := c.s.op == "red"
	t := c.last()
	for _, h := range []string{"relaxed", "acquire", "release", "acq_rel", "cta", "gpu", "sys", "noftz"} {
		c.m.has(h)
	}
	sp := c.space()
	op := c.m.oneOf("add", "min", "max", "and", "or", "xor", "exch", "cas", "inc", "dec")
	c.done()
	f := atomicOp(op, t)
	if f == nil || red && (op == "exch" || op == "cas") {
		c.fail("unknown instruction %s", c.s.full)
	}
	size := typeSizes[t]
	args := c.s.args
	n := 3
	if op == "cas" {
		n = 4
	}
	d, dWide := int32(0), size == 8
	if red {
		c.nargs(n - 1)
		if dWide {
			d = c.scratch(bank64)
		} else {
			d = c.scratch(bank32)
		}
	} else {
		c.nargs(n)
	}
	if !red {
		args = args[1:]
	}
	mi := c.operand(args[0], sp, size, true)
	if sp == global || sp == generic {
		c.k.serial = true
	}
	v := c.src(args[1], t)
	v2 := v
	if op == "cas" {
		v2 = c.src(args[2], t)
	}
	if !red {
		d = c.dst(c.s.args[0], t)
	}
	get := func(w *warp, r int32, i int) uint64 {
		if dWide {
			return w.r64[r][i]
		}
		return uint64(w.r32[r][i])
	}
	c.run(func(w *warp, m uint32) {
		w.blk.shadow.atomic = true
		for m != 0 {
			data, g := mi.resolve(w, m)
			m &^= g
			for l := g; l != 0; l &= l - 1 {
				i := bits.TrailingZeros32(l) & 31
				p := data[w.off[i]:]
				old := fetch(p, size)
				put(p, f(old, get(w, v, i), get(w, v2, i)), size)
				if dWide {
					w.r64[d][i] = old
				} else {
					w.r32[d][i] = uint32(old)
				}
			}
		}
		w.blk.shadow.atomic = false
		w.blk.shadow.same = 0
	})
}

// atomicOp gives the new value from the old and the operands.
func atomicOp(op, t string) func(old, a, b uint64) uint64 {
	allowed := map[string][]string{
		"add": {"u32", "s32", "u64", "s64", "f32", "f64", "f16", "f16x2"}, "min": {"u32", "s32", "u64", "s64"},
		"max": {"u32", "s32", "u64", "s64"}, "and": {"b32", "b64"}, "or": {"b32", "b64"}, "xor": {"b32", "b64"},
		"exch": {"b32", "b64", "u32", "s32", "u64", "s64", "f32"}, "cas": {"b16", "b32", "b64", "u32", "s32", "u64", "s64"},
		"inc": {"u32"}, "dec": {"u32"},
	}
	if !slices.Contains(allowed[op], t) {
		return nil
	}
	signed, wide := t[0] == 's', strings.HasSuffix(t, "64")
	value := func(x uint64) int64 {
		if wide {
			return int64(x)
		}
		return int64(int32(x))
	}
	switch op {
	case "add":
		switch t {
		case "f32":
			return func(o, a, _ uint64) uint64 {
				return uint64(math.Float32bits(canon(math.Float32frombits(uint32(o)) + math.Float32frombits(uint32(a)))))
			}
		case "f64":
			return func(o, a, _ uint64) uint64 {
				return math.Float64bits(canon64(math.Float64frombits(o) + math.Float64frombits(a)))
			}
		case "f16", "f16x2":
			add := alu32Half
			return func(o, a, _ uint64) uint64 {
				r := add(uint32(o)&0xffff, uint32(a)&0xffff)
				if t == "f16x2" {
					r |= add(uint32(o)>>16, uint32(a)>>16) << 16
				}
				return uint64(r)
			}
		}
		return func(o, a, _ uint64) uint64 { return o + a }
	case "min":
		if signed {
			return func(o, a, _ uint64) uint64 { return uint64(min(value(o), value(a))) }
		}
		return func(o, a, _ uint64) uint64 { return min(o, a) }
	case "max":
		if signed {
			return func(o, a, _ uint64) uint64 { return uint64(max(value(o), value(a))) }
		}
		return func(o, a, _ uint64) uint64 { return max(o, a) }
	case "and":
		return func(o, a, _ uint64) uint64 { return o & a }
	case "or":
		return func(o, a, _ uint64) uint64 { return o | a }
	case "xor":
		return func(o, a, _ uint64) uint64 { return o ^ a }
	case "exch":
		return func(_, a, _ uint64) uint64 { return a }
	case "cas":
		return func(o, a, b uint64) uint64 {
			if o == a {
				return b
			}
			return o
		}
	case "inc":
		return func(o, a, _ uint64) uint64 {
			if o >= a {
				return 0
			}
			return o + 1
		}
	case "dec":
		return func(o, a, _ uint64) uint64 {
			if o == 0 || o > a {
				return a
			}
			return o - 1
		}
	}
	return nil
}

func alu32Half(a, b uint32) uint32 { return uint32(roundF16(fromF16(a) + fromF16(b))) }
