package ptx

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
)

// Where the windows of shared and local memory lie in the generic address space, and where those spaces begin: not at
// 0, so that a null pointer is no address.
const (
	sharedWindow = 0x7f0000000000
	localWindow  = 0x7e0000000000
	windowSize   = 1 << 32
	origin       = 256
	redZone      = 32 // bytes between the variables of a block
)

type bank uint8

const (
	bankP bank = iota
	bank32
	bank64
)

type reg struct {
	bank  bank
	size  int // bytes of the declared type
	index int32
}

// use is a register, for the dataflow.
type use struct {
	bank  bank
	index int32
}

// kernel is a compiled entry.
type kernel struct {
	name       string
	lines      []string
	blocks     []basic
	params     []*variable
	paramBytes int
	n32, n64   int
	nP         int
	const32    map[uint32]int32
	const64    map[uint64]int32
	param32    []paramReg
	param64    []paramReg
	sregs      map[string]int32 // of bank32
	mems       int              // memory instructions with a cache
	vars       []*variable      // shared, laid out
	shared     int              // static bytes, as a GPU packs them
	span       int              // static bytes here, with red zones
	dynamic    bool             // has a dynamic array
	dynAlign   int
	local      int
	granule    uint // log2 of the bytes that shadow memory tells apart
	serial     bool // blocks run in order: atomics in global memory
	maxTID     int
	reqTID     [3]int
	undefined  []use // registers that may be read before they are written
}

// A paramReg is a register that holds part of the arguments.
type paramReg struct {
	reg       int32
	off, size int
	signed    bool
	to        int // bytes of the register
}

type compiler struct {
	file          *file
	fn            *function
	k             *kernel
	addrs         map[string]uint64 // of .global and .const variables
	regs          map[string]reg
	vars          map[string]*variable
	s             *stmt
	m             mods
	cur           []inst
	uses          []use
	defs          []use
	flow          []flow // by basic block
	read, written marks
	blocks        []basic
	labels        map[string]int
	lists         map[string][]string
	end           *basic // how the current block ends
	members       func(w *warp, m uint32) uint32
	minMem        int // smallest access to memory that may be shared
	expand        int
}

// flow is what a block reads before it writes it, and what it surely writes.
type flow struct{ use, def []use }

// mods are the modifiers of an opcode that no one has asked about yet.
type mods []string

func (m *mods) has(s string) bool {
	if i := slices.Index(*m, s); i >= 0 {
		*m = slices.Delete(*m, i, i+1)
		return true
	}
	return false
}

func (m *mods) oneOf(list ...string) string {
	for _, s := range list {
		if m.has(s) {
			return s
		}
	}
	return ""
}

// last takes the last modifier, the type.
func (c *compiler) last() string {
	if len(c.m) == 0 {
		c.fail("unknown instruction %s", c.s.full)
	}
	s := c.m[len(c.m)-1]
	c.m = c.m[:len(c.m)-1]
	if s == "" {
		c.fail("unknown instruction %s", c.s.full)
	}
	return s
}

func (c *compiler) fail(format string, args ...any) {
	line := c.fn.line
	if c.s != nil {
		line = c.s.line
	}
	panic(c.file.lex.errorf(line, format, args...))
}

// done rejects modifiers that nobody asked about.
func (c *compiler) done() {
	if len(c.m) > 0 {
		c.fail("modifier .%s is not supported", c.m[0])
	}
}

func (c *compiler) nargs(n ...int) {
	if !slices.Contains(n, len(c.s.args)) {
		c.fail("%d operands", len(c.s.args))
	}
}

func (c *compiler) register(a arg) reg {
	if a.kind != aReg {
		c.fail("expected a register")
	}
	if a.name == "_" {
		c.fail("_ cannot stand here")
	}
	r, ok := c.regs[a.name]
	if !ok {
		t, declared := c.fn.regs[a.name]
		if !declared {
			c.fail("register %s is not declared", a.name)
		}
		switch typeSizes[t] {
		case 0:
			r = reg{bankP, 0, int32(c.k.nP)}
			c.k.nP++
		case 8:
			r = reg{bank64, 8, int32(c.k.n64)}
			c.k.n64++
		default:
			r = reg{bank32, typeSizes[t], int32(c.k.n32)}
			c.k.n32++
		}
		c.regs[a.name] = r
	}
	return r
}

func (c *compiler) scratch(b bank) int32 {
	switch b {
	case bankP:
		c.k.nP++
		return int32(c.k.nP - 1)
	case bank32:
		c.k.n32++
		return int32(c.k.n32 - 1)
	}
	c.k.n64++
	return int32(c.k.n64 - 1)
}

func (c *compiler) imm32(v uint32) int32 {
	i, ok := c.k.const32[v]
	if !ok {
		i = c.scratch(bank32)
		c.k.const32[v] = i
	}
	return i
}

func (c *compiler) imm64(v uint64) int32 {
	i, ok := c.k.const64[v]
	if !ok {
		i = c.scratch(bank64)
		c.k.const64[v] = i
	}
	return i
}

// isFloat tells types whose constants are written as floats.
func isFloat(t string) bool { return t[0] == 'f' || t[0] == 'b' && len(t) > 3 }

// src is an operand of type t: the index of its column, in bank32 or bank64 by the size of t.
func (c *compiler) src(a arg, t string) int32 {
	size := typeSizes[t]
	if size == 0 {
		c.fail("type .%s is not supported here", t)
	}
	switch a.kind {
	case aReg:
		if i, ok := c.special(a.name, size); ok {
			return i
		}
		r := c.register(a)
		if r.bank == bankP || r.size != size {
			c.fail("%s is not of %d bytes", a.name, size)
		}
		c.uses = append(c.uses, use{r.bank, r.index})
		return r.index
	case aName:
		if size != 8 && size != 4 {
			c.fail("address %s of %d bytes", a.name, size)
		}
		v := c.address(a.name) + uint64(a.off)
		if size == 4 {
			if v >= windowSize {
				c.fail("address of %s does not fit", a.name)
			}
			return c.imm32(uint32(v))
		}
		return c.imm64(v)
	case aInt:
		if isFloat(t) && t != "f16" && t != "bf16" && len(t) < 5 {
			c.fail("integer constant for .%s", t)
		}
		switch size {
		case 8:
			return c.imm64(a.bits)
		case 4:
			return c.imm32(uint32(a.bits))
		}
		return c.imm32(uint32(a.bits) & (1<<(8*size) - 1))
	case aFloat:
		if size != 4 {
			c.fail("float constant for .%s", t)
		}
		return c.imm32(uint32(a.bits))
	case aDouble:
		if size == 4 && t == "f32" {
			return c.imm32(math.Float32bits(float32(math.Float64frombits(a.bits))))
		}
		if size != 8 {
			c.fail("double constant for .%s", t)
		}
		return c.imm64(a.bits)
	}
	c.fail("operand is not supported here")
	return 0
}

// dst is a result of type t.
func (c *compiler) dst(a arg, t string) int32 {
	size := typeSizes[t]
	if size == 0 {
		c.fail("type .%s is not supported here", t)
	}
	b := bank32
	if size == 8 {
		b = bank64
	}
	if a.kind == aReg && a.name == "_" {
		return c.scratch(b)
	}
	r := c.register(a)
	if r.bank != b || r.size != size {
		c.fail("%s is not of %d bytes", a.name, size)
	}
	c.defs = append(c.defs, use{r.bank, r.index})
	return r.index
}

// srcP is a predicate: its index, or the mask of lanes of a constant (index -1).
func (c *compiler) srcP(a arg) (index int32, not bool) {
	if a.kind == aInt { // clang writes true as -1
		return c.alwaysP(), a.bits == 0
	}
	r := c.register(a)
	if r.bank != bankP {
		c.fail("%s is not a predicate", a.name)
	}
	c.uses = append(c.uses, use{bankP, r.index})
	return r.index, a.not
}

// alwaysP is predicate 0, true in all lanes.
func (c *compiler) alwaysP() int32 { return 0 }

func (c *compiler) dstP(a arg) int32 {
	if a.kind == aReg && a.name == "_" {
		return c.scratch(bankP)
	}
	r := c.register(a)
	if r.bank != bankP || a.not {
		c.fail("%s is not a predicate to write", a.name)
	}
	c.defs = append(c.defs, use{bankP, r.index})
	return r.index
}

func pmask(p uint32, not bool) uint32 {
	if not {
		return ^p
	}
	return p
}

var specials = []string{"%tid.x", "%tid.y", "%tid.z", "%ntid.x", "%ntid.y", "%ntid.z", "%ctaid.x", "%ctaid.y",
	"%ctaid.z",
	"%nctaid.x", "%nctaid.y", "%nctaid.z", "%laneid",
	"%warpid", "%nwarpid", "%lanemask_eq", "%lanemask_le", "%lanemask_lt",
	"%lanemask_ge", "%lanemask_gt", "%smid", "%nsmid", "%gridid", "%dynamic_smem_size", "%total_smem_size", "WARP_SZ"}

func (c *compiler) special(name string, size int) (int32, bool) {
	if _, ok := c.fn.regs[name]; ok {
		return 0, false
	}
	if !slices.Contains(specials, name) {
		return 0, false
	}
	if size != 4 {
		c.fail("%s has 4 bytes", name)
	}
	i, ok := c.k.sregs[name]
	if !ok {
		i = c.scratch(bank32)
		c.k.sregs[name] = i
	}
	return i, true
}

// address is a variable's address in its own space.
func (c *compiler) address(name string) uint64 {
	if v, ok := c.vars[name]; ok {
		if v.space == parameter {
			c.fail("the address of parameter %s is not supported", name)
		}
		return uint64(v.offset)
	}
	if a, ok := c.addrs[name]; ok {
		return a
	}
	c.fail("unknown name %s", name)
	return 0
}

func (c *compiler) emit(in inst) {
	in.line = int32(c.s.line)
	if c.s.guard != "" {
		in.guard = c.guard()
	}
	c.cur = append(c.cur, in)
}

func (c *compiler) guard() int32 {
	if c.s.guard == "" {
		return 0
	}
	i, _ := c.srcP(arg{kind: aReg, name: c.s.guard})
	if c.s.not {
		return -i - 1
	}
	return i + 1
}

func (c *compiler) run(f func(w *warp, m uint32)) { c.emit(inst{kind: kRun, run: f}) }
func (c *compiler) w32(d int32, f func(w *warp, d *col32)) {
	c.emit(inst{kind: kw32, d: d, w32: f})
}
func (c *compiler) w64(d int32, f func(w *warp, d *col64)) {
	c.emit(inst{kind: kw64, d: d, w64: f})
}
func (c *compiler) wp(d int32, f func(w *warp) uint32) { c.emit(inst{kind: kwp, d: d, wp: f}) }

// flatten gives the body of a function with its calls replaced by the bodies called. Names of the callee get a prefix;
// its parameters become the caller's variables.
func (c *compiler) flatten(f *function, depth int) []stmt {
	if depth > 32 {
		c.s = nil
		c.fail("%s: calls are nested too deeply, or recursive", f.name)
	}
	var out []stmt
	for i := range f.body {
		s := &f.body[i]
		if s.op != "call" {
			out = append(out, *s)
			if len(out) > 1<<20 {
				c.fail("too long")
			}
			continue
		}
		out = append(out, c.inline(s, depth)...)
		if len(out) > 1<<20 {
			c.fail("too long")
		}
	}
	return out
}

func (c *compiler) inline(s *stmt, depth int) []stmt {
	c.s, c.m = s, slices.Clone(s.mods)
	c.m.has("uni")
	c.done()
	var results, params []arg
	args := s.args
	if len(args) > 0 && args[0].kind == aTuple {
		results, args = args[0].list, args[1:]
	}
	if len(args) == 0 || args[0].kind != aName {
		c.fail("only direct calls are supported")
	}
	f := c.file.funcs[args[0].name]
	if f == nil || !f.defined || f.entry {
		c.fail("no device function %s", args[0].name)
	}
	if len(args) == 2 && args[1].kind == aTuple {
		params = args[1].list
	} else if len(args) != 1 {
		c.fail("only direct calls are supported")
	}
	if len(params) != len(f.params) || len(results) != len(f.results) {
		c.fail("%s has %d parameters and %d results", f.name, len(f.params), len(f.results))
	}
	if s.guard != "" {
		c.fail("a guarded call is not supported")
	}
	c.expand++
	if c.expand > 10000 {
		c.fail("too many calls")
	}
	prefix := "call" + strconv.Itoa(c.expand) + ":"
	names := map[string]string{}
	bind := func(formal []*variable, actual []arg) {
		for i, v := range formal {
			u := c.vars[actual[i].name]
			if actual[i].kind != aName || u == nil || u.space != local || u.size != v.size {
				c.fail("argument %d of %s is not a parameter variable of its size", i+1, f.name)
			}
			names[v.name] = actual[i].name
		}
	}
	bind(f.params, params)
	bind(f.results, results)
	for r, t := range f.regs {
		names[r] = prefix + r
		c.fn.regs[prefix+r] = t
	}
	for _, v := range f.vars {
		if v.space == shared {
			c.addVar(v.name, v)
			continue
		}
		u := *v
		names[v.name] = prefix + v.name
		c.addVar(prefix+v.name, &u)
	}
	end := prefix + "end"
	rename := func(n string) string {
		if m, ok := names[n]; ok {
			return m
		}
		return n
	}
	var fix func(a arg) arg
	fix = func(a arg) arg {
		a.name = rename(a.name)
		a.list = slices.Clone(a.list)
		for i := range a.list {
			a.list[i] = fix(a.list[i])
		}
		return a
	}
	for i := range f.body {
		if l := f.body[i].label; l != "" {
			names[l] = prefix + l
		}
	}
	g := *f
	g.body = make([]stmt, len(f.body))
	for i, t := range f.body {
		t.label = rename(t.label)
		t.guard = rename(t.guard)
		t.args = slices.Clone(t.args)
		for j := range t.args {
			t.args[j] = fix(t.args[j])
		}
		t.list = slices.Clone(t.list)
		for j := range t.list {
			t.list[j] = rename(t.list[j])
		}
		if t.op == "ret" {
			t.op, t.mods, t.args = "bra", nil, []arg{{kind: aName, name: end}}
		}
		g.body[i] = t
	}
	out := c.flatten(&g, depth+1)
	return append(out, stmt{line: s.line, label: end})
}

// addVar lays out a variable of a function.
func (c *compiler) addVar(name string, v *variable) {
	if _, ok := c.vars[name]; ok {
		return
	}
	k := c.k
	u := *v
	switch v.space {
	case shared:
		k.shared = align(k.shared, v.align) + v.size
		u.offset = align(k.span, max(v.align, 16)) + origin
		k.span = u.offset - origin + v.size + redZone
		k.vars = append(k.vars, &u)
	case local, parameter:
		u.space = local
		u.offset = align(k.local, max(v.align, 16)) + origin
		k.local = align(k.local, max(v.align, 16)) + v.size
		if k.local > 1<<20 {
			panic(c.file.lex.errorf(v.line, "too much local memory"))
		}
	}
	if k.span > 1<<24 {
		panic(c.file.lex.errorf(v.line, "too much shared memory"))
	}
	c.vars[name] = &u
}

func align(x, a int) int { return (x + a - 1) / a * a }

// compile compiles an entry.
func compile(f *file, fn *function, addrs map[string]uint64) (k *kernel, err error) {
	copied := *fn
	copied.regs = map[string]string{}
	for r, t := range fn.regs {
		copied.regs[r] = t
	}
	k = &kernel{name: fn.name, lines: f.lex.lines, params: fn.params, maxTID: fn.maxTID, reqTID: fn.reqTID, nP: 1,
		const32: map[uint32]int32{}, const64: map[uint64]int32{}, sregs: map[string]int32{}, dynAlign: 1}
	c := &compiler{file: f, fn: &copied, k: k, addrs: addrs, regs: map[string]reg{}, vars: map[string]*variable{},
		labels: map[string]int{}, lists: map[string][]string{}, minMem: 16}
	defer func() {
		if r := recover(); r != nil {
			e, ok := r.(*syntaxError)
			if !ok {
				panic(r)
			}
			k, err = nil, fmt.Errorf("kernel %s: %w", fn.name, e)
		}
	}()
	c.compile()
	return k, nil
}

func (c *compiler) compile() {
	k := c.k
	for _, p := range c.fn.params {
		k.paramBytes = align(k.paramBytes, p.align)
		p.offset = k.paramBytes
		k.paramBytes += p.size
		c.vars[p.name] = p
	}
	if k.paramBytes > 4096 {
		c.fail("%d bytes of parameters, more than 4096", k.paramBytes)
	}
	// Reserve index 0 of each bank for operands that do not exist.
	c.scratch(bank32)
	c.scratch(bank64)
	for _, v := range c.fn.vars {
		c.addVar(v.name, v)
	}
	body := c.flatten(c.fn, 0)
	c.sharedOf(body)
	c.code(body)
	k.blocks = c.blocks
	postDominators(k.blocks)
	c.undefined()
	for 1<<(k.granule+1) <= c.minMem {
		k.granule++
	}
}

// sharedOf lays out the module's shared variables that the code names.
func (c *compiler) sharedOf(body []stmt) {
	var visit func(a *arg)
	visit = func(a *arg) {
		if a.name != "" && (a.kind == aName || a.kind == aMem && !a.reg) {
			if _, ok := c.vars[a.name]; !ok {
				for _, v := range c.file.vars {
					if v.name != a.name || v.space != shared {
						continue
					}
					if v.size > 0 {
						c.addVar(v.name, v)
					} else {
						c.k.dynamic = true
						c.k.dynAlign = max(c.k.dynAlign, v.align)
					}
				}
			}
		}
		for i := range a.list {
			visit(&a.list[i])
		}
	}
	for i := range body {
		c.s = &body[i]
		for j := range body[i].args {
			visit(&body[i].args[j])
		}
	}
	k := c.k
	if k.dynamic {
		at := align(k.span, max(k.dynAlign, 16))
		k.span = at
		k.shared = align(k.shared, k.dynAlign)
		for _, v := range c.file.vars {
			if v.space == shared && v.size == 0 {
				u := *v
				u.offset = at + origin
				c.vars[v.name] = &u
			}
		}
	}
}

// collective tells instructions that need lanes to meet.
func collective(s *stmt) bool {
	switch s.op {
	case "shfl", "vote", "match", "redux", "mma", "ldmatrix":
		return true
	case "bar", "barrier":
		return slices.Contains(s.mods, "warp")
	}
	return false
}

// code compiles the statements into basic blocks.
func (c *compiler) code(body []stmt) {
	// First where blocks begin, so that labels have numbers.
	starts := make([]bool, len(body)+1)
	for i := range body {
		s := &body[i]
		switch {
		case s.label != "":
			if _, ok := c.labels[s.label]; ok {
				c.s = s
				c.fail("label %s is defined twice", s.label)
			}
			c.labels[s.label] = -1
			starts[i] = true
		case ends(s):
			starts[i+1] = true
		case collective(s):
			starts[i] = true
		}
	}
	n := 0
	for i := range body {
		if starts[i] && i > 0 {
			n++
		}
		if s := &body[i]; s.label != "" {
			c.labels[s.label] = n
			if s.list != nil {
				c.lists[s.label] = s.list
			}
		}
	}
	for i := range body {
		if starts[i] && i > 0 {
			c.close(basic{end: endFall})
		}
		c.s = &body[i]
		if c.s.label == "" {
			c.statement()
		}
	}
	last := basic{end: endExit}
	c.close(last)
	if len(c.blocks) != n+1 && len(body) > 0 {
		c.fail("internal: %d blocks, not %d", len(c.blocks), n+1)
	}
	// Code that runs off the end of the body exits; a block after the last one catches it.
	c.blocks = append(c.blocks, basic{end: endExit, line: c.blocks[len(c.blocks)-1].line})
	c.flow = append(c.flow, flow{})
}

// ends tells instructions that end a block.
func ends(s *stmt) bool {
	switch s.op {
	case "bra", "brx", "ret", "exit", "trap":
		return true
	case "bar", "barrier":
		return !slices.Contains(s.mods, "warp")
	}
	return false
}

func (c *compiler) label(a arg) int32 {
	if a.kind != aName {
		c.fail("expected a label")
	}
	n, ok := c.labels[a.name]
	if !ok {
		c.fail("unknown label %s", a.name)
	}
	return int32(n)
}

// statement compiles one instruction.
func (c *compiler) statement() {
	c.m = slices.Clone(c.s.mods)
	c.uses, c.defs = c.uses[:0], c.defs[:0]
	if f, ok := opcodes[c.s.op]; ok {
		f(c)
	} else {
		c.fail("unknown instruction %s", c.s.full)
	}
	c.note()
}

// note adds the operands of an instruction to its block's dataflow.
func (c *compiler) note() {
	for len(c.flow) <= len(c.blocks) {
		c.flow = append(c.flow, flow{})
	}
	f := &c.flow[len(c.blocks)]
	for _, u := range c.uses {
		if c.mark(&c.read, u, false) && c.mark(&c.written, u, false) {
			c.mark(&c.read, u, true)
			f.use = append(f.use, u)
		}
	}
	for _, d := range c.defs {
		if c.s.guard == "" && c.mark(&c.written, d, true) {
			f.def = append(f.def, d)
		}
	}
}

// marks has for each register the last block, and one, in which something happened to it.
type marks [3][]int32

// mark reports whether it has not happened to u in this block, and says that it now has.
func (c *compiler) mark(m *marks, u use, set bool) bool {
	l := &m[u.bank]
	if int(u.index) >= len(*l) {
		*l = append(*l, make([]int32, int(u.index)+1-len(*l)+64)...)
	}
	now := int32(len(c.blocks) + 1)
	fresh := (*l)[u.index] != now
	if set {
		(*l)[u.index] = now
	}
	return fresh
}

// close ends the current block. Instructions that end one have left how in c.end.
func (c *compiler) close(b basic) {
	if e := c.end; e != nil {
		b, c.end = *e, nil
	}
	b.code, c.cur = c.cur, nil
	if c.members != nil {
		b.members, c.members = c.members, nil
	}
	for len(c.flow) <= len(c.blocks) {
		c.flow = append(c.flow, flow{})
	}
	if b.line == 0 && c.s != nil {
		b.line = int32(c.s.line)
	}
	c.blocks = append(c.blocks, b)
}

// undefined finds the registers that are live at the entry.
func (c *compiler) undefined() {
	n := len(c.blocks)
	start := [3]int{0, c.k.nP, c.k.nP + c.k.n32}
	words := (start[bank64] + c.k.n64 + 63) / 64
	set := func(list []use) []uint64 {
		s := make([]uint64, words)
		for _, u := range list {
			i := start[u.bank] + int(u.index)
			s[i/64] |= 1 << (i % 64)
		}
		return s
	}
	live, def := make([][]uint64, n), make([][]uint64, n)
	for i := range live {
		live[i], def[i] = set(c.flow[i].use), set(c.flow[i].def)
	}
	for changed := true; changed; {
		changed = false
		for i := n - 1; i >= 0; i-- {
			c.blocks[i].successors(i, func(s int) {
				if s == n {
					return
				}
				for j, x := range live[s] {
					if x &^= def[i][j] | live[i][j]; x != 0 {
						live[i][j] |= x
						changed = true
					}
				}
			})
		}
	}
	for b := bankP; b <= bank64; b++ {
		for i := range [...]int{c.k.nP, c.k.n32, c.k.n64}[b] {
			if j := start[b] + i; live[0][j/64]>>(j%64)&1 != 0 {
				c.k.undefined = append(c.k.undefined, use{b, int32(i)})
			}
		}
	}
}

// opcodes compile statements by the first word of their opcode.
var opcodes map[string]func(c *compiler)

func init() {
	opcodes = map[string]func(c *compiler){
		"bra": (*compiler).bra, "brx": (*compiler).brx, "ret": (*compiler).ret, "exit": (*compiler).ret,
		"trap": (*compiler).trap, "bar": (*compiler).barrier, "barrier": (*compiler).barrier,
		"ld": (*compiler).load, "ldu": (*compiler).load, "st": (*compiler).store,
		"atom": (*compiler).atom, "red": (*compiler).atom, "mov": (*compiler).mov, "cvta": (*compiler).cvta,
		"setp": (*compiler).setp, "set": (*compiler).set, "selp": (*compiler).selp, "slct": (*compiler).slct,
		"cvt": (*compiler).cvt, "shfl": (*compiler).shfl, "vote": (*compiler).vote, "match": (*compiler).match,
		"activemask": (*compiler).activemask, "redux": (*compiler).redux, "mma": (*compiler).mma,
		"ldmatrix": (*compiler).ldmatrix, "cp": (*compiler).cp, "membar": (*compiler).fence, "fence": (*compiler).fence,
		"nanosleep": (*compiler).nop, "prefetch": (*compiler).nop, "prefetchu": (*compiler).nop, "pmevent": (*compiler).nop,
		"isspacep": (*compiler).isspacep, "testp": (*compiler).testp,
		"mul": (*compiler).mul, "mad": (*compiler).mul, "mul24": (*compiler).mul24, "mad24": (*compiler).mul24,
		"div": (*compiler).div, "rem": (*compiler).div, "shl": (*compiler).shift, "shr": (*compiler).shift,
		"prmt": (*compiler).prmt, "lop3": (*compiler).lop3, "bfe": (*compiler).bfe, "bfi": (*compiler).bfi,
		"popc": (*compiler).count, "clz": (*compiler).count, "bfind": (*compiler).count, "shf": (*compiler).shf,
		"dp4a": (*compiler).dp4a, "dp2a": (*compiler).dp4a, "addc": (*compiler).carry, "subc": (*compiler).carry,
		"madc": (*compiler).carry,
	}
	for _, op := range []string{"add", "sub", "and", "or", "xor", "not", "cnot", "neg", "abs", "min", "max", "fma", "rcp",
		"sqrt", "rsqrt", "ex2", "lg2", "sin", "cos", "tanh", "copysign", "brev", "sad"} {
		opcodes[op] = (*compiler).alu
	}
}

func (c *compiler) bra() {
	uni := c.m.has("uni")
	c.done()
	c.nargs(1)
	c.end = &basic{end: endBranch, guard: c.guard(), target: c.label(c.s.args[0]), uniform: uni, line: int32(c.s.line)}
}

func (c *compiler) brx() {
	uni := c.m.has("uni")
	if !c.m.has("idx") {
		c.fail("brx without .idx")
	}
	c.done()
	c.nargs(2)
	if c.s.guard != "" {
		c.fail("a guarded brx is not supported")
	}
	b := &basic{end: endSwitch, index: c.src(c.s.args[0], "u32"), uniform: uni, line: int32(c.s.line)}
	list, ok := c.lists[c.s.args[1].name]
	if !ok {
		c.fail("no .branchtargets %s", c.s.args[1].name)
	}
	for _, l := range list {
		b.targets = append(b.targets, c.label(arg{kind: aName, name: l}))
	}
	c.end = b
}

func (c *compiler) ret() {
	c.m.has("uni")
	c.done()
	c.nargs(0)
	c.end = &basic{end: endExit, guard: c.guard(), line: int32(c.s.line)}
}

func (c *compiler) trap() {
	c.done()
	c.nargs(0)
	c.end = &basic{end: endTrap, guard: c.guard(), line: int32(c.s.line)}
}

// fence and nop do nothing here: memory has one order. Their modifiers only say what an accelerator may do.
func (c *compiler) fence() {}

func (c *compiler) nop() {
	for _, a := range c.s.args {
		if a.kind == aMem && a.reg {
			c.register(arg{kind: aReg, name: a.name})
		}
	}
}

// text is the line of the source without its comment.
func (k *kernel) text(line int32) string {
	if line < 1 || int(line) > len(k.lines) {
		return ""
	}
	s := k.lines[line-1]
	if i := strings.Index(s, "//"); i >= 0 {
		s = s[:i]
	}
	return strings.Join(strings.Fields(s), " ")
}
