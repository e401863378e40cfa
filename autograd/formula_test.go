package autograd_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"setun/autograd"
	"setun/device"
	"setun/device/cpu"
	"setun/tensor"
)

// floats draws n numbers from a standard normal distribution.
func floats(seed uint64, n int) []float32 {
	rng := rand.New(rand.NewPCG(seed, 9))
	x := make([]float32, n)
	for i := range x {
		x[i] = float32(rng.NormFloat64())
	}
	return x
}

func param(dev device.Device, seed uint64, shape ...int) *value {
	n := 1
	for _, d := range shape {
		n *= d
	}
	return autograd.NewParam(tensor.FromFloats(dev, floats(seed, n), shape...))
}

// near compares with a float64 reference, relative to the reference's largest element.
func near(t *testing.T, what string, got []float32, want []float64, tol float64) {
	t.Helper()
	if len(got) != len(want) {
		t.Errorf("%s: %d elements, want %d", what, len(got), len(want))
		return
	}
	scale := 1e-30
	for _, w := range want {
		scale = max(scale, math.Abs(w))
	}
	for i, w := range want {
		if d := math.Abs(float64(got[i]) - w); !(d <= tol*scale) {
			t.Errorf("%s[%d] = %g, want %g", what, i, got[i], w)
			return
		}
	}
}

func wide(x []float32) []float64 {
	y := make([]float64, len(x))
	for i, v := range x {
		y[i] = float64(v)
	}
	return y
}

// weighted runs backward from the sum of dy*y, so that dy is what arrives at y.
func weighted(t *tape, y *value, dy []float32) {
	t.Backward(t.Sum(t.Mul(y, t.Floats(y.Device(), dy, y.Shape()...))))
}

func pool(dev device.Device) *tensor.Pool {
	p := tensor.NewPool(dev)
	p.Poison = true
	return p
}

// int8Row is the rule of QuantizeRows in float32 steps.
func int8Row(x []float32) (q []float64, scale float64) {
	a := float32(1e-5)
	for _, v := range x {
		a = max(a, float32(math.Abs(float64(v))))
	}
	for _, v := range x {
		q = append(q, math.RoundToEven(float64(v*(127/a))))
	}
	return q, float64(a / 127)
}

func TestStraightThrough(t *testing.T) {
	dev := cpu.New(0)
	x := param(dev, 1, 2, 3)
	tp := autograd.Tape{Pool: pool(dev), Grad: true}
	q := tp.Pool.Get(device.F32, 2, 3)
	tensor.Fill(q, 7)
	y := tp.StraightThrough(x, q)
	near(t, "y", y.T.Floats(), []float64{7, 7, 7, 7, 7, 7}, 0)
	dy := floats(2, 6)
	weighted(&tp, tp.Add(y, y), dy)
	tp.Reset()
	for i := range dy {
		dy[i] *= 2
	}
	near(t, "dx", x.Grad.Floats(), wide(dy), 0)
	tp.StraightThrough(autograd.NewConst(x.T), tp.Pool.Get(device.F32, 2, 3))
	tp.Reset()
	if n := tp.Pool.InUse(); n != 0 {
		t.Errorf("%d bytes in use: the tape did not take the tensor over", n)
	}
}

func TestInt8(t *testing.T) {
	for name, dev := range devices(t) {
		t.Run(name, func(t *testing.T) {
			x := param(dev, 1, 2, 2, 5)
			tp := autograd.Tape{Pool: pool(dev), Grad: true}
			y := tp.Int8(x)
			var want []float64
			for r := range 4 {
				q, s := int8Row(x.T.Floats()[5*r:][:5])
				for _, c := range q {
					want = append(want, c*s)
				}
			}
			near(t, "y", y.T.Floats(), want, 1e-6)
			dy := floats(2, 20)
			weighted(&tp, y, dy)
			tp.Reset()
			near(t, "dx", x.Grad.Floats(), wide(dy), 0)
		})
	}
}

func TestQLinear(t *testing.T) {
	for math, tol := range map[device.Math]float64{device.MathFP32: 1e-5, device.MathBF16: 1e-5, device.MathInt8: 2e-2} {
		testQLinear(t, math, tol)
	}
}

func testQLinear(t *testing.T, math device.Math, tol float64) {
	const rows, in, out = 6, 7, 4
	for _, scales := range []int{1, out} {
		for name, dev := range devices(t) {
			name = fmt.Sprint(name, ", math ", math)
			x, w, b := param(dev, 1, 2, 3, in), param(dev, 2, out, in), param(dev, 3, out)
			codes := tensor.New(dev, device.I8, out, in)
			ws := tensor.New(dev, device.F32, scales)
			tensor.QuantizeWeights(codes, ws, w.T, 1, device.AbsMean, 1)
			tp := autograd.Tape{Pool: pool(dev), Grad: true}
			y := tp.QLinear(x, w, codes, ws, b, math)
			dy := floats(4, rows*out)

			xf, cf, sf, bf := x.T.Floats(), codes.Codes(), ws.Floats(), b.T.Floats()
			wantY, dx := make([]float64, rows*out), make([]float64, rows*in)
			dw, db := make([]float64, out*in), make([]float64, out)
			for i := range rows {
				q, s := int8Row(xf[i*in:][:in])
				for j := range out {
					scale, sum := float64(sf[j%scales]), 0.0
					g := float64(dy[i*out+j])
					db[j] += g
					for k := range in {
						c := float64(cf[j*in+k])
						sum += q[k] * c
						dx[i*in+k] += g * scale * c
						dw[j*in+k] += g * q[k] * s
					}
					wantY[i*out+j] = sum*s*scale + float64(bf[j])
				}
			}
			near(t, name+" y", y.T.Floats(), wantY, 1e-6)
			weighted(&tp, y, dy)
			tp.Reset()
			near(t, name+" dx", x.Grad.Floats(), dx, tol)
			near(t, name+" dw", w.Grad.Floats(), dw, tol)
			near(t, name+" db", b.Grad.Floats(), db, 1e-5)

			// Frozen, and without a gradient for x.
			x.ZeroGrad()
			y = tp.QLinear(x, nil, codes, ws, nil, math)
			weighted(&tp, y, dy)
			tp.Reset()
			near(t, name+" frozen dx", x.Grad.Floats(), dx, tol)
			w.ZeroGrad()
			weighted(&tp, tp.QLinear(autograd.NewConst(x.T), w, codes, ws, nil, math), dy)
			tp.Reset()
			near(t, name+" dw alone", w.Grad.Floats(), dw, tol)
			if n := tp.Pool.InUse(); n != 0 {
				t.Errorf("%s: %d bytes in use", name, n)
			}
		}
	}
}

// counting counts the quantizations of activations.
type counting struct {
	*cpu.Device
	n *int
}

func (d counting) QuantizeRows(q, scale, x device.Mem, rows, cols int) {
	*d.n++
	d.Device.QuantizeRows(q, scale, x, rows, cols)
}

// Layers that read the same value share its int8 form, and that changes nothing but the time.
func TestInt8IsShared(t *testing.T) {
	const in, out = 7, 4
	n := 0
	dev := counting{cpu.New(1), &n}
	x, w, v := param(dev, 1, 2, 3, in), param(dev, 2, out, in), param(dev, 3, out, in)
	codes, ws := tensor.New(dev, device.I8, out, in), tensor.New(dev, device.F32, 1)
	tensor.QuantizeWeights(codes, ws, w.T, 1, device.AbsMean, 1)
	panels := tensor.NewPanels(dev, codes.Codes(), out, in, 1)
	p := pool(dev)
	step := func(shared, grad bool) (y []float32, grads [3][]float32) {
		tp := autograd.Tape{Pool: p, Grad: grad}
		h := tp.Scale(x, 2)
		again := func() *value {
			if !shared {
				return tp.Scale(x, 2)
			}
			return h
		}
		rounded := func() *value {
			if !shared {
				return tp.Int8(tp.Scale(x, 2))
			}
			return tp.Int8(h)
		}
		sum := tp.QLinear(h, nil, codes, ws, nil, device.MathInt8)
		sum = tp.Add(sum, tp.QLinear(again(), w, codes, ws, nil, device.MathInt8))
		sum = tp.Add(sum, tp.PackedLinear(again(), panels, ws, nil, device.MathInt8))
		sum = tp.Add(sum, tp.Linear(rounded(), v, nil))
		sum = tp.Add(sum, tp.Linear(rounded(), w, nil))
		y = sum.T.Floats()
		if grad {
			weighted(&tp, sum, floats(4, 6*out))
			for i, p := range []*value{x, w, v} {
				grads[i] = p.Grad.Floats()
				p.ZeroGrad()
			}
		}
		tp.Reset()
		if used := p.InUse(); used != 0 {
			t.Errorf("%d bytes in use", used)
		}
		return y, grads
	}
	for _, grad := range []bool{false, true} {
		n = 0
		want, wantGrads := step(false, grad)
		if n != 5 {
			t.Errorf("grad %t: quantized %d times, want 5", grad, n)
		}
		n = 0
		y, grads := step(true, grad)
		if n != 1 {
			t.Errorf("grad %t: quantized %d times, want once", grad, n)
		}
		if !slices.Equal(y, want) {
			t.Errorf("grad %t: another result: %v, want %v", grad, y, want)
		}
		for i := range grads {
			near(t, fmt.Sprint("gradient ", i), grads[i], wide(wantGrads[i]), 1e-6)
		}
	}
	// A constant of the caller's may change between operations, and is quantized anew.
	tp := autograd.Tape{Pool: p}
	c := autograd.NewConst(x.T)
	n = 0
	tp.QLinear(c, nil, codes, ws, nil, device.MathInt8)
	tp.QLinear(c, nil, codes, ws, nil, device.MathInt8)
	tp.Int8(c)
	if tp.Reset(); n != 3 {
		t.Errorf("a constant was quantized %d times, want 3", n)
	}
}

// TestPackedLinear: panels give the bits of codes, forward and backward.
func TestPackedLinear(t *testing.T) {
	const in, out = 35, 37
	for _, levels := range []int{1, 2} {
		for name, dev := range devices(t) {
			x, b := param(dev, 1, 2, 3, in), param(dev, 3, out)
			codes, ws := tensor.New(dev, device.I8, out, in), tensor.New(dev, device.F32, out)
			tensor.QuantizeWeights(codes, ws, param(dev, 2, out, in).T, levels, device.AbsMean, 1)
			panels := tensor.NewPanels(dev, codes.Codes(), out, in, levels)
			run := func(f func(tp *autograd.Tape) *autograd.Value) (y, dx, db []float32) {
				tp := autograd.Tape{Pool: pool(dev), Grad: true}
				v := f(&tp)
				y = v.T.Floats()
				weighted(&tp, v, floats(4, 6*out))
				tp.Reset()
				dx, db = x.Grad.Floats(), b.Grad.Floats()
				x.Grad, b.Grad = nil, nil
				return y, dx, db
			}
			y, dx, db := run(func(tp *autograd.Tape) *autograd.Value {
				return tp.QLinear(x, nil, codes, ws, b, device.MathFP32)
			})
			py, pdx, pdb := run(func(tp *autograd.Tape) *autograd.Value {
				return tp.PackedLinear(x, panels, ws, b, device.MathFP32)
			})
			if !slices.Equal(y, py) || !slices.Equal(dx, pdx) || !slices.Equal(db, pdb) {
				t.Errorf("%s, %d levels: panels do not give the bits of codes", name, levels)
			}
			tp := autograd.Tape{Pool: pool(dev)}
			if v := tp.PackedLinear(autograd.NewConst(x.T), panels, ws, b, device.MathFP32); !slices.Equal(v.T.Floats(), y) {
				t.Errorf("%s, %d levels: another result without gradients", name, levels)
			}
			tp.Reset()
		}
	}
}

// The value is q, whatever w is; dw += dq*s.
func TestRescaled(t *testing.T) {
	const out, in = 3, 5
	for name, dev := range devices(t) {
		w, q := param(dev, 1, out, in), tensor.FromFloats(dev, floats(2, out*in), out, in)
		s := tensor.FromFloats(dev, floats(3, in), in)
		dq, want := floats(4, out*in), make([]float64, out*in)
		tp := autograd.Tape{Pool: pool(dev), Grad: true}
		for range 2 { // gradients add up
			y := tp.Rescaled(w, q, s)
			near(t, name+" y", y.T.Floats(), wide(q.Floats()), 0)
			weighted(&tp, y, dq)
			tp.Reset()
			for i := range want {
				want[i] += float64(dq[i]) * float64(s.Floats()[i%in])
			}
			near(t, name+" dw", w.Grad.Floats(), want, 1e-6)
		}
		w.Freeze(true)
		if tp.Rescaled(w, q, s).WantsGrad() {
			t.Errorf("%s: a gradient that nobody wants", name)
		}
		tp.Reset()
		if n := tp.Pool.InUse(); n != 0 {
			t.Errorf("%d bytes in use", n)
		}
	}
}

func TestLSQ(t *testing.T) {
	const out, in = 3, 5
	for _, levels := range []int{1, 2} {
		for _, scales := range []int{1, out} {
			for name, dev := range devices(t) {
				w := param(dev, 1, out, in)
				s := autograd.NewParam(tensor.FromFloats(dev, []float32{0.7, 0.5, 0.9}[:scales], scales))
				tp := autograd.Tape{Pool: pool(dev), Grad: true}
				y := tp.LSQ(w, s, levels, 1)
				near(t, name+" y", y.T.Floats(), wide(w.T.Floats()), 0)
				dq := floats(2, out*in)
				weighted(&tp, y, dq)
				tp.Reset()
				ds := make([]float64, scales)
				sf := s.T.Floats()
				for i, v := range w.T.Floats() {
					r := i / in % scales
					u, top := float64(v)/float64(sf[r]), float64(levels)
					d := math.RoundToEven(u) - u
					if math.Abs(u) >= top {
						d = math.Copysign(top, u)
					}
					ds[r] += float64(dq[i]) * d / math.Sqrt(float64(out*in/scales*levels))
				}
				near(t, name+" dw", w.Grad.Floats(), wide(dq), 0)
				near(t, name+" dscale", s.Grad.Floats(), ds, 1e-5)
				if n := tp.Pool.InUse(); n != 0 {
					t.Errorf("%d bytes in use", n)
				}
				// Each alone.
				for _, v := range []*value{w, s} {
					want := wide(dq)
					if v == s {
						want = ds
					}
					w.Freeze(v != w)
					s.Freeze(v != s)
					w.ZeroGrad()
					s.ZeroGrad()
					weighted(&tp, tp.LSQ(w, s, levels, 1), dq)
					tp.Reset()
					near(t, name+" alone", v.Grad.Floats(), want, 1e-5)
				}
			}
		}
	}
}

// crossEntropy is the loss of each row and the gradient of their mean, in float64.
func crossEntropy(logits []float32, targets []int32, cols int) (loss, dlogits []float64) {
	valid := 0.0
	for _, id := range targets {
		if id >= 0 {
			valid++
		}
	}
	for i, id := range targets {
		row := logits[i*cols:][:cols]
		sum := 0.0
		for _, v := range row {
			sum += math.Exp(float64(v))
		}
		if id < 0 {
			loss, dlogits = append(loss, 0), append(dlogits, make([]float64, cols)...)
			continue
		}
		loss = append(loss, math.Log(sum)-float64(row[id]))
		for j, v := range row {
			g := math.Exp(float64(v)) / sum
			if j == int(id) {
				g--
			}
			dlogits = append(dlogits, g/valid)
		}
	}
	return loss, dlogits
}

func TestCrossEntropyFormula(t *testing.T) {
	dev := cpu.New(0)
	targets := []int32{3, -1, 0, 6, -1, 6}
	x := param(dev, 1, 2, 3, 7)
	want, dx := crossEntropy(x.T.Floats(), targets, 7)
	tp := autograd.Tape{Pool: pool(dev), Grad: true}
	loss := tp.CrossEntropy(x, tp.Ints(dev, targets, 2, 3))
	sum := 0.0
	for _, l := range want {
		sum += l
	}
	near(t, "loss", []float32{loss.Float()}, []float64{sum / 4}, 1e-6)
	tp.Backward(tp.Scale(loss, 3))
	tp.Reset()
	for i := range dx {
		dx[i] *= 3
	}
	near(t, "dlogits", x.Grad.Floats(), dx, 1e-6)

	// Logits far from 0 neither overflow nor lose the loss.
	big := autograd.NewParam(tensor.FromFloats(dev, []float32{1e4, 1e4 - 1, -1e4}, 1, 3))
	loss = tp.CrossEntropy(big, tp.Ints(dev, []int32{1}, 1))
	near(t, "loss of large logits", []float32{loss.Float()}, []float64{1 + math.Log1p(math.Exp(-1))}, 1e-3)
	tp.Reset()
}

func TestTokenLoss(t *testing.T) {
	for name, dev := range devices(t) {
		targets := []int32{3, -1, 0, 6}
		x := param(dev, 1, 4, 7)
		want, _ := crossEntropy(x.T.Floats(), targets, 7)
		tp := autograd.Tape{Pool: pool(dev), Grad: true}
		ids := tp.Ints(dev, targets, 4)
		if got := ids.T.Ints(); got[0] != 3 || got[1] != -1 || ids.WantsGrad() {
			t.Errorf("Ints gave %v", got)
		}
		y := tp.TokenLoss(x, ids)
		near(t, name, y.T.Floats(), want, 1e-6)
		if y.WantsGrad() || tp.Nodes() != 0 {
			t.Error("TokenLoss records a gradient")
		}
		tp.Reset()
		if n := tp.Pool.InUse(); n != 0 {
			t.Errorf("%d bytes in use", n)
		}
	}
}

func TestCachedAttention(t *testing.T) {
	for name, dev := range devices(t) {
		const b, h, kv, d, room, keys = 2, 4, 2, 6, 9, 5
		q, k, v := param(dev, 1, b, 2, h, d), param(dev, 2, b, keys, kv, d), param(dev, 3, b, keys, kv, d)
		ck, cv := tensor.Zeros(dev, b, kv, room, d), tensor.Zeros(dev, b, kv, room, d)
		tensor.Fill(ck, float32(math.NaN())) // what lies behind the keys is not read
		tensor.Fill(cv, float32(math.NaN()))
		tensor.Append(ck, k.T, 0)
		tensor.Append(cv, v.T, 0)
		tp := autograd.Tape{Pool: pool(dev)}
		want := tp.Attention(q, k, v, true).T.Floats()
		got := tp.CachedAttention(q, ck, cv, keys)
		near(t, name, got.T.Floats(), wide(want), 1e-6)
		tp.Reset()
	}
}

// twin computes f and the gradients of the parameters for a fixed dy.
func twin(ps []*value, f func(t *tape) *value) (y []float32, grads [][]float32) {
	dev := ps[0].Device()
	t := autograd.Tape{Pool: pool(dev), Grad: true}
	defer t.Reset()
	for _, p := range ps {
		p.ZeroGrad()
	}
	out := f(&t)
	y = out.T.Floats()
	weighted(&t, out, floats(77, len(y)))
	for _, p := range ps {
		grads = append(grads, p.Grad.Floats())
	}
	return y, grads
}

// Fused operations against the same computed from simpler ones.
func TestTwins(t *testing.T) {
	dev := cpu.New(0)
	attention := func(b, n, s, h, kv, d int, causal bool) ([]*value, func(t *tape) *value, func(t *tape) *value) {
		ps := []*value{param(dev, 1, b, n, h, d), param(dev, 2, b, s, kv, d), param(dev, 3, b, s, kv, d)}
		fused := func(t *tape) *value { return t.Attention(ps[0], ps[1], ps[2], causal) }
		plain := func(t *tape) *value {
			q, k, v := t.Reshape(ps[0], b, n, h*d), t.Reshape(ps[1], b, s, kv*d), t.Reshape(ps[2], b, s, kv*d)
			mask := make([]float32, b*n*s)
			for i := range mask {
				if causal && i%s > i/s%n+s-n {
					mask[i] = -1e9
				}
			}
			m := t.Floats(dev, mask, b, n, s)
			var heads []*value
			for i := range h {
				g := i * kv / h
				qi, ki, vi := t.SliceLast(q, i*d, (i+1)*d), t.SliceLast(k, g*d, (g+1)*d), t.SliceLast(v, g*d, (g+1)*d)
				p := t.Softmax(t.Add(t.Scale(t.MatMul(qi, ki, false, true), float32(1/math.Sqrt(float64(d)))), m))
				heads = append(heads, t.MatMul(p, vi, false, false))
			}
			return t.Reshape(t.ConcatLast(heads...), b, n, h, d)
		}
		return ps, fused, plain
	}
	x, w, bias := param(dev, 4, 3, 5, 7), param(dev, 5, 6, 7), param(dev, 6, 6)
	g, u := param(dev, 7, 4, 9), param(dev, 8, 4, 9)
	tests := map[string]func() ([]*value, func(t *tape) *value, func(t *tape) *value){
		"attention": func() ([]*value, func(*tape) *value,
			func(*tape) *value) {
			return attention(2, 70, 70, 2, 2, 8, false)
		},
		"attention, causal grouped": func() ([]*value, func(*tape) *value,
			func(*tape) *value) {
			return attention(2, 70, 70, 4, 2, 6, true)
		},
		"attention, more keys": func() ([]*value, func(*tape) *value,
			func(*tape) *value) {
			return attention(1, 5, 67, 3, 1, 5, true)
		},
		"linear": func() ([]*value, func(*tape) *value, func(*tape) *value) {
			return []*value{x, w, bias}, func(t *tape) *value { return t.Linear(x, w, bias) },
				func(t *tape) *value { return t.AddRows(t.MatMul(x, w, false, true), bias) }
		},
		"gated": func() ([]*value, func(*tape) *value, func(*tape) *value) {
			return []*value{g, u}, func(t *tape) *value { return t.Gated(device.GELU, g, u) },
				func(t *tape) *value { return t.Mul(t.GELU(g), u) }
		},
		"mean": func() ([]*value, func(*tape) *value, func(*tape) *value) {
			return []*value{x}, func(t *tape) *value { return t.MeanRows(x) }, func(t *tape) *value {
				ones := make([]float32, 3*5)
				for i := range ones {
					ones[i] = 1. / 5
				}
				return t.Reshape(t.MatMul(t.Floats(dev, ones, 3, 1, 5), x, false, false), 3, 7)
			}
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			ps, fused, plain := tt()
			y, grads := twin(ps, fused)
			wantY, want := twin(ps, plain)
			near(t, "y", y, wide(wantY), 1e-5)
			for i := range grads {
				near(t, "gradient", grads[i], wide(want[i]), 1e-5)
			}
		})
	}
}

func TestNormFormulas(t *testing.T) {
	const rows, n, eps = 6, 33, 1e-5
	dev := cpu.New(0)
	x, gain, bias := param(dev, 1, 2, 3, n), param(dev, 2, n), param(dev, 3, n)
	dy := floats(77, rows*n)
	xf, gf, bf := wide(x.T.Floats()), wide(gain.T.Floats()), wide(bias.T.Floats())
	for _, layer := range []bool{false, true} {
		y, dx, dg, db := make([]float64, rows*n), make([]float64, rows*n), make([]float64, n), make([]float64, n)
		for r := range rows {
			x, mean, sq := xf[r*n:][:n], 0.0, 0.0
			if layer {
				for _, v := range x {
					mean += v / n
				}
			}
			for _, v := range x {
				sq += (v - mean) * (v - mean) / n
			}
			inv := 1 / math.Sqrt(sq+eps)
			// With z = (x-mean)*inv and h = dy*gain: dx = inv*(h - mean(h) - z*mean(h*z)); RMSNorm has no mean(h).
			mh, mhz := 0.0, 0.0
			for j, v := range x {
				z, g := (v-mean)*inv, float64(dy[r*n+j])
				y[r*n+j] = z * gf[j]
				dg[j] += g * z
				mhz += g * gf[j] * z / n
				if layer {
					y[r*n+j] += bf[j]
					db[j] += g
					mh += g * gf[j] / n
				}
			}
			for j, v := range x {
				dx[r*n+j] = inv * (float64(dy[r*n+j])*gf[j] - mh - (v-mean)*inv*mhz)
			}
		}
		ps, f := []*value{x, gain}, func(t *tape) *value { return t.RMSNorm(x, gain, eps) }
		want := [][]float64{dx, dg}
		if layer {
			ps, f = append(ps, bias), func(t *tape) *value { return t.LayerNorm(x, gain, bias, eps) }
			want = append(want, db)
		}
		got, grads := twin(ps, f)
		near(t, "y", got, y, 1e-5)
		for i := range want {
			near(t, "gradient", grads[i], want[i], 1e-5)
		}
	}
}
