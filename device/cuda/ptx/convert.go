package ptx

import (
	"math"

	"setun/internal/half"
)

// The conversions that kernels use most, as loops.
var fastCvt = map[string]inst{
	"f32.s32.rn": {kind: k32, f32: func(d, a, _, _ *col32) {
		D, A := f32s(d), i32s(a)
		for i := range D {
			D[i] = float32(A[i])
		}
	}},
	"f32.u32.rn": {kind: k32, f32: func(d, a, _, _ *col32) {
		D := f32s(d)
		for i := range D {
			D[i] = float32(int64(a[i]))
		}
	}},
	"s32.f32.rzi": {kind: k32, f32: func(d, a, _, _ *col32) {
		D, A := i32s(d), f32s(a)
		for i := range D {
			x := A[i]
			if x > -0x1p31 && x < 0x1p31 {
				D[i] = int32(x)
			} else {
				D[i] = int32(toInt(float64(x), true, 32, false))
			}
		}
	}},
	"s32.f32.rni": {kind: k32, f32: func(d, a, _, _ *col32) {
		D, A := i32s(d), f32s(a)
		for i := range D {
			x := math.RoundToEven(float64(A[i]))
			if x >= -0x1p31 && x < 0x1p31 {
				D[i] = int32(x)
			} else {
				D[i] = int32(toInt(x, true, 32, false))
			}
		}
	}},
	"f32.f32.rni": wholeF32(math.RoundToEven),
	"f32.f32.rmi": wholeF32(math.Floor),
	"f32.f32.rpi": wholeF32(math.Ceil),
	"f32.f32.rzi": wholeF32(math.Trunc),
	"f32.f16": {kind: k32, f32: func(d, a, _, _ *col32) {
		D := f32s(d)
		for i := range D {
			D[i] = canon(half.FromF16(uint16(a[i])))
		}
	}},
	"f32.bf16": {kind: k32, f32: func(d, a, _, _ *col32) {
		D := f32s(d)
		for i := range D {
			D[i] = canon(half.FromBF16(uint16(a[i])))
		}
	}},
	"f16.f32.rn": {kind: k32, f32: func(d, a, _, _ *col32) {
		for i, x := range f32s(a) {
			d[i] = f16bits(x)
		}
	}},
	"bf16.f32.rn": {kind: k32, f32: func(d, a, _, _ *col32) {
		for i, x := range f32s(a) {
			d[i] = bf16bits(x)
		}
	}},
}

func wholeF32(f func(x float64) float64) inst {
	return inst{kind: k32, f32: func(d, a, _, _ *col32) {
		D, A := f32s(d), f32s(a)
		for i := range D {
			D[i] = canon(float32(f(float64(A[i]))))
		}
	}}
}

// fastWide is fastCvt where one side has 64 bits.
func (c *compiler) fastWide(key string, d, a int32) bool {
	switch key {
	case "f64.f32":
		c.w64(d, func(w *warp, d *col64) {
			D, A := f64s(d), f32s(&w.r32[a])
			for i := range D {
				D[i] = canon64(float64(A[i]))
			}
		})
	case "f32.f64.rn":
		c.w32(d, func(w *warp, d *col32) {
			D, A := f32s(d), f64s(&w.r64[a])
			for i := range D {
				D[i] = canon(float32(A[i]))
			}
		})
	case "f64.s32.rn":
		c.w64(d, func(w *warp, d *col64) {
			D, A := f64s(d), i32s(&w.r32[a])
			for i := range D {
				D[i] = float64(A[i])
			}
		})
	case "f64.u32.rn":
		c.w64(d, func(w *warp, d *col64) {
			D, A := f64s(d), &w.r32[a]
			for i := range D {
				D[i] = float64(A[i])
			}
		})
	default:
		return false
	}
	return true
}

// cvt compiles conversions.
func (c *compiler) cvt() {
	from := c.last()
	to := c.last()
	round := c.m.oneOf("rn", "rz", "rm", "rp", "rna", "rni", "rzi", "rmi", "rpi")
	ftz := c.m.has("ftz")
	sat := c.m.has("sat")
	relu := c.m.has("relu")
	c.done()
	if to == "f16x2" || to == "bf16x2" {
		c.cvtPair(to, from, round, relu, ftz || sat)
		return
	}
	c.nargs(2)
	fs, ts := typeSizes[from], typeSizes[to]
	if fs == 0 || ts == 0 || from == "tf32" || from[0] == 'b' && from != "bf16" || to[0] == 'b' && to != "bf16" ||
		from == "f16x2" || from == "bf16x2" {
		c.fail("unknown instruction %s", c.s.full)
	}
	if to == "bf16" && from != "f32" || from == "bf16" && to != "f32" {
		c.fail("%s needs sm_90", c.s.full)
	}
	ff, tf := isFloat(from), isFloat(to) || to == "tf32"
	// Which rounding must be named, and which kind it may be.
	whole := len(round) == 3 && round != "rna"
	switch {
	case ff && !tf:
		if !whole {
			c.fail("rounding mode is missing")
		}
	case !ff && tf:
		if round == "" || whole || round == "rna" {
			c.fail("rounding mode is missing")
		}
	case ff && tf && from == to:
		if round != "" && !whole {
			c.fail("rounding mode .%s is not supported here", round)
		}
	case ff && tf && (fs > ts || to == "tf32" || from == "f16" && to == "bf16" || from == "bf16" && to == "f16"):
		if round == "" || whole || (round == "rna") != (to == "tf32" && round == "rna") {
			c.fail("rounding mode is missing")
		}
	default:
		if round != "" {
			c.fail("rounding mode .%s is not supported here", round)
		}
	}
	if relu && to != "bf16" && to != "f16" || ftz && from != "f32" && to != "f32" || sat && to == "tf32" {
		c.fail("unknown instruction %s", c.s.full)
	}
	a, srcWide := c.wideReg(c.s.args[1], fs, false)
	d, dstWide := c.wideReg(c.s.args[0], ts, true)
	key := to + "." + from
	if round != "" {
		key += "." + round
	}
	if in, ok := fastCvt[key]; ok && !ftz && !sat && !relu && !srcWide && !dstWide {
		in.a, in.d = a, d
		c.emit(in)
		return
	}
	// Registers of exactly the types' sizes.
	if !ftz && !sat && srcWide == (fs == 8) && dstWide == (ts == 8) && c.fastWide(key, d, a) {
		return
	}
	if !ff && !tf && !sat {
		c.cvtInt(a, d, from, to, srcWide, dstWide)
		return
	}
	f := converter(from, to, round, ftz, sat, relu)
	if f == nil {
		c.fail("unknown instruction %s", c.s.full)
	}
	// A signed result is extended to the register, where that is wider.
	signed := to[0] == 's'
	if dstWide {
		c.w64(d, func(w *warp, d *col64) {
			for i := range d {
				var x uint64
				if srcWide {
					x = w.r64[a][i]
				} else {
					x = uint64(w.r32[a][i])
				}
				x = f(x)
				if signed && ts < 8 {
					x = uint64(int64(x) << (64 - 8*ts) >> (64 - 8*ts))
				}
				d[i] = x
			}
		})
		return
	}
	mask := c.regMask(c.s.args[0])
	c.w32(d, func(w *warp, d *col32) {
		for i := range d {
			var x uint64
			if srcWide {
				x = w.r64[a][i]
			} else {
				x = uint64(w.r32[a][i])
			}
			x = f(x)
			if signed {
				x = uint64(int64(x) << (64 - 8*ts) >> (64 - 8*ts))
			}
			d[i] = uint32(x) & mask
		}
	})
}

// regMask keeps the bits of a register of 16 or 32.
func (c *compiler) regMask(a arg) uint32 {
	if a.kind == aReg && a.name != "_" && c.register(a).size == 2 {
		return 0xffff
	}
	return 0xffffffff
}

// wideReg is a register of at least size bytes, and whether it has 64 bits: cvt, ld and st allow wider ones.
func (c *compiler) wideReg(a arg, size int, dst bool) (int32, bool) {
	if a.kind == aReg && a.name != "_" {
		if !dst {
			if i, ok := c.special(a.name, 4); ok {
				return i, false
			}
		}
		r := c.register(a)
		if r.bank == bankP || r.size < size {
			c.fail("%s is not of %d bytes", a.name, size)
		}
		if dst {
			c.defs = append(c.defs, use{r.bank, r.index})
		} else {
			c.uses = append(c.uses, use{r.bank, r.index})
		}
		return r.index, r.bank == bank64
	}
	t := map[int]string{1: "b16", 2: "b16", 4: "b32", 8: "b64"}[size]
	if dst {
		return c.dst(a, t), size == 8
	}
	if a.kind == aInt || a.kind == aFloat && size == 4 || a.kind == aDouble && size == 8 {
		return c.src(a, t), size == 8
	}
	c.fail("operand is not supported here")
	return 0, false
}

func (c *compiler) cvtInt(a, d int32, from, to string, srcWide, dstWide bool) {
	fs, ts := typeSizes[from], typeSizes[to]
	signed := from[0] == 's' // how the source is extended
	switch {
	case !srcWide && dstWide && fs == 4 && ts == 8 && !signed:
		c.w64(d, func(w *warp, d *col64) {
			a := &w.r32[a]
			for i := range d {
				d[i] = uint64(a[i])
			}
		})
	case !srcWide && dstWide && fs == 4 && ts == 8:
		c.w64(d, func(w *warp, d *col64) {
			a := i32s(&w.r32[a])
			for i := range d {
				d[i] = uint64(int64(a[i]))
			}
		})
	case srcWide && !dstWide && fs == 8 && ts == 4:
		c.w32(d, func(w *warp, d *col32) {
			a := &w.r64[a]
			for i := range d {
				d[i] = uint32(a[i])
			}
		})
	default:
		mask := c.regMask(c.s.args[0])
		s1 := 64 - 8*fs
		// Extended from the source's size to the result's, then from the result's to the register's.
		f := func(x uint64) uint64 {
			if signed {
				x = uint64(int64(x) << s1 >> s1)
			} else {
				x = x << s1 >> s1
			}
			if ts < 8 {
				k := 64 - 8*ts
				if to[0] == 's' {
					x = uint64(int64(x) << k >> k)
				} else {
					x = x << k >> k
				}
			}
			return x
		}
		get := func(w *warp, i int) uint64 { return uint64(w.r32[a][i]) }
		if srcWide {
			get = func(w *warp, i int) uint64 { return w.r64[a][i] }
		}
		if dstWide {
			c.w64(d, func(w *warp, d *col64) {
				for i := range d {
					d[i] = f(get(w, i))
				}
			})
			return
		}
		if !srcWide {
			c.w32(d, func(w *warp, d *col32) {
				a := &w.r32[a]
				for i := range d {
					d[i] = uint32(f(uint64(a[i]))) & mask
				}
			})
			return
		}
		c.w32(d, func(w *warp, d *col32) {
			for i := range d {
				d[i] = uint32(f(get(w, i))) & mask
			}
		})
	}
}

// cvtPair converts two float32 into the upper and lower half.
func (c *compiler) cvtPair(to, from, round string, relu, other bool) {
	c.nargs(3)
	f := converter("f32", to[:len(to)-2], round, false, false, relu)
	if from != "f32" || other || f == nil || round != "rn" && round != "rz" {
		c.fail("unknown instruction %s", c.s.full)
	}
	in := inst{kind: k32, f32: func(d, a, b, _ *col32) {
		for i := range d {
			d[i] = uint32(f(uint64(a[i])))<<16 | uint32(f(uint64(b[i])))&0xffff
		}
	}}
	if round == "rn" && !relu {
		g := f16bits
		if to == "bf16x2" {
			g = bf16bits
		}
		in.f32 = func(d, a, b, _ *col32) {
			A, B := f32s(a), f32s(b)
			for i := range d {
				d[i] = g(A[i])<<16 | g(B[i])
			}
		}
	}
	in.a, in.b, in.d = c.src(c.s.args[1], "f32"), c.src(c.s.args[2], "f32"), c.dst(c.s.args[0], "b32")
	c.emit(in)
}

// toInt rounds toward zero to an integer of some bits, with saturation. NaN gives 0, or the top bit for 64 bits.
func toInt(x float64, signed bool, width int, wide bool) uint64 {
	if x != x {
		if wide {
			return 1 << (width - 1)
		}
		return 0
	}
	if signed {
		lo, hi := -math.Ldexp(1, width-1), math.Ldexp(1, width-1)
		if x < lo {
			return uint64(int64(-1) << (width - 1))
		}
		if x >= hi {
			return 1<<(width-1) - 1
		}
		return uint64(int64(x))
	}
	if x <= -1 {
		return 0
	}
	if x >= math.Ldexp(1, width) {
		return ^uint64(0) >> (64 - width)
	}
	if x >= 0x1p63 {
		return uint64(x-0x1p63) | 1<<63
	}
	return uint64(int64(x))
}

func roundWhole(x float64, mode string) float64 {
	switch mode {
	case "rni":
		return math.RoundToEven(x)
	case "rmi":
		return math.Floor(x)
	case "rpi":
		return math.Ceil(x)
	case "rzi":
		return math.Trunc(x)
	}
	return x
}

// format is a binary floating point format: digits of precision with the leading one, least exponent of a normal
// number, and the largest finite value.
type format struct {
	digits, least int
	largest       float64
}

var formats = map[string]format{
	"f16":  {11, -14, 65504},
	"bf16": {8, -126, 0x1.fep127},
	"f32":  {24, -126, math.MaxFloat32},
	"tf32": {11, -126, 0x1.ffcp127},
	"f64":  {53, -1022, math.MaxFloat64},
}

// roundTo rounds an exact value to a format, in a mode of cvt.
func roundTo(x float64, f format, mode string) float64 {
	if x == 0 || x-x != 0 || f.digits == 53 {
		return x
	}
	_, e := math.Frexp(x) // x = m 2^e, m in [1/2, 1)
	unit := max(e-f.digits, f.least-f.digits+1)
	m := math.Ldexp(x, -unit)
	switch mode {
	case "rn":
		m = math.RoundToEven(m)
	case "rna":
		m = math.Round(m)
	case "rz":
		m = math.Trunc(m)
	case "rm":
		m = math.Floor(m)
	case "rp":
		m = math.Ceil(m)
	}
	r := math.Ldexp(m, unit)
	if r == 0 {
		r = math.Copysign(0, x)
	}
	if math.Abs(r) > f.largest {
		if mode == "rn" || mode == "rna" || mode == "rp" && r > 0 || mode == "rm" && r < 0 {
			return math.Inf(int(math.Copysign(1, r)))
		}
		return math.Copysign(f.largest, r)
	}
	return r
}

// converter gives a conversion of bits to bits: any types, slowly.
func converter(from, to, round string, ftz, sat, relu bool) func(x uint64) uint64 {
	ff, tf := isFloat(from), isFloat(to) || to == "tf32"
	if typeSizes[to] == 0 || typeSizes[from] == 0 {
		return nil
	}
	width := 8 * typeSizes[to]
	value := func(x uint64) float64 { // of a float
		switch from {
		case "f16":
			return float64(half.FromF16(uint16(x)))
		case "bf16":
			return float64(half.FromBF16(uint16(x)))
		case "f32":
			if ftz {
				x = uint64(flush(uint32(x)))
			}
			return float64(math.Float32frombits(uint32(x)))
		}
		return math.Float64frombits(x)
	}
	encode := func(v float64) uint64 {
		switch to {
		case "f16":
			if v != v {
				return 0x7fff
			}
			return uint64(half.F16(float32(v)))
		case "bf16":
			if v != v {
				return 0x7fff
			}
			return uint64(half.BF16(float32(v)))
		case "f32", "tf32":
			b := math.Float32bits(canon(float32(v)))
			if ftz {
				b = flush(b)
			}
			return uint64(b)
		}
		return math.Float64bits(canon64(v))
	}
	finish := func(v float64) uint64 {
		if sat {
			v = max(0, min(1, v))
			if v != v {
				v = 0
			}
		}
		if relu && !(v > 0) && v == v {
			v = 0
		}
		return encode(v)
	}
	integer := func(x uint64) (hi int64, u uint64) { // of the source, extended
		fw := 64 - 8*typeSizes[from]
		return int64(x) << fw >> fw, x << fw >> fw
	}
	fm := formats[to]
	switch {
	case ff && tf:
		return func(x uint64) uint64 {
			v := value(x)
			if len(round) == 3 && round != "rna" {
				v = roundWhole(v, round)
			} else if round != "" {
				v = roundTo(v, fm, round)
			}
			return finish(v)
		}
	case ff:
		signed := to[0] == 's'
		wide := width == 64 || from == "f64"
		return func(x uint64) uint64 { return toInt(roundWhole(value(x), round), signed, width, wide) }
	case tf:
		signed := from[0] == 's'
		return func(x uint64) uint64 {
			s, u := integer(x)
			neg := signed && s < 0
			if signed {
				u = uint64(s)
				if neg {
					u = -u
				}
			}
			if fm.digits == 53 && u >= 1<<53 { // more digits than float64 has
				return finish(bigRound(u, neg, round))
			}
			if u < 1<<53 {
				v := float64(u)
				if neg {
					v = -v
				}
				return finish(roundTo(v, fm, round))
			}
			// To odd in 53 digits first.
			k := 0
			for u>>k >= 1<<53 {
				k++
			}
			top := u >> k
			if u&(1<<k-1) != 0 {
				top |= 1
			}
			v := math.Ldexp(float64(top), k)
			if neg {
				v = -v
			}
			return finish(roundTo(v, fm, round))
		}
	}
	// Integers, with saturation.
	fromSigned, toSigned := from[0] == 's', to[0] == 's'
	return func(x uint64) uint64 {
		s, u := integer(x)
		if fromSigned && s < 0 {
			if !toSigned {
				return 0
			}
			return uint64(max(s, int64(-1)<<(width-1)))
		}
		if fromSigned {
			u = uint64(s)
		}
		top := ^uint64(0) >> (64 - width)
		if toSigned {
			top >>= 1
		}
		return min(u, top)
	}
}

// bigRound is u >= 2^53 as a float64, rounded in a mode.
func bigRound(u uint64, neg bool, mode string) float64 {
	k := 0
	for u>>k >= 1<<53 {
		k++
	}
	top, rest, halfway := u>>k, u&(1<<k-1), uint64(1)<<k>>1
	up := false
	switch mode {
	case "rn":
		up = rest > halfway || rest == halfway && rest != 0 && top&1 != 0
	case "rp":
		up = !neg && rest != 0
	case "rm":
		up = neg && rest != 0
	}
	if up {
		top++
	}
	v := math.Ldexp(float64(top), k)
	if neg {
		return -v
	}
	return v
}
