package main

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"

	"gonum.org/v1/gonum/blas"
	"gonum.org/v1/gonum/blas/blas32"

	"github.com/gomlx/gomlx/backends"
	"github.com/gomlx/gomlx/backends/simplego"
	"github.com/gomlx/gomlx/pkg/core/graph"
	"github.com/gomlx/gomlx/pkg/core/tensors"
	gorgonia "gorgonia.org/tensor"

	"setun/device"
)

func normal(n int) []float32 {
	rng, x := rand.New(rand.NewPCG(1, 2)), make([]float32, n)
	for i := range x {
		x[i] = float32(rng.NormFloat64())
	}
	return x
}

// mem is random memory of a host device.
func mem(d device.Device, n int) device.Mem {
	m := d.Alloc(device.F32, n)
	d.Normal(m, 1, 1)
	return m
}

func gomlx(threads int) (backends.Backend, error) {
	return simplego.New(fmt.Sprintf("parallelism=%d", threads))
}

// products are C (m,n) = op(A) op(B) in the shapes of bench.
func products(devs map[string]device.Device, threads int) (ps []peer, err error) {
	b, err := os.ReadFile("../shapes.json")
	if err != nil {
		return nil, fmt.Errorf("start it in bench/peers: %w", err)
	}
	var shapes struct{ Gemm [][4]any }
	if err := json.Unmarshal(b, &shapes); err != nil {
		return nil, err
	}
	backend, err := gomlx(threads)
	if err != nil {
		return nil, err
	}
	for _, s := range shapes.Gemm {
		form, m, n, k := s[0].(string), int(s[1].(float64)), int(s[2].(float64)), int(s[3].(float64))
		add := func(device string, setup func() func()) {
			ps = append(ps, peer{fmt.Sprintf("gemm/f32/%sm=%d,n=%d,k=%d", form, m, n, k), "GFLOP/s", 2e-9 * float64(m*n*k),
				device, setup})
		}
		ta, tb := form == "tn/", form == "nt/"
		for name, d := range devs {
			add(name, func() func() {
				a, b, c := mem(d, m*k), mem(d, k*n), mem(d, m*n)
				g := device.GemmShape{M: m, N: n, K: k, TransA: ta, TransB: tb, Alpha: 1}
				return func() { d.Gemm(c, a, b, device.Mem{}, g) }
			})
		}
		ra, ca, rb, cb, opA, opB, equation := m, k, k, n, blas.NoTrans, blas.NoTrans, "mk,kn->mn"
		if ta {
			ra, ca, opA, equation = k, m, blas.Trans, "km,kn->mn"
		}
		if tb {
			rb, cb, opB, equation = n, k, blas.Trans, "mk,nk->mn"
		}
		add("gonum", func() func() {
			matrix := func(r, c int) blas32.General { return blas32.General{Rows: r, Cols: c, Stride: c, Data: normal(r * c)} }
			a, b, c := matrix(ra, ca), matrix(rb, cb), matrix(m, n)
			return func() { blas32.Gemm(opA, opB, 1, a, b, 0, c) }
		})
		add("gomlx", func() func() {
			a := tensors.FromFlatDataAndDimensions(normal(m*k), ra, ca)
			b := tensors.FromFlatDataAndDimensions(normal(k*n), rb, cb)
			e := graph.MustNewExec(backend, func(a, b *graph.Node) *graph.Node { return graph.Einsum(equation, a, b) })
			return func() { e.MustExec1(a, b).MustFinalizeAll() }
		})
		if form == "" {
			add("gorgonia", func() func() {
				matrix := func(r, c int) *gorgonia.Dense {
					return gorgonia.New(gorgonia.WithShape(r, c), gorgonia.WithBacking(normal(r*c)))
				}
				a, b, c := matrix(m, k), matrix(k, n), matrix(m, n)
				return func() {
					if _, err := gorgonia.MatMul(a, b, gorgonia.WithReuse(c)); err != nil {
						panic(err)
					}
				}
			})
		}
	}
	return ps, nil
}

// quantizers are absmean ternary codes of 16M values.
func quantizers(devs map[string]device.Device, threads int) (ps []peer, err error) {
	const rows, cols, n = 1 << 16, 256, 1 << 24
	add := func(device string, setup func() func()) {
		ps = append(ps, peer{fmt.Sprintf("quantize/absmean/n=%d", n), "Mvalue/s", n / 1e6, device, setup})
	}
	for name, d := range devs {
		add(name, func() func() {
			w, codes, scale := mem(d, n), d.Alloc(device.I8, n), d.Alloc(device.F32, 1)
			s := device.WeightQuant{Rows: rows, Cols: cols, Levels: 1, Rule: device.AbsMean, Factor: 1}
			return func() { d.QuantizeWeights(codes, scale, w, s) }
		})
	}
	backend, err := gomlx(threads)
	if err != nil {
		return nil, err
	}
	add("gomlx", func() func() {
		w := tensors.FromFlatDataAndDimensions(normal(n), n)
		e := graph.MustNewExec(backend, func(w *graph.Node) *graph.Node {
			scale := graph.ReduceAllMean(graph.Abs(w))
			return graph.ConvertDType(graph.ClipScalar(graph.Round(graph.Div(w, scale)), -1, 1), int8Type)
		})
		return func() { e.MustExec1(w).MustFinalizeAll() }
	})
	return ps, nil
}
