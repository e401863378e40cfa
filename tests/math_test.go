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
	if n := len(dev.shapes); n != 14 || slices.ContainsFunc(dev.shapes, plain) ||
		len(slices.DeleteFunc(slices.Clone(dev.shapes), half)) != 2 {
		t.Errorf("muon: %+v; want 14 products in bfloat16, 12 of them symmetric", dev.shapes)
	}
}

// TestMuonBF16: products in bfloat16 leave Muon's update what it is, also of a gradient whose singular values fall like 1/i,
// or 1/i^2, and are soon below what bfloat16 resolves.
func TestMuonBF16(t *testing.T) {
	const n = 128
	dev, err := simd.New(1)
	if err != nil {
		t.Fatal(err)
	}
	for _, rows := range []int{n, 3 * n} {
		for _, fall := range []float64{0, 1, 2} {
			mk := tensor.NewMaker(cpu.New(1), 1)
			u, v := mk.Normal(float32(1/math.Sqrt(float64(rows))), rows, n), mk.Normal(float32(1/math.Sqrt(n)), n, n)
			us, g := u.Floats(), tensor.Zeros(mk.Device, rows, n)
			for i := range us {
				us[i] *= float32(math.Pow(float64(1+i%n), -fall))
			}
			u.SetFloats(us)
			tensor.MatMul(g, u, v, false, false, 1, 0)
			update := func(dev device.Device) []float32 {
				w := autograd.NewParam(tensor.Zeros(dev, rows, n))
				o, err := optim.New(optim.Config{Name: "muon", LR: 1}, []optim.Param{{Name: "w", Value: w}})
				if err != nil {
					t.Fatal(err)
				}
				defer o.Free()
				tape := autograd.Tape{Grad: true}
				tape.Backward(tape.Sum(tape.Mul(w, autograd.NewConst(tensor.FromFloats(dev, g.Floats(), rows, n)))))
				tape.Reset()
				o.Step(1, 1)
				return w.T.Floats()
			}
			want, got := update(mk.Device), update(dev)
			off, length := 0.0, 0.0
			for i, x := range want {
				off += float64(got[i]-x) * float64(got[i]-x)
				length += float64(x) * float64(x)
			}
			if d := math.Sqrt(off / length); !(d < 0.2) {
				t.Errorf("%d x %d, 1/i^%g: the update is %.3f off", rows, n, fall, d)
			} else {
				t.Logf("%d x %d, 1/i^%g: the update is %.3f off", rows, n, fall, d)
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
