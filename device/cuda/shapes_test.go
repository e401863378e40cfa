package cuda

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"setun/device"
	"setun/device/cpu"
)

// TestShapes compares with device/cpu where devicetest does not go: each form of the kernels of rows, long rows, sums
// over rows in parts, values beyond the squares of floats.
func TestShapes(t *testing.T) {
	t.Parallel()
	type run = func(d device.Device, g gen) []device.Mem
	type test struct {
		name string
		tol  float64
		run  run
	}
	var tests []test
	for _, cols := range []int{252, 260, 1028, 1030, 8192, 8196, 8201} {
		const rows = 3
		n := rows * cols
		add := func(kernel string, tol float64, f run) {
			tests = append(tests, test{fmt.Sprintf("%s/cols=%d", kernel, cols), tol, f})
		}
		add("Softmax", 1e-6, func(d device.Device, g gen) []device.Mem {
			y := g.normal(n)
			d.Softmax(y, g.normal(n), rows, cols)
			return []device.Mem{y}
		})
		add("SoftmaxGrad", 2e-6, func(d device.Device, g gen) []device.Mem {
			dx := g.normal(n)
			d.SoftmaxGrad(dx, g.normal(n), g.normal(n), rows, cols)
			return []device.Mem{dx}
		})
		add("RMSNorm", 2e-6, func(d device.Device, g gen) []device.Mem {
			y, inv := g.normal(n), g.normal(rows)
			d.RMSNorm(y, inv, g.normal(n), g.normal(cols), rows, cols, 1e-5)
			return []device.Mem{y, inv}
		})
		add("RMSNormGrad", 4e-6, func(d device.Device, g gen) []device.Mem {
			dx, dgain := g.normal(n), g.normal(cols)
			d.RMSNormGrad(dx, dgain, g.normal(n), g.normal(n), g.normal(cols), g.normal(rows), rows, cols, true)
			return []device.Mem{dx, dgain}
		})
		add("LayerNorm", 4e-6, func(d device.Device, g gen) []device.Mem {
			y, mean, inv := g.normal(n), g.normal(rows), g.normal(rows)
			d.LayerNorm(y, mean, inv, g.normal(n), g.normal(cols), g.normal(cols), rows, cols, 1e-5)
			return []device.Mem{y, mean, inv}
		})
		add("LayerNormGrad", 6e-6, func(d device.Device, g gen) []device.Mem {
			dx, dgain, dbias := g.normal(n), g.normal(cols), g.normal(cols)
			d.LayerNormGrad(dx, dgain, dbias, g.normal(n), g.normal(n), g.normal(cols), g.normal(rows), g.normal(rows),
				rows, cols)
			return []device.Mem{dx, dgain, dbias}
		})
		targets := []int32{0, -1, int32(cols - 1)}
		add("CrossEntropy", 3e-6, func(d device.Device, g gen) []device.Mem {
			loss, rowLoss, stats := g.normal(1), g.normal(rows), g.normal(rows+1)
			d.CrossEntropy(loss, rowLoss, stats, g.normal(n), upload(d, targets), rows, cols)
			return []device.Mem{loss, rowLoss, stats.Slice(0, 1), stats.Slice(2, 4)}
		})
		add("CrossEntropyGrad", 3e-6, func(d device.Device, g gen) []device.Mem {
			dl := g.normal(n)
			d.CrossEntropyGrad(dl, g.normal(1), g.normal(rows+1), g.normal(n), upload(d, targets), rows, cols)
			return []device.Mem{dl}
		})
		add("QuantizeRows", 0, func(d device.Device, g gen) []device.Mem {
			q, scale := d.Alloc(device.I8, n), g.normal(rows)
			d.QuantizeRows(q, scale, g.normal(n), rows, cols)
			return []device.Mem{q, scale}
		})
		add("LSQGrad", 1e-6, func(d device.Device, g gen) []device.Mem {
			one, each := g.normal(1), g.normal(rows)
			d.LSQGrad(one, g.normal(n), g.normal(n), g.normal(1), rows, cols, 2, 0.5)
			d.LSQGrad(each, g.normal(n), g.normal(n), g.normal(rows), rows, cols, 2, 0.5)
			return []device.Mem{one, each}
		})
	}
	tests = append(tests,
		test{"SumRows in parts", 1e-6, func(d device.Device, g gen) []device.Mem {
			sum := g.normal(3 * 40)
			d.SumRows(sum, g.normal(3*200*40), 0.5, 3, 200, 40)
			return []device.Mem{sum}
		}},
		test{"LayerNormGrad in parts", 1e-5, func(d device.Device, g gen) []device.Mem {
			dgain, dbias := g.normal(33), g.normal(33)
			d.LayerNormGrad(device.Mem{}, dgain, dbias, g.normal(300*33), g.normal(300*33), device.Mem{}, g.normal(300),
				g.normal(300), 300, 33)
			return []device.Mem{dgain, dbias}
		}},
		test{"RMSNorm of huge and of tiny rows", 1e-6, func(d device.Device, g gen) []device.Mem {
			x := make([]float32, 3*5)
			for i := range x {
				x[i] = [3]float32{1e25, 1e-30, 8e37}[i/5] * float32(i%5)
			}
			y, inv := g.normal(15), g.normal(3)
			d.RMSNorm(y, inv, upload(d, x), device.Mem{}, 3, 5, 0)
			return []device.Mem{y}
		}},
		test{"Normal", 6e-8, func(d device.Device, g gen) []device.Mem { // rounded once, of nearly equal numbers
			z := g.normal(1003)
			d.Normal(z, 7, 1)
			return []device.Mem{z}
		}},
	)
	// In the order of LaneSum the small numbers vanish one by one beside the big one, and the sum is half way between two
	// float32; in any other order it is above.
	order := func(squared bool) []float32 {
		x := make([]float32, 1<<18)
		x[0], x[16] = 1<<30, 1<<18
		for i := 32; i < len(x); i += 16 {
			if i < device.LaneChunk || i%device.LaneChunk == 0 {
				x[i] = 10
			}
		}
		if squared {
			for i := range x {
				x[i] *= x[i]
			}
		}
		return x
	}
	tests = append(tests,
		test{"SumSquares in order", 0, func(d device.Device, g gen) []device.Mem {
			sum := upload(d, []float32{0})
			d.SumSquares(sum, upload(d, order(false)))
			return []device.Mem{sum}
		}},
		test{"QuantizeWeights in order", 0, func(d device.Device, g gen) []device.Mem {
			w := upload(d, order(true))
			codes, scale, scales := d.Alloc(device.I8, w.Len()), upload(d, []float32{0}), g.normal(2)
			s := device.WeightQuant{Rows: 2, Cols: w.Len() / 2, Levels: 1, Rule: device.AbsMean, Factor: 1}
			d.QuantizeWeights(codes, scale, w, s)
			s.PerRow = true
			d.QuantizeWeights(codes, scales, w, s)
			return []device.Mem{scale, scales}
		}},
		test{"QuantizeStochastic by the draw itself", 0, func(d device.Device, g gen) []device.Mem {
			const n = 37
			x, q := d.Alloc(device.F32, n), d.Alloc(device.I8, n)
			d.Uniform(x, 5, 0, 1)
			s := device.StochasticQuant{Rows: 1, Cols: n, Levels: 1, Seed: 5, Given: true}
			d.QuantizeStochastic(q, upload(d, []float32{1}), x, s)
			return []device.Mem{q}
		}},
		test{"ScatterAdd to one row", 0, func(d device.Device, g gen) []device.Mem {
			const rows, cols = 1100, 8
			table := g.normal(2 * cols)
			d.ScatterAdd(table, g.normal(rows*cols), upload(d, make([]int32, rows)), rows, cols)
			return []device.Mem{table}
		}},
	)
	gpu, host := looping(t), device.Device(cpu.New(0))
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := tt.run(gpu, gen{gpu, rand.New(rand.NewPCG(1, 2))})
			want := tt.run(host, gen{host, rand.New(rand.NewPCG(1, 2))})
			for i := range got {
				g, w := download(gpu, got[i]), download(host, want[i])
				for j := range w {
					if !(math.Abs(g[j]-w[j]) <= tt.tol*(1+math.Abs(w[j]))) {
						t.Fatalf("result %d: [%d] = %v, want %v", i, j, g[j], w[j])
					}
				}
			}
			if err := gpu.Sync(); err != nil {
				t.Fatal(err)
			}
		})
	}
	if b := gpu.Bridged(); len(b) > 0 {
		t.Errorf("bridged: %v", b)
	}
}

// gen makes operands.
type gen struct {
	d device.Device
	*rand.Rand
}

func (g gen) normal(n int) device.Mem {
	x := make([]float32, n)
	for i := range x {
		x[i] = float32(g.NormFloat64())
	}
	return upload(g.d, x)
}

func upload[T float32 | int32 | int8 | uint16](d device.Device, x []T) device.Mem {
	w := device.Wrap(x)
	m := d.Alloc(w.Type(), w.Len())
	d.Upload(m, w)
	return m
}

func download(d device.Device, m device.Mem) []float64 {
	host := device.Span(device.HostBuffer(m.Type(), m.Len()))
	d.Download(host, m)
	x := make([]float64, m.Len())
	for i := range x {
		if m.Type() == device.I8 {
			x[i] = float64(host.I8()[i])
		} else {
			x[i] = float64(host.F32()[i])
		}
	}
	return x
}
