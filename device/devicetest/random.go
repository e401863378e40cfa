package devicetest

import (
	"fmt"
	"math"

	"setun/device"
)

func randomTables() []table {
	uniform := func(lo, hi float32, tol float64) func(g gen, n int) call {
		return func(g gen, n int) call {
			seed := g.Uint64()
			return call{
				ops: []operand{out("dst", n)},
				run: func(k device.Kernels, m []device.Mem) { k.Uniform(m[0], seed, lo, hi) },
				ref: func(x [][]float64) {
					for i := range x[0] {
						x[0][i] = float64(lo) + (float64(hi)-float64(lo))*float64(unit(seed, i))
					}
				},
				tol: tol,
			}
		}
	}
	// Words 0 and 1 of a counter make elements 0 and 1, words 2 and 3 elements 2 and 3:
	// r = sqrt(-2 ln(u + 2^-24)), z = (r cos 2 pi u', r sin 2 pi u').
	normal := func(std float32) func(g gen, n int) call {
		return func(g gen, n int) call {
			seed := g.Uint64()
			return call{
				ops: []operand{out("dst", n)},
				run: func(k device.Kernels, m []device.Mem) { k.Normal(m[0], seed, std) },
				ref: func(x [][]float64) {
					for i := range x[0] {
						r := math.Sqrt(-2 * math.Log(float64(unit(seed, i&^1))+1.0/(1<<24)))
						sin, cos := math.Sincos(2 * math.Pi * float64(unit(seed, i|1)))
						x[0][i] = float64(std) * r * [2]float64{cos, sin}[i%2]
					}
				},
				tol: 1e-6,
			}
		}
	}
	seeds := func(t table) table {
		for i, seed := range []uint64{0, 1, 1 << 32, math.MaxUint64} {
			t = t.with(fmt.Sprintf("seed=%#x", seed), func(g gen) call {
				return call{
					ops: []operand{out("dst", 9)},
					run: func(k device.Kernels, m []device.Mem) { k.Uniform(m[0], seed, 0, 1) },
					ref: func(x [][]float64) {
						for i := range x[0] {
							x[0][i] = float64(unit(seed, i))
						}
						if i == 0 { // Random123's known answer
							copy(x[0], []float64{0x6627e8 / 0x1p24, 0xe169c5 / 0x1p24, 0xbc57ac / 0x1p24, 0x9b00db / 0x1p24})
						}
					},
				}
			})
		}
		return t
	}
	return []table{
		seeds(vectors("Uniform", uniform(0, 1, 0)).
			with("symmetric", func(g gen) call { return uniform(-0.3, 0.3, 2e-7)(g, 65) }).
			with("shifted", func(g gen) call { return uniform(5, 7.5, 2e-7)(g, 65) })),
		vectors("Normal", normal(1)).with("std", func(g gen) call { return normal(0.02)(g, 65) }),
	}
}

// testMoments checks the first two moments of Uniform, Normal, Dropout and QuantizeStochastic within 5 standard errors,
// and that seeds matter.
func testMoments(t T, open func() device.Device) {
	d := open()
	const n = 1 << 16
	x, y, codes, one := d.Alloc(device.F32, n), d.Alloc(device.F32, n), d.Alloc(device.I8, n), d.Alloc(device.F32, 1)
	defer d.Free(x)
	defer d.Free(y)
	defer d.Free(codes)
	defer d.Free(one)
	host, other := make([]float32, n), make([]float32, n)
	for _, tt := range []struct {
		name              string
		run               func(dst device.Mem, seed uint64)
		mean, std, fourth float64 // fourth: central moment / std^4
	}{
		{"Uniform", func(dst device.Mem, seed uint64) { d.Uniform(dst, seed, 0, 1) }, 0.5, math.Sqrt(1.0 / 12), 1.8},
		{"Normal", func(dst device.Mem, seed uint64) { d.Normal(dst, seed, 2) }, 0, 2, 3},
		{"Dropout", func(dst device.Mem, seed uint64) {
			d.Fill(y, 1)
			d.Dropout(dst, y, 0.25, seed, false)
		}, 1, math.Sqrt(1.0 / 3), 7.0 / 3},
		{"QuantizeStochastic", func(dst device.Mem, seed uint64) { // 2.75 is 3 in three of four cases, else 2
			d.Fill(y, 2.75)
			d.Fill(one, 1)
			d.QuantizeStochastic(codes, one, y, device.StochasticQuant{Rows: 1, Cols: n, Levels: 3, Seed: seed, Given: true})
			d.Dequantize(dst, codes, one, 1, n)
		}, 2.75, math.Sqrt(3.0 / 16), 7.0 / 3},
	} {
		tt.run(x, 42)
		d.Download(device.Wrap(host), x)
		tt.run(x, 43)
		d.Download(device.Wrap(other), x)
		mean, variance, cross := 0.0, 0.0, 0.0
		for i, v := range host {
			mean += (float64(v) - tt.mean) / n
			variance += (float64(v) - tt.mean) * (float64(v) - tt.mean) / n
			cross += (float64(v) - tt.mean) * (float64(other[i]) - tt.mean) / n
		}
		v := tt.std * tt.std
		if got := math.Abs(mean) / (tt.std / math.Sqrt(n)); got > 5 {
			t.Errorf("%s: mean is off by %.1f standard errors", tt.name, got)
		}
		if got := math.Abs(variance-v) / (v * math.Sqrt((tt.fourth-1)/n)); got > 5 {
			t.Errorf("%s: variance is off by %.1f standard errors", tt.name, got)
		}
		if got := math.Abs(cross) / (v / math.Sqrt(n)); got > 5 {
			t.Errorf("%s: two seeds correlate by %.1f standard errors", tt.name, got)
		}
	}
	if err := d.Sync(); err != nil {
		t.Errorf("Sync: %v", err)
	}
}
