//go:build (amd64 || arm64) && linux

package simd

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"setun/device"
	"setun/internal/half"
)

// TestHalf: conversions give the bits of package half, whatever the number.
func TestHalf(t *testing.T) {
	for _, tier := range Tiers()[1:] {
		places(t, tier.String(), func(p place) {
			for _, n := range []int{1, 15, 16, 33, 100} {
				d := NewTier(1, tier)
				x, h := guarded[float32](t, n, p.head), guarded[uint16](t, n, p.head)
				for range 400 {
					for i := range x {
						x[i] = math.Float32frombits(p.rng.Uint32())
						if p.rng.IntN(2) == 0 { // in range, in the middle of two
							x[i] = math.Float32frombits(p.rng.Uint32()&0x8fffe000 + 0x30000000 + uint32(p.rng.IntN(3))<<12)
						}
					}
					d.Copy(device.Wrap(h), device.Wrap(x))
					for i, v := range x {
						if h[i] != half.F16(v) {
							t.Fatalf("%s: %v (%#x) became %#x, want %#x", tier, v, math.Float32bits(v), h[i], half.F16(v))
						}
					}
					for i := range h {
						h[i] = uint16(p.rng.Uint32())
					}
					d.Copy(device.Wrap(x), device.Wrap(h))
					for i, v := range h {
						if math.Float32bits(x[i]) != math.Float32bits(half.FromF16(v)) {
							t.Fatalf("%s: %#x became %v, want %v", tier, v, x[i], half.FromF16(v))
						}
					}
				}
			}
		})
	}
}

// TestRows: products with rows stay inside them, and inside their tolerance.
func TestRows(t *testing.T) {
	for _, tier := range Tiers()[1:] {
		d := NewTier(1, tier)
		for _, s := range [][3]int{{1, 16, 16}, {3, 32, 40}, {4, 48, 48}, {5, 64, 128}, {7, 96, 96}, {18, 112, 113}, {9, 128, 256},
			{6, 240, 240}} {
			n, dim, ld := s[0], s[1], s[2]
			places(t, fmt.Sprint(tier, s), func(p place) {
				x, w := p.floats(dim, 1), p.floats(n, 1)
				size := (n-1)*ld + dim
				f, h := p.floats(size, 1), guarded[uint16](t, size, p.head)
				for i := range h {
					h[i] = half.F16(f[i])
					f[i] = half.FromF16(h[i])
				}
				q := guarded[int8](t, n*(dim+4), p.head)
				for i := range n {
					d.int8Row(q[i*(dim+4):][:dim+4], f[i*ld:][:dim])
				}
				for _, tb := range []table{{f: f}, {h: h}, {q: q}} {
					if tb.q != nil {
						ld = dim + 4
						f = make([]float32, len(q))
						for i := range n {
							row := q[i*ld:][:ld]
							scale := math.Float32frombits(uint32(uint8(row[dim])) | uint32(uint8(row[dim+1]))<<8 |
								uint32(uint8(row[dim+2]))<<16 | uint32(uint8(row[dim+3]))<<24)
							for j := range dim {
								f[i*ld+j] = float32(row[j]) * scale
							}
						}
					}
					dots, mix := p.floats(n, 1), p.floats(dim, 1)
					d.rowDots(dots, x, tb, ld, 0.5)
					d.rowMix(mix, w, tb, ld)
					wantMix := make([]float64, dim)
					for j := range n {
						want := 0.0
						for i := range dim {
							want += 0.5 * float64(x[i]) * float64(f[j*ld+i])
							wantMix[i] += float64(w[j]) * float64(f[j*ld+i])
						}
						if math.Abs(float64(dots[j])-want) > 2e-5 {
							t.Errorf("%s %v: dot %d is %v, want %v", tier, s, j, dots[j], want)
						}
					}
					for i, want := range wantMix {
						if math.Abs(float64(mix[i])-want) > 2e-5 {
							t.Errorf("%s %v: column %d is %v, want %v", tier, s, i, mix[i], want)
						}
					}
				}
			})
		}
	}
}

// TestHalfPieces: a large B' in half precision, which is widened some rows at a time, gives the bits of float32.
func TestHalfPieces(t *testing.T) {
	const m, k, lda = 9, 96, 100
	n := packBytes/4/k + 77
	g := rand.New(rand.NewPCG(1, 2))
	a, bias, h, f := make([]float32, m*lda), make([]float32, n), make([]uint16, n*k), make([]float32, n*k)
	for _, x := range [][]float32{a, bias, f} {
		for i := range x {
			x[i] = float32(g.NormFloat64())
		}
	}
	for i := range h {
		h[i] = half.F16(f[i])
		f[i] = half.FromF16(h[i])
	}
	s := device.GemmShape{M: m, N: n, K: k, TransB: true, Alpha: 1, Beta: 0.5, LDA: lda}
	for _, tier := range Tiers()[1:] {
		d := NewTier(2, tier)
		var y [2][]float32
		for i, b := range []device.Mem{device.Wrap(f), device.Wrap(h)} {
			y[i] = slices.Repeat([]float32{1}, m*n)
			d.Gemm(device.Wrap(y[i]), device.Wrap(a), b, device.Wrap(bias), s)
		}
		if err := d.Sync(); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(y[0], y[1]) {
			t.Errorf("%s: not the bits of float32", tier)
		}
	}
}
