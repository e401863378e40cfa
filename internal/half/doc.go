// Package half converts between float32 and the 16-bit formats, rounding to nearest, ties to even, as processors do:
// IEEE binary16 (F16) and bfloat16 (BF16). A NaN stays one, quiet, with the top bits of its payload.
package half
