package devicetest

import (
	"fmt"
	"math"
	"strings"

	"setun/device"
)

// gemm: C = alpha*op(A)*op(B) + beta*C + bias; s is tight.
func gemm(c, a, b, bias []float64, s device.GemmShape) {
	for z := range s.Batch {
		for i := range s.M {
			for j := range s.N {
				sum := 0.0
				for l := range s.K {
					ia, ib := i*s.LDA+l, l*s.LDB+j
					if s.TransA {
						ia = l*s.LDA + i
					}
					if s.TransB {
						ib = j*s.LDB + l
					}
					sum += a[z*s.StrideA+ia] * b[z*s.StrideB+ib]
				}
				v := &c[z*s.StrideC+i*s.LDC+j]
				sum *= float64(s.Alpha)
				if s.Beta != 0 {
					sum += float64(s.Beta) * *v
				}
				if bias != nil {
					sum += bias[j]
				}
				*v = sum
			}
		}
	}
}

// extents are the elements of A, B and C.
func extents(s device.GemmShape) (a, b, c int) {
	t := s.Tight()
	batch := func(stride, n int) int {
		if n == 0 {
			return 0
		}
		return (t.Batch-1)*stride + n
	}
	ra, ca, rb, cb := t.M, t.K, t.K, t.N
	if t.TransA {
		ra, ca = ca, ra
	}
	if t.TransB {
		rb, cb = cb, rb
	}
	return batch(t.StrideA, span(ra, ca, t.LDA)), batch(t.StrideB, span(rb, cb, t.LDB)),
		batch(t.StrideC, span(t.M, t.N, t.LDC))
}

func gemmName(s device.GemmShape) string {
	var b strings.Builder
	fmt.Fprintf(&b, "m=%d,n=%d,k=%d", s.M, s.N, s.K)
	for _, f := range []struct {
		name string
		v    float64
		def  float64
	}{{"alpha", float64(s.Alpha), 1}, {"beta", float64(s.Beta), 0}, {"lda", float64(s.LDA), 0},
		{"ldb", float64(s.LDB), 0}, {"ldc", float64(s.LDC), 0}, {"batch", float64(s.Batch), 0},
		{"sa", float64(s.StrideA), 0}, {"sb", float64(s.StrideB), 0}, {"sc", float64(s.StrideC), 0}} {
		if f.v != f.def {
			fmt.Fprintf(&b, ",%s=%.3g", f.name, f.v)
		}
	}
	if s.TransA {
		b.WriteString(",ta")
	}
	if s.TransB {
		b.WriteString(",tb")
	}
	if s.Math == device.MathBF16 {
		b.WriteString(",bf16")
	}
	if s.Symmetric {
		b.WriteString(",symmetric")
	}
	return b.String()
}

// gemmCall multiplies random matrices, or given ones.
func gemmCall(g gen, s device.GemmShape, a, b []float32) call {
	na, nb, nc := extents(s)
	if a == nil {
		a, b = g.normal(na), g.normal(nb)
	}
	t := s.Tight()
	return call{
		ops: []operand{pick(s.Beta != 0, "c", g.normal(nc)), in("a", a), in("b", b), in("bias", g.normal(s.N)).opt()},
		run: func(k device.Kernels, m []device.Mem) { k.Gemm(m[0], m[1], m[2], m[3], s) },
		ref: func(x [][]float64) { gemm(x[0], x[1], x[2], x[3], t) },
		// Errors of a float32 sum of k terms of size 1.
		tol:     1e-6 + (2e-7*float64(s.K)+rounding(s.Math, s.K))*math.Abs(float64(s.Alpha)),
		mulAdds: t.Batch * s.M * s.N * s.K,
	}
}

// rounding is the error that bfloat16 adds to a sum of k products of size 1.
func rounding(how device.Math, k int) float64 {
	if how != device.MathBF16 {
		return 0
	}
	return 4 * 0x1p-8 * math.Sqrt(float64(k))
}

func gemmTables() []table {
	t := table{kernel: "Gemm"}
	add := func(s device.GemmShape, sizeable bool) {
		for i := range 4 {
			s := s
			s.TransA, s.TransB = i&1 != 0, i&2 != 0
			if s.LDA != 0 { // at least a row
				s.LDA += max(s.M, s.K)
			}
			if s.LDB != 0 {
				s.LDB += max(s.N, s.K)
			}
			if s.LDC != 0 {
				s.LDC += s.N
			}
			t.cases = append(t.cases, kase{name: gemmName(s), sizeable: sizeable, make: func(g gen) call {
				return gemmCall(g, s, nil, nil)
			}})
		}
	}
	for _, d := range [][3]int{
		{0, 3, 2}, {3, 0, 2}, {3, 2, 0}, {1, 1, 1}, {1, 17, 33}, {17, 1, 31}, {1, 1, 1000}, {2, 3, 5}, {7, 16, 15},
		{15, 16, 17}, {16, 16, 16}, {1, 37, 48}, {4, 66, 64}, {31, 33, 32}, {33, 7, 65}, {5, 65, 63}, {64, 64, 64}, {65, 127, 3}, {13, 97, 129},
	} {
		add(device.GemmShape{M: d[0], N: d[1], K: d[2], Alpha: 1}, false)
		for _, trans := range []bool{false, true} {
			s := device.GemmShape{M: d[0], N: d[1], K: d[2], Alpha: 1, TransB: trans}
			t = t.with(gemmName(s)+",f16", func(g gen) call {
				c := gemmCall(g, s, nil, nil)
				c.ops[2] = in("b", g.halves(s.K*s.N))
				return c
			})
		}
	}
	for _, s := range []device.GemmShape{
		{M: 7, N: 17, K: 5, Alpha: -0.5},
		{M: 7, N: 17, K: 5, Alpha: 0, Beta: 0.5},
		{M: 7, N: 17, K: 5, Alpha: 0},
		{M: 7, N: 17, K: 5, Alpha: 1, Beta: 1},
		{M: 7, N: 17, K: 0, Alpha: 1, Beta: 2},
		{M: 17, N: 33, K: 16, Alpha: 0.3, Beta: -2},
		// Leading dimensions: the numbers are the gaps between rows.
		{M: 5, N: 7, K: 9, Alpha: 1, LDA: 3},
		{M: 5, N: 7, K: 9, Alpha: 1, LDB: 2},
		{M: 5, N: 7, K: 9, Alpha: 1, LDC: 4},
		{M: 17, N: 31, K: 33, Alpha: 1, Beta: 1, LDA: 1, LDB: 5, LDC: 9},
		// Batches: gaps between the products, and operands shared by all.
		{M: 3, N: 5, K: 4, Alpha: 1, Batch: 1},
		{M: 3, N: 5, K: 4, Alpha: 1, Batch: 4, StrideA: 12, StrideB: 20, StrideC: 15},
		{M: 3, N: 5, K: 4, Alpha: 1, Batch: 4, StrideA: 13, StrideB: 23, StrideC: 17},
		{M: 16, N: 17, K: 15, Alpha: 1, Batch: 3, StrideB: 15 * 17, StrideC: 16 * 17},
		{M: 16, N: 17, K: 15, Alpha: 1, Batch: 3, StrideA: 16 * 15, StrideC: 16 * 17},
		{M: 3, N: 5, K: 4, Alpha: 2, Beta: 0.5, Batch: 5, LDA: 1, LDB: 2, LDC: 3, StrideA: 40, StrideB: 50, StrideC: 60},
		// Heads side by side in rows: products interleave in memory.
		{M: 5, N: 8, K: 7, Alpha: 1, Batch: 3, LDC: 16, StrideA: 35, StrideB: 56, StrideC: 8},
	} {
		add(s, false)
	}
	add(device.GemmShape{M: 130, N: 259, K: 131, Alpha: 1}, true)
	add(device.GemmShape{M: 512, N: 512, K: 512, Alpha: 1}, true)
	add(device.GemmShape{M: 1, N: 1024, K: 1024, Alpha: 1}, true)
	for i := range 4 {
		s := device.GemmShape{M: 9, N: 35, K: 6, Alpha: 1, TransA: i&1 != 0, TransB: i&2 != 0}
		// A NaN in A takes its row (op(A) has it at row 8 or 5), one in B its column; Infs of two signs meet.
		t = t.with("special,"+gemmName(s), func(g gen) call {
			a, b := g.uniform(s.M*s.K, 1, 2), g.uniform(s.K*s.N, 1, 2)
			a[len(a)-1], a[7], b[3], b[len(b)/2] = nan, inf, nan, -inf
			return gemmCall(g, s, a, b)
		})
		// Whole numbers leave no room for error, nor do they in bfloat16.
		big := device.GemmShape{M: 65, N: 97, K: 43, Alpha: 1, TransA: s.TransA, TransB: s.TransB, Math: device.MathBF16}
		for _, s := range []device.GemmShape{s, big} {
			t = t.with("exact,"+gemmName(s), func(g gen) call {
				whole := func(n int) []float32 {
					x := make([]float32, n)
					for i, c := range g.codes(n, 9) {
						x[i] = float32(c)
					}
					return x
				}
				c := gemmCall(g, s, whole(s.M*s.K), whole(s.K*s.N))
				c.ops[3], c.tol = in("bias", whole(s.N)).opt(), 0
				return c
			})
		}
	}
	add(device.GemmShape{M: 70, N: 130, K: 67, Alpha: 0.5, Beta: 1, Math: device.MathBF16}, false)
	add(device.GemmShape{M: 49, N: 70, K: 67, Alpha: 0.5, Beta: 1, Batch: 5, StrideA: 49 * 67, StrideB: 67 * 70,
		StrideC: 49 * 70, Math: device.MathBF16}, false)
	for i := range 4 { // A Aᵀ and Aᵀ A
		trans := i%2 != 0
		s := device.GemmShape{M: 131, N: 131, K: 37, Alpha: 1, TransA: trans, TransB: !trans, Symmetric: true}
		if i >= 2 {
			s.Math, s.Batch, s.StrideA, s.StrideB, s.StrideC = device.MathBF16, 4, 131*37, 131*37, 131*131
		}
		t = t.with(gemmName(s), func(g gen) call {
			a := g.normal(s.M * s.K * max(s.Batch, 1))
			c := gemmCall(g, s, a, a)
			c.ops[3] = in("bias", make([]float32, s.N)).opt()
			return c
		})
	}
	return []table{t}
}
