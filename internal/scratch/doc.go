// Package scratch lends host memory to kernels: aligned, pooled by powers of two, contents undefined.
package scratch
