package devicetest

import (
	"fmt"
	"math"

	"setun/device"
)

// rope turns pairs (i, i+dim/2) by the angle of the row's position.
func rope(y, x, table []float64, s device.RoPEShape) {
	half := s.Dim / 2
	for r := range s.Rows {
		pos := s.Offset + r%s.Seq
		for h := range s.Heads {
			at := (r*s.Heads + h) * s.Dim
			for i := range half {
				cos, sin := table[pos*s.Dim+i], table[pos*s.Dim+half+i]
				if s.Inverse {
					sin = -sin
				}
				a, b := x[at+i], x[at+half+i]
				a, b = a*cos-b*sin, b*cos+a*sin
				if s.Acc {
					a, b = a+y[at+i], b+y[at+half+i]
				}
				y[at+i], y[at+half+i] = a, b
			}
		}
	}
}

func ropeTables() []table {
	t := table{kernel: "RoPE"}
	for i, s := range []device.RoPEShape{
		{Rows: 0, Seq: 4, Heads: 2, Dim: 4},
		{Rows: 1, Seq: 1, Heads: 1, Dim: 2},
		{Rows: 3, Seq: 3, Heads: 1, Dim: 2, Offset: 5},
		{Rows: 10, Seq: 5, Heads: 3, Dim: 6},
		{Rows: 7, Seq: 7, Heads: 2, Dim: 34, Offset: 3},
		{Rows: 6, Seq: 3, Heads: 5, Dim: 64},
		{Rows: 34, Seq: 17, Heads: 2, Dim: 16, Offset: 1},
		{Rows: 1024, Seq: 512, Heads: 8, Dim: 64},
	} {
		sizeable := s.Rows == 1024
		for v := range 4 {
			if sizeable && v > 0 {
				continue
			}
			s := s
			s.Inverse, s.Acc = v&1 != 0, v&2 != 0
			name := fmt.Sprintf("rows=%d,seq=%d,heads=%d,dim=%d,offset=%d", s.Rows, s.Seq, s.Heads, s.Dim, s.Offset)
			if s.Inverse {
				name += ",inverse"
			}
			if s.Acc {
				name += ",acc"
			}
			t.cases = append(t.cases, kase{name: name, sizeable: sizeable, make: func(g gen) call {
				n, positions := s.Rows*s.Heads*s.Dim, s.Offset+s.Seq+i%2
				angles := make([]float32, positions*s.Dim)
				for p := range positions {
					for j := range s.Dim / 2 {
						sin, cos := math.Sincos(float64(p) * math.Pow(100, -2*float64(j)/float64(s.Dim)))
						angles[p*s.Dim+j], angles[p*s.Dim+s.Dim/2+j] = float32(cos), float32(sin)
					}
				}
				c := call{
					ops:   []operand{pick(s.Acc, "y", g.normal(n)), in("x", g.normal(n)), in("table", angles)},
					run:   func(k device.Kernels, m []device.Mem) { k.RoPE(m[0], m[1], m[2], s) },
					ref:   func(x [][]float64) { rope(x[0], x[1], x[2], s) },
					alias: []int{1},
					tol:   1e-6,
				}
				if s.Acc { // the gradient of turning one way is turning the other
					c.diff = func(x [][]float64) map[int][]float64 {
						forth, z, y := s, make([]float64, n), make([]float64, n)
						forth.Inverse, forth.Acc = !s.Inverse, false
						return map[int][]float64{0: central(z, func() float64 {
							rope(y, z, x[2], forth)
							return dot(y, x[1])
						})}
					}
				}
				return c.small(n)
			}})
		}
	}
	return []table{t}
}
