package tensor

import (
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"

	gt "gorgonia.org/tensor"

	"setun/device"
)

// WriteNPY writes a float32 tensor in NumPy's format. A scalar becomes a vector of one element.
func (t *Tensor) WriteNPY(w io.Writer) error {
	if t.Type() != device.F32 {
		return fmt.Errorf("tensor: WriteNPY writes float32 tensors, not %s", t.Type())
	}
	if t.Len() == 0 {
		return fmt.Errorf("tensor: WriteNPY: a tensor of shape %v has nothing to write", t.Shape())
	}
	return gt.New(gt.WithShape(max1(t.Shape())...), gt.WithBacking(t.Floats())).WriteNpy(w)
}

// ReadNPY reads one array in NumPy's format (version 1 to 3, '<f4', C order) and leaves what follows it unread.
func ReadNPY(dev device.Device, r io.Reader) (*Tensor, error) {
	shape, err := readNPYHeader(r)
	if err != nil {
		return nil, err
	}
	n := 1
	for _, d := range shape {
		if d > 0 && n > math.MaxInt/4/d {
			return nil, fmt.Errorf("tensor: npy: shape %v is too large", shape)
		}
		n *= d
	}
	// Memory grows with what r really holds: a header may promise anything.
	const chunk = 1 << 18
	buf := make([]byte, 4*min(n, chunk))
	x := make([]float32, 0, min(n, chunk))
	for len(x) < n {
		b := buf[:4*min(n-len(x), chunk)]
		if m, err := io.ReadFull(r, b); err != nil {
			return nil, fmt.Errorf("tensor: npy: data of shape %v ends after %d of %d bytes: %w", shape, 4*len(x)+m, 4*n,
				noEOF(err))
		}
		for ; len(b) > 0; b = b[4:] {
			x = append(x, math.Float32frombits(binary.LittleEndian.Uint32(b)))
		}
	}
	return FromFloats(dev, x, shape...), nil
}

// noEOF tells a cut file from one that ends where it should.
func noEOF(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// readNPYHeader reads the magic, the version, the length of the header and the header.
func readNPYHeader(r io.Reader) (shape []int, err error) {
	var b [12]byte
	if _, err := io.ReadFull(r, b[:8]); err != nil {
		return nil, fmt.Errorf("tensor: npy: cannot read the magic: %w", noEOF(err))
	}
	if string(b[:6]) != "\x93NUMPY" {
		return nil, fmt.Errorf("tensor: npy: starts with %q: not a NumPy file", b[:6])
	}
	length := b[8:10]
	switch {
	case b[6] >= 2 && b[6] <= 3 && b[7] == 0:
		length = b[8:12]
	case b[6] != 1 || b[7] != 0:
		return nil, fmt.Errorf("tensor: npy: version %d.%d is unknown; use 1.0, 2.0 or 3.0", b[6], b[7])
	}
	if _, err := io.ReadFull(r, length); err != nil {
		return nil, fmt.Errorf("tensor: npy: cannot read the length of the header: %w", noEOF(err))
	}
	const most = 1 << 16 // the header of 6 dimensions takes 128 bytes
	n := binary.LittleEndian.Uint32(b[8:])
	if n > most {
		return nil, fmt.Errorf("tensor: npy: a header of %d bytes is too long; at most %d are read", n, most)
	}
	h := make([]byte, n)
	if _, err := io.ReadFull(r, h); err != nil {
		return nil, fmt.Errorf("tensor: npy: cannot read the header of %d bytes: %w", n, noEOF(err))
	}
	p := npyHeader{rest: string(h)}
	if err := p.parse(); err != nil {
		return nil, fmt.Errorf("tensor: npy: header: %w", err)
	}
	return p.shape, nil
}

// npyHeader parses the literal of a Python dictionary with the keys descr, fortran_order and shape.
type npyHeader struct {
	rest  string
	shape []int
}

// token takes s, after white space, from the rest.
func (p *npyHeader) token(s string) bool {
	p.rest = strings.TrimLeft(p.rest, " \t\n")
	rest, ok := strings.CutPrefix(p.rest, s)
	if ok {
		p.rest = rest
	}
	return ok
}

func (p *npyHeader) bad(want string) error {
	at := p.rest
	if len(at) > 20 {
		at = at[:20] + "..."
	}
	return fmt.Errorf("found %q, want %s", at, want)
}

func (p *npyHeader) text() (string, error) {
	for _, quote := range []string{"'", `"`} {
		if p.token(quote) {
			s, rest, ok := strings.Cut(p.rest, quote)
			if !ok {
				return "", p.bad("a closing quote")
			}
			p.rest = rest
			return s, nil
		}
	}
	return "", p.bad("a quoted name")
}

func (p *npyHeader) parse() error {
	if !p.token("{") {
		return p.bad("'{'")
	}
	seen := map[string]bool{}
	for !p.token("}") {
		key, err := p.text()
		if err != nil {
			return err
		}
		if seen[key] {
			return fmt.Errorf("%q comes twice", key)
		}
		seen[key] = true
		if !p.token(":") {
			return p.bad("':'")
		}
		switch key {
		case "descr":
			typ, err := p.text()
			if err != nil {
				return err
			}
			if typ != "<f4" {
				return fmt.Errorf("elements are %q, want \"<f4\"; save x.astype('<f4')", typ)
			}
		case "fortran_order":
			if p.token("True") {
				return fmt.Errorf("columns come first; save numpy.ascontiguousarray(x)")
			}
			if !p.token("False") {
				return p.bad("True or False")
			}
		case "shape":
			if err := p.tuple(); err != nil {
				return err
			}
		default:
			return fmt.Errorf("unknown key %q", key)
		}
		if !p.token(",") {
			if !p.token("}") {
				return p.bad("',' or '}'")
			}
			break
		}
	}
	if p.token(""); p.rest != "" {
		return p.bad("the end")
	}
	for _, key := range []string{"descr", "fortran_order", "shape"} {
		if !seen[key] {
			return fmt.Errorf("%q is missing", key)
		}
	}
	return nil
}

// tuple parses (), (3,) or (3, 4).
func (p *npyHeader) tuple() error {
	if !p.token("(") {
		return p.bad("'('")
	}
	p.shape = []int{}
	for !p.token(")") {
		p.token("")
		n := len(p.rest) - len(strings.TrimLeft(p.rest, "0123456789"))
		d, err := strconv.ParseInt(p.rest[:n], 10, 0)
		if err != nil {
			return p.bad("a dimension")
		}
		p.rest = p.rest[n:]
		if p.shape = append(p.shape, int(d)); len(p.shape) > MaxDims {
			return fmt.Errorf("the shape has more than %d dimensions", MaxDims)
		}
		if p.token(",") {
			continue
		}
		if len(p.shape) == 1 || !p.token(")") { // (3) is a number
			return p.bad("','")
		}
		break
	}
	return nil
}
