package devicetest

import (
	"fmt"
	"slices"

	"setun/device"
)

// qlinear: y[i,j] = float32(sum over k of xq[i,k]*codes[j,k]) * xs[i] * ws[j or 0] + bias[j].
func qlinear(y, xq, xs, codes, ws, bias []float64, m, n, k int) {
	for i := range m {
		for j := range n {
			sum := int64(0)
			for l := range k {
				sum += int64(xq[i*k+l]) * int64(codes[j*k+l])
			}
			v := float64(float32(sum)) * xs[i] * at(ws, j)
			if bias != nil {
				v += bias[j]
			}
			y[i*n+j] = v
		}
	}
}

func qlinearTables() []table {
	fwd := func(xq, codes []int8, xs, ws, bias []float32, m, n, k int, tol float64) call {
		return call{
			ops: []operand{out("y", m*n), in("xq", xq), in("xs", xs), in("codes", codes), in("ws", ws),
				in("bias", bias).opt()},
			run: func(d device.Kernels, o []device.Mem) {
				d.QLinear(o[0], o[1], o[2], o[3], o[4], o[5], m, n, k)
			},
			ref:     func(x [][]float64) { qlinear(x[0], x[1], x[2], x[3], x[4], x[5], m, n, k) },
			tol:     tol,
			mulAdds: m * n * k,
		}
	}
	gradX := func(g gen, math device.Math, levels, scales, m, n, k int) call {
		return call{
			ops: []operand{grad("dx", g.normal(m*k)), in("dy", g.normal(m*n)), in("codes", g.codes(n*k, levels)),
				in("ws", g.uniform(scales, 0.5, 1))},
			ref: func(x [][]float64) {
				for i := range x[0] {
					for j := range n {
						x[0][i] += x[1][i/k*n+j] * at(x[3], j) * x[2][j*k+i%k]
					}
				}
			},
			// The product is linear in x = xq*xs, so any x will do.
			diff: func(x [][]float64) map[int][]float64 {
				v, y, ones := make([]float64, m*k), make([]float64, m*n), fill(m, 1)
				return map[int][]float64{0: central(v, func() float64 {
					linear(y, v, ones, x[2], x[3], m, n, k)
					return dot(y, x[1])
				})}
			},
			tol:     1e-6 + 4e-7*float64(n*levels) + rounding(math, n*levels),
			mulAdds: m * n * k,
		}.adding(1, func(d device.Kernels, o []device.Mem, acc bool) {
			d.QLinearGradX(o[0], o[1], o[2], o[3], m, n, k, math, acc)
		})
	}
	gradW := func(g gen, math device.Math, m, n, k int) call {
		return call{
			ops: []operand{grad("dw", g.normal(n*k)), in("dy", g.normal(m*n)), in("xq", g.codes(m*k, 127)),
				in("xs", g.uniform(m, 0.005, 0.01))},
			ref: func(x [][]float64) {
				for i := range x[0] {
					for r := range m {
						x[0][i] += x[1][r*n+i/k] * x[3][r] * x[2][r*k+i%k]
					}
				}
			},
			diff: func(x [][]float64) map[int][]float64 {
				w, y := make([]float64, n*k), make([]float64, m*n)
				return map[int][]float64{0: central(w, func() float64 {
					linear(y, x[2], x[3], w, []float64{1}, m, n, k)
					return dot(y, x[1])
				})}
			},
			tol:     1e-6 + 4e-7*float64(m) + rounding(math, m),
			mulAdds: m * n * k,
		}.adding(1, func(d device.Kernels, o []device.Mem, acc bool) {
			d.QLinearGradW(o[0], o[1], o[2], o[3], m, n, k, math, acc)
		})
	}
	// The twins in int8 have the bits of the oracle.
	gradX8 := func(dx, dy []float32, codes []int8, ws []float32, m, n, k int) call {
		return call{
			ops: []operand{grad("dx", dx), in("dy", dy), in("codes", codes), in("ws", ws)},
			ref: func(x [][]float64) {
				for i := range m {
					h := narrow(x[1][i*n : (i+1)*n])
					if len(ws) > 1 {
						for j := range h {
							h[j] *= ws[j]
						}
					}
					q := make([]float64, n)
					scale := quantizeRow(q, h, device.GradFloor)
					for l, v := range x[0][i*k : (i+1)*k] {
						sum := 0.0 // of integers
						for j, c := range q {
							sum += c * x[2][j*k+l]
						}
						d := float32(float32(sum) * scale)
						if len(ws) == 1 {
							d = float32(d * ws[0])
						}
						x[0][i*k+l] = float64(float32(v) + d)
					}
				}
			},
			mulAdds: m * n * k,
		}.adding(1, func(d device.Kernels, o []device.Mem, acc bool) {
			d.QLinearGradX(o[0], o[1], o[2], o[3], m, n, k, device.MathInt8, acc)
		})
	}
	gradW8 := func(dw, dy []float32, xq []int8, xs []float32, m, n, k int) call {
		return call{
			ops: []operand{grad("dw", dw), in("dy", dy), in("xq", xq), in("xs", xs)},
			ref: func(x [][]float64) {
				for j := range n {
					h, q := make([]float32, m), make([]float64, m)
					for i := range h {
						h[i] = float32(x[1][i*n+j]) * xs[i]
					}
					scale := quantizeRow(q, h, device.GradFloor)
					for l, v := range x[0][j*k : (j+1)*k] {
						sum := 0.0
						for i, c := range q {
							sum += c * x[2][i*k+l]
						}
						x[0][j*k+l] = float64(float32(v) + float32(float32(sum)*scale))
					}
				}
			},
			mulAdds: m * n * k,
		}.adding(1, func(d device.Kernels, o []device.Mem, acc bool) {
			d.QLinearGradW(o[0], o[1], o[2], o[3], m, n, k, device.MathInt8, acc)
		})
	}
	packed := func(xq, codes []int8, xs, ws, bias []float32, m, n, k, levels int) call {
		c := fwd(xq, codes, xs, ws, bias, m, n, k, 5e-7)
		panels := make([]uint8, device.PanelBytes(n, k, levels))
		device.PackPanels(panels, codes, n, k, levels)
		c.ops[3] = in("panels", panels)
		c.run = func(d device.Kernels, o []device.Mem) {
			d.PackedLinear(o[0], o[1], o[2], o[3], o[4], o[5], m, n, k, levels)
		}
		c.ref = func(x [][]float64) {
			qlinear(x[0], x[1], x[2], fromPanels(x[3], n, k, levels), x[4], x[5], m, n, k)
		}
		return c
	}
	unpack := func(g gen, n, k, levels int) call {
		panels := make([]uint8, device.PanelBytes(n, k, levels))
		device.PackPanels(panels, g.codes(n*k, levels), n, k, levels)
		return call{
			ops: []operand{outCodes("codes", n*k), in("panels", panels)},
			run: func(d device.Kernels, o []device.Mem) { d.UnpackPanels(o[0], o[1], n, k, levels) },
			ref: func(x [][]float64) { copy(x[0], fromPanels(x[1], n, k, levels)) },
		}
	}
	ts := []table{{kernel: "QLinear"}, {kernel: "QLinearGradX"}, {kernel: "QLinearGradW"}, {kernel: "PackedLinear"},
		{kernel: "UnpackPanels"}}
	for _, s := range []struct {
		m, n, k  int
		sizeable bool
	}{
		{m: 0, n: 3, k: 4}, {m: 3, n: 0, k: 4}, {m: 3, n: 2, k: 0}, {m: 1, n: 1, k: 1}, {m: 1, n: 17, k: 33},
		{m: 5, n: 3, k: 16}, {m: 2, n: 31, k: 15}, {m: 7, n: 5, k: 65}, {m: 17, n: 33, k: 31}, {m: 33, n: 16, k: 64},
		{m: 3, n: 64, k: 127}, {m: 65, n: 2, k: 128}, {m: 1, n: 9, k: 1000}, {m: 4, n: 130, k: 257},
		{m: 512, n: 512, k: 512, sizeable: true}, {m: 1, n: 1024, k: 1024, sizeable: true},
	} {
		m, n, k := s.m, s.n, s.k
		for _, levels := range []int{1, 2} {
			for _, perRow := range []bool{false, true} {
				if s.sizeable && (perRow || levels > 1) {
					continue
				}
				scales := 1
				if perRow {
					scales = max(n, 1)
				}
				add := func(t *table, how string, make func(g gen) call) {
					t.cases = append(t.cases, kase{
						name:     fmt.Sprintf("m=%d,n=%d,k=%d,levels=%d,perRow=%t%s", m, n, k, levels, perRow, how),
						sizeable: s.sizeable,
						make:     func(g gen) call { return make(g).small(m * n * k / 16) },
					})
				}
				add(&ts[0], "", func(g gen) call {
					return fwd(g.codes(m*k, 127), g.codes(n*k, levels), g.uniform(m, 0.005, 0.01),
						g.uniform(scales, 0.5, 1), g.normal(n), m, n, k, 5e-7)
				})
				add(&ts[1], "", func(g gen) call { return gradX(g, device.MathFP32, levels, scales, m, n, k) })
				add(&ts[1], ",bf16", func(g gen) call { return gradX(g, device.MathBF16, levels, scales, m, n, k) })
				add(&ts[1], ",int8", func(g gen) call {
					return gradX8(g.tiny(m*k), g.tiny(m*n), g.codes(n*k, levels), g.uniform(scales, 0.5, 1), m, n, k)
				})
				if !perRow {
					add(&ts[4], "", func(g gen) call { return unpack(g, n, k, levels) })
				}
				add(&ts[3], "", func(g gen) call {
					return packed(g.codes(m*k, 127), g.codes(n*k, levels), g.uniform(m, 0.005, 0.01),
						g.uniform(scales, 0.5, 1), g.normal(n), m, n, k, levels)
				})
				if levels == 1 && !perRow {
					add(&ts[2], "", func(g gen) call { return gradW(g, device.MathFP32, m, n, k) })
					add(&ts[2], ",bf16", func(g gen) call { return gradW(g, device.MathBF16, m, n, k) })
					add(&ts[2], ",int8", func(g gen) call {
						return gradW8(g.tiny(n*k), g.tiny(m*n), g.codes(m*k, 127), g.uniform(m, 0.005, 0.01), m, n, k)
					})
				}
			}
		}
	}
	// Sums are exact integers: scales that are powers of two leave no rounding but that of float32(sum).
	for _, k := range []int{1, 31, 64, 65, 5000, 140_001} {
		for _, levels := range []int8{1, 2} {
			exact := func(g gen, build func(xq, codes []int8, xs, ws, bias []float32, m, n int) call) call {
				const m, n = 3, 5
				xq, codes := make([]int8, m*k), make([]int8, n*k)
				for i := range xq { // rows of 127, of -127, of both
					xq[i] = 127
					if i/k == 1 || i/k == 2 && g.IntN(2) == 0 {
						xq[i] = -127
					}
				}
				for i := range codes {
					codes[i] = levels
					if i/k == 1 || i/k == 2 && g.IntN(2) == 0 {
						codes[i] = -levels
					} else if i/k == 3 {
						codes[i] = int8(i % 2)
					}
				}
				return build(xq, codes, []float32{1, 0.5, 2}, []float32{1, 0.25, 4, 1, 2}, make([]float32, n), m, n)
			}
			name := fmt.Sprintf("exact,k=%d,levels=%d", k, levels)
			ts[0] = ts[0].with(name, func(g gen) call {
				return exact(g, func(xq, codes []int8, xs, ws, bias []float32, m, n int) call {
					return fwd(xq, codes, xs, ws, bias, m, n, k, 0)
				})
			})
			ts[3] = ts[3].with(name, func(g gen) call {
				return exact(g, func(xq, codes []int8, xs, ws, bias []float32, m, n int) call {
					c := packed(xq, codes, xs, ws, bias, m, n, k, int(levels))
					c.tol = 0
					return c
				})
			})
		}
	}
	// Groups of zeros, below the floor, with NaN and Inf, and sums beyond 2^24.
	for _, s := range [][3]int{{9, 6, 33}, {5, 5000, 7}, {5000, 5, 7}} {
		m, n, k := s[0], s[1], s[2]
		dy := func(g gen, group func(e int) int) []float32 {
			dy := g.normal(m * n)
			for e := range dy {
				switch group(e) {
				case 0:
					dy[e] = 0
				case 1:
					dy[e] *= 1e-38
				case 2:
					dy[e] *= 1e-41
				case 3:
					dy[e] = 1
				}
			}
			return dy
		}
		full := func(n int) []int8 { return slices.Repeat([]int8{127}, n) }
		ts[1] = ts[1].with(fmt.Sprintf("special,m=%d,n=%d,k=%d,int8", m, n, k), func(g gen) call {
			dy := dy(g, func(e int) int { return e / n })
			if m > 5 {
				dy[5*n+n/2], dy[6*n], dy[7*n-1] = nan, inf, -inf
			}
			return gradX8(make([]float32, m*k), dy, full(n*k), []float32{0.5}, m, n, k)
		})
		ts[2] = ts[2].with(fmt.Sprintf("special,m=%d,n=%d,k=%d,int8", m, n, k), func(g gen) call {
			dy := dy(g, func(e int) int { return e % n })
			if m > 5 {
				dy[1], dy[(m-1)*n+n/2] = nan, inf
			}
			return gradW8(make([]float32, n*k), dy, full(m*k), g.uniform(m, 0.5, 1), m, n, k)
		})
	}
	return ts
}

// fromPanels gives codes (n, k), bit by bit as the layout is told.
func fromPanels(panels []float64, n, k, levels int) []float64 {
	codes := make([]float64, n*k)
	blocks := (k + 15) / 16
	for i := range n {
		for j := range k {
			for l := range levels {
				block := (i/32*levels+l)*blocks + j/16
				b := int(panels[block*128+i%32*4+j%4]) >> (j % 16 / 4 * 2)
				codes[i*k+j] += float64(b&3 - 1)
			}
		}
	}
	return codes
}

// tiny gives n values of the size of gradients.
func (g gen) tiny(n int) []float32 {
	x := g.normal(n)
	for i := range x {
		x[i] *= 1e-9
	}
	return x
}

// linear is qlinear for any numbers: y[i,j] = sum over k of x[i,k]*xs[i]*w[j,k]*ws[j or 0].
func linear(y, x, xs, w, ws []float64, m, n, k int) {
	for i := range m {
		for j := range n {
			y[i*n+j] = dot(x[i*k:(i+1)*k], w[j*k:(j+1)*k]) * xs[i] * at(ws, j)
		}
	}
}

func fill(n int, v float64) []float64 {
	x := make([]float64, n)
	for i := range x {
		x[i] = v
	}
	return x
}
