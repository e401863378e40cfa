package gradq

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"strings"

	"setun/internal/trit"
)

// Codec is a form of one quantized gradient on the wire: its scales, 4 bytes each, little endian, and its codes.
//
//	int8   a byte a code
//	2bit   four ternary codes a byte, see package internal/trit
//	base3  five a byte
//	rans   base3 at its entropy; at most a byte longer
type Codec struct {
	Name   string
	Levels int // largest code

	format     *trit.Format // nil: a byte a code
	compressed bool
}

var codecs = []*Codec{
	{Name: "int8", Levels: 127},
	{Name: "2bit", Levels: 1, format: trit.TwoBit},
	{Name: "base3", Levels: 1, format: trit.Base3},
	{Name: "rans", Levels: 1, format: trit.Base3, compressed: true},
}

// CodecByName finds the codec that a configuration names.
func CodecByName(name string) (*Codec, error) {
	names := make([]string, len(codecs))
	for i, c := range codecs {
		if c.Name == name {
			return c, nil
		}
		names[i] = c.Name
	}
	return nil, fmt.Errorf("gradq: unknown codec %q; use %s", name, strings.Join(names, ", "))
}

// Size is the number of bytes of n codes and their scales; fixed is false where it depends on the codes: then it is the
// most.
func (c *Codec) Size(n, scales int) (size int, fixed bool) {
	if c.format != nil {
		n = c.format.Bytes(n)
	}
	if c.compressed {
		n++
	}
	return 4*scales + n, !c.compressed
}

// Append appends the wire form. A code beyond Levels is an error.
func (c *Codec) Append(dst []byte, codes []int8, scale []float32) ([]byte, error) {
	dst = appendFloats(dst, scale)
	if c.format == nil {
		dst = slices.Grow(dst, len(codes))
		for _, q := range codes {
			dst = append(dst, byte(q))
		}
		return dst, nil
	}
	n, at := c.format.Bytes(len(codes)), len(dst)
	if c.compressed {
		packed := make([]byte, n)
		if err := c.format.Pack(packed, codes); err != nil {
			return nil, fmt.Errorf("gradq: %w", err)
		}
		return c.format.Compress(dst, packed), nil
	}
	dst = slices.Grow(dst, n)[:at+n]
	if err := c.format.Pack(dst[at:], codes); err != nil {
		return nil, fmt.Errorf("gradq: %w", err)
	}
	return dst, nil
}

// Decode reads what Append wrote for as many codes and scales. Whatever src holds, it fails or fills them with codes
// within Levels and finite scales; after an error they are undefined.
func (c *Codec) Decode(codes []int8, scale []float32, src []byte) error {
	size, fixed := c.Size(len(codes), len(scale))
	if len(src) > size || fixed && len(src) < size || len(src) < 4*len(scale) {
		return fmt.Errorf("gradq: %d bytes for %d codes and %d scales as %s; want %d: the sender has another model or codec",
			len(src), len(codes), len(scale), c.Name, size)
	}
	readFloats(scale, src)
	for i, s := range scale {
		if math.IsNaN(float64(s)) || math.IsInf(float64(s), 0) {
			return fmt.Errorf("gradq: scale %d is %g: the message is damaged, or the sender's gradient is not finite", i, s)
		}
	}
	src = src[4*len(scale):]
	if c.format == nil {
		for i, b := range src {
			if codes[i] = int8(b); codes[i] < -127 {
				return fmt.Errorf("gradq: code -128 at %d: the message is damaged", i)
			}
		}
		return nil
	}
	if c.compressed {
		packed := make([]byte, c.format.Bytes(len(codes)))
		if err := c.format.Expand(packed, src); err != nil {
			return fmt.Errorf("gradq: %w", err)
		}
		src = packed
	}
	if err := c.format.Unpack(codes, src); err != nil {
		return fmt.Errorf("gradq: %w", err)
	}
	return nil
}

func appendFloats(dst []byte, x []float32) []byte {
	dst = slices.Grow(dst, 4*len(x))
	for _, v := range x {
		dst = binary.LittleEndian.AppendUint32(dst, math.Float32bits(v))
	}
	return dst
}

func readFloats(x []float32, src []byte) {
	for i := range x {
		x[i] = math.Float32frombits(binary.LittleEndian.Uint32(src[4*i:]))
	}
}
