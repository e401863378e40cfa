package tests

import (
	"math"
	"slices"
	"testing"

	"setun/autograd"
	"setun/data"
	"setun/device"
	"setun/device/cpu"
	"setun/device/simd"
	"setun/llm"
	"setun/nn"
	"setun/optim"
	"setun/tensor"
	"setun/ternary"

	"gonum.org/v1/gonum/mat"
)

// asked remembers the products that were asked for.
type asked struct {
	*cpu.Device
	shapes []device.GemmShape
	heads  []device.AttentionShape
}

func (d *asked) Attention(out, lse, q, k, v device.Mem, s device.AttentionShape) {
	d.heads = append(d.heads, s)
	d.Device.Attention(out, lse, q, k, v, s)
}

func (d *asked) AttentionGrad(dq, dk, dv, dout, out, lse, q, k, v device.Mem, s device.AttentionShape) {
	d.heads = append(d.heads, s)
	d.Device.AttentionGrad(dq, dk, dv, dout, out, lse, q, k, v, s)
}

func (d *asked) Gemm(c, a, b, bias device.Mem, s device.GemmShape) {
	d.shapes = append(d.shapes, s)
	d.Device.Gemm(c, a, b, bias, s)
}

// TestBF16 finds who asks for bfloat16: the layers that are told to, blended ones with fast gradients, and Muon.
func TestBF16(t *testing.T) {
	dev := &asked{Device: cpu.New(1)}
	mk := tensor.NewMaker(dev, 1)
	blended := func(m ternary.Math) nn.Layer {
		l := ternary.NewLinear(mk, 8, 8, false, ternary.Config{Math: m})
		l.SetLambda(0.5)
		return l
	}
	float, fast := nn.NewLinear(mk, 8, 8, false), nn.NewLinear(mk, 8, 8, false)
	fast.BF16 = true
	for _, tt := range []struct {
		name  string
		layer nn.Layer
		want  device.Math
	}{
		{"float", float, device.MathFP32}, {"float, BF16", fast, device.MathBF16},
		{"blended, default", blended(""), device.MathBF16}, {"blended, int8", blended(ternary.Int8), device.MathBF16},
		{"blended, bf16", blended(ternary.BF16), device.MathBF16}, {"blended, fp32", blended(ternary.FP32), device.MathFP32},
	} {
		dev.shapes = nil
		tape := autograd.Tape{Grad: true}
		tape.Backward(tape.Sum(tt.layer.Forward(&tape, autograd.NewParam(mk.Normal(1, 4, 8)))))
		tape.Reset()
		if len(dev.shapes) != 3 {
			t.Errorf("%s: %d products, want 3", tt.name, len(dev.shapes))
		}
		for _, s := range dev.shapes {
			if s.Math != tt.want {
				t.Errorf("%s: a product in math %d, want %d", tt.name, s.Math, tt.want)
			}
		}
	}
	params := optim.Collect(float.Params())
	o, err := optim.New(optim.Config{Name: "muon"}, params)
	if err != nil {
		t.Fatal(err)
	}
	defer o.Free()
	dev.shapes = nil
	o.Step(1, 1)
	plain := func(s device.GemmShape) bool { return s.Math != device.MathBF16 }
	half := func(s device.GemmShape) bool { return s.Symmetric }
	if n := len(dev.shapes); n != 13 || slices.ContainsFunc(dev.shapes, plain) ||
		len(slices.DeleteFunc(slices.Clone(dev.shapes), half)) != 3 {
		t.Errorf("muon: %+v; want 13 products in bfloat16, 10 of them symmetric", dev.shapes)
	}
}

// TestMuonBF16: in bfloat16, too, Muon's update has singular values near 1 at most and points where the gradient does,
// whatever that is; the largest of rank one lies where the polynomials are steep.
func TestMuonBF16(t *testing.T) {
	const n = 64
	dev, err := simd.New(1)
	if err != nil {
		t.Fatal(err)
	}
	for _, rows := range []int{n, 3 * n} {
		for _, rank := range []int{0, 1, 2, 4, n} { // 0: all ones
			for _, noise := range []float32{0, 1e-3, 1e-2, 0.1} {
				for seed := range uint64(5) {
					mk := tensor.NewMaker(dev, seed)
					g := mk.Normal(noise, rows, n)
					if rank == 0 {
						tensor.Axpy(g, 1, mk.Fill(1, rows, n))
					} else {
						tensor.MatMul(g, mk.Normal(1, rows, rank), mk.Normal(1, rank, n), false, false, 1, 1)
					}
					w := autograd.NewParam(tensor.Zeros(dev, rows, n))
					o, err := optim.New(optim.Config{Name: "muon", LR: float32(math.Sqrt(n / float64(rows)))},
						[]optim.Param{{Name: "w", Value: w}})
					if err != nil {
						t.Fatal(err)
					}
					w.Grad = g
					o.Step(1, 1)
					o.Free()
					x, grad := make([]float64, rows*n), g.Floats()
					sum, squares := 0.0, 0.0
					for i, v := range w.T.Floats() {
						x[i] = -float64(v)
						sum += x[i] * float64(grad[i])
						squares += float64(grad[i]) * float64(grad[i])
					}
					var svd mat.SVD
					if !svd.Factorize(mat.NewDense(rows, n, x), mat.SVDNone) {
						t.Fatal("no singular values")
					}
					if top, toward := svd.Values(nil)[0], sum/math.Sqrt(squares); top > 1.4 || toward < 0.6 {
						t.Errorf("%d x %d of rank %d and noise of %g: the largest singular value is %.2f, the product with the gradient %.2f",
							rows, n, rank, noise, top, toward)
					}
				}
			}
		}
	}
}

// TestAttentionBF16: a model's attention may be bfloat16 where its gradients are rounded, or bfloat16 is asked for.
func TestAttentionBF16(t *testing.T) {
	for _, tt := range []struct {
		weights llm.Weights
		math    ternary.Math
		want    device.Math
	}{
		{llm.TernaryWeights, "", device.MathBF16}, {llm.TernaryWeights, ternary.Int8, device.MathBF16},
		{llm.TernaryWeights, ternary.BF16, device.MathBF16}, {llm.TernaryWeights, ternary.FP32, device.MathFP32},
		{llm.FP32Weights, "", device.MathFP32}, {llm.FP32Weights, ternary.BF16, device.MathBF16},
	} {
		dev := &asked{Device: cpu.New(1)}
		c := llm.Depth(1)
		c.SetWidth(64)
		c.Context, c.Weights, c.Quant.Math = 8, tt.weights, tt.math
		m, err := llm.New(tensor.NewMaker(dev, 1), c)
		if err != nil {
			t.Fatal(err)
		}
		tape := autograd.Tape{Grad: true}
		tape.Backward(m.Loss(&tape, data.Batch{Shape: []int{1, 8}, Tokens: make([]int32, 8), Targets: make([]int32, 8)}))
		tape.Reset()
		if len(dev.heads) != 2 || dev.heads[0].Math != tt.want || dev.heads[1].Math != tt.want {
			t.Errorf("%s weights, math %q: %+v, want math %d", tt.weights, tt.math, dev.heads, tt.want)
		}
	}
}
