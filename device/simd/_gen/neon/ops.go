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
		op(0x0e200800|l.bits|u<<29|high<<23|opcode<<12|uint32(n)<<5|uint32(d), "%s v%d.%s, v%d.%s", name, d, l.name, n, l.name)
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

// By lane i of m: d += n m[i] of float32; of int8, four products a lane.
func fmlaLane(d, n, m V, i int) {
	op(0x4f801000|uint32(i&1)<<21|uint32(i>>1)<<11|uint32(m)<<16|uint32(n)<<5|uint32(d), "fmla v%d.4s, v%d.4s, v%d.s[%d]",
		d, n, m, i)
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
