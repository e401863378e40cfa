//go:build !amd64 && !arm64

package simd

var tiers []Tier

const best = None

const fastBF16 = false
