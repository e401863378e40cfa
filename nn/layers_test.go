package nn_test

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"setun/autograd"
	"setun/device"
	"setun/device/cpu"
	"setun/device/devicetest"
	"setun/nn"
	"setun/tensor"
)

func normal(seed uint64, n int) []float32 {
	rng := rand.New(rand.NewPCG(seed, 4))
	x := make([]float32, n)
	for i := range x {
		x[i] = float32(rng.NormFloat64())
	}
	return x
}

// scramble gives every parameter random values, so that gains and biases count.
func scramble(m nn.Module) {
	seed := uint64(100)
	for _, p := range m.Params() {
		p.T.SetFloats(normal(seed, p.T.Len()))
		p.Changed()
		seed++
	}
}

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
	for i, f := range x {
		y[i] = float64(f)
	}
	return y
}

// linear is x wᵀ + b, x (rows, in), w (out, in).
func linear(x, w, b []float64, in int) []float64 {
	out := len(w) / in
	var y []float64
	for r := range len(x) / in {
		for j := range out {
			sum := 0.0
			if b != nil {
				sum = b[j]
			}
			for k := range in {
				sum += x[r*in+k] * w[j*in+k]
			}
			y = append(y, sum)
		}
	}
	return y
}

func rmsNorm(x, gain []float64, eps float64) []float64 {
	n := len(gain)
	y := make([]float64, len(x))
	for r := 0; r < len(x); r += n {
		sq := 0.0
		for _, v := range x[r:][:n] {
			sq += v * v / float64(n)
		}
		for j := range n {
			y[r+j] = x[r+j] / math.Sqrt(sq+eps) * gain[j]
		}
	}
	return y
}

func param(v *value) []float64 { return wide(v.T.Floats()) }

func TestLayers(t *testing.T) {
	mk := tensor.NewMaker(dev, 3)
	lin, plain := nn.NewLinear(mk, 5, 4, true), nn.NewLinear(mk, 5, 4, false)
	rms, noGain := nn.NewRMSNorm(mk, 5, 0.1), &nn.RMSNorm{Eps: 1e-5}
	layer, embed := nn.NewLayerNorm(mk, 5), nn.NewEmbedding(mk, 7, 5, 0.3)
	mlp := &nn.MLP{Up: nn.NewLinear(mk, 5, 6, false), Down: nn.NewLinear(mk, 6, 5, false), Act: device.ReLU2}
	gated := &nn.MLP{Gate: nn.NewLinear(mk, 5, 6, false), Up: nn.NewLinear(mk, 5, 6, true),
		Down:    nn.NewLinear(mk, 6, 5, false),
		SubNorm: nn.NewRMSNorm(mk, 6, 0), Act: device.SiLU}
	for _, m := range []nn.Module{lin, plain, rms, layer, embed, mlp, gated} {
		scramble(m)
	}
	xs := normal(1, 2*3*5)
	x := wide(xs)
	weight := func(l nn.Layer) []float64 { return param(l.(*nn.Linear).Weight) }
	for _, tt := range []struct {
		name  string
		layer nn.Layer
		want  func() []float64
	}{
		{"Linear", lin, func() []float64 { return linear(x, param(lin.Weight), param(lin.Bias), 5) }},
		{"Linear without bias", plain, func() []float64 { return linear(x, param(plain.Weight), nil, 5) }},
		{"RMSNorm", rms, func() []float64 { return rmsNorm(x, param(rms.Weight), 0.1) }},
		{"RMSNorm without gain", noGain, func() []float64 { return rmsNorm(x, []float64{1, 1, 1, 1, 1}, 1e-5) }},
		{"LayerNorm", layer, func() []float64 {
			g, b := param(layer.Weight), param(layer.Bias)
			y := slices.Clone(x)
			for r := 0; r < len(y); r += 5 {
				mean, sq := 0.0, 0.0
				for _, v := range y[r:][:5] {
					mean += v / 5
				}
				for _, v := range y[r:][:5] {
					sq += (v - mean) * (v - mean) / 5
				}
				for j := range 5 {
					y[r+j] = (y[r+j]-mean)/math.Sqrt(sq+1e-5)*g[j] + b[j]
				}
			}
			return y
		}},
		{"MLP", mlp, func() []float64 {
			h := linear(x, weight(mlp.Up), nil, 5)
			for i, v := range h {
				h[i] = max(v, 0) * max(v, 0)
			}
			return linear(h, weight(mlp.Down), nil, 6)
		}},
		{"gated MLP", gated, func() []float64 {
			g, u := linear(x, weight(gated.Gate), nil, 5), linear(x, weight(gated.Up), param(gated.Up.(*nn.Linear).Bias), 5)
			for i, v := range g {
				g[i] = v / (1 + math.Exp(-v)) * u[i]
			}
			return linear(rmsNorm(g, param(gated.SubNorm.Weight), 1e-5), weight(gated.Down), nil, 6)
		}},
		{"Embedding.Logits", nn.Func(embed.Logits), func() []float64 { return linear(x, param(embed.Weight), nil, 5) }},
		{"Dropout in inference", nn.Dropout{P: 0.5}, func() []float64 { return x }},
	} {
		var tp tape
		y := tt.layer.Forward(&tp, tp.Floats(dev, xs, 2, 3, 5))
		near(t, tt.name, y.T.Floats(), tt.want(), 1e-5)
		if y.T.Dims() != 3 || y.Dim(0) != 2 || y.Dim(1) != 3 {
			t.Errorf("%s: shape %v", tt.name, y.Shape())
		}
	}
	var tp tape
	y := embed.Forward(&tp, tp.Ints(dev, []int32{6, 0, 6, 2}, 2, 2))
	w := embed.Weight.T.Floats()
	if want := slices.Concat(w[30:35], w[0:5], w[30:35], w[10:15]); !slices.Equal(y.T.Floats(), want) ||
		!slices.Equal(y.Shape(), []int{2, 2, 5}) {
		t.Errorf("Embedding gave %v of shape %v", y.T.Floats(), y.Shape())
	}
	training := tape{Grad: true}
	if got := (nn.Dropout{P: 0.5}).Forward(&training, training.Floats(dev, xs, 30)).T.Floats(); slices.Equal(got, xs) ||
		!slices.Contains(got, 0) {
		t.Error("Dropout does nothing in training")
	}
}

func TestInit(t *testing.T) {
	for _, tt := range []struct {
		name      string
		got, want float32
	}{
		{"InvSqrt", nn.InvSqrt(64), 0.125}, {"Xavier", nn.Xavier(10, 40), 0.2}, {"Kaiming", nn.Kaiming(50), 0.2},
		{"InvSqrt(0)", nn.InvSqrt(0), 1},
	} {
		if math.Abs(float64(tt.got-tt.want)) > 1e-7 {
			t.Errorf("%s = %g, want %g", tt.name, tt.got, tt.want)
		}
	}
	deviation := func(x []float32) float64 {
		sum := 0.0
		for _, v := range x {
			sum += float64(v) * float64(v) / float64(len(x))
		}
		return math.Sqrt(sum)
	}
	mk := tensor.NewMaker(dev, 1)
	l := nn.NewLinear(mk, 100, 200, true)
	if d := deviation(l.Weight.T.Floats()); math.Abs(d-0.1) > 0.003 || deviation(l.Bias.T.Floats()) != 0 {
		t.Errorf("a weight of 100 inputs has deviation %g, its bias %v", d, l.Bias.T.Floats()[:3])
	}
	if d := deviation(nn.NewEmbedding(mk, 100, 200, 0.02).Weight.T.Floats()); math.Abs(d-0.02) > 0.001 {
		t.Errorf("an embedding has deviation %g", d)
	}
	again := nn.NewLinear(tensor.NewMaker(cpu.New(1), 1), 100, 200, true)
	if !slices.Equal(l.Weight.T.Floats(), again.Weight.T.Floats()) {
		t.Error("the same seed gives other weights")
	}
}

func newAttention(mk *tensor.Maker, width, heads, kv, dim int, full bool) *nn.Attention {
	a := &nn.Attention{Heads: heads, KVHeads: kv, Dim: dim, Causal: true, Q: nn.NewLinear(mk, width, heads*dim, false),
		K: nn.NewLinear(mk, width, kv*dim, false), V: nn.NewLinear(mk, width, kv*dim, true), Out: nn.NewLinear(mk,
			heads*dim, width, true)}
	if full {
		a.RoPE = tensor.RoPETable(mk.Device, 32, dim, 100)
		a.QNorm, a.KNorm, a.SubNorm = nn.NewRMSNorm(mk, dim, 0), nn.NewRMSNorm(mk, dim, 0), nn.NewRMSNorm(mk, heads*dim, 0)
	}
	scramble(a)
	return a
}

func TestAttentionFormula(t *testing.T) {
	const b, n, width, heads, kv, dim = 2, 5, 6, 4, 2, 4
	for _, causal := range []bool{true, false} {
		for _, full := range []bool{false, true} {
			a := newAttention(tensor.NewMaker(dev, 1), width, heads, kv, dim, full)
			a.Causal = causal
			xs := normal(2, b*n*width)
			x := wide(xs)
			project := func(l nn.Layer, x []float64, in int) []float64 {
				lin := l.(*nn.Linear)
				var bias []float64
				if lin.Bias != nil {
					bias = param(lin.Bias)
				}
				return linear(x, param(lin.Weight), bias, in)
			}
			q, k, v := project(a.Q, x, width), project(a.K, x, width), project(a.V, x, width)
			if full {
				q, k = rmsNorm(q, param(a.QNorm.Weight), 1e-5), rmsNorm(k, param(a.KNorm.Weight), 1e-5)
				rotate := func(x []float64, heads int) {
					for i := 0; i < len(x); i += dim {
						pos := float64(i / dim / heads % n)
						for j := range dim / 2 {
							sin, cos := math.Sincos(pos * math.Pow(100, -2*float64(j)/dim))
							u, w := x[i+j], x[i+j+dim/2]
							x[i+j], x[i+j+dim/2] = u*cos-w*sin, u*sin+w*cos
						}
					}
				}
				rotate(q, heads)
				rotate(k, kv)
			}
			y := make([]float64, b*n*heads*dim)
			for s := range b {
				for h := range heads {
					for i := range n {
						last := n
						if causal {
							last = i + 1
						}
						var p []float64
						sum := 0.0
						for j := range last {
							dot := 0.0
							for c := range dim {
								dot += q[((s*n+i)*heads+h)*dim+c] * k[((s*n+j)*kv+h*kv/heads)*dim+c]
							}
							p = append(p, math.Exp(dot/math.Sqrt(dim)))
							sum += p[j]
						}
						for j := range last {
							for c := range dim {
								y[((s*n+i)*heads+h)*dim+c] += p[j] / sum * v[((s*n+j)*kv+h*kv/heads)*dim+c]
							}
						}
					}
				}
			}
			if full {
				y = rmsNorm(y, param(a.SubNorm.Weight), 1e-5)
			}
			var tp tape
			got := a.Forward(&tp, tp.Floats(dev, xs, b, n, width))
			near(t, "attention", got.T.Floats(), project(a.Out, y, heads*dim), 1e-5)
		}
	}
}

// Decode in pieces of any size gives what Forward gives at once.
func TestDecode(t *testing.T) {
	const b, n, width = 3, 12, 10
	for _, d := range []device.Device{cpu.New(0), devicetest.Opaque(cpu.New(1))} {
		for _, kv := range []int{1, 2, 4} {
			a := newAttention(tensor.NewMaker(d, 1), width, 4, kv, 6, true)
			x := normal(2, b*n*width)
			tp := tape{Pool: tensor.NewPool(d)}
			tp.Pool.Poison = true
			want := wide(a.Forward(&tp, tp.Floats(d, x, b, n, width)).T.Floats())
			tp.Reset()
			for _, pieces := range [][]int{{12}, {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1}, {5, 1, 4, 2}, {11, 1}} {
				cache := a.NewCache(d, b, n+3)
				tensor.Fill(cache.K, float32(math.NaN()))
				tensor.Fill(cache.V, float32(math.NaN()))
				got := make([]float32, b*n*width)
				at := 0
				for _, m := range pieces {
					var part []float32 // tokens [at, at+m) of every sequence
					for s := range b {
						part = append(part, x[(s*n+at)*width:][:m*width]...)
					}
					y := a.Decode(&tp, tp.Floats(d, part, b, m, width), cache).T.Floats()
					tp.Reset()
					for s := range b {
						copy(got[(s*n+at)*width:], y[s*m*width:][:m*width])
					}
					at += m
				}
				near(t, "decoded", got, want, 1e-5)
				if cache.Len != n {
					t.Errorf("the cache has %d tokens, want %d", cache.Len, n)
				}
				if err := autograd.Catch(func() {
					a.Decode(&tp, tp.Floats(d, make([]float32, b*4*width), b, 4, width),
						cache)
				}); err == nil {
					t.Error("a cache took more than it has room for")
				}
				tp.Reset()
				cache.Free()
			}
			if n := tp.Pool.InUse(); n != 0 {
				t.Errorf("%d bytes in use", n)
			}
		}
		if err := d.Sync(); err != nil {
			t.Error(err)
		}
	}
}

func TestConv2D(t *testing.T) {
	const b, h, w, in, out = 2, 6, 5, 3, 4
	for _, tt := range []struct{ size, stride, pad, oh, ow int }{
		{3, 1, 1, 6, 5}, {3, 2, 1, 3, 3}, {2, 0, 0, 5, 4}, {1, 1, 0, 6, 5}, {3, 3, 2, 3, 3}, {5, 1, 0, 2, 1},
	} {
		c := &nn.Conv2D{Proj: nn.NewLinear(tensor.NewMaker(dev, 1), tt.size*tt.size*in, out, true), Size: tt.size,
			Stride: tt.stride, Pad: tt.pad}
		scramble(c)
		if got := names(c); !slices.Equal(got, []string{"weight", "bias"}) {
			t.Fatalf("parameters %q", got)
		}
		x := normal(2, b*h*w*in)
		weight, bias := param(c.Proj.(*nn.Linear).Weight), param(c.Proj.(*nn.Linear).Bias)
		var want []float64
		for s := range b {
			for i := range tt.oh {
				for j := range tt.ow {
					for o := range out {
						sum := bias[o]
						for u := range tt.size {
							for v := range tt.size {
								r, q := i*max(tt.stride, 1)+u-tt.pad, j*max(tt.stride, 1)+v-tt.pad
								if r < 0 || r >= h || q < 0 || q >= w {
									continue
								}
								for k := range in {
									sum += float64(x[((s*h+r)*w+q)*in+k]) * weight[((o*tt.size+u)*tt.size+v)*in+k]
								}
							}
						}
						want = append(want, sum)
					}
				}
			}
		}
		var tp tape
		y := c.Forward(&tp, tp.Floats(dev, x, b, h, w, in))
		if !slices.Equal(y.Shape(), []int{b, tt.oh, tt.ow, out}) {
			t.Errorf("%+v: shape %v", tt, y.Shape())
		}
		near(t, "convolution", y.T.Floats(), want, 1e-5)
	}
}

// Every parameter of every layer gets a gradient.
func TestGradientsArrive(t *testing.T) {
	mk := tensor.NewMaker(dev, 1)
	lin := func(in, out int) nn.Layer { return nn.NewLinear(mk, in, out, true) }
	m := nn.Sequential{
		nn.NewEmbedding(mk, 9, 8, 1),
		nn.NewLayerNorm(mk, 8),
		newAttention(mk, 8, 4, 2, 4, true),
		&nn.MLP{Gate: lin(8, 6), Up: lin(8, 6), Down: lin(6, 8), SubNorm: nn.NewRMSNorm(mk, 6, 0), Act: device.SiLU},
		nn.Dropout{P: 0.2},
		nn.Func(func(t *tape, x *value) *value { return t.Reshape(x, 2, 3, 4, 2) }),
		&nn.Conv2D{Proj: lin(18, 3), Size: 3, Pad: 1},
	}
	tp := tape{Pool: tensor.NewPool(dev), Grad: true}
	tp.Pool.Poison = true
	y := m.Forward(&tp, tp.Ints(dev, []int32{1, 2, 3, 4, 5, 6}, 2, 3))
	tp.Backward(tp.Mean(tp.Mul(y, y)))
	tp.Reset()
	for name, p := range m.Params() {
		if !p.HasGrad() || slices.ContainsFunc(p.Grad.Floats(), func(v float32) bool { return v != v }) {
			t.Errorf("%s has no gradient, or NaN", name)
		}
	}
}
