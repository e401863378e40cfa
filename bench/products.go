package main

import (
	_ "embed"
	"encoding/json"
	"fmt"

	"setun/device"
)

// shapes.json is shared with the peers. The products of training: forms are "" (NN), "nt/" (x Wᵀ, forward) and "tn/"
// (dyᵀ x, weight gradients).
//
//go:embed shapes.json
var shapesJSON []byte

type form string

type gemmShape struct {
	form    form
	m, n, k int
}

// UnmarshalJSON reads [form, m, n, k].
func (g *gemmShape) UnmarshalJSON(b []byte) error {
	return json.Unmarshal(b, &[]any{&g.form, &g.m, &g.n, &g.k})
}

func products(quick bool) []benchmark {
	var s struct {
		Gemm   []gemmShape
		Linear [][3]int
	}
	if err := json.Unmarshal(shapesJSON, &s); err != nil {
		panic(err)
	}
	if quick {
		s.Gemm = []gemmShape{{"", 256, 256, 256}, {"nt/", 256, 192, 64}, {"tn/", 192, 64, 256}}
		s.Linear = [][3]int{{256, 192, 64}}
	}
	var bs []benchmark
	for _, g := range s.Gemm {
		bs = append(bs, gemmCase(device.MathFP32, g.form, g.m, g.n, g.k), gemmCase(device.MathBF16, g.form, g.m, g.n, g.k))
	}
	for _, l := range s.Linear {
		bs = append(bs, linearFloat(device.MathFP32, l[0], l[1], l[2]),
			linearFloat(device.MathBF16, l[0], l[1], l[2]), linearInt8(l[0], l[1], l[2]))
	}
	return bs
}

// mathNames names float products. A device without bfloat16 computes them in float32.
var mathNames = map[device.Math]string{device.MathFP32: "f32", device.MathBF16: "bf16"}

// gemmCase is C (m,n) = op(A) op(B).
func gemmCase(math device.Math, f form, m, n, k int) benchmark {
	flops := 2 * float64(m*n*k)
	s := device.GemmShape{M: m, N: n, K: k, TransA: f == "tn/", TransB: f == "nt/", Alpha: 1, Math: math}
	return benchmark{name: fmt.Sprintf("gemm/%s/%sm=%d,n=%d,k=%d", mathNames[math], f, m, n, k), unit: "GFLOP/s",
		work: flops / 1e9, flops: flops, setup: kernel(func(p *pen) func() {
			a, b, c := p.normal(m*k), p.normal(k*n), p.normal(m*n)
			return func() { p.Gemm(c, a, b, device.Mem{}, s) }
		})}
}

func linear(kind string, m, n, k int, prepare func(p *pen) func()) benchmark {
	flops := 6 * float64(m*n*k)
	return benchmark{name: fmt.Sprintf("linear/%s/m=%d,n=%d,k=%d", kind, m, n, k), unit: "GFLOP/s", work: flops / 1e9,
		flops: flops, setup: kernel(prepare)}
}

// linearFloat is a layer, x (m,k) and w (n,k), forward and backward: y = x wᵀ; dx += dy w; dw += dyᵀ x.
func linearFloat(math device.Math, m, n, k int) benchmark {
	return linear(mathNames[math], m, n, k, func(p *pen) func() {
		x, w, y, dy, dx, dw := p.normal(m*k), p.normal(n*k), p.normal(m*n), p.normal(m*n), p.normal(m*k), p.normal(n*k)
		var none device.Mem
		return func() {
			p.Gemm(y, x, w, none, device.GemmShape{M: m, N: n, K: k, TransB: true, Alpha: 1, Math: math})
			p.Gemm(dx, dy, w, none, device.GemmShape{M: m, N: k, K: n, Alpha: 1, Beta: 1, Math: math})
			p.Gemm(dw, dy, x, none, device.GemmShape{M: n, N: k, K: m, TransA: true, Alpha: 1, Beta: 1, Math: math})
		}
	})
}

// linearInt8 is the same with int8 inputs and ternary weights. It quantizes both anew, as a training step does.
func linearInt8(m, n, k int) benchmark {
	return linear("int8", m, n, k, func(p *pen) func() {
		x, w, y, dy, dx, dw := p.normal(m*k), p.normal(n*k), p.normal(m*n), p.normal(m*n), p.normal(m*k), p.normal(n*k)
		xq, codes, xs, ws := p.alloc(device.I8, m*k), p.alloc(device.I8, n*k), p.alloc(device.F32, m), p.alloc(device.F32, 1)
		return func() {
			p.QuantizeRows(xq, xs, x, m, k)
			p.QuantizeWeights(codes, ws, w, absMean(n, k))
			p.QLinear(y, xq, xs, codes, ws, device.Mem{}, m, n, k)
			qlinearGrad(p, dx, dw, dy, xq, xs, codes, ws, m, n, k)
		}
	})
}

// qlinearGrad is the backward pass of QLinear.
func qlinearGrad(d device.Kernels, dx, dw, dy, xq, xs, codes, ws device.Mem, m, n, k int) {
	d.QLinearGradX(dx, dy, codes, ws, m, n, k, device.MathInt8, true)
	d.QLinearGradW(dw, dy, xq, xs, m, n, k, device.MathInt8, false)
}

// absMean is the quantizer of BitNet b1.58.
func absMean(rows, cols int) device.WeightQuant {
	return device.WeightQuant{Rows: rows, Cols: cols, Levels: 1, Rule: device.AbsMean, Factor: 1}
}
