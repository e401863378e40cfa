package trit

import (
	"fmt"
	"math"
	"strings"
)

// Format packs codes into bytes. Digit i of a byte, with weight Radix^i, is code + Levels/2.
type Format struct {
	Name    string
	Levels  int // number of codes; they run from -Levels/2 to Levels/2
	PerByte int // codes in a byte
	Radix   int // Levels, or more where digits are bit fields

	// Lane i < PerByte is code i of the byte; lane 7 is 1 for an invalid byte.
	codes [256][8]int8
}

var (
	Base3  = newFormat("base3", 3, 5, 3)
	TwoBit = newFormat("2bit", 3, 4, 4)
	Base5  = newFormat("base5", 5, 3, 5)
)

// Formats lists every format.
var Formats = []*Format{Base3, TwoBit, Base5}

// ByName finds the format that a file or a flag names.
func ByName(name string) (*Format, error) {
	names := make([]string, len(Formats))
	for i, f := range Formats {
		if f.Name == name {
			return f, nil
		}
		names[i] = f.Name
	}
	return nil, fmt.Errorf("trit: unknown format %q: use %s", name, strings.Join(names, ", "))
}

func newFormat(name string, levels, perByte, radix int) *Format {
	f := &Format{Name: name, Levels: levels, PerByte: perByte, Radix: radix}
	for b := range f.codes {
		v := b
		for i := range perByte {
			d := v % radix
			v /= radix
			f.codes[b][i] = int8(d - levels/2)
			if d >= levels {
				f.codes[b][7] = 1
			}
		}
		if v > 0 {
			f.codes[b][7] = 1
		}
	}
	return f
}

// Bits is the size of a code in a full byte, 8/PerByte.
func (f *Format) Bits() float64 { return 8 / float64(f.PerByte) }

// Bytes is the length of n packed codes.
func (f *Format) Bytes(n int) int {
	b := n / f.PerByte
	if n%f.PerByte != 0 {
		b++
	}
	return b
}

// Pack packs codes into dst, which must have Bytes(len(codes)) bytes. After an error dst's contents are undefined.
func (f *Format) Pack(dst []byte, codes []int8) error {
	if len(dst) != f.Bytes(len(codes)) {
		return fmt.Errorf("trit: pack %d codes as %s: dst has %d bytes, needs %d",
			len(codes), f.Name, len(dst), f.Bytes(len(codes)))
	}
	half, levels, per := int8(f.Levels/2), uint8(f.Levels), f.PerByte
	var top uint8 // largest digit
	c := codes
	switch f.PerByte {
	case 5: // base3
		for i := 0; len(c) >= 5; i++ {
			a, b, d, e, g := uint8(c[0]+1), uint8(c[1]+1), uint8(c[2]+1), uint8(c[3]+1), uint8(c[4]+1)
			top = max(top, a, b, d, e, g)
			dst[i] = a + 3*b + 9*d + 27*e + 81*g
			c = c[5:]
		}
	case 4: // 2bit
		for i := 0; len(c) >= 4; i++ {
			a, b, d, e := uint8(c[0]+1), uint8(c[1]+1), uint8(c[2]+1), uint8(c[3]+1)
			top = max(top, a, b, d, e)
			dst[i] = a | b<<2 | d<<4 | e<<6
			c = c[4:]
		}
	case 3: // base5
		for i := 0; len(c) >= 3; i++ {
			a, b, d := uint8(c[0]+2), uint8(c[1]+2), uint8(c[2]+2)
			top = max(top, a, b, d)
			dst[i] = a + 5*b + 25*d
			c = c[3:]
		}
	}
	if len(c) > 0 {
		v, w := 0, 1
		for i := range per {
			t := uint8(half)
			if i < len(c) {
				t = uint8(c[i] + half)
				top = max(top, t)
			}
			v += int(t) * w
			w *= f.Radix
		}
		dst[len(dst)-1] = byte(v)
	}
	if top >= levels {
		return f.badCode(codes)
	}
	return nil
}

func (f *Format) badCode(codes []int8) error {
	half := f.Levels / 2
	for i, c := range codes {
		if int(c) < -half || int(c) > half {
			return fmt.Errorf("trit: pack as %s: code %d at %d is outside [%d, %d]", f.Name, c, i, -half, half)
		}
	}
	panic("trit: unreachable")
}

// Unpack unpacks len(dst) codes from src, which must have Bytes(len(dst)) bytes. A byte that Pack does not write is an
// error with its position; dst's contents are undefined then.
func (f *Format) Unpack(dst []int8, src []byte) error {
	if len(src) != f.Bytes(len(dst)) {
		return fmt.Errorf("trit: unpack %d codes of %s: %d bytes, want %d", len(dst), f.Name, len(src), f.Bytes(len(dst)))
	}
	var bad int8
	d, s, per := dst, src, f.PerByte
	for len(d) >= 8 && len(s) > 0 { // a whole entry at once; the next one overwrites its unused lanes
		e := &f.codes[s[0]]
		*(*[8]int8)(d) = *e
		bad |= e[7]
		d, s = d[per:], s[1:]
	}
	for _, b := range s {
		e := &f.codes[b]
		n := copy(d, e[:per])
		bad |= e[7]
		for _, pad := range e[n:per] {
			if pad != 0 {
				bad = 1
			}
		}
		d = d[n:]
	}
	if bad != 0 {
		return f.badByte(src)
	}
	return nil
}

func (f *Format) badByte(src []byte) error {
	for i, b := range src {
		if f.codes[b][7] != 0 {
			return fmt.Errorf("trit: unpack %s: byte %d at %d is invalid: the data is damaged or in another format",
				f.Name, b, i)
		}
	}
	return fmt.Errorf("trit: unpack %s: nonzero padding in the last byte %d at %d: the data is damaged or cut",
		f.Name, src[len(src)-1], len(src)-1)
}

// Entropy is the empirical entropy of codes, H = -sum p log2 p, in bits per code, and how often each code occurs. No
// coder that looks at codes one by one needs less than H on average.
func Entropy(codes []int8) (bits float64, counts map[int8]int) {
	var hist [256]int
	for _, c := range codes {
		hist[uint8(c)]++
	}
	counts = make(map[int8]int)
	for u, n := range hist {
		if n > 0 {
			counts[int8(u)] = n
			p := float64(n) / float64(len(codes))
			bits -= p * math.Log2(p)
		}
	}
	return max(bits, 0), counts
}
