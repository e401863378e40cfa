package main

import (
	"bytes"
	"fmt"
	"log"
	"math"
	"slices"
	"strings"
)

// V is a vector register, R an integer register.
type (
	V int
	R int
)

func (r R) String() string { return fmt.Sprintf("R%d", int(r)) }

// Go keeps R18 and from R26 on for itself.
var integers = []R{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 19, 20, 21, 22, 23, 24, 25}

// The routine being written.
var (
	text, stubs, code bytes.Buffer

	header   string
	args     map[string]int // offsets from FP
	result   int
	argBytes int
	frame    int
	usedV    [32]bool
	usedR    [32]bool
	labels   int
)

func emit(format string, a ...any) { fmt.Fprintf(&code, "\t"+format+"\n", a...) }

// vec and gp are fresh registers; scope gives back those that f took.
func vec() V {
	i := slices.Index(usedV[:], false)
	if i < 0 {
		log.Fatalf("%s: no vector register is left", header)
	}
	usedV[i] = true
	return V(i)
}

func vecs(n int) []V {
	v := make([]V, n)
	for i := range v {
		v[i] = vec()
	}
	return v
}

func gp() R {
	for _, r := range integers {
		if !usedR[r] {
			usedR[r] = true
			return r
		}
	}
	log.Fatalf("%s: no integer register is left", header)
	return 0
}

func scope(f func()) {
	v, r := usedV, usedR
	f()
	usedV, usedR = v, r
}

// routine begins name+"NEON" with a Go signature, of which it keeps the offsets of the arguments. doc is its Go twin.
func routine(name, signature, doc string) {
	name += "NEON"
	for _, line := range strings.Split(name+": "+doc, "\n") {
		fmt.Fprintf(&stubs, "// %s\n", line)
	}
	fmt.Fprintf(&stubs, "//\n//go:noescape\nfunc %s%s\n\n", name, strings.TrimPrefix(signature, "func"))
	header, args, argBytes, frame, labels = name, map[string]int{}, 0, 0, 0
	usedV, usedR = [32]bool{}, [32]bool{}
	list, ret, _ := strings.Cut(strings.TrimPrefix(signature, "func("), ")")
	fields := strings.Split(list, ", ")
	typ := ""
	types := make([]string, len(fields))
	for i := len(fields) - 1; i >= 0; i-- { // a type holds for the names before it
		if _, t, ok := strings.Cut(fields[i], " "); ok {
			typ = t
		}
		types[i] = typ
	}
	place := func(t string) int {
		size := 8
		if strings.HasSuffix(t, "32") && t[0] != '*' {
			size = 4
		}
		at := (argBytes + size - 1) / size * size
		argBytes = at + size
		return at
	}
	for i, f := range fields {
		name, _, _ := strings.Cut(f, " ")
		args[name] = place(types[i])
	}
	if ret = strings.TrimSpace(ret); ret != "" {
		argBytes = (argBytes + 7) &^ 7
		result = place(ret)
	}
}

func end() {
	emit("RET")
	fmt.Fprintf(&text, "\n// func %s\nTEXT ·%s(SB), NOSPLIT, $%d-%d\n", header, header, frame, argBytes)
	text.Write(code.Bytes())
	code.Reset()
}

func at(name string) string {
	off, ok := args[name]
	if !ok {
		log.Fatalf("%s has no argument %s", header, name)
	}
	return fmt.Sprintf("%s+%d(FP)", name, off)
}

// ptr loads a pointer or int, word 32 bits, arg broadcasts a float32.
func ptr(name string) R {
	r := gp()
	emit("MOVD %s, %v", at(name), r)
	return r
}

func word(name string) R {
	r := gp()
	emit("MOVWU %s, %v", at(name), r)
	return r
}

func arg(name string) V {
	v := vec()
	emit("FMOVS %s, F%d", at(name), v)
	dup(v, v, 0)
	return v
}

// Constants in all lanes.
func bits(b uint32) V {
	v := vec()
	scope(func() {
		r := gp()
		emit("MOVD $0x%08x, %v", b, r)
		emit("VDUP %v, V%d.S4", r, v)
	})
	return v
}

func constant(f float32) V { return bits(math.Float32bits(f)) }

func clear(v V) { emit("VEOR V%d.B16, V%d.B16, V%d.B16", v, v, v) }

func zeros(n int) []V {
	v := vecs(n)
	for _, v := range v {
		clear(v)
	}
	return v
}

func zero() V { return zeros(1)[0] }

// Loads and stores: q 16 bytes, p a pair of them, d 8, s 4.
func ldq(v V, p R, off int) { emit("FMOVQ %d(%v), F%d", off, p, v) }
func stq(v V, p R, off int) { emit("FMOVQ F%d, %d(%v)", v, off, p) }
func ldp(a, b V, p R, off int) {
	emit("FLDPQ %d(%v), (F%d, F%d)", off, p, a, b)
}
func stp(a, b V, p R, off int) {
	emit("FSTPQ (F%d, F%d), %d(%v)", a, b, off, p)
}
func lds(v V, p R, off int) { emit("FMOVS %d(%v), F%d", off, p, v) }
func sts(v V, p R, off int) { emit("FMOVS F%d, %d(%v)", v, off, p) }
func std(v V, p R, off int) { emit("FMOVD F%d, %d(%v)", v, off, p) }
func ld1r(v V, p R)         { emit("VLD1R (%v), [V%d.S4]", p, v) }

// Integers.
func addi(n int, r R) {
	if n != 0 {
		emit("ADD $%d, %v", n, r)
	}
}
func addr(a, r R)      { emit("ADD %v, %v", a, r) }
func move(a, r R)      { emit("MOVD %v, %v", a, r) }
func shift(n int, r R) { emit("LSL $%d, %v", n, r) }
func clone(r R) R      { c := gp(); move(r, c); return c }
func sum(a R, s int, b R) R {
	d := gp()
	emit("ADD %v<<%d, %v, %v", b, s, a, d)
	return d
}

func fresh(name string) string {
	labels++
	return fmt.Sprintf("%s%d", name, labels)
}
func label(l string) { fmt.Fprintf(&code, "%s:\n", l) }

// times emits body for n > 0 rounds; it consumes n.
func times(n R, body func()) {
	next := fresh("next")
	label(next)
	scope(body)
	emit("SUBS $1, %v", n)
	emit("BNE %s", next)
}

// while emits body as long as n has step left; it consumes them.
func while(n R, step int, body func()) {
	loop, done := fresh("loop"), fresh("done")
	label(loop)
	emit("CMP $%d, %v", step, n)
	emit("BLT %s", done)
	scope(body)
	emit("SUB $%d, %v", step, n)
	emit("B %s", loop)
	label(done)
}

// A span is four float32 of a loop, or the low lane: one of the tail.
type span struct {
	off  int // bytes from the pointers
	tail bool
}

func (s span) index() int { return s.off / 16 }

// load reads the span at p; lanes of a tail that are not there are 0.
func (s span) load(p R) V {
	v := vec()
	s.loadTo(v, p)
	return v
}

func (s span) loadTo(v V, p R) {
	if s.tail {
		lds(v, p, 0)
	} else {
		ldq(v, p, s.off)
	}
}

func (s span) store(v V, p R) {
	if s.tail {
		sts(v, p, 0)
	} else {
		stq(v, p, s.off)
	}
}

// keep zeroes the lanes of v that are not there, for sums.
func (s span) keep(v V) {
	if s.tail {
		emit("FMOVS F%d, F%d", v, v)
	}
}

// each emits the loop over n float32 at ptrs: body for unroll vectors at a time, then for one, then for single
// elements. It consumes n and advances ptrs.
func each(n R, unroll int, ptrs []R, body func(s span)) {
	steps := []int{unroll, 1}
	if unroll == 1 {
		steps = steps[:1]
	}
	for _, k := range steps {
		while(n, 4*k, func() {
			for i := range k {
				scope(func() { body(span{off: 16 * i}) })
			}
			for _, p := range ptrs {
				addi(16*k, p)
			}
		})
	}
	while(n, 1, func() {
		body(span{tail: true})
		for _, p := range ptrs {
			addi(4, p)
		}
	})
}
