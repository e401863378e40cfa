//go:build (amd64 || arm64) && linux

package simd

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"setun/device"
)

// A kernel of the table: the lengths of its operands for n, results first, and the call.
type vecKernel struct {
	name    string
	lengths func(n int) []int
	run     func(d *Device, n int, m []device.Mem)
	tol     float64 // of the difference to device/cpu, relative to 1 + its value; 0: the same bits
	mixes   bool    // an element depends on others, or on its index
}

func same(operands int) func(n int) []int {
	return func(n int) []int {
		l := make([]int, operands)
		for i := range l {
			l[i] = n
		}
		return l
	}
}

func vecKernels() []vecKernel {
	step := device.AdamWStep{LR: 0.1, Beta1: 0.9, Beta2: 0.99, Eps: 1e-6, Decay: 0.1, Corr1: 1.5, Corr2: 2, GradScale: 0.7}
	ks := []vecKernel{
		{"Add", same(3), func(d *Device, n int, m []device.Mem) { d.Add(m[0], m[1], m[2]) }, 0, false},
		{"Mul", same(3), func(d *Device, n int, m []device.Mem) { d.Mul(m[0], m[1], m[2]) }, 0, false},
		{"MulAdd", same(3), func(d *Device, n int, m []device.Mem) { d.MulAdd(m[0], m[1], m[2]) }, 3e-7, false},
		{"Scale", same(2), func(d *Device, n int, m []device.Mem) { d.Scale(m[0], 1.7, m[1]) }, 0, false},
		{"Axpy", same(2), func(d *Device, n int, m []device.Mem) { d.Axpy(m[0], 1.7, m[1]) }, 3e-7, false},
		{"Fill", same(1), func(d *Device, n int, m []device.Mem) { d.Fill(m[0], 1.5) }, 0, false},
		{"Fill 0", same(1), func(d *Device, n int, m []device.Mem) { d.Fill(m[0], 0) }, 0, false},
		{"AdamW", same(4), func(d *Device, n int, m []device.Mem) {
			v := m[2].F32()
			for i := range v {
				v[i] = v[i] * v[i]
			}
			d.AdamW(m[0], m[1], m[2], m[3], step)
		}, 1e-6, false},
		{"Uniform", same(1), func(d *Device, n int, m []device.Mem) { d.Uniform(m[0], 1<<33+5, -0.3, 0.5) }, 0, true},
		{"Normal", same(1), func(d *Device, n int, m []device.Mem) { d.Normal(m[0], 1<<33+5, 0.5) }, 0, true},
	}
	for _, acc := range []bool{false, true} {
		for _, p := range []float32{0, 0.3, 1} {
			ks = append(ks, vecKernel{fmt.Sprintf("Dropout p=%v acc=%t", p, acc), same(2),
				func(d *Device, n int, m []device.Mem) { d.Dropout(m[0], m[1], p, 7, acc) }, 0, true})
		}
		for _, ld := range []int{0, 3} {
			rows := func(n int) []int {
				return []int{max(0, 3*n+2*ld), max(0, 3*n+2*ld)}
			}
			ks = append(ks, vecKernel{fmt.Sprintf("CopyRows ld=n+%d acc=%t", ld, acc), rows,
				func(d *Device, n int, m []device.Mem) { d.CopyRows(m[0], n+ld, m[1], n+ld, 3, n, acc) }, 0, true})
		}
		for _, inverse := range []bool{false, true} {
			ks = append(ks, vecKernel{fmt.Sprintf("RoPE inverse=%t acc=%t", inverse, acc),
				func(n int) []int { return []int{12 * n, 12 * n, 6 * n} },
				func(d *Device, n int, m []device.Mem) {
					d.RoPE(m[0], m[1], m[2], device.RoPEShape{Rows: 3, Seq: 2, Heads: 2, Dim: 2 * n, Offset: 1,
						Inverse: inverse, Acc: acc})
				}, 1e-6, true})
		}
	}
	for _, f := range device.UnaryOps {
		ks = append(ks,
			vecKernel{"Unary " + f.String(), same(2),
				func(d *Device, n int, m []device.Mem) { d.Unary(f, m[0], m[1]) }, 1e-6, false},
			vecKernel{"UnaryGrad " + f.String(), same(3),
				func(d *Device, n int, m []device.Mem) { d.UnaryGrad(f, m[0], m[1], m[2], true) }, 1e-6, false},
			vecKernel{"Gated " + f.String(), same(3),
				func(d *Device, n int, m []device.Mem) { d.Gated(f, m[0], m[1], m[2]) }, 1e-6, false},
			vecKernel{"GatedGrad " + f.String(), same(5),
				func(d *Device, n int, m []device.Mem) { d.GatedGrad(f, m[0], m[1], m[2], m[3], m[4], true) }, 2e-6, false},
			vecKernel{"GatedGrad of g " + f.String(), same(4), func(d *Device, n int, m []device.Mem) {
				d.GatedGrad(f, m[0], device.Mem{}, m[1], m[2], m[3], true)
			}, 2e-6, false},
			vecKernel{"GatedGrad of u " + f.String(), same(3), func(d *Device, n int, m []device.Mem) {
				d.GatedGrad(f, device.Mem{}, m[0], m[1], m[2], m[2], true)
			}, 2e-6, false})
	}
	return append(ks,
		vecKernel{"AddRows", func(n int) []int { return []int{6 * n, 6 * n, 2 * n} },
			func(d *Device, n int, m []device.Mem) { d.AddRows(m[0], m[1], m[2], 0.3, 2, 3, n) }, 3e-7, true},
		vecKernel{"AddRows without x", func(n int) []int { return []int{6 * n, 2 * n} },
			func(d *Device, n int, m []device.Mem) { d.AddRows(m[0], device.Mem{}, m[1], 0.3, 2, 3, n) }, 0, true},
		vecKernel{"ScatterAdd", func(n int) []int { return []int{3 * n, 4 * n} },
			func(d *Device, n int, m []device.Mem) {
				d.ScatterAdd(m[0], m[1], device.Wrap([]int32{2, 0, 2, 1}), 4, n)
			}, 0, true})
}

// TestVectors: every tier against device/cpu for all remainders, on memory between pages that fault. Elements get the
// same bits wherever in a vector they stand.
func TestVectors(t *testing.T) {
	const most = 140
	for _, k := range vecKernels() {
		for _, tier := range Tiers()[1:] {
			d, ref := NewTier(1, tier), NewTier(1, None)
			for _, head := range []bool{false, true} {
				long := k.lengths(most)
				mem := make([][]float32, len(long)) // one mapping serves every n
				for i, n := range long {
					mem[i] = guarded[float32](t, n, head)
				}
				for n := range most + 1 {
					if n > 70 && n%13 != 0 && n < most-1 {
						continue
					}
					g := rand.New(rand.NewPCG(1, uint64(n)))
					got, want := make([]device.Mem, len(long)), make([]device.Mem, len(long))
					for i, l := range k.lengths(n) {
						x := mem[i][:l]
						if !head {
							x = mem[i][len(mem[i])-l:]
						}
						for j := range x {
							x[j] = float32(2 * g.NormFloat64())
						}
						got[i], want[i] = device.Wrap(x), device.Wrap(append([]float32{}, x...))
					}
					part := make([]device.Mem, len(long)) // the last elements alone
					if !k.mixes {
						for i := range part {
							part[i] = device.Wrap(append([]float32{}, got[i].F32()[n/3:]...))
						}
					}
					faults(t, fmt.Sprintf("%s: %s of %d", tier, k.name, n), func() { k.run(d, n, got) })
					k.run(ref, n, want)
					for i := range got {
						for j, w := range want[i].F32() {
							v := got[i].F32()[j]
							if e := math.Abs(float64(v - w)); !(e <= k.tol*(1+math.Abs(float64(w)))) {
								t.Fatalf("%s: %s of %d: operand %d [%d] is %v, want %v", tier, k.name, n, i, j, v, w)
							}
						}
					}
					if k.mixes {
						continue
					}
					k.run(d, n-n/3, part)
					for i := range part {
						for j, v := range part[i].F32() {
							if w := got[i].F32()[n/3+j]; v != w {
								t.Fatalf("%s: %s of %d: operand %d [%d] is %v, but %v elsewhere in a vector", tier, k.name, n, i,
									n/3+j, w, v)
							}
						}
					}
				}
			}
		}
	}
}

// TestNotFinite: NaN and infinities come out where they do on device/cpu, without overflows on the way, which depend on
// the order of products, and slopes that are 0 in one precision only.
func TestNotFinite(t *testing.T) {
	inf := float32(math.Inf(1))
	x := []float32{float32(math.NaN()), inf, -inf, 0, float32(math.Copysign(0, -1)), 1e-15, -1e-15, 1, -1, 2.5, -2.5}
	for _, k := range vecKernels() {
		if k.mixes {
			continue
		}
		for _, tier := range Tiers()[1:] {
			count := len(k.lengths(1))
			for shift := range x { // operand i is shifted i times as far
				got, want := make([]device.Mem, count), make([]device.Mem, count)
				for i := range got {
					y := make([]float32, len(x))
					for j := range y {
						y[j] = x[(j+i*shift)%len(x)]
					}
					got[i], want[i] = device.Wrap(y), device.Wrap(append([]float32{}, y...))
				}
				k.run(NewTier(1, tier), len(x), got)
				k.run(NewTier(1, None), len(x), want)
				for i := range got {
					for j, w := range want[i].F32() {
						v, w := float64(got[i].F32()[j]), float64(w)
						if math.IsNaN(v) != math.IsNaN(w) || math.IsInf(v, 1) != math.IsInf(w, 1) ||
							math.IsInf(v, -1) != math.IsInf(w, -1) {
							t.Errorf("%s: %s, shift %d: operand %d [%d] is %v, want %v (x %v)", tier, k.name, shift, i, j, v, w,
								x[(j+(count-1)*shift)%len(x)])
						}
					}
				}
			}
		}
	}
}

// TestThreads: the bits do not depend on the number of threads.
func TestThreads(t *testing.T) {
	const n = 200_003
	for _, k := range vecKernels() {
		if k.lengths(n)[0] != n {
			continue
		}
		for _, tier := range Tiers()[1:] {
			var all [2][]device.Mem
			for i, threads := range []int{1, 5} {
				for j := range k.lengths(n) {
					m := NewTier(1, tier).Alloc(device.F32, n)
					NewTier(1, tier).Uniform(m, uint64(j), 0, 1)
					all[i] = append(all[i], m)
				}
				k.run(NewTier(threads, tier), n, all[i])
			}
			for i := range all[0] {
				for j, v := range all[0][i].F32() {
					if w := all[1][i].F32()[j]; v != w {
						t.Fatalf("%s: %s: operand %d [%d] is %v with one thread, %v with 5", tier, k.name, i, j, v, w)
					}
				}
			}
		}
	}
}
