package devicetest

import (
	"fmt"

	"setun/device"
)

// patches calls f with the index of each element of the unrolled matrix and of its pixel, -1 outside the image.
func patches(s device.ConvShape, f func(col, pixel int)) {
	oh, ow := s.Out()
	col := 0
	for b := range s.Batch {
		for i := range oh {
			for j := range ow {
				for kh := range s.KH {
					for kw := range s.KW {
						for c := range s.C {
							y, x := i*s.Stride+kh-s.Pad, j*s.Stride+kw-s.Pad
							pixel := -1
							if y >= 0 && y < s.H && x >= 0 && x < s.W {
								pixel = ((b*s.H+y)*s.W+x)*s.C + c
							}
							f(col, pixel)
							col++
						}
					}
				}
			}
		}
	}
}

func im2col(cols, x []float64, s device.ConvShape) {
	patches(s, func(col, pixel int) {
		cols[col] = 0
		if pixel >= 0 {
			cols[col] = x[pixel]
		}
	})
}

func convTables() []table {
	f, b := table{kernel: "Im2Col"}, table{kernel: "Col2Im"}
	for _, s := range []struct {
		device.ConvShape
		sizeable bool
	}{
		{ConvShape: device.ConvShape{Batch: 0, H: 3, W: 3, C: 1, KH: 2, KW: 2, Stride: 1}},
		{ConvShape: device.ConvShape{Batch: 1, H: 1, W: 1, C: 1, KH: 1, KW: 1, Stride: 1}},
		{ConvShape: device.ConvShape{Batch: 1, H: 3, W: 3, C: 1, KH: 3, KW: 3, Stride: 1, Pad: 1}},
		{ConvShape: device.ConvShape{Batch: 2, H: 5, W: 7, C: 3, KH: 3, KW: 2, Stride: 1}},
		{ConvShape: device.ConvShape{Batch: 2, H: 7, W: 5, C: 2, KH: 3, KW: 3, Stride: 2, Pad: 1}},
		{ConvShape: device.ConvShape{Batch: 1, H: 8, W: 9, C: 17, KH: 2, KW: 5, Stride: 3, Pad: 2}},
		{ConvShape: device.ConvShape{Batch: 3, H: 2, W: 2, C: 1, KH: 3, KW: 3, Stride: 1, Pad: 3}}, // patches all outside
		{ConvShape: device.ConvShape{Batch: 1, H: 6, W: 6, C: 2, KH: 2, KW: 2, Stride: 4}},         // pixels never read
		{ConvShape: device.ConvShape{Batch: 8, H: 28, W: 28, C: 16, KH: 3, KW: 3, Stride: 1, Pad: 1}, sizeable: true},
	} {
		s, sizeable := s.ConvShape, s.sizeable
		oh, ow := s.Out()
		name := fmt.Sprintf("batch=%d,h=%d,w=%d,c=%d,kh=%d,kw=%d,stride=%d,pad=%d",
			s.Batch, s.H, s.W, s.C, s.KH, s.KW, s.Stride, s.Pad)
		pixels, n := s.Batch*s.H*s.W*s.C, s.Batch*oh*ow*s.KH*s.KW*s.C
		f.cases = append(f.cases, kase{name: name, sizeable: sizeable, make: func(g gen) call {
			return call{
				ops: []operand{out("cols", n), in("x", g.normal(pixels))},
				run: func(k device.Kernels, m []device.Mem) { k.Im2Col(m[0], m[1], s) },
				ref: func(x [][]float64) { im2col(x[0], x[1], s) },
			}
		}})
		b.cases = append(b.cases, kase{name: name, sizeable: sizeable, make: func(g gen) call {
			return call{
				ops: []operand{grad("dx", g.normal(pixels)), in("dcols", g.normal(n))},
				run: func(k device.Kernels, m []device.Mem) { k.Col2Im(m[0], m[1], s) },
				ref: func(x [][]float64) {
					patches(s, func(col, pixel int) {
						if pixel >= 0 {
							x[0][pixel] += x[1][col]
						}
					})
				},
				diff: func(x [][]float64) map[int][]float64 {
					image, cols := make([]float64, pixels), make([]float64, n)
					return map[int][]float64{0: central(image, func() float64 {
						im2col(cols, image, s)
						return dot(cols, x[1])
					})}
				},
				tol: 2e-6,
			}
		}})
	}
	return []table{f, b}
}
