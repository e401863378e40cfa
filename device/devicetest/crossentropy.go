package devicetest

import (
	"fmt"
	"math"

	"setun/device"
)

// crossEntropy gives the mean loss of the rows with a target, the losses of rows, their log sum exp and 1/valid.
func crossEntropy(logits, targets []float64, rows, cols int) (loss float64, rowLoss, lse []float64, inv float64) {
	rowLoss, lse = make([]float64, rows), make([]float64, rows)
	valid := 0.0
	for i := range rows {
		x := logits[i*cols : (i+1)*cols]
		m := math.Inf(-1)
		for _, v := range x {
			if v > m {
				m = v
			}
		}
		sum := 0.0
		for _, v := range x {
			sum += math.Exp(v - m)
		}
		lse[i] = m + math.Log(sum)
		if t := int(targets[i]); t >= 0 {
			rowLoss[i] = lse[i] - x[t]
			loss += rowLoss[i]
			valid++
		}
	}
	if valid == 0 {
		return 0, rowLoss, lse, 0
	}
	return loss / valid, rowLoss, lse, 1 / valid
}

func crossEntropyTables() []table {
	fwd := func(logits []float32, targets []int32, rows, cols int) call {
		return call{
			ops: []operand{out("loss", 1).opt(), out("rowLoss", rows).opt(), out("stats", rows+1),
				in("logits", logits), in("targets", targets)},
			run: func(k device.Kernels, m []device.Mem) {
				k.CrossEntropy(m[0], m[1], m[2], m[3], m[4], rows, cols)
			},
			ref: func(x [][]float64) {
				loss, rowLoss, lse, inv := crossEntropy(x[3], x[4], rows, cols)
				if x[0] != nil {
					x[0][0] = loss
				}
				if x[1] != nil {
					copy(x[1], rowLoss)
				}
				copy(x[2], lse)
				for i, t := range x[4] {
					if t < 0 {
						x[2][i] = ignored
					}
				}
				x[2][rows] = inv
			},
			tol: 3e-6,
		}
	}
	bwd := func(g gen, logits []float32, targets []int32, rows, cols int) call {
		_, _, lse, inv := crossEntropy(floats(device.Wrap(logits)), floats(device.Wrap(targets)), rows, cols)
		stats := append(narrow(lse), float32(inv))
		for i, t := range targets {
			if t < 0 {
				stats[i] = nan // nobody's business
			}
		}
		return call{
			ops: []operand{grad("dlogits", g.normal(rows*cols)), in("dloss", []float32{-1.5}), in("stats", stats),
				in("logits", logits), in("targets", targets)},
			run: func(k device.Kernels, m []device.Mem) {
				k.CrossEntropyGrad(m[0], m[1], m[2], m[3], m[4], rows, cols)
			},
			ref: func(x [][]float64) {
				for i := range x[0] {
					r, j := i/cols, i%cols
					t := int(x[4][r])
					if t < 0 {
						continue
					}
					d := math.Exp(x[3][i] - x[2][r])
					if j == t {
						d--
					}
					x[0][i] += x[1][0] * x[2][rows] * d
				}
			},
			diff: func(x [][]float64) map[int][]float64 {
				return map[int][]float64{0: central(x[3], func() float64 {
					loss, _, _, _ := crossEntropy(x[3], x[4], rows, cols)
					return x[1][0] * loss
				})}
			},
			tol: 3e-6,
		}
	}
	f, b := table{kernel: "CrossEntropy"}, table{kernel: "CrossEntropyGrad"}
	for i, s := range append(shapes, [2]int{256, 1031}) {
		rows, cols := s[0], s[1]
		for _, skip := range []string{"none", "some", "all"} {
			big := i == len(shapes)
			if big && skip != "some" {
				continue
			}
			name := fmt.Sprintf("rows=%d,cols=%d,ignored=%s", rows, cols, skip)
			targets := func(g gen) []int32 {
				ids := g.ids(rows, 0, cols)
				for i := range ids {
					if skip == "all" || skip == "some" && i%3 == 1 {
						ids[i] = -1 - int32(i)
					}
				}
				return ids
			}
			f.cases = append(f.cases, kase{name: name, sizeable: big, make: func(g gen) call {
				return fwd(g.normal(rows*cols), targets(g), rows, cols)
			}})
			b.cases = append(b.cases, kase{name: name, sizeable: big, make: func(g gen) call {
				return bwd(g, g.normal(rows*cols), targets(g), rows, cols).small(rows * cols)
			}})
		}
	}
	f = f.with("shifted", func(gen) call { // exp overflows without the maximum
		c := fwd([]float32{1000, 999, 1001, -1000, -1001, -999, 300, 0, -300}, []int32{0, 2, 2}, 3, 3)
		c.tol = 1e-4 // lse near 1000 has an ulp of 6e-5
		return c
	})
	f = f.with("NaN", func(gen) call { return fwd([]float32{1, nan, 2, 1, 2, 3}, []int32{0, 1}, 2, 3) })
	f = f.with("NaN ignored", func(gen) call { return fwd([]float32{1, nan, 2, 1, 2, 3}, []int32{-1, 1}, 2, 3) })
	f = f.with("-Inf", func(gen) call { return fwd([]float32{1, -inf, 2, 1, 2, -inf}, []int32{0, 2}, 2, 3) })
	b = b.with("shifted", func(g gen) call {
		c := bwd(g, []float32{1000, 999, 1001, -1000, -1001, -999, 300, 0, -300}, []int32{0, 2, 2}, 3, 3)
		c.tol, c.diff = 1e-4, nil
		return c
	})
	return []table{f, b}
}
