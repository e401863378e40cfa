package ptx

import (
	"strconv"
	"strings"
)

// space is a PTX state space.
type space uint8

const (
	generic space = iota
	global
	shared
	local
	constant
	parameter
)

var spaces = map[string]space{"global": global, "shared": shared, "local": local, "const": constant, "param": parameter}

func (s space) String() string {
	return [...]string{"generic", "global", "shared", "local", "const", "param"}[s]
}

// file is what the parser makes of a module.
type file struct {
	lex   *lexer
	vars  []*variable
	funcs map[string]*function
	order []*function
	arch  int // 80 of .target sm_80
}

// variable is memory with a name. size 0 is a dynamic array, as large as the launch says.
type variable struct {
	name   string
	space  space
	align  int
	size   int
	init   []byte
	refs   []ref // addresses of others in init
	line   int
	offset int // its place in its space, once laid out
}

type ref struct {
	at   int
	name string
	off  int64
}

// function is an entry or a device function.
type function struct {
	name    string
	entry   bool
	params  []*variable
	results []*variable // of a device function
	maxTID  int         // 0: any
	reqTID  [3]int
	body    []stmt
	vars    []*variable       // .shared, .local and .param of the body
	regs    map[string]string // register: type
	line    int
	defined bool
}

// stmt is an instruction or a label.
type stmt struct {
	line  int
	label string
	guard string // register of @p, "" without
	not   bool   // @!p
	op    string
	mods  []string
	args  []arg
	full  string // the opcode as written
	list  []string
}

type argKind uint8

const (
	aReg argKind = iota
	aInt
	aFloat
	aDouble
	aName // symbol, label
	aMem  // [base + off]
	aVec  // {a, b, ..}
	aPair // d|p
	aTuple
)

type arg struct {
	kind argKind
	name string // register or symbol; base of aMem, "" for an absolute address
	reg  bool   // the base of aMem is a register
	bits uint64
	off  int64
	not  bool
	list []arg
}

type parser struct {
	*lexer
	tok    token
	ahead  []token
	file   *file
	fn     *function
	scopes []map[string]string // names declared in { } to their unique names
	unique int
}

func parse(src string) (f *file, err error) {
	p := &parser{lexer: newLexer(src)}
	p.file = &file{lex: p.lexer, funcs: map[string]*function{}}
	defer func() {
		if r := recover(); r != nil {
			e, ok := r.(*syntaxError)
			if !ok {
				panic(r)
			}
			f, err = nil, e
		}
	}()
	p.advance()
	p.module()
	return p.file, nil
}

func (p *parser) fail(format string, args ...any) { p.failAt(p.tok.line, format, args...) }

func (p *parser) failAt(line int, format string, args ...any) { panic(p.errorf(line, format, args...)) }

func (p *parser) advance() {
	if len(p.ahead) > 0 {
		p.tok, p.ahead = p.ahead[0], p.ahead[1:]
		return
	}
	t, err := p.next()
	if err != nil {
		panic(err)
	}
	p.tok = t
}

func (p *parser) peek() token {
	if len(p.ahead) == 0 {
		t, err := p.next()
		if err != nil {
			panic(err)
		}
		p.ahead = append(p.ahead, t)
	}
	return p.ahead[0]
}

func (p *parser) is(s string) bool {
	return (p.tok.kind == tPunct || p.tok.kind == tWord) && p.tok.text == s
}

func (p *parser) accept(s string) bool {
	if p.is(s) {
		p.advance()
		return true
	}
	return false
}

func (p *parser) expect(s string) {
	if !p.accept(s) {
		p.fail("expected %q, found %q", s, p.tok.text)
	}
}

func (p *parser) word() string {
	if p.tok.kind != tWord {
		p.fail("expected a name, found %q", p.tok.text)
	}
	s := p.tok.text
	p.advance()
	return s
}

func (p *parser) int() int {
	if p.tok.kind != tInt || p.tok.bits >= 1<<31 {
		p.fail("expected a number, found %q", p.tok.text)
	}
	v := int(p.tok.bits)
	p.advance()
	return v
}

func (p *parser) module() {
	for p.tok.kind != tEOF {
		switch {
		case p.accept(".version"):
			v := p.tok.text
			major, _, _ := strings.Cut(v, ".")
			if n, err := strconv.Atoi(major); err != nil || n < 6 || n > 8 {
				p.fail("PTX version %q is not supported", v)
			}
			p.advance()
		case p.accept(".target"):
			for {
				w := p.word()
				n, err := strconv.Atoi(strings.TrimPrefix(w, "sm_"))
				if err != nil || !strings.HasPrefix(w, "sm_") {
					p.fail("target %q is not supported", w)
				}
				p.file.arch = max(p.file.arch, n)
				if !p.accept(",") {
					break
				}
			}
		case p.accept(".address_size"):
			if p.int() != 64 {
				p.fail("only 64-bit addresses are supported")
			}
		case p.is(".visible") || p.is(".weak") || p.is(".extern") || p.is(".common") || p.is(".entry") || p.is(".func") ||
			p.is(".global") || p.is(".const") || p.is(".shared"):
			p.declaration()
		case p.is(".file"):
			for line := p.tok.line; p.tok.line == line && p.tok.kind != tEOF; {
				p.advance()
			}
		default:
			p.fail("unknown directive %q", p.tok.text)
		}
	}
}

func (p *parser) declaration() {
	extern := false
	for p.is(".visible") || p.is(".weak") || p.is(".extern") || p.is(".common") {
		extern = extern || p.is(".extern")
		p.advance()
	}
	switch {
	case p.is(".entry") || p.is(".func"):
		p.function()
	case p.is(".global") || p.is(".const") || p.is(".shared"):
		v := p.variable()
		if v.size == 0 && v.space != shared {
			p.failAt(v.line, "%s is declared elsewhere", v.name)
		}
		for _, o := range p.file.vars {
			if o.name == v.name {
				p.failAt(v.line, "%s is declared twice", v.name)
			}
		}
		p.file.vars = append(p.file.vars, v)
		p.expect(";")
	default:
		p.fail("unknown directive %q", p.tok.text)
	}
}

var typeSizes = map[string]int{
	"b8": 1, "u8": 1, "s8": 1, "b16": 2, "u16": 2, "s16": 2, "f16": 2, "bf16": 2, "b32": 4, "u32": 4, "s32": 4, "f32": 4,
	"f16x2": 4, "bf16x2": 4, "tf32": 4, "b64": 8, "u64": 8, "s64": 8, "f64": 8,
}

const maxVariable = 1 << 30 // bytes

// variable parses ".shared .align 4 .b8 name[1024] = {..}", without the semicolon.
func (p *parser) variable() *variable {
	v := &variable{space: spaces[strings.TrimPrefix(p.tok.text, ".")], line: p.tok.line}
	p.advance()
	size := 0
	for size == 0 {
		switch {
		case p.accept(".align"):
			v.align = p.int()
			if v.align < 1 || v.align > 1<<12 || v.align&(v.align-1) != 0 {
				p.fail("alignment %d", v.align)
			}
		case p.accept(".ptr"):
			if p.is(".global") || p.is(".shared") || p.is(".const") || p.is(".local") {
				p.advance()
			}
		default:
			w := p.word()
			size = typeSizes[strings.TrimPrefix(w, ".")]
			if size == 0 || w[0] != '.' {
				p.failAt(v.line, "type %q is not supported here", w)
			}
		}
	}
	if p.accept(".ptr") {
		if p.is(".global") || p.is(".shared") || p.is(".const") || p.is(".local") {
			p.advance()
		}
		if p.accept(".align") {
			p.int()
		}
	}
	if v.align < size {
		v.align = max(v.align, size)
	}
	v.name = p.word()
	n := 1
	for p.accept("[") {
		if p.accept("]") {
			n = 0
			continue
		}
		m := p.int()
		p.expect("]")
		if m > 0 && n > maxVariable/size/m {
			p.failAt(v.line, "%s is too large", v.name)
		}
		n *= m
	}
	v.size = n * size
	if p.accept("=") {
		if v.space != global && v.space != constant {
			p.failAt(v.line, "%s memory has no initial value", v.space)
		}
		p.initial(v, size)
	}
	return v
}

func (p *parser) initial(v *variable, size int) {
	v.init = make([]byte, v.size)
	at := 0
	put := func() {
		if at+size > v.size {
			p.failAt(v.line, "more values than %s holds", v.name)
		}
		if p.tok.kind == tWord {
			if size != 8 {
				p.fail("an address needs 8 bytes")
			}
			r := ref{at: at, name: p.word()}
			if p.accept("+") {
				r.off = int64(p.int())
			}
			v.refs = append(v.refs, r)
		} else {
			a := p.constant()
			for i := range size {
				v.init[at+i] = byte(a.bits >> (8 * i))
			}
			if a.kind != aInt && (a.kind == aFloat) != (size == 4) {
				p.fail("float constant of another size")
			}
		}
		at += size
	}
	if !p.accept("{") {
		put()
		return
	}
	if p.accept("}") {
		return
	}
	for {
		put()
		if p.accept("}") {
			return
		}
		p.expect(",")
	}
}

// constant parses a number, perhaps negative.
func (p *parser) constant() arg {
	neg := false
	for p.is("-") || p.is("+") {
		neg = neg != p.is("-")
		p.advance()
	}
	t := p.tok
	p.advance()
	switch t.kind {
	case tInt:
		if neg {
			t.bits = -t.bits
		}
		return arg{kind: aInt, bits: t.bits}
	case tFloat:
		if neg {
			t.bits ^= 1 << 31
		}
		return arg{kind: aFloat, bits: t.bits}
	case tDouble:
		if neg {
			t.bits ^= 1 << 63
		}
		return arg{kind: aDouble, bits: t.bits}
	}
	p.failAt(t.line, "expected a number, found %q", t.text)
	return arg{}
}

func (p *parser) parameters() []*variable {
	var list []*variable
	p.expect("(")
	if p.accept(")") {
		return nil
	}
	for {
		if p.is(".reg") {
			p.fail("register parameters are not supported")
		}
		if !p.is(".param") {
			p.fail("expected .param, found %q", p.tok.text)
		}
		v := p.variable()
		if v.size == 0 {
			p.failAt(v.line, "parameter without size")
		}
		list = append(list, v)
		if p.accept(")") {
			return list
		}
		p.expect(",")
	}
}

func (p *parser) function() {
	f := &function{entry: p.is(".entry"), regs: map[string]string{}, line: p.tok.line}
	p.advance()
	if !f.entry && p.is("(") {
		f.results = p.parameters()
	}
	f.name = p.word()
	if p.is("(") {
		f.params = p.parameters()
	}
	for !p.is("{") && !p.is(";") {
		line := p.tok.line
		switch w := p.word(); w {
		case ".maxntid", ".reqntid":
			d := [3]int{1, 1, 1}
			for i := range d {
				if d[i] = p.int(); d[i] < 1 || d[i] > 1024 {
					p.failAt(line, "%s of %d", w, d[i])
				}
				if !p.accept(",") {
					break
				}
			}
			f.maxTID = d[0] * d[1] * d[2]
			if w == ".reqntid" {
				f.reqTID = d
			}
		case ".minnctapersm", ".maxnreg", ".maxnctapersm":
			p.int()
		case ".noreturn":
		default:
			p.failAt(line, "unknown directive %q", w)
		}
	}
	old := p.file.funcs[f.name]
	if old != nil && old.defined {
		p.failAt(f.line, "%s is defined twice", f.name)
	}
	if p.accept(";") {
		p.file.funcs[f.name] = f
		return
	}
	f.defined = true
	p.file.funcs[f.name] = f
	p.file.order = append(p.file.order, f)
	p.fn = f
	p.block()
	p.fn = nil
}

func (p *parser) block() {
	p.expect("{")
	p.scopes = append(p.scopes, map[string]string{})
	if len(p.scopes) > 100 {
		p.fail("blocks are nested too deeply")
	}
	for !p.accept("}") {
		p.statement()
	}
	p.scopes = p.scopes[:len(p.scopes)-1]
}

// name is what a name of the source is called in the function: unique across its blocks.
func (p *parser) name(s string) string {
	for i := len(p.scopes) - 1; i >= 0; i-- {
		if n, ok := p.scopes[i][s]; ok {
			return n
		}
	}
	return s
}

func (p *parser) declare(s string) string {
	top := p.scopes[len(p.scopes)-1]
	if _, ok := top[s]; ok {
		p.fail("%s is declared twice", s)
	}
	n := s
	if len(p.scopes) > 1 {
		p.unique++
		n = s + "@" + strconv.Itoa(p.unique)
	}
	top[s] = n
	return n
}

func (p *parser) statement() {
	if p.is("{") {
		p.block()
		return
	}
	if p.tok.kind == tWord && p.tok.text[0] == '.' {
		p.bodyDirective()
		return
	}
	s := stmt{line: p.tok.line}
	if p.tok.kind == tWord && p.peek().kind == tPunct && p.peek().text == ":" {
		s.label = p.tok.text
		p.advance()
		p.advance()
		if p.accept(".branchtargets") {
			for {
				s.list = append(s.list, p.word())
				if !p.accept(",") {
					break
				}
			}
			p.expect(";")
		} else if p.is(".callprototype") || p.is(".calltargets") {
			p.fail("indirect calls are not supported")
		}
		p.fn.body = append(p.fn.body, s)
		return
	}
	if p.accept("@") {
		s.not = p.accept("!")
		s.guard = p.name(p.word())
	}
	s.line = p.tok.line
	s.full = p.word()
	if strings.ContainsAny(s.full, "%$") {
		p.failAt(s.line, "expected an instruction, found %q", s.full)
	}
	parts := strings.Split(s.full, ".")
	s.op, s.mods = parts[0], parts[1:]
	for !p.is(";") {
		s.args = append(s.args, p.operand())
		if !p.accept(",") {
			break
		}
	}
	p.expect(";")
	p.fn.body = append(p.fn.body, s)
}

func (p *parser) bodyDirective() {
	line := p.tok.line
	switch p.tok.text {
	case ".reg":
		p.advance()
		t := strings.TrimPrefix(p.word(), ".")
		if typeSizes[t] == 0 && t != "pred" {
			p.failAt(line, "registers of type %q are not supported", t)
		}
		for {
			name := p.word()
			if p.accept("<") {
				n := p.int()
				p.expect(">")
				if n > 1<<20 {
					p.failAt(line, "too many registers")
				}
				if len(p.scopes) > 1 {
					for i := range n {
						s := name + strconv.Itoa(i)
						p.fn.regs[p.declare(s)] = t
					}
				} else {
					for i := range n {
						p.fn.regs[name+strconv.Itoa(i)] = t
					}
				}
			} else {
				p.fn.regs[p.declare(name)] = t
			}
			if !p.accept(",") {
				break
			}
		}
		p.expect(";")
	case ".shared", ".local", ".param":
		v := p.variable()
		v.name = p.declare(v.name)
		p.fn.vars = append(p.fn.vars, v)
		p.expect(";")
	case ".pragma":
		p.advance()
		if p.tok.kind != tString {
			p.fail("expected a string")
		}
		p.advance()
		p.expect(";")
	case ".loc":
		for p.tok.line == line && p.tok.kind != tEOF {
			p.advance()
		}
	default:
		p.fail("unknown directive %q", p.tok.text)
	}
}

func (p *parser) operand() arg {
	a := p.primary()
	if p.accept("|") {
		a = arg{kind: aPair, list: []arg{a, p.primary()}}
	}
	return a
}

func (p *parser) primary() arg {
	switch {
	case p.accept("!"):
		a := p.primary()
		if a.kind != aReg {
			p.fail("expected a predicate after !")
		}
		a.not = !a.not
		return a
	case p.accept("{"):
		a := arg{kind: aVec}
		for {
			a.list = append(a.list, p.simple())
			if p.accept("}") {
				return a
			}
			p.expect(",")
		}
	case p.accept("("):
		a := arg{kind: aTuple}
		if p.accept(")") {
			return a
		}
		for {
			a.list = append(a.list, p.simple())
			if p.accept(")") {
				return a
			}
			p.expect(",")
		}
	case p.accept("["):
		a := arg{kind: aMem}
		if p.tok.kind == tWord {
			b := p.simple()
			a.name, a.reg, a.off = b.name, b.kind == aReg, b.off
		} else {
			c := p.constant()
			if c.kind != aInt {
				p.fail("expected an address")
			}
			a.off = int64(c.bits)
		}
		for p.is("+") || p.is("-") {
			c := p.constant()
			if c.kind != aInt {
				p.fail("expected an offset")
			}
			a.off += int64(c.bits)
		}
		p.expect("]")
		return a
	}
	return p.simple()
}

// simple parses a register, a name or a number.
func (p *parser) simple() arg {
	if p.tok.kind != tWord {
		return p.constant()
	}
	n := p.name(p.word())
	if _, ok := p.fn.regs[n]; ok || n[0] == '%' || n == "_" || n == "WARP_SZ" {
		return arg{kind: aReg, name: n}
	}
	a := arg{kind: aName, name: n}
	if p.is("+") { // mov.u64 %rd1, table+8
		c := p.constant()
		a.off = int64(c.bits)
	}
	return a
}
