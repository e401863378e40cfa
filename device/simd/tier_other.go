//go:build !amd64

package simd

const best = None

const fastBF16 = false
