package main

import "fmt"

// op writes an instruction as a word: Go's assembler knows few of them.
func op(w uint32, format string, a ...any) {
	emit("WORD $0x%08x // %s", w, fmt.Sprintf(format, a...))
}

// An arrangement of lanes, with its part of a word.
type lanes struct {
	name string
	bits uint32 // Q and size
}

var (
	s4  = lanes{"4s", 1<<30 | 2<<22}
	f4  = lanes{"4s", 1 << 30}
	d2  = lanes{"2d", 1<<30 | 3<<22}
	fd2 = lanes{"2d", 1<<30 | 1<<22}
	b16 = lanes{"16b", 1 << 30}
)

// three is d = n op m. high is the upper bit of size, which tells float and bitwise operations apart.
func three(name string, l lanes, u, high, opcode uint32) func(d, n, m V) {
	return func(d, n, m V) {
		op(0x0e200400|l.bits|u<<29|high<<23|opcode<<11|uint32(m)<<16|uint32(n)<<5|uint32(d), "%s v%d.%s, v%d.%s, v%d.%s",
			name, d, l.name, n, l.name, m, l.name)
	}
}

// two is d = op n.
func two(name string, l lanes, u, high, opcode uint32) func(d, n V) {
	return func(d, n V) {
		op(0x0e200800|l.bits|u<<29|high<<23|opcode<<12|uint32(n)<<5|uint32(d), "%s v%d.%s, v%d.%s", name, d,
			l.name, n, l.name)
	}
}

var (
	fadd = three("fadd", f4, 0, 0, 0b11010)
	fsub = three("fsub", f4, 0, 1, 0b11010)
	fmul = three("fmul", f4, 1, 0, 0b11011)
	fdiv = three("fdiv", f4, 1, 0, 0b11111)
	fmla = three("fmla", f4, 0, 0, 0b11001) // d += n m
	fmls = three("fmls", f4, 0, 1, 0b11001) // d -= n m

	faddp = three("faddp", f4, 1, 0, 0b11010)
)

// dup copies lane i of n to all of d.
func dup(d, n V, i int) { emit("VDUP V%d.S[%d], V%d.S4", n, i, d) }

// By lane i of m: d += n m[i], or d = n m[i]; sdot adds to each int32 of d the products of four int8 of n and those of
// the lane.
var (
	fmlaLane = byLane("fmla", 0x4f801000, "4s", "s")
	fmulLane = byLane("fmul", 0x4f809000, "4s", "s")
	sdotLane = byLane("sdot", 0x4f80e000, "16b", "4b")
)

func byLane(name string, w uint32, from, lane string) func(d, n, m V, i int) {
	return func(d, n, m V, i int) {
		op(w|uint32(i&1)<<21|uint32(i>>1)<<11|uint32(m)<<16|uint32(n)<<5|uint32(d), "%s v%d.4s, v%d.%s, v%d.%s[%d]", name, d, n,
			from, m, lane, i)
	}
}

// permute is an instruction on two vectors of words or double words.
func permute(name string, l lanes, opcode uint32) func(d, n, m V) {
	return func(d, n, m V) {
		op(0x0e000800|l.bits|opcode<<12|uint32(m)<<16|uint32(n)<<5|uint32(d), "%s v%d.%s, v%d.%s, v%d.%s", name, d, l.name,
			n, l.name, m, l.name)
	}
}

var (
	zip1  = permute("zip1", s4, 0b011)
	zip2  = permute("zip2", s4, 0b111)
	zip1d = permute("zip1", d2, 0b011)
	zip2d = permute("zip2", d2, 0b111)
)

var (
	and  = three("and", b16, 0, 0, 0b00011)
	orr  = three("orr", b16, 0, 1, 0b00011)
	eor  = three("eor", b16, 1, 0, 0b00011)
	bsl  = three("bsl", lanes{"16b", 1<<30 | 1<<22}, 1, 0, 0b00011) // d = d ? n : m, bit by bit
	add  = three("add", s4, 0, 0, 0b10000)
	sub  = three("sub", s4, 1, 0, 0b10000)
	addp = three("addp", s4, 0, 0, 0b10111)
	umax = three("umax", s4, 1, 0, 0b01100)
	smax = three("smax", s4, 0, 0, 0b01100)

	fmax  = three("fmax", f4, 0, 0, 0b11110)
	fmin  = three("fmin", f4, 0, 1, 0b11110)
	fcmge = three("fcmge", f4, 1, 0, 0b11100)
	fcmgt = three("fcmgt", f4, 1, 1, 0b11100)

	faddD = three("fadd", fd2, 0, 0, 0b11010)
	fmlaD = three("fmla", fd2, 0, 0, 0b11001)

	fabs   = two("fabs", f4, 0, 1, 0b01111)
	frintn = two("frintn", f4, 0, 0, 0b11000)
	fcvtns = two("fcvtns", f4, 0, 0, 0b11010) // to the nearest int32, ties to even; of NaN 0
	scvtf  = two("scvtf", f4, 0, 0, 0b11101)
	not    = two("not", b16, 1, 0, 0b00101)
	iabs   = two("abs", s4, 0, 0, 0b01011)
)

// sdot adds to each int32 of d the products of the four int8 of n and m in its place.
func sdot(d, n, m V) {
	op(0x4e809400|uint32(m)<<16|uint32(n)<<5|uint32(d), "sdot v%d.4s, v%d.16b, v%d.16b", d, n, m)
}

// Shifts of words by n bits; sli keeps the low n bits of d.
func shl(d, s V, n int) {
	op(0x4f005400|uint32(32+n)<<16|uint32(s)<<5|uint32(d), "shl v%d.4s, v%d.4s, #%d", d, s, n)
}
func sli(d, s V, n int) {
	op(0x6f005400|uint32(32+n)<<16|uint32(s)<<5|uint32(d), "sli v%d.4s, v%d.4s, #%d", d, s, n)
}
func sshr(d, s V, n int) {
	op(0x4f000400|uint32(64-n)<<16|uint32(s)<<5|uint32(d), "sshr v%d.4s, v%d.4s, #%d", d, s, n)
}
func ushr(d, s V, n int) {
	op(0x6f000400|uint32(64-n)<<16|uint32(s)<<5|uint32(d), "ushr v%d.4s, v%d.4s, #%d", d, s, n)
}

// ushrBytes shifts bytes.
func ushrBytes(d, s V, n int) {
	op(0x6f000400|uint32(16-n)<<16|uint32(s)<<5|uint32(d), "ushr v%d.16b, v%d.16b, #%d", d, s, n)
}

// change is an instruction between sizes; with upper it writes, or reads, the upper half of the smaller.
func change(name string, w uint32, to, from string, widen bool) func(d, n V, upper bool) {
	return func(d, n V, upper bool) {
		w, name, to, from := w, name, to, from
		small := &to
		if widen {
			small = &from
		}
		if upper {
			w |= 1 << 30
			name += "2"
			*small = map[string]string{"8b": "16b", "4h": "8h", "2s": "4s"}[*small]
		}
		op(w|uint32(n)<<5|uint32(d), "%s v%d.%s, v%d.%s", name, d, to, n, from)
	}
}

var (
	sqxtnH = change("sqxtn", 0x0e614800, "4h", "4s", false)
	sqxtnB = change("sqxtn", 0x0e214800, "8b", "8h", false)
	sxtlH  = change("sxtl", 0x0f08a400, "8h", "8b", true)
	sxtlS  = change("sxtl", 0x0f10a400, "4s", "4h", true)
	fcvtlD = change("fcvtl", 0x0e617800, "2d", "2s", true)
)

// Over the lanes of n, to the low lane of d.
func addv(d, n V)   { op(0x4eb1b800|uint32(n)<<5|uint32(d), "addv s%d, v%d.4s", d, n) }
func umaxv(d, n V)  { op(0x6eb0a800|uint32(n)<<5|uint32(d), "umaxv s%d, v%d.4s", d, n) }
func faddpD(d, n V) { op(0x7e70d800|uint32(n)<<5|uint32(d), "faddp d%d, v%d.2d", d, n) }

var (
	fmaxnm = three("fmaxnm", f4, 0, 0, 0b11000) // the number, of a number and a NaN

	fneg  = two("fneg", f4, 1, 1, 0b01111)
	fsqrt = two("fsqrt", f4, 1, 1, 0b11111)

	fcvtlH = change("fcvtl", 0x0e217800, "4s", "4h", true)
	fcvtnH = change("fcvtn", 0x0e216800, "4h", "4s", false)
)

func fmaxnmv(d, n V) { op(0x6e30c800|uint32(n)<<5|uint32(d), "fmaxnmv s%d, v%d.4s", d, n) }

func copyV(d, n V) { orr(d, n, n) }

var (
	addD = three("add", d2, 0, 0, 0b10000)
	cmgt = three("cmgt", s4, 0, 0, 0b00110)
	uzp1 = permute("uzp1", s4, 0b001)
	uzp2 = permute("uzp2", s4, 0b101)
)

// umull is the product of two words of n and m, the lower or the upper ones.
func umull(d, n, m V, upper bool) {
	name, from, w := "umull", "2s", uint32(0x2ea0c000)
	if upper {
		name, from, w = "umull2", "4s", w|1<<30
	}
	op(w|uint32(m)<<16|uint32(n)<<5|uint32(d), "%s v%d.2d, v%d.%s, v%d.%s", name, d, n, from, m, from)
}
