package ternary

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/bits"
	"slices"

	"setun/internal/trit"
)

// Packed is a quantized weight in bytes: codes (Rows, Cols) row-major in the named format, and 1 or Rows scales.
type Packed struct {
	Format     string // "base3" (5 codes a byte), "2bit" (4), or "base5" (3, five-level)
	Rows, Cols int
	Scales     []float32
	Data       []byte
	Columns    []float32 // of column clusters, see Regroup: what inputs are multiplied by (Cols); nil without
}

// NewPacked packs codes in the smallest format of the codebook: base3 for Ternary, base5 for Five.
func NewPacked(c Codebook, codes []int8, rows, cols int, scales []float32) (*Packed, error) {
	name := "base3"
	if c == Five {
		name = "base5"
	}
	return pack(name, codes, rows, cols, scales)
}

func pack(name string, codes []int8, rows, cols int, scales []float32) (*Packed, error) {
	f, err := trit.ByName(name)
	if err != nil {
		return nil, fmt.Errorf("ternary: %w", err)
	}
	if rows < 1 || cols < 1 || len(codes)/cols != rows || len(codes)%cols != 0 {
		return nil, fmt.Errorf("ternary: %d codes for a weight of %d x %d", len(codes), rows, cols)
	}
	p := &Packed{Format: name, Rows: rows, Cols: cols, Scales: scales, Data: make([]byte, f.Bytes(len(codes)))}
	if err := f.Pack(p.Data, codes); err != nil {
		return nil, fmt.Errorf("ternary: pack: %w", err)
	}
	return p, nil
}

// Codebook is the codebook of the format.
func (p *Packed) Codebook() Codebook {
	if p.Format == "base5" {
		return Five
	}
	return Ternary
}

// Unpack gives the codes, row-major. Data that is no valid packing is an error.
func (p *Packed) Unpack() ([]int8, error) {
	f, err := trit.ByName(p.Format)
	if err != nil {
		return nil, fmt.Errorf("ternary: %w", err)
	}
	if p.Rows < 1 || p.Cols < 1 || p.Rows > math.MaxInt/p.Cols || len(p.Data) != f.Bytes(p.Rows*p.Cols) {
		return nil, fmt.Errorf("ternary: %d bytes of %s do not hold %d x %d codes", len(p.Data), p.Format, p.Rows, p.Cols)
	}
	codes := make([]int8, p.Rows*p.Cols)
	if err := f.Unpack(codes, p.Data); err != nil {
		return nil, fmt.Errorf("ternary: unpack: %w", err)
	}
	return codes, nil
}

func checkScales(scales []float32, rows int) error {
	if len(scales) != 1 && len(scales) != rows {
		return fmt.Errorf("ternary: %d scales for %d rows; a packed weight has one scale, or one per row", len(scales), rows)
	}
	return nil
}

// PackColumns gives the bytes of column scales: a float32 for each of the k clusters, lowest byte first, then for each
// channel the number of its cluster in ceil(log2 k) bits, lowest bit first. No columns give no bytes.
func PackColumns(s []float32) []byte {
	levels := distinct(s)
	var b []byte
	for _, v := range levels {
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(v))
	}
	width := columnBits(len(levels))
	n := len(b)
	b = append(b, make([]byte, (len(s)*width+7)/8)...)
	for j, v := range s {
		i, _ := slices.BinarySearch(levels, v)
		for bit := range width {
			at := j*width + bit
			b[n+at/8] |= byte(i >> bit & 1 << (at % 8))
		}
	}
	return b
}

// UnpackColumns reads the scales of cols channels that PackColumns wrote. Scales that are not positive, or bytes that
// do not fit, are an error.
func UnpackColumns(b []byte, cols int) ([]float32, error) {
	for k := 1; k <= maxColumns && cols > 0; k++ {
		width := columnBits(k)
		if len(b) != 4*k+(cols*width+7)/8 {
			continue
		}
		s := make([]float32, cols)
		for j := range s {
			i := 0
			for bit := range width {
				at := j*width + bit
				i |= int(b[4*k+at/8]>>(at%8)&1) << bit
			}
			if i >= k {
				return nil, fmt.Errorf("ternary: channel %d is of column cluster %d of %d", j, i, k)
			}
			s[j] = math.Float32frombits(binary.LittleEndian.Uint32(b[4*i:]))
		}
		return s, checkColumns(s, cols)
	}
	return nil, fmt.Errorf("ternary: %d bytes are no column scales of %d channels", len(b), cols)
}

func columnBits(k int) int { return bits.Len(uint(max(k, 1) - 1)) }

func checkColumns(s []float32, cols int) error {
	if s != nil && len(s) != cols {
		return fmt.Errorf("ternary: %d column scales for %d columns", len(s), cols)
	}
	for j, v := range s {
		if !(v > 0) || math.IsInf(float64(v), 0) {
			return fmt.Errorf("ternary: the scale of column %d is %g; it must be positive", j, v)
		}
	}
	return nil
}

// As re-packs in another format.
func (p *Packed) As(format string) (*Packed, error) {
	codes, err := p.Unpack()
	if err != nil {
		return nil, err
	}
	again, err := pack(format, codes, p.Rows, p.Cols, p.Scales)
	if err == nil {
		again.Columns = p.Columns
	}
	return again, err
}

// BitsPerWeight counts the bytes of codes and scales, and of PackColumns.
func (p *Packed) BitsPerWeight() float64 {
	return float64(8*(len(p.Data)+4*len(p.Scales)+len(PackColumns(p.Columns)))) / float64(p.Rows*p.Cols)
}

func (p *Packed) String() string {
	return fmt.Sprintf("%s weight %d x %d, %s, %.3f bits per weight", p.Codebook(), p.Rows, p.Cols, p.Format,
		p.BitsPerWeight())
}
