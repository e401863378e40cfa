package cuda

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"setun/device"
	"setun/device/cpu"
	"setun/device/cuda/ptx"
	"setun/internal/half"
)

// What devicetest has no shapes for: products in parts, tensor cores, large tiles, cards with little shared memory.

// compare runs a kernel on d and on the reference with the same operands, of which the first is the result, and bounds
// |got-want| / (1+|want|). Operands start pad elements into their allocation.
func compare(t *testing.T, d *Device, pad int, tol float64, run func(k device.Kernels, m []device.Mem),
	ops ...device.Mem) {
	t.Helper()
	got := make([]device.Mem, len(ops))
	want := make([]device.Mem, len(ops))
	for i, o := range ops {
		if o.IsZero() {
			continue
		}
		want[i] = device.Span(device.HostBuffer(o.Type(), o.Len()))
		device.CopyHost(want[i], o)
		m := d.Alloc(o.Type(), o.Len()+pad)
		defer d.Free(m)
		got[i] = m.Slice(pad, m.Len())
		d.Upload(got[i], o)
	}
	run(cpu.New(0), want)
	run(d, got)
	x := make([]float32, ops[0].Len())
	d.Download(device.Wrap(x), got[0])
	if err := d.Sync(); err != nil {
		t.Fatal(err)
	}
	bad := 0
	for i, w := range want[0].F32() {
		g := float64(x[i])
		if math.Abs(g-float64(w)) <= tol*(1+math.Abs(float64(w))) || g == float64(w) || x[i] != x[i] && w != w {
			continue
		}
		if bad++; bad <= 3 {
			t.Errorf("[%d] = %v, want %v", i, g, w)
		}
	}
	if bad > 0 {
		t.Errorf("%d of %d wrong", bad, len(x))
	}
}

type numbers struct{ *rand.Rand }

func seeded(seed uint64) numbers { return numbers{rand.New(rand.NewPCG(seed, 1))} }

func (r numbers) floats(n int) device.Mem {
	x := make([]float32, n)
	for i := range x {
		x[i] = float32(r.NormFloat64())
	}
	return device.Wrap(x)
}

func (r numbers) halves(n int) device.Mem {
	x := make([]uint16, n)
	for i := range x {
		x[i] = half.F16(float32(r.NormFloat64()))
	}
	return device.Wrap(x)
}

func (r numbers) codes(n, levels int) device.Mem {
	x := make([]int8, n)
	for i := range x {
		x[i] = int8(r.IntN(2*levels+1) - levels)
	}
	return device.Wrap(x)
}

// bf16 rounds to bfloat16, so that products of it on tensor cores are those of the reference.
func bf16(m device.Mem) device.Mem {
	for i, v := range m.F32() {
		b := math.Float32bits(v)
		b += 0x7fff + b>>16&1
		m.F32()[i] = math.Float32frombits(b &^ 0xffff)
	}
	return m
}

// skip leaves out, in short runs, all but one in n.
func skip(i, n int) bool { return testing.Short() && i%n != 0 }

func TestGemmForms(t *testing.T) {
	t.Parallel()
	d := interpreted(t, ptx.Config{})
	for j, s := range []device.GemmShape{
		{M: 40, N: 36, K: 1030}, // parts of tiles
		{M: 140, N: 300, K: 20}, // large tiles
		{M: 260, N: 132, K: 16},
		{M: 3, N: 40, K: 1030}, // thin, in parts
		{M: 8, N: 36, K: 70},
		{M: 1, N: 150, K: 600},
		{M: 150, N: 5, K: 600}, // few columns
		{M: 90, N: 1, K: 530},
		{M: 20, N: 24, K: 600, Batch: 2, StrideA: 20 * 600, StrideB: 600 * 24, StrideC: 20 * 24},
		{M: 4, N: 24, K: 300, Batch: 3, StrideB: 300 * 24, StrideC: 4 * 24},
		{M: 24, N: 2, K: 300, Batch: 3, StrideA: 300 * 24, StrideC: 2 * 24},
	} {
		for i := range 8 {
			if skip(i+j, 8) {
				continue
			}
			s := s
			s.TransA, s.TransB, s.Alpha = i&1 != 0, i&2 != 0, 0.5
			if i&4 != 0 {
				s.Beta = -0.5
			}
			pad := 4 * (i >> 1 & 1)
			batch := max(s.Batch, 1)
			r := seeded(uint64(i))
			na, nb, nc := s.M*s.K+(batch-1)*s.StrideA, s.N*s.K+(batch-1)*s.StrideB, s.M*s.N+(batch-1)*s.StrideC
			run := func(k device.Kernels, m []device.Mem) { k.Gemm(m[0], m[1], m[2], m[3], s) }
			t.Run(fmt.Sprintf("%+v", s), func(t *testing.T) {
				compare(t, d, pad, 1e-5*math.Sqrt(float64(s.K)), run, r.floats(nc), r.floats(na), r.floats(nb), r.floats(s.N))
				if batch == 1 {
					compare(t, d, pad, 1e-5*math.Sqrt(float64(s.K)), run, r.floats(nc), r.floats(na), r.halves(nb), r.floats(s.N))
				}
			})
		}
	}
	noBridge(t, d)
}

func noBridge(t *testing.T, d *Device) {
	t.Helper()
	if b := d.Bridged(); len(b) > 0 {
		t.Errorf("bridged: %v", b)
	}
}

// Operands that are bfloat16 already: what tensor cores compute differs from float32 by the order of sums alone.
func TestGemmBF16(t *testing.T) {
	t.Parallel()
	d := interpreted(t, ptx.Config{})
	d.SetMath(device.MathBF16)
	for j, s := range []device.GemmShape{
		{M: 70, N: 66, K: 100},
		{M: 30, N: 40, K: 1100},  // parts
		{M: 200, N: 260, K: 110}, // large tiles
		{M: 65, N: 40, K: 130, LDC: 47, Batch: 2, StrideA: 65 * 130, StrideC: 65 * 47},
	} {
		for i := range 4 {
			if skip(i+j, 4) {
				continue
			}
			s := s
			s.TransA, s.TransB, s.Alpha, s.Beta = i&1 != 0, i&2 != 0, 0.5, float32(i&1)
			batch, ldc := max(s.Batch, 1), max(s.LDC, s.N)
			r := seeded(uint64(i))
			a, b := bf16(r.floats(s.M*s.K+(batch-1)*s.StrideA)), bf16(r.floats(s.N*s.K+(batch-1)*s.StrideB))
			c := r.floats((s.M-1)*ldc + s.N + (batch-1)*s.StrideC)
			run := func(k device.Kernels, m []device.Mem) { k.Gemm(m[0], m[1], m[2], m[3], s) }
			t.Run(fmt.Sprintf("%+v", s), func(t *testing.T) {
				compare(t, d, i, 1e-5*math.Sqrt(float64(s.K)), run, c, a, b, r.floats(s.N))
			})
		}
	}
	t.Run("rounds", func(t *testing.T) {
		s := device.GemmShape{M: 64, N: 64, K: 64, Alpha: 1}
		r := seeded(1)
		a, b := r.floats(64*64), r.floats(64*64)
		run := func(k device.Kernels, m []device.Mem) {
			if _, ok := k.(*cpu.Device); ok { // the reference of the rounded operands
				bf16(m[1])
				bf16(m[2])
			}
			k.Gemm(m[0], m[1], m[2], device.Mem{}, s)
		}
		compare(t, d, 0, 1e-5, run, r.floats(64*64), a, b)
	})
	noBridge(t, d)
}

func TestQLinearForms(t *testing.T) {
	t.Parallel()
	d := interpreted(t, ptx.Config{})
	for j, s := range [][3]int{{12, 20, 2100}, {12, 20, 2112}, {140, 300, 64}, {7, 50, 600}, {1, 70, 2080}} {
		m, n, k := s[0], s[1], s[2]
		for _, pad := range []int{0, 16, 3} {
			for levels := 1; levels <= 2; levels++ {
				if skip(j+pad+levels, 6) {
					continue
				}
				r := seeded(uint64(m + pad))
				scales := r.floats(1)
				if levels == 2 {
					scales = r.floats(n)
				}
				xq, xs, codes, bias := r.codes(m*k, 127), r.floats(m), r.codes(n*k, levels), r.floats(n)
				panels := make([]uint8, device.PanelBytes(n, k, levels))
				device.PackPanels(panels, codes.I8(), n, k, levels)
				y, dx, dw, dy := r.floats(m*n), r.floats(m*k), r.floats(n*k), r.floats(m*n)
				t.Run(fmt.Sprintf("m=%d,n=%d,k=%d,levels=%d,pad=%d", m, n, k, levels, pad), func(t *testing.T) {
					compare(t, d, pad, 0, func(d device.Kernels, o []device.Mem) {
						d.QLinear(o[0], o[1], o[2], o[3], o[4], o[5], m, n, k)
					}, y, xq, xs, codes, scales, bias)
					compare(t, d, pad, 0, func(d device.Kernels, o []device.Mem) {
						d.PackedLinear(o[0], o[1], o[2], o[3], o[4], o[5], m, n, k, levels)
					}, y, xq, xs, device.Wrap(panels), scales, bias)
					compare(t, d, pad, 0, func(d device.Kernels, o []device.Mem) {
						d.QLinearGradX(o[0], o[1], o[2], o[3], m, n, k, device.MathInt8, true)
					}, dx, dy, codes, scales)
					compare(t, d, pad, 0, func(d device.Kernels, o []device.Mem) {
						d.QLinearGradW(o[0], o[1], o[2], o[3], m, n, k, device.MathInt8, true)
					}, dw, dy, xq, xs)
				})
			}
		}
	}
	noBridge(t, d)
}

func TestAttentionForms(t *testing.T) {
	t.Parallel()
	d := interpreted(t, ptx.Config{})
	small := interpreted(t, ptx.Config{SharedPerBlock: 99 << 10})
	tensor := interpreted(t, ptx.Config{})
	tensor.SetMath(device.MathBF16)
	for j, s := range []device.AttentionShape{
		{Batch: 1, Queries: 40, Keys: 70, Heads: 2, KVHeads: 1, Dim: 128, Causal: true},
		{Batch: 2, Queries: 70, Keys: 70, Heads: 2, KVHeads: 2, Dim: 40, Causal: true},
		{Batch: 1, Queries: 66, Keys: 140, Heads: 2, KVHeads: 1, Dim: 64},
		{Batch: 1, Queries: 130, Keys: 150, Heads: 1, KVHeads: 1, Dim: 72, Causal: true, Scale: -0.1},
		{Batch: 1, Queries: 33, Keys: 33, Heads: 1, KVHeads: 1, Dim: 160},
		{Batch: 1, Queries: 18, Keys: 20, Heads: 3, KVHeads: 1, Dim: 20, Cache: 31, Causal: true},
		{Batch: 1, Queries: 70, Keys: 20, Heads: 1, KVHeads: 1, Dim: 16, Causal: true}, // queries that see nothing
		{Batch: 1, Queries: 3, Keys: 300, Heads: 12, KVHeads: 2, Dim: 24, Causal: true},
		{Batch: 1, Queries: 6, Keys: 2, Heads: 1, KVHeads: 1, Dim: 6, Causal: true},
		{Batch: 1, Queries: 1, Keys: 0, Heads: 1, KVHeads: 1, Dim: 8, Cache: 4},
	} {
		if s.Scale == 0 {
			s.Scale = float32(1 / math.Sqrt(float64(s.Dim)))
		}
		nq, nkv, nl := s.Batch*s.Queries*s.Heads*s.Dim, s.Batch*s.KV(), s.Batch*s.Queries*s.Heads
		r := seeded(uint64(s.Dim))
		q, k, v, dout := bf16(r.floats(nq)), bf16(r.floats(nkv)), bf16(r.floats(nkv)), bf16(r.floats(nq))
		out, lse := device.Wrap(make([]float32, nq)), device.Wrap(make([]float32, nl))
		cpu.New(0).Attention(out, lse, q, k, v, s)
		for i, c := range []struct {
			name string
			d    *Device
			tol  float64
		}{{"float32", d, 1e-5}, {"small", small, 1e-5}, {"bf16", tensor, 1e-2}} {
			if c.d == small && s.Dim <= 64 || skip(i+j, 3) {
				continue
			}
			t.Run(fmt.Sprintf("%s,%+v", c.name, s), func(t *testing.T) {
				for i := range 2 { // out, lse
					compare(t, c.d, 0, c.tol, func(d device.Kernels, o []device.Mem) {
						d.Attention(o[i], o[1-i], o[2], o[3], o[4], s)
					}, []device.Mem{out, lse}[i], []device.Mem{lse, out}[i], q, k, v)
				}
				if s.Keys == 0 {
					return
				}
				for i, x := range []device.Mem{r.floats(nq), r.floats(nkv), r.floats(nkv)} {
					compare(t, c.d, 4, c.tol, func(d device.Kernels, o []device.Mem) {
						var g [3]device.Mem
						g[i] = o[0]
						s := s
						s.Acc = true
						d.AttentionGrad(g[0], g[1], g[2], o[1], o[2], o[3], o[4], o[5], o[6], s)
					}, x, dout, out, lse, q, k, v)
				}
			})
		}
	}
	noBridge(t, d)
	noBridge(t, tensor)
	// Heads that are too large for the kernels go to the host.
	s := device.AttentionShape{Batch: 1, Queries: 17, Keys: 3, Heads: 1, KVHeads: 1, Dim: 257, Scale: 0.1}
	r := seeded(9)
	compare(t, d, 0, 1e-5, func(d device.Kernels, o []device.Mem) {
		d.Attention(o[0], device.Mem{}, o[1], o[2], o[3], s)
	}, r.floats(17*257), r.floats(17*257), r.floats(3*257), r.floats(3*257))
	if d.Bridged()["Attention"] != 1 {
		t.Errorf("bridged: %v", d.Bridged())
	}
}

// A cache in int8, for few queries and for many: the reference reads the numbers that it stands for.
func TestAttentionInt8(t *testing.T) {
	t.Parallel()
	d := interpreted(t, ptx.Config{})
	for _, queries := range []int{1, 20} {
		for _, dim := range []int{8, 10} {
			s := device.AttentionShape{Batch: 2, Queries: queries, Keys: 21, Heads: 4, KVHeads: 2, Dim: dim, Causal: true,
				Scale: 0.3, Cache: 25}
			r := seeded(uint64(dim))
			rows := s.Batch * s.KVHeads * s.Cache
			x := [2]device.Mem{r.floats(rows * dim), r.floats(rows * dim)}
			var caches [2]device.Mem
			for i := range caches {
				from := d.Alloc(device.F32, rows*dim)
				caches[i] = d.Alloc(device.I8, rows*(dim+int8Scale))
				d.Upload(from, x[i])
				d.CopyRows(caches[i], dim+int8Scale, from, dim, rows, dim, false)
				d.Free(from)
				b := make([]int8, rows*(dim+int8Scale))
				d.Download(device.Wrap(b), caches[i])
				for row := range rows { // codes and scales of QuantizeRows
					q, scale := make([]int8, dim), make([]float32, 1)
					y := x[i].F32()[row*dim:][:dim]
					cpu.New(0).QuantizeRows(device.Wrap(q), device.Wrap(scale), device.Wrap(y), 1, dim)
					got := b[row*(dim+int8Scale):][:dim+int8Scale]
					bits := math.Float32bits(scale[0])
					want := append(q, int8(bits), int8(bits>>8), int8(bits>>16), int8(bits>>24))
					if !slices.Equal(got, want) {
						t.Fatalf("row %d is %v, want %v", row, got, want)
					}
					for j, c := range q {
						y[j] = float32(c) * scale[0]
					}
				}
			}
			t.Run(fmt.Sprintf("queries=%d,dim=%d", queries, dim), func(t *testing.T) {
				n := s.Batch * queries * s.Heads * dim
				compare(t, d, 0, 1e-5, func(k device.Kernels, o []device.Mem) {
					keys, values := o[2], o[3]
					if k == device.Kernels(d) {
						keys, values = caches[0], caches[1]
					}
					k.Attention(o[0], device.Mem{}, o[1], keys, values, s)
				}, r.floats(n), r.floats(n), x[0], x[1])
			})
		}
	}
	noBridge(t, d)
}
