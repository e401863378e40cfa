package ptx

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// A syntaxError is what Load says of a line that it does not take.
type syntaxError struct {
	line int
	text string // the line
	msg  string
}

func (e *syntaxError) Error() string {
	return fmt.Sprintf("line %d: %s: %q", e.line, e.msg, strings.TrimSpace(e.text))
}

type tokenKind uint8

const (
	tEOF    tokenKind = iota
	tWord             // ld.global.f32, %r1, $L__BB0_1, .reg: dots belong to the word
	tInt              // value in bits
	tFloat            // 0f3F800000: bits of a float32
	tDouble           // 0d3FF0000000000000
	tString
	tPunct // one byte of { } ( ) [ ] , ; : @ ! | + - = < > ~
)

type token struct {
	kind tokenKind
	text string
	bits uint64
	line int
}

// lexer cuts PTX into tokens.
type lexer struct {
	src   string
	pos   int
	line  int
	lines []string
}

func newLexer(src string) *lexer { return &lexer{src: src, line: 1, lines: strings.Split(src, "\n")} }

func (l *lexer) errorf(line int, format string, args ...any) error {
	text := ""
	if line >= 1 && line <= len(l.lines) {
		text = l.lines[line-1]
		if len(text) > 200 {
			text = text[:200]
		}
	}
	return &syntaxError{line, text, fmt.Sprintf(format, args...)}
}

func isWord(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' ||
		c == '_' || c == '$' || c == '%' || c == '.'
}

func (l *lexer) next() (token, error) {
	for l.pos < len(l.src) {
		c := l.src[l.pos]
		switch {
		case c == '\n':
			l.line++
			l.pos++
		case c == ' ' || c == '\t' || c == '\r':
			l.pos++
		case strings.HasPrefix(l.src[l.pos:], "//"):
			if i := strings.IndexByte(l.src[l.pos:], '\n'); i >= 0 {
				l.pos += i
			} else {
				l.pos = len(l.src)
			}
		case strings.HasPrefix(l.src[l.pos:], "/*"):
			i := strings.Index(l.src[l.pos+2:], "*/")
			if i < 0 {
				return token{}, l.errorf(l.line, "comment without end")
			}
			l.line += strings.Count(l.src[l.pos:l.pos+2+i], "\n")
			l.pos += i + 4
		default:
			return l.token(c)
		}
	}
	return token{kind: tEOF, line: l.line}, nil
}

func (l *lexer) token(c byte) (token, error) {
	start := l.pos
	switch {
	case c >= '0' && c <= '9':
		for l.pos < len(l.src) && isWord(l.src[l.pos]) {
			l.pos++
		}
		return l.number(l.src[start:l.pos])
	case isWord(c):
		for l.pos < len(l.src) && (isWord(l.src[l.pos]) || strings.HasPrefix(l.src[l.pos:], "::")) {
			if l.src[l.pos] == ':' { // ld.global.L2::128B
				l.pos++
			}
			l.pos++
		}
		return token{kind: tWord, text: l.src[start:l.pos], line: l.line}, nil
	case c == '"':
		i := strings.IndexAny(l.src[l.pos+1:], "\"\n")
		if i < 0 || l.src[l.pos+1+i] == '\n' {
			return token{}, l.errorf(l.line, "string without end")
		}
		l.pos += i + 2
		return token{kind: tString, text: l.src[start+1 : l.pos-1], line: l.line}, nil
	case strings.IndexByte("{}()[],;:@!|+-=<>~", c) >= 0:
		l.pos++
		return token{kind: tPunct, text: l.src[start:l.pos], line: l.line}, nil
	}
	return token{}, l.errorf(l.line, "unexpected character %q", c)
}

func (l *lexer) number(s string) (token, error) {
	t := token{line: l.line, text: s}
	fail := func() (token, error) { return token{}, l.errorf(l.line, "bad number %q", s) }
	if len(s) == 10 && (s[:2] == "0f" || s[:2] == "0F") {
		v, err := strconv.ParseUint(s[2:], 16, 32)
		if err != nil {
			return fail()
		}
		t.kind, t.bits = tFloat, v
		return t, nil
	}
	if len(s) == 18 && (s[:2] == "0d" || s[:2] == "0D") {
		v, err := strconv.ParseUint(s[2:], 16, 64)
		if err != nil {
			return fail()
		}
		t.kind, t.bits = tDouble, v
		return t, nil
	}
	if v, err := strconv.ParseUint(strings.TrimSuffix(s, "U"), 0, 64); err == nil && !strings.Contains(s, "_") {
		t.kind, t.bits = tInt, v
		return t, nil
	}
	if v, err := strconv.ParseFloat(s, 64); err == nil && strings.Contains(s, ".") && !strings.Contains(s, "_") {
		t.kind, t.bits = tDouble, math.Float64bits(v)
		return t, nil
	}
	return fail()
}
