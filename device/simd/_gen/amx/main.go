// Command amx writes the matrix products on AMX tiles: int8 by TDPBSUD, bfloat16 by TDPBF16PS.
//
// A tile register has 16 rows of 64 bytes. A step of the contraction multiplies 16 rows of A, 64 bytes each, with 16 groups
// of B: a group has one 32-bit word a column, four codes or two bfloat16. Two tiles of A and two of B make 32 x 32 sums in four
// tile registers; a routine takes up to 64 columns, half by half, and strips of 32 rows.
package main

import (
	"flag"
	"fmt"
	"log"
	"os"
	"regexp"
	"strconv"
	"strings"

	. "github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/ir"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"

	. "setun/device/simd/gen/lane"
)

func main() {
	ConstraintExpr("amd64")
	for _, high := range []int{1, 2} {
		strip{high: high, product: "TDPBSUD", int8: true}.emit()
	}
	for _, high := range []int{1, 2} {
		strip{high: high, product: "TDPBF16PS"}.emit()
	}
	for _, high := range []int{1, 2} {
		strip{high: high, product: "TDPBSUD", int8: true}.packed()
	}
	tiles()
	turnWords()
	Generate()
	encode(flag.Lookup("out").Value.String())
}

// Tile registers: sums 0 and 1 of the upper rows, 2 and 3 of the lower; A 4 and 5; B 6 and 7.
const (
	tileA = 4
	tileB = 6
)

// A strip is 16*high rows of A at most.
type strip struct {
	high    int
	product string
	int8    bool
}

const (
	intArgs = "func(c *float32, ldc int, a *int8, ars, aks int, b *uint8, bs, steps int, comp *int32, rs, cs, " +
		"bias *float32, mode, cols, rows, strips int, shape *uint8, tmp *int32)"
	intDoc = `c[i,j] = float32(comp[i] + sum a[i,:]*b[:,j]) * rs[i] * cs[j]; mode 1 adds bias[j], mode 2 c[i,j]. j < cols;
rows of a strip. Step s, row i of a begins at s*aks + i*ars; group g of b at g*bs.`
	floatArgs = "func(c *float32, ldc int, a *float32, ars int, b *float32, bs, steps int, alpha, beta float32, " +
		"bias *float32, cols, rows, strips int, shape *uint8, tmp *float32)"
	floatDoc = `c[i,j] = alpha * sum a[i,:]*b[:,j] + beta*c[i,j] + bias[j], c not read if beta is 0, bias may be nil. j < cols;
rows of a strip. Words of a and b are two bfloat16; row i of a begins at i*ars bytes, group g of b at g*bs.`
)

func (t strip) emit() {
	name, args, doc := fmt.Sprintf("bstrip%dAMX", 16*t.high), floatArgs, floatDoc
	if t.int8 {
		name, args, doc = fmt.Sprintf("qstrip%dAMX", 16*t.high), intArgs, intDoc
	}
	routine(name, args, doc)
	shape := Ptr("shape")
	tile("LDTILECFG", nil, Mem{Base: shape})
	k := AVX512.Masks(Ptr("cols"), 4)
	c, a, strips := Ptr("c"), Ptr("a"), Ptr("strips")
	var comp, rs reg.GPVirtual
	if t.int8 {
		comp, rs = Ptr("comp"), Ptr("rs")
	}
	t.fetch(0, c)
	Label("strip")
	wide := func(end string) {
		cols := Ptr("cols")
		CMPQ(cols, U8(32))
		JLE(LabelRef(end))
	}
	wide("first")
	t.fetch(1, c)
	Label("first")
	t.half(0, a)
	t.put(0, c, comp, rs, k[:2])
	if t.high == 2 {
		CMPQ(strips, U8(1))
		JE(LabelRef("second"))
		below, ldc := Clone(c), Ptr("ldc")
		SHLQ(U8(7), ldc)
		ADDQ(ldc, below)
		t.fetch(0, below)
	}
	Label("second")
	wide("next")
	t.half(1, a)
	t.put(1, c, comp, rs, k[2:])
	Label("next")
	if t.high == 2 { // strips after the first begin 32 rows on
		ars, ldc := Ptr("ars"), Ptr("ldc")
		SHLQ(U8(5), ars)
		ADDQ(ars, a)
		SHLQ(U8(7), ldc)
		ADDQ(ldc, c)
		if t.int8 {
			ADDQ(U32(4*32), comp)
			ADDQ(U32(4*32), rs)
		}
		DECQ(strips)
		JNZ(LabelRef("strip"))
	}
	tile("TILERELEASE", nil)
	AVX512.End()
}

// fetch brings the lines of half a strip of c into the cache, while the sums of the half before it are computed.
func (t strip) fetch(half int, c reg.GPVirtual) {
	line, ldc, rows := GP64(), Ptr("ldc"), Ptr("rows")
	MOVQ(c, line)
	SHLQ(U8(2), ldc)
	row := Fresh("fetch")
	Label(row)
	PREFETCHT0(Mem{Base: line, Disp: 128 * half})
	PREFETCHT0(Mem{Base: line, Disp: 128*half + 64})
	ADDQ(ldc, line)
	DECQ(rows)
	JNZ(LabelRef(row))
}

// half leaves the sums of 32 columns in tmp, 32 words a row.
func (t strip) half(half int, a reg.GPVirtual) {
	for i := range 2 * t.high {
		tile("TILEZERO", []int{i})
	}
	b, bs, ars, steps := Ptr("b"), Ptr("bs"), Ptr("ars"), Ptr("steps")
	ADDQ(U32(128*half), b)
	aks := GP64()
	if t.int8 {
		Load(Param("aks"), aks)
	} else {
		MOVQ(U32(64), aks)
	}
	at := []reg.GPVirtual{GP64(), GP64()}
	MOVQ(a, at[0])
	if t.high == 2 {
		MOVQ(ars, at[1])
		SHLQ(U8(4), at[1])
		ADDQ(a, at[1])
	}
	sixteen := GP64()
	MOVQ(bs, sixteen)
	SHLQ(U8(4), sixteen)
	loop := Fresh("step")
	Label(loop)
	t.multiply(at, ars, b, bs)
	for r := range t.high {
		ADDQ(aks, at[r])
	}
	ADDQ(sixteen, b)
	DECQ(steps)
	JNZ(LabelRef(loop))
	t.store()
}

// multiply adds the product of 64 bytes of each row of A and 16 groups of B.
func (t strip) multiply(at []reg.GPVirtual, ars, b, bs reg.GPVirtual) {
	for r := range t.high {
		tile("TILELOADD", []int{tileA + r}, Mem{Base: at[r], Index: ars, Scale: 1})
	}
	for v := range 2 {
		tile("TILELOADD", []int{tileB + v}, Mem{Base: b, Index: bs, Scale: 1, Disp: 64 * v})
		for r := range t.high {
			tile(t.product, []int{2*r + v, tileA + r, tileB + v})
		}
	}
}

// store leaves the sums in tmp.
func (t strip) store() {
	tmp, row := Ptr("tmp"), GP64()
	MOVQ(U32(128), row)
	for i := range 2 * t.high {
		tile("TILESTORED", []int{i}, Mem{Base: tmp, Index: row, Scale: 1, Disp: i/2*16*128 + i%2*64})
	}
}

// put scales the sums in tmp and stores them.
func (t strip) put(half int, c, comp, rs reg.GPVirtual, k []reg.Register) {
	to, ldc, tmp, rows := GP64(), Ptr("ldc"), Ptr("tmp"), Ptr("rows")
	MOVQ(c, to)
	if half > 0 {
		ADDQ(U32(128*half), to)
	}
	SHLQ(U8(2), ldc)
	end := Fresh("end")
	sums := func(v int) Mem { return Mem{Base: tmp, Disp: 64 * v} }
	loop := func(row func(v int) reg.VecVirtual, advance func()) {
		l := Fresh("row")
		Label(l)
		for v := range 2 {
			AVX512.StoreMask(row(v), k[v], Mem{Base: to, Disp: 64 * v})
		}
		ADDQ(ldc, to)
		ADDQ(U32(128), tmp)
		advance()
		DECQ(rows)
		JNZ(LabelRef(l))
		JMP(LabelRef(end))
	}
	vectors := func(p reg.GPVirtual) (x [2]reg.VecVirtual) {
		for v := range x {
			x[v] = AVX512.LoadMask(Mem{Base: p, Disp: 128*half + 64*v}, k[v])
		}
		return
	}
	bias := Ptr("bias")
	old := func(v int) reg.VecVirtual { return AVX512.LoadMask(Mem{Base: to, Disp: 64 * v}, k[v]) }
	if t.int8 {
		cs := vectors(Ptr("cs"))
		p, q := GP64(), GP64()
		MOVQ(comp, p)
		MOVQ(rs, q)
		advance := func() {
			ADDQ(U8(4), p)
			ADDQ(U8(4), q)
		}
		scaled := func(v int) reg.VecVirtual {
			x := ZMM()
			VPBROADCASTD(Mem{Base: p}, x)
			VPADDD(sums(v), x, x)
			VCVTDQ2PS(x, x)
			VMULPS_BCST(Mem{Base: q}, x, x)
			VMULPS(cs[v], x, x)
			return x
		}
		mode := Ptr("mode")
		add, acc := Fresh("bias"), Fresh("acc")
		CMPQ(mode, U8(1))
		JEQ(LabelRef(add))
		JGT(LabelRef(acc))
		loop(scaled, advance)
		Label(add)
		more := vectors(bias)
		loop(func(v int) reg.VecVirtual {
			x := scaled(v)
			VADDPS(more[v], x, x)
			return x
		}, advance)
		Label(acc)
		loop(func(v int) reg.VecVirtual {
			x := scaled(v)
			VADDPS(old(v), x, x)
			return x
		}, advance)
		Label(end)
		return
	}
	alpha, beta := AVX512.Arg("alpha"), AVX512.Arg("beta")
	more := [2]reg.VecVirtual{AVX512.Zero(), AVX512.Zero()}
	none, acc := Fresh("none"), Fresh("acc")
	TESTQ(bias, bias)
	JZ(LabelRef(none))
	for v, x := range vectors(bias) {
		VMOVAPS(x, more[v])
	}
	Label(none)
	zero := AVX512.Zero()
	VUCOMISS(zero.AsX(), beta.AsX())
	JNE(LabelRef(acc))
	JPS(LabelRef(acc))
	scaled := func(v int) reg.VecVirtual {
		x := ZMM()
		VMOVAPS(more[v], x)
		VFMADD231PS(sums(v), alpha, x)
		return x
	}
	loop(scaled, func() {})
	Label(acc)
	loop(func(v int) reg.VecVirtual {
		x := scaled(v)
		VFMADD231PS(old(v), beta, x)
		return x
	}, func() {})
	Label(end)
}

// packed is a strip of all depth times a panel of 32 rows of codes at two bits: 64 codes of each are unpacked to one of two
// places in the first-level cache while those in the other are multiplied.
func (t strip) packed() {
	routine(fmt.Sprintf("pstrip%dAMX", 16*t.high), "func(c *float32, ldc int, a *int8, ars int, panel *uint8, blocks int, "+
		"comp *int32, rs, cs, bias *float32, mode, cols, rows int, shape *uint8, tmp, codes *int32)",
		`c[i,j] = float32(comp[i] + sum a[i,:]*b[:,j]) * rs[i] * cs[j], mode 1 adds bias[j]; j < cols, 32 at most. Blocks of the
panel are 16 codes of each column at two bits, byte 4*j+b has codes b, 4+b, 8+b, 12+b of column j. Row i of a begins at i*ars;
codes have room for 4096 of them.`)
	shape := Ptr("shape")
	tile("LDTILECFG", nil, Mem{Base: shape})
	k := AVX512.Masks(Ptr("cols"), 2)
	t.fetch(0, Ptr("c"))
	for i := range 2 * t.high {
		tile("TILEZERO", []int{i})
	}
	panel, blocks, low := Ptr("panel"), Ptr("blocks"), AVX512.Bits(0x03030303)
	steps := Clone(blocks)
	ADDQ(U8(3), steps)
	SHRQ(U8(2), steps)
	unpack := func(place reg.GPVirtual) {
		dst, n := Clone(place), GP64()
		loop, end := Fresh("block"), Fresh("unpacked")
		MOVQ(U32(4), n)
		CMPQ(blocks, n)
		CMOVQLT(blocks, n)
		SUBQ(n, blocks)
		TESTQ(n, n)
		JZ(LabelRef(end))
		Label(loop)
		unpackBlock(dst, panel, low)
		ADDQ(U32(128), panel)
		ADDQ(U32(512), dst)
		DECQ(n)
		JNZ(LabelRef(loop))
		Label(end)
	}
	ars, row := Ptr("ars"), GP64()
	MOVQ(U32(128), row)
	at := []reg.GPVirtual{Ptr("a"), GP64()}
	if t.high == 2 {
		MOVQ(ars, at[1])
		SHLQ(U8(4), at[1])
		ADDQ(at[0], at[1])
	}
	this, next := Ptr("codes"), Ptr("codes")
	ADDQ(U32(2048), next)
	unpack(this)
	Label("step")
	unpack(next)
	t.multiply(at, ars, this, row)
	for r := range t.high {
		ADDQ(U8(64), at[r])
	}
	XCHGQ(this, next)
	DECQ(steps)
	JNZ(LabelRef("step"))
	t.store()
	t.put(0, Ptr("c"), Ptr("comp"), Ptr("rs"), k)
	tile("TILERELEASE", nil)
	AVX512.End()
}

// tiles is the bare product of whole tiles: sums stay in tile registers until they are stored.
func tiles() {
	routine("tilesAMX", "func(c *float32, cs int, a *float32, as, a16, astep int, b *float32, bs, b16, bstep int, "+
		"steps, strips, groups, acc int, shape *uint8)",
		`c[i,j] = sum a[i,:]*b[:,j], or += with acc 1; i < 32*strips, j < 32*groups, 16*steps words. Words of a and b are two
bfloat16. Rows of c lie cs bytes apart; rows of a as, 16 rows a16, 16 words of a row astep; rows of b bs, 16 columns b16, 16
rows bstep.`)
	shape := Ptr("shape")
	tile("LDTILECFG", nil, Mem{Base: shape})
	c, cs, a, as, bs, strips := Ptr("c"), Ptr("cs"), Ptr("a"), Ptr("as"), Ptr("bs"), Ptr("strips")
	Label("strip")
	to, bp, groups := Clone(c), Ptr("b"), Ptr("groups")
	Label("group")
	sums := func(op string) {
		low := Clone(cs)
		SHLQ(U8(4), low)
		ADDQ(to, low)
		for i, p := range []reg.GPVirtual{to, to, low, low} {
			tile(op, []int{i}, Mem{Base: p, Index: cs, Scale: 1, Disp: i % 2 * 64})
		}
	}
	acc := Ptr("acc")
	TESTQ(acc, acc)
	JNZ(LabelRef("more"))
	for i := range 4 {
		tile("TILEZERO", []int{i})
	}
	JMP(LabelRef("multiply"))
	Label("more")
	sums("TILELOADD")
	Label("multiply")
	at := []reg.GPVirtual{Clone(a), Ptr("a16")}
	ADDQ(a, at[1])
	b := []reg.GPVirtual{Clone(bp), Ptr("b16")}
	ADDQ(bp, b[1])
	steps := Ptr("steps")
	Label("step")
	for r := range 2 {
		tile("TILELOADD", []int{tileA + r}, Mem{Base: at[r], Index: as, Scale: 1})
	}
	for v := range 2 {
		tile("TILELOADD", []int{tileB + v}, Mem{Base: b[v], Index: bs, Scale: 1})
		for r := range 2 {
			tile("TDPBF16PS", []int{2*r + v, tileA + r, tileB + v})
		}
	}
	for i := range 2 {
		ADDQ(Arg("astep"), at[i])
		ADDQ(Arg("bstep"), b[i])
	}
	DECQ(steps)
	JNZ(LabelRef("step"))
	sums("TILESTORED")
	ADDQ(U32(128), to)
	for range 2 {
		ADDQ(Arg("b16"), bp)
	}
	DECQ(groups)
	JNZ(LabelRef("group"))
	for range 2 {
		ADDQ(Arg("a16"), a)
	}
	low := Clone(cs)
	SHLQ(U8(5), low)
	ADDQ(low, c)
	DECQ(strips)
	JNZ(LabelRef("strip"))
	tile("TILERELEASE", nil)
	AVX512.End()
}

// unpackBlock writes a block of codes at two bits, 128 bytes, as groups of B: dst[128*p+i] = panel[i]>>(2*p) & 3.
func unpackBlock(dst, panel reg.GPVirtual, low reg.VecVirtual) {
	for v := range 2 {
		line := ZMM()
		VMOVDQU64(Mem{Base: panel, Disp: 64 * v}, line)
		Fetch(Mem{Base: panel, Disp: 64 * v})
		for p := range 4 {
			x := ZMM()
			if p == 0 {
				VPANDD(low, line, x)
			} else {
				VPSRLD(U8(2*p), line, x)
				VPANDD(low, x, x)
			}
			VMOVDQU64(x, Mem{Base: dst, Disp: 128*p + 64*v})
		}
	}
}

// turnWords transposes 16 x 16 words.
func turnWords() {
	routine("turnWordsAVX512", "func(dst, src *int8, ss int)", "dst[64*j+4*i+b] = src[i*ss+4*j+b], i, j < 16, b < 4")
	dst, src, ss := Ptr("dst"), Ptr("src"), Ptr("ss")
	var x [16]reg.VecVirtual
	for i := range x {
		x[i] = ZMM()
		VMOVDQU64(Mem{Base: src}, x[i])
		ADDQ(ss, src)
	}
	// Words, then pairs of words, then quarters change places.
	y := func() (y [16]reg.VecVirtual) {
		for i := range y {
			y[i] = ZMM()
		}
		return
	}
	u := y()
	for i := 0; i < 16; i += 2 {
		VPUNPCKLDQ(x[i+1], x[i], u[i])
		VPUNPCKHDQ(x[i+1], x[i], u[i+1])
	}
	v := y()
	for i := 0; i < 16; i += 4 {
		for h := range 2 {
			VPUNPCKLQDQ(u[i+2+h], u[i+h], v[i+2*h])
			VPUNPCKHQDQ(u[i+2+h], u[i+h], v[i+2*h+1])
		}
	}
	// v[4i+c] has, in quarter q, column 4q+c of rows 4i to 4i+3.
	for c := range 4 {
		lo, hi, lo2, hi2 := ZMM(), ZMM(), ZMM(), ZMM()
		VSHUFI64X2(U8(0x44), v[4+c], v[c], lo) // quarters 0, 1 of rows 0-3 and of 4-7
		VSHUFI64X2(U8(0xee), v[4+c], v[c], hi)
		VSHUFI64X2(U8(0x44), v[12+c], v[8+c], lo2)
		VSHUFI64X2(U8(0xee), v[12+c], v[8+c], hi2)
		for q, from := range [4][3]any{{U8(0x88), lo, lo2}, {U8(0xdd), lo, lo2}, {U8(0x88), hi, hi2}, {U8(0xdd), hi, hi2}} {
			z := ZMM()
			VSHUFI64X2(from[0].(U8), from[2].(reg.VecVirtual), from[1].(reg.VecVirtual), z)
			VMOVDQU64(z, Mem{Base: dst, Disp: 64 * (4*q + c)})
		}
	}
	AVX512.End()
}

func routine(name, signature, doc string) {
	TEXT(name, NOSPLIT, signature)
	Pragma("noescape")
	Doc(strings.Split(name+": "+doc, "\n")...)
}

// tile adds an instruction on tile registers, which avo does not know; encode writes it in bytes.
func tile(opcode string, tiles []int, m ...Mem) {
	i := &ir.Instruction{Opcode: opcode}
	for _, t := range tiles {
		i.Operands = append(i.Operands, U8(t))
	}
	for _, m := range m {
		i.Operands = append(i.Operands, m)
		i.Inputs = append(i.Inputs, m)
	}
	Instruction(i)
}

var opcodes = map[string]struct{ prefix, code byte }{
	"LDTILECFG": {0, 0x49}, "TILERELEASE": {0, 0x49}, "TILEZERO": {3, 0x49}, "TILELOADD": {3, 0x4b}, "TILESTORED": {2, 0x4b},
	"TDPBSUD": {2, 0x5e}, "TDPBF16PS": {2, 0x5c},
}

// encode puts the bytes of tile instructions in the place of their names: a VEX prefix of three bytes, map 0F38, W 0.
func encode(path string) {
	text, err := os.ReadFile(path)
	if err != nil {
		log.Fatal(err)
	}
	lines := strings.Split(string(text), "\n")
	for i, line := range lines {
		fields := strings.Fields(strings.ReplaceAll(line, ",", " "))
		if len(fields) == 0 {
			continue
		}
		if op, ok := opcodes[fields[0]]; ok {
			code := bytesOf(fields[0], op.prefix, op.code, fields[1:])
			out := "\t"
			for j, b := range code {
				if j > 0 {
					out += "; "
				}
				out += fmt.Sprintf("BYTE $0x%02x", b)
			}
			lines[i] = out + " // " + strings.Join(strings.Fields(line), " ")
		}
	}
	if err := os.WriteFile(path, []byte(strings.Join(lines, "\n")), 0o666); err != nil {
		log.Fatal(err)
	}
}

var (
	registers = []string{"AX", "CX", "DX", "BX", "SP", "BP", "SI", "DI", "R8", "R9", "R10", "R11", "R12", "R13", "R14", "R15"}
	memory    = regexp.MustCompile(`^(-?\d+)?\((\w+)\)(?:\((\w+)\*1\))?$`)
)

func bytesOf(name string, prefix, code byte, operands []string) []byte {
	var tiles []byte
	base, index, disp := -1, -1, 0
	for _, o := range operands {
		if strings.HasPrefix(o, "$") {
			t, err := strconv.ParseUint(o[1:], 0, 8)
			if err != nil {
				log.Fatal(err)
			}
			tiles = append(tiles, byte(t))
			continue
		}
		m := memory.FindStringSubmatch(o)
		if m == nil {
			log.Fatalf("%s: operand %s", name, o)
		}
		disp, _ = strconv.Atoi(m[1])
		for i, r := range registers {
			if r == m[2] {
				base = i
			}
			if r == m[3] {
				index = i
			}
		}
	}
	inverted := func(r int) byte { return byte(^r>>3&1) & 1 }
	x, b, v := byte(1), byte(1), byte(15)
	var tail []byte
	switch name {
	case "TILERELEASE":
		tail = []byte{0xc0}
	case "TILEZERO":
		tail = []byte{0xc0 | tiles[0]<<3}
	case "TDPBSUD", "TDPBF16PS": // sums, A, B
		v = ^tiles[2] & 15
		tail = []byte{0xc0 | tiles[0]<<3 | tiles[1]}
	default:
		reg := byte(0)
		if len(tiles) > 0 {
			reg = tiles[0]
		}
		none := index < 0
		if none {
			index = 4
		}
		x, b = inverted(index), inverted(base)
		tail = []byte{0x84 | reg<<3, byte(index&7<<3 | base&7), byte(disp), byte(disp >> 8), byte(disp >> 16), byte(disp >> 24)}
	}
	return append([]byte{0xc4, 0x80 | x<<6 | b<<5 | 2, v<<3 | prefix, code}, tail...)
}
