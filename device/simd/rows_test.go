//go:build (amd64 || arm64) && linux

package simd

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"setun/device"
	"setun/device/cpu"
)

// rowShapes cover the remainders of vectors, strips and blocks of rows.
func rowShapes(t *testing.T, f func(t *testing.T, rows, cols int)) {
	run := func(rows, cols int) {
		t.Run(fmt.Sprintf("rows=%d,cols=%d", rows, cols), func(t *testing.T) { f(t, rows, cols) })
	}
	for cols := 1; cols <= 70; cols++ {
		run(3, cols)
	}
	for _, s := range [][2]int{{1, 255}, {2, 273}, {63, 17}, {64, 64}, {65, 33}, {130, 300}, {4200, 1}, {70, 1030}} {
		run(s[0], s[1])
	}
}

// An operand of a kernel: float32 with the tolerance of a result, or int8, equal.
type operand struct {
	name  string
	f     []float32
	codes []int8
	tol   float64
}

// against runs a kernel on device/cpu and on every tier with operands that end, then begin, at a guarded page.
func against(t *testing.T, name string, make func(g *rand.Rand) []operand, run func(d device.Device, m []device.Mem)) {
	t.Helper()
	ops := func() []operand { return make(rand.New(rand.NewPCG(7, uint64(len(name))))) }
	want := ops()
	mems := func(ops []operand) (m []device.Mem) {
		for _, o := range ops {
			if o.codes != nil {
				m = append(m, device.Wrap(o.codes))
			} else {
				m = append(m, device.Wrap(o.f))
			}
		}
		return
	}
	run(cpu.New(1), mems(want))
	for _, tier := range Tiers()[1:] {
		for _, head := range []bool{false, true} {
			got := ops()
			for i, o := range got {
				if o.codes != nil {
					got[i].codes = guarded[int8](t, len(o.codes), head)
					copy(got[i].codes, o.codes)
				} else {
					got[i].f = guarded[float32](t, len(o.f), head)
					copy(got[i].f, o.f)
				}
			}
			faults(t, fmt.Sprint(tier, " ", name), func() { run(NewTier(2, tier), mems(got)) })
			for i, o := range got {
				for j, v := range o.f {
					w := want[i].f[j]
					same := math.Float32bits(v) == math.Float32bits(w) || v != v && w != w
					if !same && (o.tol == 0 || !near(v, float64(w), o.tol)) {
						t.Fatalf("%v %s: %s[%d] = %v, want %v", tier, name, o.name, j, v, w)
					}
				}
				for j, v := range o.codes {
					if v != want[i].codes[j] {
						t.Fatalf("%v %s: %s[%d] = %d, want %d", tier, name, o.name, j, v, want[i].codes[j])
					}
				}
			}
		}
	}
}

func normal(g *rand.Rand, n int) []float32 {
	x := make([]float32, n)
	for i := range x {
		x[i] = float32(g.NormFloat64())
	}
	return x
}

func positive(g *rand.Rand, n int) []float32 {
	x := normal(g, n)
	for i, v := range x {
		x[i] = 0.5 + v*v
	}
	return x
}

// TestRowKernels: every kernel over rows is device/cpu's.
func TestRowKernels(t *testing.T) {
	rowShapes(t, func(t *testing.T, rows, cols int) {
		n := rows * cols
		const tol, sumTol, eps = 2e-6, 2e-5, 1e-5
		against(t, "Softmax", func(g *rand.Rand) []operand {
			return []operand{{"y", make([]float32, n), nil, tol}, {"x", normal(g, n), nil, 0}}
		}, func(d device.Device, m []device.Mem) { d.Softmax(m[0], m[1], rows, cols) })
		against(t, "SoftmaxGrad", func(g *rand.Rand) []operand {
			return []operand{{"dx", normal(g, n), nil, sumTol}, {"dy", normal(g, n), nil, 0}, {"y", positive(g, n), nil, 0}}
		}, func(d device.Device, m []device.Mem) {
			d.Scale(m[2], 1/float32(cols), m[2])
			d.SoftmaxGrad(m[0], m[1], m[2], rows, cols)
		})
		against(t, "RMSNorm", func(g *rand.Rand) []operand {
			return []operand{{"y", make([]float32, n), nil, tol}, {"inv", make([]float32, rows), nil, tol},
				{"x", normal(g, n), nil, 0}, {"gain", normal(g, cols), nil, 0}}
		}, func(d device.Device, m []device.Mem) { d.RMSNorm(m[0], m[1], m[2], m[3], rows, cols, eps) })
		against(t, "RMSNormGrad", func(g *rand.Rand) []operand {
			return []operand{{"dx", normal(g, n), nil, sumTol}, {"dgain", normal(g, cols), nil, sumTol},
				{"dy", normal(g, n), nil, 0}, {"x", normal(g, n), nil, 0}, {"gain", normal(g, cols), nil, 0},
				{"inv", positive(g, rows), nil, 0}}
		}, func(d device.Device, m []device.Mem) {
			d.RMSNormGrad(m[0], m[1], m[2], m[3], m[4], m[5], rows, cols, true)
		})
		against(t, "LayerNorm", func(g *rand.Rand) []operand {
			return []operand{{"y", make([]float32, n), nil, 1e-5}, {"mean", make([]float32, rows), nil, tol},
				{"inv", make([]float32, rows), nil, tol}, {"x", normal(g, n), nil, 0}, {"gain", normal(g, cols), nil, 0},
				{"bias", normal(g, cols), nil, 0}}
		}, func(d device.Device, m []device.Mem) {
			d.LayerNorm(m[0], m[1], m[2], m[3], m[4], m[5], rows, cols, eps)
		})
		against(t, "LayerNormGrad", func(g *rand.Rand) []operand {
			return []operand{{"dx", normal(g, n), nil, sumTol}, {"dgain", normal(g, cols), nil, sumTol},
				{"dbias", normal(g, cols), nil, sumTol}, {"dy", normal(g, n), nil, 0}, {"x", normal(g, n), nil, 0},
				{"gain", normal(g, cols), nil, 0}, {"mean", normal(g, rows), nil, 0}, {"inv", positive(g, rows), nil, 0}}
		}, func(d device.Device, m []device.Mem) {
			d.LayerNormGrad(m[0], m[1], m[2], m[3], m[4], m[5], m[6], m[7], rows, cols)
		})
		targets := make([]int32, rows)
		for i := range targets {
			targets[i] = int32(i%(cols+1)) - 1
		}
		against(t, "CrossEntropy", func(g *rand.Rand) []operand {
			return []operand{{"loss", make([]float32, 1), nil, tol}, {"rowLoss", make([]float32, rows), nil, tol},
				{"stats", make([]float32, rows+1), nil, tol}, {"logits", normal(g, n), nil, 0}}
		}, func(d device.Device, m []device.Mem) {
			d.CrossEntropy(m[0], m[1], m[2], m[3], device.Wrap(targets), rows, cols)
		})
		against(t, "CrossEntropyGrad", func(g *rand.Rand) []operand {
			return []operand{{"dlogits", normal(g, n), nil, sumTol}, {"dloss", []float32{-1.5}, nil, 0},
				{"stats", positive(g, rows+1), nil, 0}, {"logits", normal(g, n), nil, 0}}
		}, func(d device.Device, m []device.Mem) {
			d.CrossEntropyGrad(m[0], m[1], m[2], m[3], device.Wrap(targets), rows, cols)
		})
		against(t, "SumRows", func(g *rand.Rand) []operand {
			return []operand{{"d", normal(g, 2*cols), nil, sumTol}, {"x", normal(g, 2*n), nil, 0}}
		}, func(d device.Device, m []device.Mem) { d.SumRows(m[0], m[1], -0.7, 2, rows, cols) })
		against(t, "SumSquares", func(g *rand.Rand) []operand {
			return []operand{{"d", normal(g, 1), nil, 0}, {"x", normal(g, n), nil, 0}}
		}, func(d device.Device, m []device.Mem) { d.SumSquares(m[0], m[1]) })
		against(t, "QuantizeRows", func(g *rand.Rand) []operand {
			return []operand{{"q", nil, make([]int8, n), 0}, {"scale", make([]float32, rows), nil, 0},
				{"x", normal(g, n), nil, 0}}
		}, func(d device.Device, m []device.Mem) { d.QuantizeRows(m[0], m[1], m[2], rows, cols) })
		for _, scales := range []int{1, rows} {
			for levels := 1; levels <= 3; levels++ {
				for rule := device.AbsMean; rule <= device.Given; rule++ {
					s := device.WeightQuant{Rows: rows, Cols: cols, Levels: levels, Rule: rule, Factor: 0.8, PerRow: scales == rows}
					against(t, fmt.Sprintf("QuantizeWeights %+v", s), func(g *rand.Rand) []operand {
						return []operand{{"codes", nil, make([]int8, n), 0}, {"scale", positive(g, scales), nil, 0},
							{"w", normal(g, n), nil, 0}}
					}, func(d device.Device, m []device.Mem) { d.QuantizeWeights(m[0], m[1], m[2], s) })
				}
				against(t, fmt.Sprintf("LSQGrad levels %d, scales %d", levels, scales), func(g *rand.Rand) []operand {
					return []operand{{"dscale", normal(g, scales), nil, tol}, {"dq", normal(g, n), nil, 0},
						{"w", normal(g, n), nil, 0}, {"scale", positive(g, scales), nil, 0}}
				}, func(d device.Device, m []device.Mem) {
					d.LSQGrad(m[0], m[1], m[2], m[3], rows, cols, levels, 0.25)
				})
			}
			against(t, fmt.Sprintf("Dequantize scales %d", scales), func(g *rand.Rand) []operand {
				q := make([]int8, n)
				for i := range q {
					q[i] = int8(g.Uint32())
				}
				return []operand{{"y", make([]float32, n), nil, 0}, {"codes", nil, q, 0}, {"scale", normal(g, scales), nil, 0}}
			}, func(d device.Device, m []device.Mem) { d.Dequantize(m[0], m[1], m[2], rows, cols) })
		}
	})
}

// TestNormRange: rows that float32 cannot square are device/cpu's; means far from 0 leave the variance right.
func TestNormRange(t *testing.T) {
	const rows, cols = 9, 200
	for _, c := range []struct{ at, width, tol float64 }{
		{1e4, 1, 1e-3}, {1e4, 30, 1e-4}, {-300, 0.1, 1e-3}, {0, 1e25, 1e-5}, {1e30, 1e29, 1e-5}, {0, 1e-25, 1e-5}, {5, 0, 1e-5},
	} {
		x := func(g *rand.Rand) []float32 {
			x := normal(g, rows*cols)
			for i, v := range x {
				x[i] = float32(c.at + c.width*float64(v))
			}
			return x
		}
		for _, eps := range []float32{1e-5, 0} {
			if eps == 0 && c.width == 0 {
				continue
			}
			name := fmt.Sprintf("%+v eps %v", c, eps)
			against(t, "RMSNorm "+name, func(g *rand.Rand) []operand {
				return []operand{{"y", make([]float32, rows*cols), nil, 2e-6}, {"inv", make([]float32, rows), nil, 2e-6},
					{"x", x(g), nil, 0}}
			}, func(d device.Device, m []device.Mem) {
				d.RMSNorm(m[0], m[1], m[2], device.Mem{}, rows, cols, eps)
			})
			against(t, "LayerNorm "+name, func(g *rand.Rand) []operand {
				return []operand{{"y", make([]float32, rows*cols), nil, 1e-5}, {"mean", make([]float32, rows), nil, 2e-7},
					{"inv", make([]float32, rows), nil, 2e-6}, {"x", x(g), nil, 0}}
			}, func(d device.Device, m []device.Mem) {
				d.LayerNorm(m[0], m[1], m[2], m[3], device.Mem{}, device.Mem{}, rows, cols, eps)
			})
		}
	}
}

// TestRowThreads: sums have the same bits for every number of threads.
func TestRowThreads(t *testing.T) {
	const rows, cols = 1000, 300
	g := rand.New(rand.NewPCG(1, 2))
	x, dy, inv, w := normal(g, rows*cols), normal(g, rows*cols), positive(g, rows), normal(g, 1)
	for _, tier := range Tiers()[1:] {
		results := func(threads int) [][]float32 {
			d := NewTier(threads, tier)
			m := func(x []float32) device.Mem { return device.Wrap(x) }
			var zero device.Mem
			r := [][]float32{make([]float32, cols), make([]float32, cols), make([]float32, cols), {0, 0}, make([]float32, cols), {0}}
			d.RMSNormGrad(zero, m(r[0]), m(dy), m(x), zero, m(inv), rows, cols, true)
			d.LayerNormGrad(zero, m(r[1]), m(r[2]), m(dy), m(x), zero, m(inv), m(inv), rows, cols)
			d.SumSquares(m(r[3][:1]), m(x))
			d.QuantizeWeights(device.Wrap(make([]int8, rows*cols)), m(r[3][1:]), m(x),
				device.WeightQuant{Rows: rows, Cols: cols, Levels: 1, Rule: device.TWN, Factor: 0.7})
			d.SumRows(m(r[4]), m(x), 1, 1, rows, cols)
			d.LSQGrad(m(r[5]), m(dy), m(x), m(w), rows, cols, 1, 1)
			return r
		}
		want := results(1)
		for _, threads := range []int{2, 3, 7} {
			for i, r := range results(threads) {
				for j, v := range r {
					if v != want[i][j] {
						t.Errorf("%v: result %d[%d] is %v with %d threads, %v with one", tier, i, j, v, threads, want[i][j])
						break
					}
				}
			}
		}
	}
}

// near reports whether a is b within tol of 1+|b|, or both are NaN or the same infinity.
func near(a float32, b, tol float64) bool {
	if b != b || math.IsInf(b, 0) {
		return b != b && a != a || float64(a) == b
	}
	return math.Abs(float64(a)-b) <= tol*(1+math.Abs(b))
}
