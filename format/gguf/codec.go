package gguf

import (
	"fmt"
	"math"

	"setun/internal/half"
)

// check makes sure that a tensor's data are as long as its type and Dims say.
func check(t Tensor) (n int, err error) {
	size, err := t.Type.Size(t.Dims)
	if err == nil && size != int64(len(t.Data)) {
		err = fmt.Errorf("%s of %v takes %d bytes, Data has %d", t.Type, t.Dims, size, len(t.Data))
	}
	if err != nil {
		return 0, fmt.Errorf("gguf: tensor %q: %w", t.Name, err)
	}
	e, _ := elements(t.Dims)
	return int(e), nil
}

// Floats decodes a tensor of any known type to its values, row-major.
func Floats(t Tensor) ([]float32, error) {
	n, err := check(t)
	if err != nil {
		return nil, err
	}
	x := make([]float32, n)
	switch t.Type {
	case F32:
		for i := range x {
			x[i] = math.Float32frombits(le.Uint32(t.Data[4*i:]))
		}
	case F16:
		for i := range x {
			x[i] = half.FromF16(le.Uint16(t.Data[2*i:]))
		}
	case BF16:
		for i := range x {
			x[i] = half.FromBF16(le.Uint16(t.Data[2*i:]))
		}
	case Q8_0:
		for b := range n / 32 {
			block := t.Data[34*b:][:34]
			d := half.FromF16(le.Uint16(block))
			for i := range 32 {
				x[32*b+i] = float32(int8(block[2+i])) * d
			}
		}
	default:
		codes, scales, err := Codes(t)
		if err != nil {
			return nil, err
		}
		for i, c := range codes {
			x[i] = float32(c) * scales[i*len(scales)/n]
		}
	}
	return x, nil
}

// Codes decodes a ternary tensor to codes -1, 0, 1, row-major, and the scales of blocks of 256 (I2_S: of all).
func Codes(t Tensor) (codes []int8, scales []float32, err error) {
	n, err := check(t)
	if err != nil {
		return nil, nil, err
	}
	bad := func(at int, what string) ([]int8, []float32, error) {
		return nil, nil, fmt.Errorf("gguf: tensor %q: byte %d of its data is %#x: %s", t.Name, at, t.Data[at], what)
	}
	codes = make([]int8, n)
	switch t.Type {
	case TQ2_0:
		for b := range n / 256 {
			x, y := t.Data[66*b:][:66], codes[256*b:][:256]
			for i, v := range x[:64] {
				for p := range 4 {
					c := v >> (2 * p) & 3
					if c == 3 {
						return bad(66*b+i, "no ternary codes")
					}
					y[i/32*128+32*p+i%32] = int8(c) - 1
				}
			}
			scales = append(scales, half.FromF16(le.Uint16(x[64:])))
		}
	case TQ1_0:
		for b := range n / 256 {
			x, y := t.Data[54*b:][:54], codes[256*b:][:256]
			for i, v := range x[:52] {
				digits, ok := fraction(v)
				if !ok {
					return bad(54*b+i, "no five ternary codes")
				}
				at, step, count := tq1(i)
				if count == 4 && digits[4] != 0 {
					return bad(54*b+i, "no four ternary codes")
				}
				for p := range count {
					y[at+step*p] = int8(digits[p]) - 1
				}
			}
			scales = append(scales, half.FromF16(le.Uint16(x[52:])))
		}
	case I2_S:
		for i, v := range t.Data[:n/4] {
			for p := range 4 {
				c := v >> (6 - 2*p) & 3
				if c == 3 {
					return bad(i, "no ternary codes")
				}
				codes[i/32*128+32*p+i%32] = int8(c) - 1
			}
		}
		scales = []float32{math.Float32frombits(le.Uint32(t.Data[n/4:]))}
	default:
		return nil, nil, fmt.Errorf("gguf: tensor %q: %s has no ternary codes", t.Name, t.Type)
	}
	return codes, scales, nil
}

// Scales gives those that [Codes] gives, without the codes.
func Scales(t Tensor) ([]float32, error) {
	n, err := check(t)
	if err != nil {
		return nil, err
	}
	size := layouts[t.Type].bytes
	switch t.Type {
	case TQ1_0, TQ2_0: // at the end of blocks
		scales := make([]float32, n/256)
		for b := range scales {
			scales[b] = half.FromF16(le.Uint16(t.Data[size*(b+1)-2:]))
		}
		return scales, nil
	case I2_S:
		return []float32{math.Float32frombits(le.Uint32(t.Data[n/4:]))}, nil
	}
	return nil, fmt.Errorf("gguf: tensor %q: %s has no ternary codes", t.Name, t.Type)
}

// tq1 is where the codes of byte i of a TQ1_0 block lie: the first, the distance to the next, how many.
func tq1(i int) (at, step, count int) {
	switch {
	case i < 32:
		return i, 32, 5
	case i < 48:
		return 160 + i - 32, 16, 5
	}
	return 240 + i - 48, 4, 4
}

// fraction gives the digits of a byte ceil(256 v / 243), the most significant first; ok is false for other bytes.
func fraction(b byte) (digits [5]uint8, ok bool) {
	v, t := 0, uint32(b)
	for i := range digits {
		digits[i] = uint8(t * 3 >> 8)
		t = t * 3 & 0xff
		v = 3*v + int(digits[i])
	}
	return digits, v < 243 && toFraction(v) == b
}

func toFraction(v int) byte { return byte((v*256 + 242) / 243) }

// Encode makes a tensor of type F32, F16, BF16 or Q8_0 from values, row-major.
func Encode(name string, typ Type, dims []int, x []float32) (Tensor, error) {
	t := Tensor{Name: name, Type: typ, Dims: dims}
	if err := t.fits(len(x)); err != nil {
		return t, err
	}
	switch typ {
	case F32:
		for _, v := range x {
			t.Data = le.AppendUint32(t.Data, math.Float32bits(v))
		}
	case F16:
		for _, v := range x {
			t.Data = le.AppendUint16(t.Data, half.F16(v))
		}
	case BF16:
		for _, v := range x {
			t.Data = le.AppendUint16(t.Data, half.BF16(v))
		}
	case Q8_0:
		for b := range len(x) / 32 {
			t.Data = appendQ8(t.Data, x[32*b:][:32])
		}
	default:
		return t, fmt.Errorf("gguf: tensor %q: %s takes codes, see EncodeCodes", name, typ)
	}
	return t, nil
}

// appendQ8 rounds half away from zero, as llama.cpp does.
func appendQ8(b []byte, x []float32) []byte {
	top := float32(0)
	for _, v := range x {
		top = max(top, float32(math.Abs(float64(v))))
	}
	d := top / 127
	inv := float32(0)
	if d != 0 {
		inv = 1 / d
	}
	b = le.AppendUint16(b, half.F16(d))
	for _, v := range x {
		b = append(b, byte(int8(math.Round(float64(v*inv)))))
	}
	return b
}

// EncodeCodes makes a tensor of type TQ1_0, TQ2_0 or I2_S from codes -1, 0, 1, row-major. Blocks carry the scale rounded
// to half precision, I2_S as it is.
func EncodeCodes(name string, typ Type, dims []int, codes []int8, scale float32) (Tensor, error) {
	t := Tensor{Name: name, Type: typ, Dims: dims}
	if err := t.fits(len(codes)); err != nil {
		return t, err
	}
	for i, c := range codes {
		if c < -1 || c > 1 {
			return t, fmt.Errorf("gguf: tensor %q: code %d is %d, not ternary", name, i, c)
		}
	}
	n := len(codes)
	switch typ {
	case TQ2_0:
		for b := range n / 256 {
			x := codes[256*b:][:256]
			for i := range 64 {
				v := uint8(0)
				for p := range 4 {
					v |= uint8(x[i/32*128+32*p+i%32]+1) << (2 * p)
				}
				t.Data = append(t.Data, v)
			}
			t.Data = le.AppendUint16(t.Data, half.F16(scale))
		}
	case TQ1_0:
		for b := range n / 256 {
			x := codes[256*b:][:256]
			for i := range 52 {
				at, step, count := tq1(i)
				v := 0
				for p := range 5 {
					v *= 3
					if p < count {
						v += int(x[at+step*p] + 1)
					}
				}
				t.Data = append(t.Data, toFraction(v))
			}
			t.Data = le.AppendUint16(t.Data, half.F16(scale))
		}
	case I2_S:
		for i := range n / 4 {
			v := uint8(0)
			for p := range 4 {
				v |= uint8(codes[i/32*128+32*p+i%32]+1) << (6 - 2*p)
			}
			t.Data = append(t.Data, v)
		}
		t.Data = append(le.AppendUint32(t.Data, math.Float32bits(scale)), make([]byte, 28)...)
	default:
		return t, fmt.Errorf("gguf: tensor %q: %s does not take ternary codes, see Encode", name, typ)
	}
	return t, nil
}

// fits reports Dims that do not hold n elements in whole blocks.
func (t *Tensor) fits(n int) error {
	e, err := elements(t.Dims)
	if err == nil && e != int64(n) {
		err = fmt.Errorf("%d values for %v", n, t.Dims)
	}
	size := int64(0)
	if err == nil {
		size, err = t.Type.Size(t.Dims)
	}
	if err != nil {
		return fmt.Errorf("gguf: tensor %q: %w", t.Name, err)
	}
	t.Data = make([]byte, 0, size)
	return nil
}
