package trit

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/bits"
	"slices"
)

// The compressed form of packed bytes is one byte, the model, and then
//
//	raw     the packed bytes
//	digits  Levels-1 uvarints, the frequencies of the first digits in 2^digitBits (the last has the rest): those of a
//	        byte are the products of its digits', scaled to 2^probBits
//	table   uvarints, the frequencies of bytes 0, 1, ... in 2^probBits until they add up; behind a 0 one byte tells how
//	        many zeros follow
//
// and, unless raw, four states of 8 bytes and 32-bit words, all little endian: rANS (Duda 2013, arXiv 1311.2540), four
// interleaved states in [2^31, 2^63). Byte i belongs to state i%4. All states end at 2^31, which shows most damage, but
// there is no checksum: that is for the file or the connection around it.
const (
	raw byte = iota
	digits
	table

	probBits  = 14
	digitBits = 12
	least     = 1 << 31 // state
)

// model is the frequency of each byte, and their sums: at[b] = freq[0] + ... + freq[b-1].
type model struct {
	freq, at [256]uint32
}

// Compress appends the entropy-coded form of packed bytes, at most 1 byte longer than they are. Its size is about
// their entropy, by byte or by digit, whichever has the smaller code and table.
func (f *Format) Compress(dst, packed []byte) []byte {
	var hist [256]uint64
	for _, b := range packed {
		hist[b]++
	}
	start, best := len(dst), f.Raw(dst, packed)
	for _, kind := range []byte{digits, table} {
		head, m, ok := f.model([]byte{kind}, &hist)
		if size := float64(len(head)+32) + m.bytes(&hist); ok && size < float64(len(best)-start) {
			if code := m.encode(head, packed); len(code) < len(best)-start {
				best = append(best[:start], code...)
			}
		}
	}
	return best
}

// Raw appends the compressed form that is not compressed.
func (f *Format) Raw(dst, packed []byte) []byte { return append(append(dst, raw), packed...) }

// Expand undoes Compress: it fills packed, whose length the caller knows, and allocates nothing of a size that src
// says. What Compress does not write is an error, or other bytes, which Unpack may refuse; packed is undefined after
// an error.
func (f *Format) Expand(packed, src []byte) error {
	bad := func(why string) error {
		return fmt.Errorf("trit: expand %d bytes of %s from %d: %s: the data is damaged or cut", len(packed), f.Name,
			len(src), why)
	}
	if len(src) == 0 {
		return bad("no bytes")
	}
	kind, rest := src[0], src[1:]
	var m model
	var err error
	switch kind {
	case raw:
		if len(rest) != len(packed) {
			return bad("wrong length")
		}
		copy(packed, rest)
		return nil
	case digits:
		rest, err = f.readDigits(&m, rest)
	case table:
		rest, err = readTable(&m, rest)
	default:
		return bad(fmt.Sprintf("unknown model %d", kind))
	}
	if err == nil {
		err = m.decode(packed, rest)
	}
	if err != nil {
		return bad(err.Error())
	}
	return nil
}

// model appends its description to head; ok is false for bytes that digits cannot describe.
func (f *Format) model(head []byte, hist *[256]uint64) (_ []byte, m model, ok bool) {
	if head[0] == table {
		m = newModel(hist)
		for b, left := 0, uint32(1<<probBits); left > 0; b++ {
			left -= m.freq[b]
			head = binary.AppendUvarint(head, uint64(m.freq[b]))
			if m.freq[b] == 0 {
				run := 0
				for m.freq[b+1] == 0 {
					run, b = run+1, b+1
				}
				head = append(head, byte(run))
			}
		}
		return head, m, true
	}
	count := make([]uint64, f.Levels)
	for b, n := range hist {
		if n > 0 && f.codes[b][7] != 0 {
			return nil, m, false
		}
		for _, c := range f.codes[b][:f.PerByte] {
			if n > 0 {
				count[int(c)+f.Levels/2] += n
			}
		}
	}
	q := normalize(count, digitBits)
	for _, v := range q[:f.Levels-1] {
		head = binary.AppendUvarint(head, uint64(v))
	}
	return head, f.digitModel(q), true
}

// digitModel multiplies the frequencies of digits.
func (f *Format) digitModel(q []uint32) model {
	var weight [256]uint64
	for b, e := range &f.codes {
		if e[7] == 0 {
			weight[b] = 1
			for _, c := range e[:f.PerByte] {
				weight[b] *= uint64(q[int(c)+f.Levels/2])
			}
		}
	}
	return newModel(&weight)
}

func (f *Format) readDigits(m *model, src []byte) ([]byte, error) {
	q, left := make([]uint32, f.Levels), uint64(1<<digitBits)
	for i := range q[:f.Levels-1] {
		v, n := binary.Uvarint(src)
		if n <= 0 || v > left {
			return nil, errors.New("wrong frequencies")
		}
		q[i], left, src = uint32(v), left-v, src[n:]
	}
	q[f.Levels-1] = uint32(left)
	*m = f.digitModel(q)
	return src, nil
}

func readTable(m *model, src []byte) ([]byte, error) {
	left := uint64(1 << probBits)
	for b := 0; left > 0; b++ {
		v, n := binary.Uvarint(src)
		if n <= 0 || v > left || b > 255 {
			return nil, errors.New("wrong frequencies")
		}
		src = src[n:]
		m.freq[b], left = uint32(v), left-v
		if v == 0 {
			if len(src) == 0 {
				return nil, errors.New("wrong frequencies")
			}
			b, src = b+int(src[0]), src[1:]
		}
	}
	m.sum()
	return src, nil
}

func newModel(weight *[256]uint64) (m model) {
	copy(m.freq[:], normalize(weight[:], probBits))
	m.sum()
	return m
}

func (m *model) sum() {
	at := uint32(0)
	for b, n := range m.freq {
		m.at[b] = at
		at += n
	}
}

// normalize scales weights, below 2^63 in sum, to whole numbers that add up to 2^bits and are 0 only where the weight
// is. All without weight go to the first.
func normalize(weight []uint64, prob int) []uint32 {
	total, freq := uint64(0), make([]uint32, len(weight))
	for _, w := range weight {
		total += w
	}
	if total == 0 {
		freq[0] = 1 << prob
		return freq
	}
	sum, before := uint64(0), uint32(0)
	for i, w := range weight {
		sum += w
		hi, lo := bits.Mul64(sum, 1<<prob)
		lo, carry := bits.Add64(lo, total/2, 0)
		q, _ := bits.Div64(hi+carry, lo, total)
		freq[i], before = uint32(q)-before, uint32(q)
	}
	for i, w := range weight {
		if w > 0 && freq[i] == 0 {
			freq[slices.Index(freq, slices.Max(freq))]--
			freq[i] = 1
		}
	}
	return freq
}

// bytes is the size of the code that hist would have, without states.
func (m *model) bytes(hist *[256]uint64) float64 {
	n := 0.0
	for b, h := range hist {
		if h > 0 {
			n += float64(h) * (probBits - math.Log2(float64(m.freq[b])))
		}
	}
	return n / 8
}

// encode appends the code of src. The last byte is coded first, as the decoder undoes the coder.
func (m *model) encode(dst, src []byte) []byte {
	x := [4]uint64{least, least, least, least}
	words := make([]uint32, 0, len(src)/4)
	for i := len(src) - 1; i >= 0; i-- {
		s, b := &x[i&3], src[i]
		f := uint64(m.freq[b])
		if *s >= f<<(63-probBits) {
			words = append(words, uint32(*s))
			*s >>= 32
		}
		q := *s / f
		*s = q<<probBits + (*s - q*f) + uint64(m.at[b])
	}
	for _, s := range x {
		dst = binary.LittleEndian.AppendUint64(dst, s)
	}
	for _, w := range slices.Backward(words) {
		dst = binary.LittleEndian.AppendUint32(dst, w)
	}
	return dst
}

func (m *model) decode(dst, src []byte) error {
	if len(src) < 32 {
		return errors.New("no states")
	}
	var x [4]uint64
	for i := range x {
		if x[i] = binary.LittleEndian.Uint64(src[8*i:]); x[i] < least || x[i] >= least<<32 {
			return errors.New("a state out of range")
		}
	}
	src = src[32:]
	var slot [1 << probBits]byte
	for b, n := range m.freq {
		for i := range n {
			slot[m.at[b]+i] = byte(b)
		}
	}
	for i := range dst {
		s := &x[i&3]
		low := uint32(*s) & (1<<probBits - 1)
		b := slot[low]
		dst[i] = b
		*s = uint64(m.freq[b])*(*s>>probBits) + uint64(low-m.at[b])
		if *s < least {
			if len(src) < 4 {
				return errors.New("too few words")
			}
			*s = *s<<32 | uint64(binary.LittleEndian.Uint32(src))
			src = src[4:]
		}
	}
	if len(src) > 0 {
		return errors.New("too many words")
	}
	if x != [4]uint64{least, least, least, least} {
		return errors.New("states that do not end where they began")
	}
	return nil
}
