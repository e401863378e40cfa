//go:build (amd64 || arm64) && linux

package simd

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"setun/device"
	"setun/device/cpu"
)

// A place is where the operands of a test lie: flush against a page that faults, before them or after.
type place struct {
	t    *testing.T
	rng  *rand.Rand
	head bool
}

// places runs f with operands at both ends.
func places(t *testing.T, what string, f func(p place)) {
	t.Helper()
	for _, head := range []bool{false, true} {
		faults(t, fmt.Sprintf("%s, head %t", what, head), func() { f(place{t, rand.New(rand.NewPCG(1, 2)), head}) })
	}
}

// floats are normal values times scale.
func (p place) floats(n int, scale float32) []float32 {
	x := guarded[float32](p.t, n, p.head)
	for i := range x {
		x[i] = float32(p.rng.NormFloat64()) * scale
	}
	return x
}

// codes include both extremes.
func (p place) codes(n int) []int8 {
	x := guarded[int8](p.t, n, p.head)
	for i := range x {
		if x[i] = int8(p.rng.IntN(256) - 128); p.rng.IntN(3) == 0 {
			x[i] = [...]int8{-128, 127}[p.rng.IntN(2)]
		}
	}
	return x
}

func sameBits(t *testing.T, what string, got, want []float32) {
	t.Helper()
	for i, w := range want {
		if g := got[i]; math.Float32bits(g) != math.Float32bits(w) && (g == g || w == w) {
			t.Errorf("%s: element %d is %v, want %v", what, i, g, w)
			return
		}
	}
}

// TestQLinear: the three kernels give device/cpu's bits, in every tier, at every remainder.
func TestQLinear(t *testing.T) {
	shapes := [][3]int{{1, 1, 1}, {8, 5, 3}, {9, 64, 64}, {48, 65, 32}, {97, 130, 260}, {50, 7, 1025}, {3, 100, 500}}
	for r := 1; r <= 17; r++ { // rows of tiles and groups
		shapes = append(shapes, [3]int{8 + r, 3, 5}, [3]int{r, 10, 37}, [3]int{11, r, 8}, [3]int{9, 5, r},
			[3]int{47 + r, 49, 33})
	}
	for c := 15; c <= 81; c += 3 { // columns
		shapes = append(shapes, [3]int{10, c, 66}, [3]int{10, 66, c})
	}
	if testing.Short() {
		shapes = shapes[:40]
	}
	ref := cpu.New(1)
	for _, tier := range Tiers()[1:] {
		for _, s := range shapes {
			m, n, k := s[0], s[1], s[2]
			for _, scales := range []int{1, n} {
				what := fmt.Sprintf("%s, m=%d n=%d k=%d, %d scales", tier, m, n, k, scales)
				places(t, what, func(p place) {
					d := NewTier(1+p.rng.IntN(3), tier)
					xq, codes, xs, ws := p.codes(m*k), p.codes(n*k), p.floats(m, 0.01), p.floats(scales, 1)
					dy, bias := p.floats(m*n, 1e-7), p.floats(n, 1)
					dy[p.rng.IntN(m*n)] = 0
					a, b, w := device.Wrap(xq), device.Wrap(codes), device.Wrap[float32]
					for _, mem := range []device.Mem{{}, w(bias)} {
						got, want := p.floats(m*n, 1), make([]float32, m*n)
						d.QLinear(w(got), a, w(xs), b, w(ws), mem, m, n, k)
						ref.QLinear(w(want), a, w(xs), b, w(ws), mem, m, n, k)
						sameBits(t, what+", y", got, want)
					}
					dx, dw := p.floats(m*k, 1e-5), p.floats(n*k, 1e-7)
					wantX, wantW := slices.Clone(dx), slices.Clone(dw)
					d.QLinearGradX(w(dx), w(dy), b, w(ws), m, n, k, device.MathInt8, true)
					ref.QLinearGradX(w(wantX), w(dy), b, w(ws), m, n, k, device.MathInt8, true)
					sameBits(t, what+", dx", dx, wantX)
					d.QLinearGradW(w(dw), w(dy), a, w(xs), m, n, k, device.MathInt8, true)
					ref.QLinearGradW(w(wantW), w(dy), a, w(xs), m, n, k, device.MathInt8, true)
					sameBits(t, what+", dw", dw, wantW)
				})
			}
			if t.Failed() {
				return
			}
		}
	}
}

// TestPackedLinear: panels give the bits of codes, in every tier, at every remainder.
func TestPackedLinear(t *testing.T) {
	shapes := [][3]int{{1, 1, 1}, {8, 5, 3}, {9, 64, 64}, {97, 130, 260}, {50, 7, 1025}, {3, 100, 500}, {1, 31, 15},
		{20, 33, 48}, {31, 40, 100}, {32, 64, 129}, {33, 32, 64}}
	for r := 1; r <= 17; r++ { // rows of tiles, of panels, blocks
		shapes = append(shapes, [3]int{r, 33, 48}, [3]int{3, 31 + r, 32}, [3]int{5, 2 * r, 31 + r}, [3]int{1, 4 * r, 128 * r})
	}
	if testing.Short() {
		shapes = shapes[:40]
	}
	ref := cpu.New(1)
	for _, tier := range Tiers()[1:] {
		for i, s := range shapes {
			m, n, k, levels := s[0], s[1], s[2], 1+i%2
			for _, scales := range []int{1, n} {
				what := fmt.Sprintf("%s, m=%d n=%d k=%d, %d levels, %d scales", tier, m, n, k, levels, scales)
				places(t, what, func(p place) {
					d := NewTier(1+p.rng.IntN(3), tier)
					xq, codes, xs, ws, bias := p.codes(m*k), p.codes(n*k), p.floats(m, 0.01), p.floats(scales, 1), p.floats(n, 1)
					for i := range codes {
						codes[i] = codes[i] % int8(levels+1)
					}
					packed := guarded[uint8](t, device.PanelBytes(n, k, levels), p.head)
					device.PackPanels(packed, codes, n, k, levels)
					w := device.Wrap[float32]
					for _, b := range []device.Mem{{}, w(bias)} {
						got, want := p.floats(m*n, 1), make([]float32, m*n)
						d.PackedLinear(w(got), device.Wrap(xq), w(xs), device.Wrap(packed), w(ws), b, m, n, k, levels)
						ref.QLinear(w(want), device.Wrap(xq), w(xs), device.Wrap(codes), w(ws), b, m, n, k)
						sameBits(t, what, got, want)
					}
				})
			}
			if t.Failed() {
				return
			}
		}
	}
}

// TestQLinearDeep: sums stay exact where those of VPDPBUSD, 128 higher in one factor, pass 2^31.
func TestQLinearDeep(t *testing.T) {
	const k = 100_003
	ref := cpu.New(1)
	for _, tier := range Tiers()[1:] {
		for _, m := range []int{2, 10} {
			d := NewTier(2, tier)
			xq, codes := slices.Repeat([]int8{-128, 127}, m*k/2), slices.Repeat([]int8{127}, 3*k)
			for i := range k {
				xq[i], codes[i] = -128, -128
			}
			got, want, one := make([]float32, m*3), make([]float32, m*3), slices.Repeat([]float32{1}, m)
			for i, d := range []device.Device{d, ref} {
				d.QLinear(device.Wrap([][]float32{got, want}[i]), device.Wrap(xq), device.Wrap(one), device.Wrap(codes),
					device.Wrap(one[:1]), device.Mem{}, m, 3, k)
			}
			sameBits(t, tier.String(), got, want)
			if want[0] != 128*128*k {
				t.Errorf("the sum is %v", want[0])
			}
		}
	}
}

// TestQLinearNaN: NaN and Inf stay in their row of dx and their column of dy in dw.
func TestQLinearNaN(t *testing.T) {
	const m, n, k = 70, 100, 40
	ref := cpu.New(1)
	for _, tier := range Tiers()[1:] {
		places(t, tier.String(), func(p place) {
			d, w := NewTier(2, tier), device.Wrap[float32]
			dy, xs, ws, codes, xq := p.floats(m*n, 1), p.floats(m, 1), p.floats(n, 1), p.codes(n*k), p.codes(m*k)
			dy[3*n+97], dy[69*n+40], dy[68*n+1] = float32(math.NaN()), float32(math.Inf(1)), float32(math.Inf(-1))
			for j := range n {
				dy[5*n+j], dy[6*n+j] = 0, 1e-40
			}
			dx, dw := p.floats(m*k, 1), p.floats(n*k, 1)
			wantX, wantW := slices.Clone(dx), slices.Clone(dw)
			d.QLinearGradX(w(dx), w(dy), device.Wrap(codes), w(ws), m, n, k, device.MathInt8, true)
			ref.QLinearGradX(w(wantX), w(dy), device.Wrap(codes), w(ws), m, n, k, device.MathInt8, true)
			d.QLinearGradW(w(dw), w(dy), device.Wrap(xq), w(xs), m, n, k, device.MathInt8, true)
			ref.QLinearGradW(w(wantW), w(dy), device.Wrap(xq), w(xs), m, n, k, device.MathInt8, true)
			sameBits(t, tier.String()+", dx", dx, wantX)
			sameBits(t, tier.String()+", dw", dw, wantW)
			if dw[97*k] == dw[97*k] || dw[2*k] != dw[2*k] || dx[69*k] == dx[69*k] {
				t.Errorf("%s: NaN in the wrong places", tier)
			}
		})
	}
}

// A testedTile is a kernel for TestTiles.
type testedTile struct {
	name       string
	rows, cols int
	f          tileKernel
}

// Below: every routine against its Go twin, with operands of exactly the size that it may touch.

func TestTiles(t *testing.T) {
	for _, kn := range testedTiles() {
		for cols := 1; cols <= kn.cols; cols++ {
			groups, tiles, mode, turned := 1+cols%4, 1+cols%3, cols%3, cols%2 == 0
			rows := tiles * kn.rows
			places(t, fmt.Sprintf("%s, %d columns", kn.name, cols), func(p place) {
				ld := cols + 3
				c := p.floats((rows-1)*ld+cols, 1)
				rs, cs, bias := p.floats(rows, 1), p.floats(kn.cols, 1), p.floats(kn.cols, 1)
				comp := guarded[int32](t, rows, p.head)
				for i := range comp {
					comp[i] = int32(p.rng.Uint32())
				}
				a, ars, aks := p.codes(rows*groups*4), 4*groups, 4
				if turned {
					ars, aks = 4, 4*rows
				}
				b := guarded[uint8](t, (groups-1)*256+4*kn.cols, p.head)
				for i := range b {
					b[i] = uint8(p.rng.UintN(256))
				}
				want := slices.Clone(c)
				for i := range rows {
					for j := range cols {
						sum := comp[i]
						for g := range groups {
							for l := range 4 {
								sum += int32(a[i*ars+g*aks+l]) * (int32(int8(b[g*256+4*j+l]^codeOffset)) + codeOffset)
							}
						}
						v := float32(float32(float32(sum)*rs[i]) * cs[j])
						switch mode {
						case addBias:
							v += bias[j]
						case accumulate:
							v += want[i*ld+j]
						}
						want[i*ld+j] = v
					}
				}
				kn.f(&c[0], ld, &a[0], ars, aks, &b[0], groups, &comp[0], &rs[0], &cs[0], &bias[0], mode, cols, tiles)
				sameBits(t, kn.name, c, want)
			})
		}
	}
}

func TestPack(t *testing.T) {
	if best == None {
		t.Skip("no vectors")
	}
	for n := 1; n <= 4; n++ {
		places(t, "packRows", func(p place) {
			ld := 32*n + 5
			src, dst := p.codes(7*ld+32*n), guarded[uint8](t, (8*n-1)*256+32, p.head)
			packRows8(&dst[0], &src[0], ld, n)
			for i := range 8 * 32 * n {
				r, g, c := i/(32*n), i%(32*n)/4, i%4
				if got, want := dst[g*256+4*r+c], uint8(src[r*ld+4*g+c])+codeOffset; got != want {
					t.Fatalf("packRows: row %d, group %d: %d, want %d", r, g, got, want)
				}
			}
		})
		for groups := 1; groups <= 3; groups++ {
			places(t, "packCols", func(p place) {
				ld := 16*n + 7
				src, dst := p.codes((4*groups-1)*ld+16*n), guarded[uint8](t, (groups-1)*256+64*n, p.head)
				packCols16(&dst[0], &src[0], ld, groups, n)
				for i := range 4 * groups * 16 * n {
					l, c := i/(16*n), i%(16*n)
					if got, want := dst[l/4*256+4*c+l%4], uint8(src[l*ld+c])+codeOffset; got != want {
						t.Fatalf("packCols: row %d, column %d: %d, want %d", l, c, got, want)
					}
				}
			})
		}
	}
}

func TestDots(t *testing.T) {
	if !NewTier(1, best).dots() {
		t.Skip("no integer products")
	}
	for _, tier := range Tiers()[1:] {
		d := NewTier(1, tier)
		for n := 1; n <= 9; n++ {
			for _, k := range []int{1, 3, 15, 16, 17, 63, 64, 65, 127, 128, 200} {
				places(t, fmt.Sprintf("%s, n=%d k=%d", tier, n, k), func(p place) {
					x, codes, sum := p.codes(k), p.codes(n*k), guarded[int32](t, n, p.head)
					d.qdots(sum, x, codes)
					total := int32(0)
					for j := range sum {
						want := int32(0)
						for l := range x {
							want += int32(x[l]) * int32(codes[j*k+l])
						}
						if sum[j] != want {
							t.Errorf("%s, n=%d k=%d: sum[%d] is %d, want %d", tier, n, k, j, sum[j], want)
						}
					}
					for _, c := range x {
						total += int32(c)
					}
					if got := d.sumCodes(x); got != total {
						t.Errorf("%s, k=%d: the sum is %d, want %d", tier, k, got, total)
					}
				})
			}
		}
	}
}

// quantized is the twin of the quantizers: codes, scale and sum of h.
func quantized(h []float32) (q []int8, scale float32, sum int32) {
	a := float32(device.GradFloor)
	for _, v := range h {
		a = max(a, max(v, -v))
	}
	for _, v := range h {
		c := int8(math.RoundToEven(float64(v * (127 / a))))
		q, sum = append(q, c), sum+int32(c)
	}
	return q, a / 127, sum
}

func TestGradRow(t *testing.T) {
	for _, tier := range Tiers()[1:] {
		d := NewTier(1, tier)
		for n := 1; n <= 140; n++ {
			for _, scaled := range []bool{false, true} {
				places(t, fmt.Sprintf("%s, n=%d", tier, n), func(p place) {
					x, h := p.floats(n, 1e-9), make([]float32, n)
					copy(h, x)
					var ws []float32
					if scaled {
						ws = p.floats(n, 1)
						for j := range h {
							h[j] *= ws[j]
						}
					}
					q := guarded[int8](t, (n+3)&^3, p.head)
					scale, comp := d.gradRow(q, x, ws)
					want, wantScale, sum := quantized(h)
					if !slices.Equal(q[:n], want) || scale != wantScale || comp != -codeOffset*sum {
						t.Errorf("%s, n=%d: %d, scale %g, comp %d; want %d, %g, %d", tier, n, q[:n], scale, comp, want,
							wantScale, -codeOffset*sum)
					}
					if slices.ContainsFunc(q[n:], func(c int8) bool { return c != 0 }) {
						t.Errorf("%s, n=%d: the rest of a group is not 0", tier, n)
					}
				})
			}
		}
	}
}

func TestGradCols(t *testing.T) {
	for _, tier := range Tiers()[1:] {
		for _, m := range []int{1, 2, 3, 4, 5, 31, 32, 33, 66, 130} {
			for n := 1; n <= 100; n++ {
				if testing.Short() && n%3 > 0 {
					continue
				}
				places(t, fmt.Sprintf("%s, m=%d n=%d", tier, m, n), func(pl place) {
					d := NewTier(1+n%3, tier)
					dy, xs, xq := pl.floats(m*n, 1e-9), pl.floats(m, 1), pl.codes(m)
					p := d.newQProduct(n, 1, m)
					defer p.free()
					p.ownA()
					p.rs, p.turned = make([]float32, n), true
					d.gradCols(p, dy, xq, xs)
					h, q := make([]float32, m), make([]int8, m)
					for j := range n {
						for i := range h {
							h[i], q[i] = dy[i*n+j]*xs[i], code(tier, p, j, i)
						}
						want, scale, sum := quantized(h)
						if !slices.Equal(q, want) || p.rs[j] != scale || p.comp.X[j] != -codeOffset*sum {
							t.Fatalf("%s, m=%d n=%d: column %d is %d, scale %g, comp %d; want %d, %g, %d", tier, m, n, j, q,
								p.rs[j], p.comp.X[j], want, scale, -codeOffset*sum)
						}
						for i := m; i < p.depth; i++ {
							if code(tier, p, j, i) != 0 {
								t.Fatalf("%s, m=%d n=%d: the rest of a group is not 0", tier, m, n)
							}
						}
					}
				})
			}
		}
	}
}
