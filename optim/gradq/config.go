package gradq

import (
	"fmt"
	"slices"
	"strings"
)

// Kinds of quantization, see the package.
const (
	FP32      = "fp32"
	Int8      = "int8"
	Ternary   = "ternary"
	TernaryEF = "ternary-ef"
)

// Kinds lists every kind.
var Kinds = []string{FP32, Int8, Ternary, TernaryEF}

// Config says how gradients are quantized; zero fields mean the defaults in brackets.
type Config struct {
	Kind   string  `json:"kind"`              // (fp32)
	Codec  string  `json:"codec,omitempty"`   // of ternary codes: rans, base3 or 2bit (rans)
	Clip   float32 `json:"clip,omitempty"`    // of ternary: in units of the rms (2.5); negative: none
	PerRow bool    `json:"per_row,omitempty"` // a scale for each row instead of each tensor
	Seed   uint64  `json:"seed,omitempty"`    // of the rounding
}

// WithDefaults fills in the zero fields.
func (c Config) WithDefaults() Config {
	if c.Kind == "" {
		c.Kind = FP32
	}
	switch {
	case c.Codec != "":
	case c.Kind == FP32 || c.Kind == Int8:
		c.Codec = c.Kind
	default:
		c.Codec = "rans"
	}
	if c.Kind == Ternary && c.Clip == 0 {
		c.Clip = 2.5
	}
	return c
}

// Validate reports an unknown name or a field that the kind does not have.
func (c Config) Validate() error {
	c = c.WithDefaults()
	if !slices.Contains(Kinds, c.Kind) {
		return fmt.Errorf("gradq: unknown kind of gradients %q; use %s", c.Kind, strings.Join(Kinds, ", "))
	}
	if c.Kind == FP32 {
		if c.Codec != FP32 {
			return fmt.Errorf("gradq: fp32 gradients have no codec %q; leave it empty", c.Codec)
		}
	} else if codec, err := CodecByName(c.Codec); err != nil {
		return err
	} else if codec.Levels < c.levels() {
		return fmt.Errorf("gradq: codec %s holds codes up to %d, %s gradients have %d; use another codec", c.Codec,
			codec.Levels, c.Kind, c.levels())
	}
	if c.Clip != 0 && c.Kind != Ternary || c.Clip != c.Clip {
		return fmt.Errorf("gradq: clip is %g; only ternary gradients are clipped, at a multiple of their rms", c.Clip)
	}
	return nil
}

// levels is the largest code.
func (c Config) levels() int {
	if c.Kind == Int8 {
		return 127
	}
	return 1
}
