package ternary

import (
	"fmt"
	"math"

	"setun/internal/trit"
)

// Packed is a quantized weight in bytes: codes (Rows, Cols) row-major in the named format, and 1 or Rows scales.
type Packed struct {
	Format     string // "base3" (5 codes a byte), "2bit" (4), or "base5" (3, five-level)
	Rows, Cols int
	Scales     []float32
	Data       []byte
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

// As re-packs in another format.
func (p *Packed) As(format string) (*Packed, error) {
	codes, err := p.Unpack()
	if err != nil {
		return nil, err
	}
	return pack(format, codes, p.Rows, p.Cols, p.Scales)
}

// BitsPerWeight counts the bytes of codes and scales.
func (p *Packed) BitsPerWeight() float64 {
	return float64(8*(len(p.Data)+4*len(p.Scales))) / float64(p.Rows*p.Cols)
}

func (p *Packed) String() string {
	return fmt.Sprintf("%s weight %d x %d, %s, %.3f bits per weight", p.Codebook(), p.Rows, p.Cols, p.Format,
		p.BitsPerWeight())
}
