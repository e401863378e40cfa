package ternary

import (
	"fmt"

	"setun/device"
)

// Codebook names the levels of a weight.
type Codebook string

const (
	Ternary Codebook = "ternary" // -1, 0, 1
	Five    Codebook = "five"    // -1, -.5, 0, .5, 1
)

// Levels is the largest integer code.
func (c Codebook) Levels() int {
	if c == Five {
		return 2
	}
	return 1
}

// Rule names how the scale of a weight is found. With m the mean of |w|:
type Rule string

const (
	// AbsMean: scale = m, code = round(w/scale) clipped: BitNet b1.58. For Five the scale is 1.055 m, the MSE optimum for
	// normal weights.
	AbsMean Rule = "absmean"
	// TWN: code = sign(w) where |w| > Threshold*m; scale = mean of the kept |w|. Ternary only.
	TWN Rule = "twn"
	// LSQ: the scale is a parameter, trained with the weights; it starts at 1.53 m (Five: 1.055 m).
	LSQ Rule = "lsq"
)

// Math names the arithmetic of the gradients: see [device.Math]. The forward product is always int8, unless FloatActs.
type Math string

const (
	FP32 Math = "fp32"
	BF16 Math = "bf16"
	Int8 Math = "int8"
)

func (m Math) kernel() device.Math {
	switch m {
	case Int8:
		return device.MathInt8
	case BF16:
		return device.MathBF16
	}
	return device.MathFP32
}

// Config says how a layer quantizes. The zero Config is the default: ternary, TWN with threshold 0.7, one scale per
// tensor, int8 activations, no norm, int8 products in the gradients.
type Config struct {
	Codebook  Codebook `json:"codebook,omitempty"`   // default Ternary
	Rule      Rule     `json:"rule,omitempty"`       // default TWN, for Five AbsMean
	Threshold float32  `json:"threshold,omitempty"`  // of TWN, in units of mean|w|; default 0.7
	PerRow    bool     `json:"per_row,omitempty"`    // one scale per output instead of one per tensor
	FloatActs bool     `json:"float_acts,omitempty"` // leave activations float32
	SubNorm   bool     `json:"sub_norm,omitempty"`   // RMSNorm with gain before the activations are quantized (SubLN)
	Columns   int      `json:"columns,omitempty"`    // clusters of input channels, a scale each, see Regroup; 0: off
	Math      Math     `json:"math,omitempty"`       // of the gradients; default Int8, with FloatActs FP32
}

// withDefaults fills in the zero fields.
func (c Config) withDefaults() Config {
	if c.Codebook == "" {
		c.Codebook = Ternary
	}
	if c.Rule == "" {
		c.Rule = TWN
		if c.Codebook == Five {
			c.Rule = AbsMean
		}
	}
	if c.Threshold == 0 {
		c.Threshold = 0.7
	}
	if c.Math == "" {
		c.Math = Int8
		if c.FloatActs {
			c.Math = FP32
		}
	}
	if c.Columns == 1 { // a scale that all share is none
		c.Columns = 0
	}
	return c
}

// Validate reports a field that has no meaning.
func (c Config) Validate() error {
	c = c.withDefaults()
	switch {
	case c.Codebook != Ternary && c.Codebook != Five:
		return fmt.Errorf("ternary: unknown codebook %q; use %q or %q", c.Codebook, Ternary, Five)
	case c.Rule != AbsMean && c.Rule != TWN && c.Rule != LSQ:
		return fmt.Errorf("ternary: unknown rule %q; use %q, %q or %q", c.Rule, AbsMean, TWN, LSQ)
	case c.Rule == TWN && c.Codebook == Five:
		return fmt.Errorf("ternary: rule %q has no five-level form; use %q or %q", TWN, AbsMean, LSQ)
	case !(c.Threshold > 0 && c.Threshold < 10):
		return fmt.Errorf("ternary: threshold %g is not between 0 and 10 (in units of mean|w|; 0.7 is usual)", c.Threshold)
	case c.Columns < 0 || c.Columns > maxColumns:
		return fmt.Errorf("ternary: %d column clusters; use 2 to %d, or 0 for none", c.Columns, maxColumns)
	case c.Math != FP32 && c.Math != BF16 && c.Math != Int8:
		return fmt.Errorf("ternary: unknown math %q; use %q, %q or %q", c.Math, Int8, BF16, FP32)
	case c.Math == Int8 && c.FloatActs:
		return fmt.Errorf("ternary: math %q needs int8 activations; leave float_acts out, or use %q or %q", Int8, BF16, FP32)
	}
	return nil
}

// kernel is the rule and its factor as the device knows them.
func (c Config) kernel() (device.WeightRule, float32) {
	switch c.Rule {
	case TWN:
		return device.TWN, c.Threshold
	case LSQ:
		return device.Given, 0
	}
	if c.Codebook == Five {
		return device.AbsMean, fiveFactor
	}
	return device.AbsMean, 1
}

// Scales that minimise the squared error of normal weights, in units of mean|w|.
const (
	fiveFactor    = 1.055
	ternaryFactor = 1.53
)
