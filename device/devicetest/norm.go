package devicetest

import (
	"fmt"
	"math"

	"setun/device"
)

// rmsNorm: inv = 1/sqrt(mean x^2 + eps); y = x * inv * gain.
func rmsNorm(y, inv, x, gain []float64, rows, cols int, eps float64) {
	for i := range rows {
		y, x := y[i*cols:(i+1)*cols], x[i*cols:(i+1)*cols]
		inv[i] = 1 / math.Sqrt(dot(x, x)/float64(cols)+eps)
		for j, v := range x {
			y[j] = v * inv[i] * orOne(gain, j)
		}
	}
}

// layerNorm: y = (x - mean) * inv * gain + bias.
func layerNorm(y, mean, inv, x, gain, bias []float64, rows, cols int, eps float64) {
	for i := range rows {
		y, x := y[i*cols:(i+1)*cols], x[i*cols:(i+1)*cols]
		sum, squares := 0.0, 0.0
		for _, v := range x {
			sum += v
		}
		mean[i] = sum / float64(cols)
		for _, v := range x {
			squares += (v - mean[i]) * (v - mean[i])
		}
		inv[i] = 1 / math.Sqrt(squares/float64(cols)+eps)
		for j, v := range x {
			y[j] = (v - mean[i]) * inv[i] * orOne(gain, j)
			if bias != nil {
				y[j] += bias[j]
			}
		}
	}
}

func orOne(gain []float64, j int) float64 {
	if gain == nil {
		return 1
	}
	return gain[j]
}

func normTables() []table {
	const eps = 1e-5
	rms := func(g gen, v []float32, rows, cols int) call {
		return call{
			ops: []operand{out("y", len(v)), out("inv", rows), in("x", v), in("gain", g.uniform(cols, -2, 2)).opt()},
			run: func(k device.Kernels, m []device.Mem) {
				k.RMSNorm(m[0], m[1], m[2], m[3], rows, cols, eps)
			},
			ref: func(x [][]float64) { rmsNorm(x[0], x[1], x[2], x[3], rows, cols, float64(float32(eps))) },
			tol: 2e-6,
		}
	}
	rmsGrad := func(g gen, rows, cols int) call {
		n := rows * cols
		v := g.normal(n)
		y, inv := make([]float64, n), make([]float64, rows)
		rmsNorm(y, inv, floats(device.Wrap(v)), nil, rows, cols, eps)
		return call{
			ops: []operand{grad("dx", g.normal(n)), grad("dgain", g.normal(cols)), in("dy", g.normal(n)), in("x", v),
				in("gain", g.uniform(cols, -2, 2)).opt(), in("inv", narrow(inv))},
			ref: func(x [][]float64) {
				dx, dgain, dy, v, gain, inv := x[0], x[1], x[2], x[3], x[4], x[5]
				for i := range rows {
					mean := 0.0
					for j := range cols {
						mean += dy[i*cols+j] * orOne(gain, j) * v[i*cols+j] / float64(cols)
					}
					for j := range cols {
						at := i*cols + j
						if dx != nil {
							dx[at] += inv[i] * (dy[at]*orOne(gain, j) - v[at]*inv[i]*inv[i]*mean)
						}
						if dgain != nil {
							dgain[j] += dy[at] * v[at] * inv[i]
						}
					}
				}
			},
			diff: func(x [][]float64) map[int][]float64 {
				loss := func() float64 {
					rmsNorm(y, inv, x[3], x[4], rows, cols, eps)
					return dot(x[2], y)
				}
				return map[int][]float64{0: central(x[3], loss), 1: central(x[4], loss)}
			},
			tol: 4e-6 + 2e-7*float64(rows),
		}.adding(1, func(k device.Kernels, m []device.Mem, acc bool) {
			k.RMSNormGrad(m[0], m[1], m[2], m[3], m[4], m[5], rows, cols, acc)
		})
	}
	layer := func(g gen, v []float32, rows, cols int) call {
		return call{
			ops: []operand{out("y", len(v)), out("mean", rows), out("inv", rows), in("x", v),
				in("gain", g.uniform(cols, -2, 2)).opt(), in("bias", g.normal(cols)).opt()},
			run: func(k device.Kernels, m []device.Mem) {
				k.LayerNorm(m[0], m[1], m[2], m[3], m[4], m[5], rows, cols, eps)
			},
			ref: func(x [][]float64) {
				layerNorm(x[0], x[1], x[2], x[3], x[4], x[5], rows, cols, float64(float32(eps)))
			},
			tol: 4e-6,
		}
	}
	layerGrad := func(g gen, rows, cols int) call {
		n := rows * cols
		v := g.normal(n)
		y, mean, inv := make([]float64, n), make([]float64, rows), make([]float64, rows)
		layerNorm(y, mean, inv, floats(device.Wrap(v)), nil, nil, rows, cols, eps)
		return call{
			ops: []operand{grad("dx", g.normal(n)), grad("dgain", g.normal(cols)), grad("dbias", g.normal(cols)),
				in("dy", g.normal(n)), in("x", v), in("gain", g.uniform(cols, -2, 2)).opt(),
				in("mean", narrow(mean)), in("inv", narrow(inv))},
			run: func(k device.Kernels, m []device.Mem) {
				k.LayerNormGrad(m[0], m[1], m[2], m[3], m[4], m[5], m[6], m[7], rows, cols)
			},
			// With h = dy*gain and n = (x-mean)*inv: dx += inv*(h - mean(h) - n*mean(h*n)); dgain += dy*n; dbias += dy.
			ref: func(x [][]float64) {
				dx, dgain, dbias, dy, v, gain, mean, inv := x[0], x[1], x[2], x[3], x[4], x[5], x[6], x[7]
				for i := range rows {
					h1, hn := 0.0, 0.0
					for j := range cols {
						at := i*cols + j
						h := dy[at] * orOne(gain, j) / float64(cols)
						h1 += h
						hn += h * (v[at] - mean[i]) * inv[i]
					}
					for j := range cols {
						at := i*cols + j
						n := (v[at] - mean[i]) * inv[i]
						if dx != nil {
							dx[at] += inv[i] * (dy[at]*orOne(gain, j) - h1 - n*hn)
						}
						if dgain != nil {
							dgain[j] += dy[at] * n
						}
						if dbias != nil {
							dbias[j] += dy[at]
						}
					}
				}
			},
			diff: func(x [][]float64) map[int][]float64 {
				bias := make([]float64, cols)
				loss := func() float64 {
					layerNorm(y, mean, inv, x[4], x[5], bias, rows, cols, eps)
					return dot(x[3], y)
				}
				return map[int][]float64{0: central(x[4], loss), 1: central(x[5], loss), 2: central(bias, loss)}
			},
			tol: 6e-6 + 2e-7*float64(rows),
		}
	}
	ts := []table{{kernel: "RMSNorm"}, {kernel: "RMSNormGrad"}, {kernel: "LayerNorm"}, {kernel: "LayerNormGrad"}}
	for i, s := range append(shapes, [2]int{512, 768}) {
		rows, cols := s[0], s[1]
		add := func(t *table, make func(g gen) call) {
			name := fmt.Sprintf("rows=%d,cols=%d", rows, cols)
			t.cases = append(t.cases, kase{name: name, sizeable: i == len(shapes), make: make})
		}
		add(&ts[0], func(g gen) call { return rms(g, g.normal(rows*cols), rows, cols) })
		add(&ts[1], func(g gen) call { return rmsGrad(g, rows, cols).small(rows * cols) })
		add(&ts[2], func(g gen) call { return layer(g, g.normal(rows*cols), rows, cols) })
		if cols > 1 { // a single column is its own mean: inv is 1/sqrt(eps) and the gradient all cancellation
			add(&ts[3], func(g gen) call { return layerGrad(g, rows, cols).small(rows * cols) })
		}
	}
	// A NaN or Inf stays in its row; a row of zeros has inv = 1/sqrt(eps).
	ts[0] = ts[0].with("special", func(g gen) call {
		return rms(g, []float32{1, 2, nan, 1, 2, 3, 1, inf, 2, 0, 0, 0}, 4, 3)
	})
	ts[2] = ts[2].with("special", func(g gen) call {
		return layer(g, []float32{1, 2, nan, 1, 2, 3, 1, inf, 2, 0, 0, 0}, 4, 3)
	})
	// A mean far from 0: one pass over x and x*x in float32 loses the variance.
	ts[2] = ts[2].with("offset", func(g gen) call {
		v := g.normal(3 * 65)
		for i := range v {
			v[i] = v[i]*0.25 + 64
		}
		c := layer(g, v, 3, 65)
		c.tol = 1e-4
		return c
	})
	return ts
}
