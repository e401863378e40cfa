//go:build !amd64

package simd

const best = None
