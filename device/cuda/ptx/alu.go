package ptx

import (
	"math"
	"math/bits"
	"slices"
	"strings"
	"unsafe"

	"setun/internal/half"
)

func f32s(c *col32) *[32]float32 { return (*[32]float32)(unsafe.Pointer(c)) }
func i32s(c *col32) *[32]int32   { return (*[32]int32)(unsafe.Pointer(c)) }
func f64s(c *col64) *[32]float64 { return (*[32]float64)(unsafe.Pointer(c)) }
func i64s(c *col64) *[32]int64   { return (*[32]int64)(unsafe.Pointer(c)) }

// A GPU makes one NaN.
var (
	nan32 = math.Float32frombits(0x7fffffff)
	nan64 = math.Float64frombits(0x7ff8000000000000)
)

func canon(x float32) float32 {
	if x != x {
		return nan32
	}
	return x
}

func canon64(x float64) float64 {
	if x != x {
		return nan64
	}
	return x
}

func fmaRest(p, z, s float64) float32 { return canon(float32(toOdd(p, z, s))) }

func canon4(x *[4]float32) {
	for i := range x {
		x[i] = canon(x[i])
	}
}

// toOdd is p+z rounded to odd, s being p+z rounded to nearest: a further rounding to fewer digits is then correct.
func toOdd(p, z, s float64) float64 {
	if s-s != 0 {
		return s
	}
	t := s - p
	err := (p - (s - t)) + (z - t)
	if u := math.Float64bits(s); err != 0 && u&1 == 0 {
		if (err > 0) == (s > 0) {
			u++
		} else {
			u--
		}
		s = math.Float64frombits(u)
	}
	return s
}

// narrow64 rounds x to float32 so that a further rounding to 16 bits is correct: to odd.
func narrow64(x float64) float32 {
	f := float32(x)
	if d := float64(f); d != x && x-x == 0 && math.Float32bits(f)&1 == 0 {
		u := math.Float32bits(f)
		if math.Abs(d) < math.Abs(x) {
			u++
		} else {
			u--
		}
		f = math.Float32frombits(u)
	}
	return f
}

type fn32 func(d, a, b, c *col32)
type fn64 func(d, a, b, c *col64)

// alu32 and alu64 are the instructions on columns of one size, by opcode and type; s and u are one where it makes no
// difference, and rounding to nearest is left out.
var alu32 = map[string]fn32{
	"add.b32": func(d, a, b, _ *col32) {
		for i := 0; i < 32; i += 4 {
			d[i] = a[i] + b[i]
			d[i+1] = a[i+1] + b[i+1]
			d[i+2] = a[i+2] + b[i+2]
			d[i+3] = a[i+3] + b[i+3]
		}
	},
	"sub.b32": func(d, a, b, _ *col32) {
		for i := 0; i < 32; i += 4 {
			d[i] = a[i] - b[i]
			d[i+1] = a[i+1] - b[i+1]
			d[i+2] = a[i+2] - b[i+2]
			d[i+3] = a[i+3] - b[i+3]
		}
	},
	"and.b32": func(d, a, b, _ *col32) {
		for i := 0; i < 32; i += 4 {
			d[i] = a[i] & b[i]
			d[i+1] = a[i+1] & b[i+1]
			d[i+2] = a[i+2] & b[i+2]
			d[i+3] = a[i+3] & b[i+3]
		}
	},
	"or.b32": func(d, a, b, _ *col32) {
		for i := 0; i < 32; i += 4 {
			d[i] = a[i] | b[i]
			d[i+1] = a[i+1] | b[i+1]
			d[i+2] = a[i+2] | b[i+2]
			d[i+3] = a[i+3] | b[i+3]
		}
	},
	"xor.b32": func(d, a, b, _ *col32) {
		for i := 0; i < 32; i += 4 {
			d[i] = a[i] ^ b[i]
			d[i+1] = a[i+1] ^ b[i+1]
			d[i+2] = a[i+2] ^ b[i+2]
			d[i+3] = a[i+3] ^ b[i+3]
		}
	},
	"not.b32": func(d, a, _, _ *col32) {
		for i := range d {
			d[i] = ^a[i]
		}
	},
	"cnot.b32": each1(func(a uint32) uint32 { return b2u(a == 0) }),
	"neg.s32": func(d, a, _, _ *col32) {
		for i := range d {
			d[i] = -a[i]
		}
	},
	"abs.s32": each1(func(a uint32) uint32 { return uint32(max(int32(a), -int32(a))) }),
	"min.u32": func(d, a, b, _ *col32) {
		for i := range d {
			d[i] = min(a[i], b[i])
		}
	},
	"max.u32": func(d, a, b, _ *col32) {
		for i := range d {
			d[i] = max(a[i], b[i])
		}
	},
	"min.s32": func(d, a, b, _ *col32) {
		D, A, B := i32s(d), i32s(a), i32s(b)
		for i := range D {
			D[i] = min(A[i], B[i])
		}
	},
	"max.s32": func(d, a, b, _ *col32) {
		D, A, B := i32s(d), i32s(a), i32s(b)
		for i := range D {
			D[i] = max(A[i], B[i])
		}
	},
	"add.sat.s32": each2(func(a, b uint32) uint32 { return saturate(int64(int32(a)) + int64(int32(b))) }),
	"sub.sat.s32": each2(func(a, b uint32) uint32 { return saturate(int64(int32(a)) - int64(int32(b))) }),
	"sad.u32": func(d, a, b, c *col32) {
		for i := range d {
			d[i] = c[i] + max(a[i], b[i]) - min(a[i], b[i])
		}
	},
	"sad.s32": func(d, a, b, c *col32) {
		for i := range d {
			d[i] = c[i] + uint32(max(int32(a[i]), int32(b[i]))-min(int32(a[i]), int32(b[i])))
		}
	},
	"brev.b32":   each1(bits.Reverse32),
	"mul.lo.b32": func(d, a, b, _ *col32) { mulLo(d, a, b) },
	"mul.hi.u32": each2(func(a, b uint32) uint32 { return uint32(uint64(a) * uint64(b) >> 32) }),
	"mul.hi.s32": each2(func(a, b uint32) uint32 { return uint32(int64(int32(a)) * int64(int32(b)) >> 32) }),
	"mad.lo.b32": func(d, a, b, c *col32) {
		for i := 0; i < 32; i += 4 {
			d[i] = a[i]*b[i] + c[i]
			d[i+1] = a[i+1]*b[i+1] + c[i+1]
			d[i+2] = a[i+2]*b[i+2] + c[i+2]
			d[i+3] = a[i+3]*b[i+3] + c[i+3]
		}
	},
	"mad.hi.u32":   each3(func(a, b, c uint32) uint32 { return uint32(uint64(a)*uint64(b)>>32) + c }),
	"mad.hi.s32":   each3(func(a, b, c uint32) uint32 { return uint32(int64(int32(a))*int64(int32(b))>>32) + c }),
	"mul24.lo.u32": each2(func(a, b uint32) uint32 { return a & 0xffffff * (b & 0xffffff) }),
	"mul24.lo.s32": each2(func(a, b uint32) uint32 { return uint32(int32(a) << 8 >> 8 * (int32(b) << 8 >> 8)) }),
	"mad24.lo.u32": each3(func(a, b, c uint32) uint32 { return a&0xffffff*(b&0xffffff) + c }),
	"mad24.lo.s32": each3(func(a, b, c uint32) uint32 { return uint32(int32(a)<<8>>8*(int32(b)<<8>>8)) + c }),
	"mul.wide.u16": each2(func(a, b uint32) uint32 { return a * b }),
	"mul.wide.s16": each2(func(a, b uint32) uint32 { return uint32(int32(int16(a)) * int32(int16(b))) }),
	"mad.wide.u16": each3(func(a, b, c uint32) uint32 { return a*b + c }),
	"mad.wide.s16": each3(func(a, b, c uint32) uint32 { return uint32(int32(int16(a))*int32(int16(b))) + c }),
	"add.b16":      each2(func(a, b uint32) uint32 { return (a + b) & 0xffff }),
	"sub.b16":      each2(func(a, b uint32) uint32 { return (a - b) & 0xffff }),
	"and.b16":      each2(func(a, b uint32) uint32 { return a & b }),
	"or.b16":       each2(func(a, b uint32) uint32 { return a | b }),
	"xor.b16":      each2(func(a, b uint32) uint32 { return a ^ b }),
	"not.b16":      each1(func(a uint32) uint32 { return ^a & 0xffff }),
	"cnot.b16":     each1(func(a uint32) uint32 { return b2u(a == 0) }),
	"neg.s16":      each1(func(a uint32) uint32 { return -a & 0xffff }),
	"abs.s16":      each1(func(a uint32) uint32 { return uint32(uint16(max(int16(a), -int16(a)))) }),
	"min.u16":      each2(func(a, b uint32) uint32 { return min(a, b) }),
	"max.u16":      each2(func(a, b uint32) uint32 { return max(a, b) }),
	"min.s16":      each2(func(a, b uint32) uint32 { return uint32(uint16(min(int16(a), int16(b)))) }),
	"max.s16":      each2(func(a, b uint32) uint32 { return uint32(uint16(max(int16(a), int16(b)))) }),
	"mul.lo.b16":   each2(func(a, b uint32) uint32 { return a * b & 0xffff }),
	"mul.hi.u16":   each2(func(a, b uint32) uint32 { return a * b >> 16 }),
	"mul.hi.s16":   each2(func(a, b uint32) uint32 { return uint32(int32(int16(a))*int32(int16(b))) >> 16 }),
	"mad.lo.b16":   each3(func(a, b, c uint32) uint32 { return (a*b + c) & 0xffff }),
	"mad.hi.u16":   each3(func(a, b, c uint32) uint32 { return (a*b>>16 + c) & 0xffff }),
	"mad.hi.s16": each3(func(a, b,
		c uint32) uint32 {
		return (uint32(int32(int16(a))*int32(int16(b)))>>16 + c) & 0xffff
	}),
	"copysign.f32":   each2(func(a, b uint32) uint32 { return b&^(1<<31) | a&(1<<31) }),
	"neg.f16":        each1(func(a uint32) uint32 { return neg16(a, 0x7c00) }),
	"abs.f16":        each1(func(a uint32) uint32 { return a & 0x7fff }),
	"neg.bf16":       each1(func(a uint32) uint32 { return neg16(a, 0x7f80) }),
	"abs.bf16":       each1(func(a uint32) uint32 { return a & 0x7fff }),
	"neg.f16x2":      each1(func(a uint32) uint32 { return neg16(a&0xffff, 0x7c00) | neg16(a>>16, 0x7c00)<<16 }),
	"abs.f16x2":      each1(func(a uint32) uint32 { return a & 0x7fff7fff }),
	"neg.bf16x2":     each1(func(a uint32) uint32 { return neg16(a&0xffff, 0x7f80) | neg16(a>>16, 0x7f80)<<16 }),
	"abs.bf16x2":     each1(func(a uint32) uint32 { return a & 0x7fff7fff }),
	"rcp.approx.f32": func(d, a, _, _ *col32) { recip(d, a) },
	"rcp.f32":        func(d, a, _, _ *col32) { recip(d, a) },

	"add.f32": func(d, a, b, _ *col32) {
		D, A, B := f32s(d), f32s(a), f32s(b)
		for i := 0; i < 32; i += 4 {
			x0, x1, x2, x3 := A[i]+B[i], A[i+1]+B[i+1], A[i+2]+B[i+2], A[i+3]+B[i+3]
			D[i], D[i+1], D[i+2], D[i+3] = x0, x1, x2, x3
			if s := x0 + x1 + (x2 + x3); s != s {
				canon4((*[4]float32)(D[i : i+4]))
			}
		}
	},
	"sub.f32": func(d, a, b, _ *col32) {
		D, A, B := f32s(d), f32s(a), f32s(b)
		for i := 0; i < 32; i += 4 {
			x0, x1, x2, x3 := A[i]-B[i], A[i+1]-B[i+1], A[i+2]-B[i+2], A[i+3]-B[i+3]
			D[i], D[i+1], D[i+2], D[i+3] = x0, x1, x2, x3
			if s := x0 + x1 + (x2 + x3); s != s {
				canon4((*[4]float32)(D[i : i+4]))
			}
		}
	},
	"mul.f32": func(d, a, b, _ *col32) {
		D, A, B := f32s(d), f32s(a), f32s(b)
		for i := 0; i < 32; i += 4 {
			x0, x1, x2, x3 := A[i]*B[i], A[i+1]*B[i+1], A[i+2]*B[i+2], A[i+3]*B[i+3]
			D[i], D[i+1], D[i+2], D[i+3] = x0, x1, x2, x3
			if s := x0 + x1 + (x2 + x3); s != s {
				canon4((*[4]float32)(D[i : i+4]))
			}
		}
	},
	"div.f32": func(d, a, b, _ *col32) {
		D, A, B := f32s(d), f32s(a), f32s(b)
		for i := range D {
			D[i] = canon(A[i] / B[i])
		}
	},
	// The product is exact in float64. Its sum there, rounded again, is wrong only if it was inexact and then lies halfway
	// between two float32, or is subnormal: then it is rounded to odd first.
	"fma.f32": func(d, a, b, c *col32) {
		D, A, B, C := f32s(d), f32s(a), f32s(b), f32s(c)
		for i := 0; i < 32; i += 2 {
			p, z := float64(A[i])*float64(B[i]), float64(C[i])
			q, y := float64(A[i+1])*float64(B[i+1]), float64(C[i+1])
			s, t := p+z, q+y
			if u := math.Float64bits(s); u>>52&0x7ff-898 < 2047-898 && u<<35 != 1<<63 {
				D[i] = float32(s)
			} else if s == 0 {
				D[i] = float32(s)
			} else {
				D[i] = fmaRest(p, z, s)
			}
			if u := math.Float64bits(t); u>>52&0x7ff-898 < 2047-898 && u<<35 != 1<<63 {
				D[i+1] = float32(t)
			} else if t == 0 {
				D[i+1] = float32(t)
			} else {
				D[i+1] = fmaRest(q, y, t)
			}
		}
	},
	"neg.f32": func(d, a, _, _ *col32) {
		for i := range d {
			d[i] = a[i] ^ 1<<31
		}
	},
	"abs.f32": func(d, a, _, _ *col32) {
		for i := range d {
			d[i] = a[i] &^ (1 << 31)
		}
	},
	"min.f32": func(d, a, b, _ *col32) {
		D, A, B := f32s(d), f32s(a), f32s(b)
		for i := range D {
			D[i] = fmin(A[i], B[i])
		}
	},
	"max.f32": func(d, a, b, _ *col32) {
		D, A, B := f32s(d), f32s(a), f32s(b)
		for i := range D {
			D[i] = fmax(A[i], B[i])
		}
	},
	"min.NaN.f32": eachF2(func(a, b float32) float32 {
		if a != a || b != b {
			return nan32
		}
		return fmin(a, b)
	}),
	"max.NaN.f32": eachF2(func(a, b float32) float32 {
		if a != a || b != b {
			return nan32
		}
		return fmax(a, b)
	}),
	"sqrt.f32": func(d, a, _, _ *col32) {
		D, A := f32s(d), f32s(a)
		for i := range D {
			D[i] = canon(float32(math.Sqrt(float64(A[i]))))
		}
	},
}

// The approximate instructions, computed in float64 and rounded: a GPU's last bits differ.
var approx = map[string]func(x float64) float64{
	"rsqrt": func(x float64) float64 { return 1 / math.Sqrt(x) },
	"ex2":   math.Exp2,
	"lg2":   math.Log2,
	"sin":   math.Sin,
	"cos":   math.Cos,
	"tanh":  math.Tanh,
}

var alu64 = map[string]fn64{
	"add.b64": func(d, a, b, _ *col64) {
		for i := 0; i < 32; i += 4 {
			d[i] = a[i] + b[i]
			d[i+1] = a[i+1] + b[i+1]
			d[i+2] = a[i+2] + b[i+2]
			d[i+3] = a[i+3] + b[i+3]
		}
	},
	"sub.b64": func(d, a, b, _ *col64) {
		for i := 0; i < 32; i += 4 {
			d[i] = a[i] - b[i]
			d[i+1] = a[i+1] - b[i+1]
			d[i+2] = a[i+2] - b[i+2]
			d[i+3] = a[i+3] - b[i+3]
		}
	},
	"and.b64": func(d, a, b, _ *col64) {
		for i := 0; i < 32; i += 4 {
			d[i] = a[i] & b[i]
			d[i+1] = a[i+1] & b[i+1]
			d[i+2] = a[i+2] & b[i+2]
			d[i+3] = a[i+3] & b[i+3]
		}
	},
	"or.b64": func(d, a, b, _ *col64) {
		for i := 0; i < 32; i += 4 {
			d[i] = a[i] | b[i]
			d[i+1] = a[i+1] | b[i+1]
			d[i+2] = a[i+2] | b[i+2]
			d[i+3] = a[i+3] | b[i+3]
		}
	},
	"xor.b64": func(d, a, b, _ *col64) {
		for i := range d {
			d[i] = a[i] ^ b[i]
		}
	},
	"not.b64": func(d, a, _, _ *col64) {
		for i := range d {
			d[i] = ^a[i]
		}
	},
	"cnot.b64": each64(func(a, _, _ uint64) uint64 { return uint64(b2u(a == 0)) }),
	"neg.s64":  each64(func(a, _, _ uint64) uint64 { return -a }),
	"abs.s64":  each64(func(a, _, _ uint64) uint64 { return uint64(max(int64(a), -int64(a))) }),
	"min.u64":  each64(func(a, b, _ uint64) uint64 { return min(a, b) }),
	"max.u64":  each64(func(a, b, _ uint64) uint64 { return max(a, b) }),
	"min.s64":  each64(func(a, b, _ uint64) uint64 { return uint64(min(int64(a), int64(b))) }),
	"max.s64":  each64(func(a, b, _ uint64) uint64 { return uint64(max(int64(a), int64(b))) }),
	"sad.u64":  each64(func(a, b, c uint64) uint64 { return c + max(a, b) - min(a, b) }),
	"sad.s64": each64(func(a, b, c uint64) uint64 {
		return c + uint64(max(int64(a), int64(b))-min(int64(a), int64(b)))
	}),
	"brev.b64": each64(func(a, _, _ uint64) uint64 { return bits.Reverse64(a) }),
	"mul.lo.b64": func(d, a, b, _ *col64) {
		for i := 0; i < 32; i += 4 {
			d[i] = a[i] * b[i]
			d[i+1] = a[i+1] * b[i+1]
			d[i+2] = a[i+2] * b[i+2]
			d[i+3] = a[i+3] * b[i+3]
		}
	},
	"mad.lo.b64": func(d, a, b, c *col64) {
		for i := 0; i < 32; i += 4 {
			d[i] = a[i]*b[i] + c[i]
			d[i+1] = a[i+1]*b[i+1] + c[i+1]
			d[i+2] = a[i+2]*b[i+2] + c[i+2]
			d[i+3] = a[i+3]*b[i+3] + c[i+3]
		}
	},
	"mul.hi.u64": each64(func(a, b, _ uint64) uint64 { return mulHi(a, b) }),
	"mul.hi.s64": each64(func(a, b, _ uint64) uint64 { return mulHiS(a, b) }),
	"mad.hi.u64": each64(func(a, b, c uint64) uint64 { return mulHi(a, b) + c }),
	"mad.hi.s64": each64(func(a, b, c uint64) uint64 { return mulHiS(a, b) + c }),

	"add.f64": func(d, a, b, _ *col64) {
		D, A, B := f64s(d), f64s(a), f64s(b)
		for i := range D {
			D[i] = canon64(A[i] + B[i])
		}
	},
	"sub.f64": func(d, a, b, _ *col64) {
		D, A, B := f64s(d), f64s(a), f64s(b)
		for i := range D {
			D[i] = canon64(A[i] - B[i])
		}
	},
	"mul.f64": func(d, a, b, _ *col64) {
		D, A, B := f64s(d), f64s(a), f64s(b)
		for i := range D {
			D[i] = canon64(A[i] * B[i])
		}
	},
	"div.f64": func(d, a, b, _ *col64) {
		D, A, B := f64s(d), f64s(a), f64s(b)
		for i := range D {
			D[i] = canon64(A[i] / B[i])
		}
	},
	"fma.f64": func(d, a, b, c *col64) {
		D, A, B, C := f64s(d), f64s(a), f64s(b), f64s(c)
		for i := range D {
			D[i] = canon64(math.FMA(A[i], B[i], C[i]))
		}
	},
	"neg.f64":      each64(func(a, _, _ uint64) uint64 { return a ^ 1<<63 }),
	"abs.f64":      each64(func(a, _, _ uint64) uint64 { return a &^ (1 << 63) }),
	"copysign.f64": each64(func(a, b, _ uint64) uint64 { return b&^(1<<63) | a&(1<<63) }),
	"min.f64": func(d, a, b, _ *col64) {
		D, A, B := f64s(d), f64s(a), f64s(b)
		for i := range D {
			D[i] = fmin64(A[i], B[i])
		}
	},
	"max.f64": func(d, a, b, _ *col64) {
		D, A, B := f64s(d), f64s(a), f64s(b)
		for i := range D {
			D[i] = -fmin64(-A[i], -B[i])
			D[i] = canon64(D[i])
		}
	},
	"sqrt.f64": func(d, a, _, _ *col64) {
		D, A := f64s(d), f64s(a)
		for i := range D {
			D[i] = canon64(math.Sqrt(A[i]))
		}
	},
	"rcp.f64": func(d, a, _, _ *col64) {
		D, A := f64s(d), f64s(a)
		for i := range D {
			D[i] = canon64(1 / A[i])
		}
	},
}

func mulLo(d, a, b *col32) {
	for i := 0; i < 32; i += 4 {
		d[i] = a[i] * b[i]
		d[i+1] = a[i+1] * b[i+1]
		d[i+2] = a[i+2] * b[i+2]
		d[i+3] = a[i+3] * b[i+3]
	}
}

func recip(d, a *col32) {
	D, A := f32s(d), f32s(a)
	for i := range D {
		D[i] = canon(1 / A[i])
	}
}

func each1(f func(a uint32) uint32) fn32 {
	return func(d, a, _, _ *col32) {
		for i := range d {
			d[i] = f(a[i])
		}
	}
}

func each2(f func(a, b uint32) uint32) fn32 {
	return func(d, a, b, _ *col32) {
		for i := range d {
			d[i] = f(a[i], b[i])
		}
	}
}

func each3(f func(a, b, c uint32) uint32) fn32 {
	return func(d, a, b, c *col32) {
		for i := range d {
			d[i] = f(a[i], b[i], c[i])
		}
	}
}

func eachF2(f func(a, b float32) float32) fn32 {
	return func(d, a, b, _ *col32) {
		D, A, B := f32s(d), f32s(a), f32s(b)
		for i := range D {
			D[i] = f(A[i], B[i])
		}
	}
}

func each64(f func(a, b, c uint64) uint64) fn64 {
	return func(d, a, b, c *col64) {
		for i := range d {
			d[i] = f(a[i], b[i], c[i])
		}
	}
}

func b2u(b bool) uint32 {
	if b {
		return 1
	}
	return 0
}

func saturate(x int64) uint32 { return uint32(max(math.MinInt32, min(math.MaxInt32, x))) }

func mulHi(a, b uint64) uint64 {
	h, _ := bits.Mul64(a, b)
	return h
}

func mulHiS(a, b uint64) uint64 {
	h := mulHi(a, b)
	if int64(a) < 0 {
		h -= b
	}
	if int64(b) < 0 {
		h -= a
	}
	return h
}

func neg16(a, inf uint32) uint32 {
	if a&0x7fff > inf {
		return 0x7fff
	}
	return a ^ 0x8000
}

// fmin and fmax take the other operand where one is NaN; -0 is less than +0.
func fmin(a, b float32) float32 {
	switch {
	case a < b:
		return a
	case b < a:
		return b
	case a != a:
		return canon(b)
	case b != b:
		return canon(a)
	}
	return math.Float32frombits(math.Float32bits(a) | math.Float32bits(b))
}

func fmax(a, b float32) float32 {
	switch {
	case a > b:
		return a
	case b > a:
		return b
	case a != a:
		return canon(b)
	case b != b:
		return canon(a)
	}
	return math.Float32frombits(math.Float32bits(a) & math.Float32bits(b))
}

func fmin64(a, b float64) float64 {
	switch {
	case a < b:
		return a
	case b < a:
		return b
	case a != a:
		return canon64(b)
	case b != b:
		return canon64(a)
	}
	return math.Float64frombits(math.Float64bits(a) | math.Float64bits(b))
}

// flush makes subnormal numbers zero, for .ftz.
func flush(x uint32) uint32 {
	if x&0x7f800000 == 0 {
		return x & (1 << 31)
	}
	return x
}

func flushing(f fn32) fn32 {
	return func(d, a, b, c *col32) {
		var x, y, z col32
		for i := range d {
			x[i], y[i], z[i] = flush(a[i]), flush(b[i]), flush(c[i])
		}
		f(d, &x, &y, &z)
		for i := range d {
			d[i] = flush(d[i])
		}
	}
}

// clamping clamps to [0, 1], NaN to 0, for .sat.
func clamping(f fn32) fn32 {
	return func(d, a, b, c *col32) {
		f(d, a, b, c)
		for i, x := range f32s(d) {
			if !(x > 0) {
				d[i] = 0
			} else if x > 1 {
				d[i] = 0x3f800000
			}
		}
	}
}

// arity is the number of operands, with the result.
var arity = map[string]int{"not": 2, "cnot": 2, "neg": 2, "abs": 2, "rcp": 2, "sqrt": 2, "rsqrt": 2, "ex2": 2,
	"lg2": 2, "sin": 2,
	"cos": 2, "tanh": 2, "brev": 2, "fma": 4, "sad": 4, "mad": 4, "mad24": 4}

// alu compiles instructions of the tables.
func (c *compiler) alu() {
	op := c.s.op
	if (op == "add" || op == "sub") && slices.Contains(c.m, "cc") {
		c.carry()
		return
	}
	t := c.last()
	if t == "pred" {
		c.logic(op)
		return
	}
	if typeSizes[t] == 0 {
		c.fail("unknown type .%s", t)
	}
	n := arity[op]
	if n == 0 {
		n = 3
	}
	c.nargs(n)
	if typeSizes[t] == 2 && isFloat(t) || strings.HasSuffix(t, "x2") {
		c.alu16(op, t)
		return
	}
	ftz := t == "f32" && c.m.has("ftz")
	sat := t == "f32" && c.m.has("sat")
	if isFloat(t) {
		switch op {
		case "add", "sub", "mul", "fma", "rcp", "sqrt", "div":
			rn := c.m.has("rn")
			if ap := c.m.oneOf("approx", "full"); ap != "" {
				if t != "f32" || op == "add" || op == "sub" || op == "mul" || op == "fma" || ap == "full" && op != "div" {
					c.fail("modifier .%s is not supported", ap)
				}
			} else if !rn && (op == "fma" || op == "rcp" || op == "sqrt" || op == "div") {
				c.fail("rounding mode is not supported")
			}
		case "rsqrt", "ex2", "lg2", "sin", "cos", "tanh":
			if !c.m.has("approx") {
				c.fail("expected .approx")
			}
			c.approximate(op, t, ftz)
			return
		}
	}
	key := op + "." + t
	if m := c.m.oneOf("sat", "NaN"); m != "" {
		key = op + "." + m + "." + t
	}
	c.table(key, n, t, ftz, sat)
}

// table emits the table's instruction for key, sources and result of type t.
func (c *compiler) table(key string, n int, t string, ftz, sat bool) {
	c.done()
	in := inst{}
	if typeSizes[t] == 8 {
		in.kind, in.f64 = k64, lookup(alu64, key)
		if in.f64 == nil {
			c.fail("unknown instruction %s", c.s.full)
		}
	} else {
		in.kind, in.f32 = k32, lookup(alu32, key)
		if in.f32 == nil {
			c.fail("unknown instruction %s", c.s.full)
		}
		if ftz {
			in.f32 = flushing(in.f32)
		}
		if sat {
			in.f32 = clamping(in.f32)
		}
	}
	c.sources(&in, n, t, t)
	c.emit(in)
}

// sources fills in the operands of an instruction on columns.
func (c *compiler) sources(in *inst, n int, to, from string) {
	in.a = c.src(c.s.args[1], from)
	if n > 2 {
		in.b = c.src(c.s.args[2], from)
	}
	if n > 3 {
		in.c = c.src(c.s.args[3], to)
	}
	in.d = c.dst(c.s.args[0], to)
}

// lookup finds an instruction by its type, or with s and u as b.
func lookup[F any](table map[string]F, key string) F {
	if f, ok := table[key]; ok {
		return f
	}
	i := strings.LastIndexByte(key, '.') + 1
	if key[i] == 'u' || key[i] == 's' {
		return table[key[:i]+"b"+key[i+1:]]
	}
	var zero F
	return zero
}

func (c *compiler) approximate(op, t string, ftz bool) {
	f := approx[op]
	if t == "f64" && op == "rsqrt" {
		c.done()
		in := inst{kind: k64, f64: func(d, a, _, _ *col64) {
			D, A := f64s(d), f64s(a)
			for i := range D {
				D[i] = canon64(f(A[i]))
			}
		}}
		c.sources(&in, 2, t, t)
		c.emit(in)
		return
	}
	if t != "f32" {
		c.fail("unknown instruction %s", c.s.full)
	}
	c.done()
	in := inst{kind: k32, f32: func(d, a, _, _ *col32) {
		D, A := f32s(d), f32s(a)
		for i := range D {
			D[i] = canon(float32(f(float64(A[i]))))
		}
	}}
	if ftz {
		in.f32 = flushing(in.f32)
	}
	c.sources(&in, 2, t, t)
	c.emit(in)
}

// logic compiles and, or, xor and not of predicates.
func (c *compiler) logic(op string) {
	c.done()
	if op == "not" {
		c.nargs(2)
		a, an := c.srcP(c.s.args[1])
		c.wp(c.dstP(c.s.args[0]), func(w *warp) uint32 { return ^pmask(w.p[a], an) })
		return
	}
	c.nargs(3)
	a, an := c.srcP(c.s.args[1])
	b, bn := c.srcP(c.s.args[2])
	d := c.dstP(c.s.args[0])
	switch op {
	case "and":
		c.wp(d, func(w *warp) uint32 { return pmask(w.p[a], an) & pmask(w.p[b], bn) })
	case "or":
		c.wp(d, func(w *warp) uint32 { return pmask(w.p[a], an) | pmask(w.p[b], bn) })
	case "xor":
		c.wp(d, func(w *warp) uint32 { return pmask(w.p[a], an) ^ pmask(w.p[b], bn) })
	default:
		c.fail("unknown instruction %s", c.s.full)
	}
}

// alu16 compiles arithmetic of f16 and bf16, alone or in pairs: computed wider and rounded once.
func (c *compiler) alu16(op, t string) {
	bf := t[0] == 'b'
	pair := strings.HasSuffix(t, "x2")
	c.m.has("rn")
	nan := c.m.has("NaN")
	c.done()
	n := arity[op]
	if n == 0 {
		n = 3
	}
	if f := alu32[op+"."+t]; f != nil {
		in := inst{kind: k32, f32: f}
		c.sources(&in, n, t, t)
		c.emit(in)
		return
	}
	wide, round := half.FromF16, roundF16
	if bf {
		wide, round = half.FromBF16, roundBF16
		if op == "add" || op == "sub" || op == "mul" {
			c.fail("%s needs sm_90", c.s.full)
		}
	}
	var f func(a, b, c uint32) uint32
	arith := func(g func(a, b, c float64) float64) func(a, b, c uint32) uint32 {
		return func(a, b, c uint32) uint32 {
			return uint32(round(g(float64(wide(uint16(a))), float64(wide(uint16(b))), float64(wide(uint16(c))))))
		}
	}
	canon16 := func(x float32, raw uint32) uint32 {
		if x != x {
			return 0x7fff
		}
		return raw
	}
	pick := func(less bool) func(a, b, c uint32) uint32 {
		return func(a, b, _ uint32) uint32 {
			x, y := wide(uint16(a)), wide(uint16(b))
			switch {
			case x != x && y != y || nan && (x != x || y != y):
				return 0x7fff
			case x != x:
				return canon16(y, b)
			case y != y:
				return canon16(x, a)
			case x == y:
				if less {
					return a | b
				}
				return a & b
			case (x < y) == less:
				return a
			}
			return b
		}
	}
	switch op {
	case "add":
		f = arith(func(a, b, _ float64) float64 { return a + b })
	case "sub":
		f = arith(func(a, b, _ float64) float64 { return a - b })
	case "mul":
		f = arith(func(a, b, _ float64) float64 { return a * b })
	case "fma":
		f = arith(func(a, b, c float64) float64 { p := a * b; return toOdd(p, c, p+c) })
	case "min":
		f = pick(true)
	case "max":
		f = pick(false)
	default:
		c.fail("unknown instruction %s", c.s.full)
	}
	g := func(d, a, b, c *col32) {
		for i := range d {
			d[i] = f(a[i], b[i], c[i])
		}
	}
	if pair {
		g = func(d, a, b, c *col32) {
			for i := range d {
				d[i] = f(a[i]&0xffff, b[i]&0xffff, c[i]&0xffff) | f(a[i]>>16, b[i]>>16, c[i]>>16)<<16
			}
		}
	}
	in := inst{kind: k32, f32: g}
	c.sources(&in, n, t, t)
	c.emit(in)
}

// f16bits and bf16bits round a float32 once.
func f16bits(x float32) uint32 {
	if x != x {
		return 0x7fff
	}
	return uint32(half.F16(x))
}

func bf16bits(x float32) uint32 {
	if x != x {
		return 0x7fff
	}
	return uint32(half.BF16(x))
}

func roundF16(x float64) uint16 {
	if x != x {
		return 0x7fff
	}
	return half.F16(narrow64(x))
}

func roundBF16(x float64) uint16 {
	if x != x {
		return 0x7fff
	}
	return half.BF16(narrow64(x))
}

func fromF16(h uint32) float64 { return float64(half.FromF16(uint16(h))) }
