//go:build !amd64

package simd

const best = None

const hasBF16 = false
