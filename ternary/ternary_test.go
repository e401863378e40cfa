package ternary_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"setun/autograd"
	"setun/device"
	"setun/device/cpu"
	"setun/device/devicetest"
	"setun/tensor"
	"setun/ternary"
)

type tape = autograd.Tape

func normal(seed uint64, n int) []float32 {
	rng := rand.New(rand.NewPCG(seed, 8))
	x := make([]float32, n)
	for i := range x {
		x[i] = float32(rng.NormFloat64())
	}
	return x
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

// configs has every combination of rule, codebook, granularity, activations and norm.
func configs() []ternary.Config {
	var cs []ternary.Config
	for _, book := range []ternary.Codebook{"", ternary.Ternary, ternary.Five} {
		for _, rule := range []ternary.Rule{"", ternary.AbsMean, ternary.TWN, ternary.LSQ} {
			for bits := range 8 {
				c := ternary.Config{Codebook: book, Rule: rule, PerRow: bits&1 != 0, FloatActs: bits&2 != 0, SubNorm: bits&4 != 0}
				if c.Validate() == nil {
					cs = append(cs, c)
				}
			}
		}
	}
	return cs
}

func name(c ternary.Config) string {
	b, _ := json.Marshal(c)
	return string(b)
}

// quantize is the rule in float64: codes and scales of w (rows, cols). The scale of LSQ is that of the start.
func quantize(c ternary.Config, w []float32, rows int) (codes []int8, scales []float64) {
	group := len(w)
	if c.PerRow {
		group /= rows
	}
	five := c.Codebook == ternary.Five
	for g := 0; g < len(w); g += group {
		w := w[g:][:group]
		mean := 0.0
		for _, v := range w {
			mean += math.Abs(float64(v)) / float64(group)
		}
		rule := c.Rule
		if rule == "" && five {
			rule = ternary.AbsMean
		}
		if rule == "" || rule == ternary.TWN {
			cut := 0.7 * mean
			if c.Threshold != 0 {
				cut = float64(c.Threshold) * mean
			}
			sum, kept := 0.0, 0.0
			for _, v := range w {
				code := int8(0)
				if a := math.Abs(float64(v)); a > cut {
					sum, kept, code = sum+a, kept+1, int8(math.Copysign(1, float64(v)))
				}
				codes = append(codes, code)
			}
			scales = append(scales, sum/kept)
			continue
		}
		top, factor := 1.0, 1.0
		if five {
			top, factor = 2, 1.055
		} else if rule == ternary.LSQ {
			factor = 1.53
		}
		scale := factor * mean
		for _, v := range w {
			codes = append(codes, int8(max(-top, min(top, math.RoundToEven(float64(v)/scale)))))
		}
		scales = append(scales, scale)
	}
	return codes, scales
}

func TestQuantized(t *testing.T) {
	for _, dev := range []device.Device{cpu.New(0), devicetest.Opaque(cpu.New(1))} {
		for _, c := range append(configs(), ternary.Config{Threshold: 1.2}) {
			l := ternary.NewLinear(tensor.NewMaker(dev, 1), 33, 7, false, c)
			w := l.Weight.T.Floats()
			codes, scales := l.Quantized()
			wantCodes, wantScales := quantize(c, w, 7)
			if !slices.Equal(codes.Codes(), wantCodes) {
				t.Errorf("%s: other codes", name(c))
			}
			near(t, name(c)+" scale", scales.Floats(), wantScales, 1e-6)
			hist := map[int8]int{}
			for _, q := range codes.Codes() {
				hist[q]++
			}
			if levels := 2*c.Codebook.Levels() + 1; len(hist) != levels {
				t.Errorf("%s: %d levels in use, want %d: %v", name(c), len(hist), levels, hist)
			}
		}
	}
}

// The reference is float64: y = Q8(norm(x)) Wqᵀ + bias.
func TestForward(t *testing.T) {
	const rows, in, out = 6, 33, 7
	for _, dev := range []device.Device{cpu.New(0), devicetest.Opaque(cpu.New(1))} {
		for _, c := range configs() {
			l := ternary.NewLinear(tensor.NewMaker(dev, 1), in, out, true, c)
			l.Bias.T.SetFloats(normal(2, out))
			x := normal(3, rows*in)
			z := make([]float64, rows*in)
			for i, v := range x {
				z[i] = float64(v)
			}
			if c.SubNorm {
				gain := normal(4, in)
				l.Gain.T.SetFloats(gain)
				for r := 0; r < len(z); r += in {
					sq := 0.0
					for _, v := range z[r:][:in] {
						sq += v * v / in
					}
					for j := range in {
						z[r+j] = z[r+j] / math.Sqrt(sq+1e-5) * float64(gain[j])
					}
				}
			}
			if !c.FloatActs {
				for r := 0; r < len(z); r += in {
					a := 1e-5
					for _, v := range z[r:][:in] {
						a = max(a, math.Abs(v))
					}
					for j := range in {
						z[r+j] = math.RoundToEven(z[r+j]*127/a) * a / 127
					}
				}
			}
			codes, scales := quantize(c, l.Weight.T.Floats(), out)
			bias := l.Bias.T.Floats()
			var want []float64
			for r := range rows {
				for j := range out {
					sum := 0.0
					for k := range in {
						sum += z[r*in+k] * float64(codes[j*in+k])
					}
					want = append(want, sum*scales[j%len(scales)]+float64(bias[j]))
				}
			}
			tol := 1e-5
			if c.SubNorm && !c.FloatActs {
				tol = 5e-3 // one activation may round the other way
			}
			var tp tape
			y := l.Forward(&tp, tp.Floats(dev, x, 2, 3, in))
			near(t, name(c), y.T.Floats(), want, tol)
			if !slices.Equal(y.Shape(), []int{2, 3, out}) {
				t.Errorf("%s: shape %v", name(c), y.Shape())
			}
			tp.Reset()
		}
		if err := dev.Sync(); err != nil {
			t.Error(err)
		}
	}
}

// A frozen layer, and one that is loaded, give the bits of the layer in training.
func TestFrozenGivesTheSameBits(t *testing.T) {
	const in, out = 40, 9
	for _, dev := range []device.Device{cpu.New(0), devicetest.Opaque(cpu.New(1))} {
		for _, c := range configs() {
			l := ternary.NewLinear(tensor.NewMaker(dev, 1), in, out, true, c)
			tp := tape{Pool: tensor.NewPool(dev), Grad: true}
			tp.Pool.Poison = true
			run := func(l *ternary.Linear, grad bool) []float32 {
				tp.Grad = grad
				defer tp.Reset()
				return l.Forward(&tp, tp.Floats(dev, normal(3, 5*in), 5, in)).T.Floats()
			}
			y := l.Forward(&tp, tp.Floats(dev, normal(3, 5*in), 5, in)) // gradients exist before the freeze
			tp.Backward(tp.Sum(tp.Mul(y, y)))
			tp.Reset()
			want := run(l, true)
			p, err := l.Pack()
			if err != nil || l.Frozen() {
				t.Fatalf("Pack: %v, frozen %v", err, l.Frozen())
			}
			frozen, err := l.Freeze()
			if err != nil || !l.Frozen() || !bytes.Equal(frozen.Data, p.Data) || !slices.Equal(frozen.Scales, p.Scales) {
				t.Fatalf("Freeze: %v, frozen %v", err, l.Frozen())
			}
			loaded, err := ternary.FromPacked(dev, p, c)
			if err != nil {
				t.Fatal(err)
			}
			loaded.Bias, loaded.Gain = l.Bias, l.Gain
			for what, got := range map[string][]float32{"frozen": run(l, false), "frozen, on a tape that records": run(l, true),
				"loaded": run(loaded, false)} {
				if !slices.Equal(got, want) {
					t.Errorf("%s: %s gives other bits", name(c), what)
				}
			}
			l.SetLambda(0.3) // has no meaning without the latent weight
			if !slices.Equal(run(l, false), want) {
				t.Errorf("%s: lambda changes a frozen layer", name(c))
			}
			again, err := l.Freeze() // nothing left to do
			if err != nil || !bytes.Equal(again.Data, p.Data) {
				t.Errorf("a second Freeze: %v", err)
			}
			params := 0
			for n := range l.Params() {
				if params++; n == "weight" || n == "scale" {
					t.Errorf("%s: a frozen layer lists %s", name(c), n)
				}
			}
			if want := 1 + map[bool]int{true: 1}[c.SubNorm]; params != want {
				t.Errorf("%s: %d parameters, want %d", name(c), params, want)
			}
			if n := tp.Pool.InUse(); n != 0 {
				t.Errorf("%s: %d bytes in use", name(c), n)
			}
		}
		if err := dev.Sync(); err != nil {
			t.Error(err)
		}
	}
}

// A frozen layer still passes gradients to what is below it.
func TestFrozenPassesGradients(t *testing.T) {
	for _, c := range configs() {
		dev := cpu.New(0)
		l := ternary.NewLinear(tensor.NewMaker(dev, 1), 8, 5, true, c)
		x := autograd.NewParam(tensor.FromFloats(dev, normal(3, 16), 2, 8))
		run := func() []float32 {
			x.ZeroGrad()
			tp := tape{Grad: true}
			y := l.Forward(&tp, x)
			tp.Backward(tp.Sum(tp.Mul(y, tp.Floats(dev, normal(5, 10), 2, 5))))
			tp.Reset()
			return x.Grad.Floats()
		}
		want := run()
		if _, err := l.Freeze(); err != nil {
			t.Fatal(err)
		}
		if got := run(); !slices.Equal(got, want) {
			t.Errorf("%s: dx is %v, in training %v", name(c), got, want)
		}
	}
}

// Freeze gives the memory of the latent weight back.
func TestFreezeFrees(t *testing.T) {
	dev := devicetest.Opaque(cpu.New(1))
	l := ternary.NewLinear(tensor.NewMaker(dev, 1), 8, 5, false, ternary.Config{Rule: ternary.LSQ})
	tp := tape{Grad: true}
	tp.Backward(tp.Sum(l.Forward(&tp, tp.Floats(dev, normal(1, 8), 1, 8))))
	tp.Reset()
	if _, err := l.Freeze(); err != nil {
		t.Fatal(err)
	}
	if n := dev.Live(); n != 2 { // codes and scale
		t.Errorf("%d allocations live, want 2", n)
	}
	if err := dev.Sync(); err != nil {
		t.Error(err)
	}
}

// counting is a device that counts quantizations of weights.
type counting struct {
	*cpu.Device
	n int
}

func (c *counting) QuantizeWeights(codes, scale, w device.Mem, s device.WeightQuant) {
	c.n++
	c.Device.QuantizeWeights(codes, scale, w, s)
}

func TestQuantizesOncePerChange(t *testing.T) {
	for _, c := range []ternary.Config{{}, {Rule: ternary.LSQ}, {FloatActs: true}} {
		dev := &counting{Device: cpu.New(0)}
		l := ternary.NewLinear(tensor.NewMaker(dev, 1), 8, 5, false, c)
		var tp tape
		forward := func() { l.Forward(&tp, tp.Floats(dev, normal(1, 8), 1, 8)) }
		step := func(what string, want int, f func()) {
			t.Helper()
			dev.n = 0
			f()
			if dev.n != want {
				t.Errorf("%s: %s quantizes %d times, want %d", name(c), what, dev.n, want)
			}
		}
		step("the first use", 1, forward)
		step("the second use", 0, forward)
		step("Quantized", 0, func() { l.Quantized() })
		step("a change", 0, func() { tensor.Fill(l.Weight.T, -1); l.Weight.Changed() })
		step("use after a change", 1, func() { forward(); forward() })
		if codes, _ := l.Quantized(); codes.Codes()[0] != -1 {
			t.Error("the codes are old")
		}
		if l.Scale != nil {
			step("use after a change of the scale", 1, func() { l.Scale.Changed(); forward() })
		}
		step("Freeze", 0, func() { _, _ = l.Freeze(); forward() })
	}
}

// Codes are of the weight that the layer has now, also if it is another one.
func TestOtherWeight(t *testing.T) {
	mk := tensor.NewMaker(cpu.New(1), 1)
	a, b := ternary.NewLinear(mk, 8, 4, false, ternary.Config{}), ternary.NewLinear(mk, 8, 4, false, ternary.Config{})
	a.Quantized()
	want, _ := b.Quantized()
	a.Weight = b.Weight
	if got, _ := a.Quantized(); !slices.Equal(got.Codes(), want.Codes()) {
		t.Error("codes of the weight before")
	}
}

// y = Q8(x) (W + lambda (Q(W) - W))ᵀ, straight through.
func TestLambda(t *testing.T) {
	const in, out = 12, 5
	dev := cpu.New(0)
	for _, c := range []ternary.Config{{Math: ternary.FP32}, {FloatActs: true},
		{PerRow: true, Codebook: ternary.Five, Math: ternary.FP32},
		{Rule: ternary.LSQ, Math: ternary.FP32}} {
		l := ternary.NewLinear(tensor.NewMaker(dev, 1), in, out, false, c)
		x := autograd.NewParam(tensor.FromFloats(dev, normal(2, 3*in), 3, in))
		codes, scales := quantize(c, l.Weight.T.Floats(), out)
		for _, lambda := range []float32{0, 0.25, 1, 7, -1} {
			l.SetLambda(lambda)
			k := float64(min(max(lambda, 0), 1))
			w := make([]float64, out*in)
			for i, v := range l.Weight.T.Floats() {
				w[i] = float64(v) + k*(float64(codes[i])*scales[i/in%len(scales)]-float64(v))
			}
			z := make([]float64, 3*in)
			for r := range 3 {
				row, a := x.T.Floats()[r*in:][:in], 0.0
				for _, v := range row {
					a = max(a, math.Abs(float64(v)))
				}
				for j, v := range row {
					z[r*in+j] = float64(v)
					if !c.FloatActs {
						z[r*in+j] = math.RoundToEven(float64(v)*127/a) * a / 127
					}
				}
			}
			dy := normal(9, 3*out)
			y, dx, dw := make([]float64, 3*out), make([]float64, 3*in), make([]float64, out*in)
			for r := range 3 {
				for j := range out {
					for i := range in {
						y[r*out+j] += z[r*in+i] * w[j*in+i]
						dx[r*in+i] += float64(dy[r*out+j]) * w[j*in+i]
						dw[j*in+i] += float64(dy[r*out+j]) * z[r*in+i]
					}
				}
			}
			x.ZeroGrad()
			l.Weight.ZeroGrad()
			tp := tape{Pool: tensor.NewPool(dev), Grad: true}
			tp.Pool.Poison = true
			got := l.Forward(&tp, x)
			what := fmt.Sprintf("%s, lambda %g: ", name(c), lambda)
			near(t, what+"y", got.T.Floats(), y, 1e-5)
			tp.Backward(tp.Sum(tp.Mul(got, tp.Floats(dev, dy, 3, out))))
			tp.Reset()
			near(t, what+"dx", x.Grad.Floats(), dx, 1e-5)
			near(t, what+"dw", l.Weight.Grad.Floats(), dw, 1e-5)
			if n := tp.Pool.InUse(); n != 0 {
				t.Errorf("%s %d bytes in use", what, n)
			}
		}
	}
}

// dscale = lambda * sum of dq * (code - w/scale inside the range, code outside) / sqrt(n levels), dq the gradient of the
// weight that multiplies.
func TestLSQGradient(t *testing.T) {
	const in, out, rows = 9, 4, 3
	dev := cpu.New(0)
	for i, c := range []ternary.Config{{Rule: ternary.LSQ}, {Rule: ternary.LSQ, PerRow: true},
		{Rule: ternary.LSQ, FloatActs: true}, {Rule: ternary.LSQ}, {Rule: ternary.LSQ},
		{Rule: ternary.LSQ, PerRow: true, Codebook: ternary.Five}} {
		lambda := []float32{1, 1, 1, 0.5, 0, 0.25}[i]
		l := ternary.NewLinear(tensor.NewMaker(dev, 1), in, out, true, c)
		l.SetLambda(lambda)
		tp := tape{Grad: true}
		y := l.Forward(&tp, tp.Floats(dev, normal(2, rows*in), rows, in))
		tp.Backward(tp.Sum(tp.Mul(y, tp.Floats(dev, normal(3, rows*out), rows, out))))
		tp.Reset()
		top, scales := float64(c.Codebook.Levels()), l.Scale.T.Floats()
		if c.Codebook == "" {
			top = 1
		}
		want := make([]float64, len(scales))
		for i, w := range l.Weight.T.Floats() {
			s := i / in % len(scales)
			v := float64(w) / float64(scales[s])
			d := math.RoundToEven(v) - v
			if math.Abs(v) >= top {
				d = math.Copysign(top, v)
			}
			want[s] += float64(lambda*l.Weight.Grad.Floats()[i]) * d / math.Sqrt(float64(in*out/len(scales))*top)
		}
		near(t, name(c), l.Scale.Grad.Floats(), want, 1e-5)
		// The optimizer moves the scale, and the layer follows.
		tensor.Fill(l.Scale.Grad, 1)
		before := l.Scale.T.Floats()[0]
		tensor.Axpy(l.Scale.T, -0.1, l.Scale.Grad)
		l.Scale.Changed()
		if _, scale := l.Quantized(); scale.Floats()[0] == before {
			t.Errorf("%s: the layer keeps the old scale", name(c))
		}
	}
}

// Gradients in int8 are those in float32 within the error of eight bits, and not the same.
func TestMath(t *testing.T) {
	for _, c := range []ternary.Config{{}, {PerRow: true}, {Rule: ternary.LSQ}} {
		var dx, dw [2][]float32
		for i, math := range []ternary.Math{ternary.FP32, ternary.Int8} {
			dev := cpu.New(0)
			c.Math = math
			l := ternary.NewLinear(tensor.NewMaker(dev, 1), 40, 30, false, c)
			x := autograd.NewParam(tensor.FromFloats(dev, normal(2, 20*40), 20, 40))
			tp := tape{Grad: true}
			y := l.Forward(&tp, x)
			tp.Backward(tp.Sum(tp.Mul(y, tp.Floats(dev, normal(3, 20*30), 20, 30))))
			tp.Reset()
			dx[i], dw[i] = x.Grad.Floats(), l.Weight.Grad.Floats()
		}
		for what, g := range map[string][2][]float32{"dx": dx, "dw": dw} {
			var want []float64
			for _, v := range g[0] {
				want = append(want, float64(v))
			}
			near(t, name(c)+" "+what, g[1], want, 2e-2)
			if slices.Equal(g[0], g[1]) {
				t.Errorf("%s: %s is float32", name(c), what)
			}
		}
	}
}

func TestParams(t *testing.T) {
	mk := tensor.NewMaker(cpu.New(0), 1)
	l := ternary.NewLinear(mk, 4, 3, true, ternary.Config{Rule: ternary.LSQ, SubNorm: true, PerRow: true})
	var got []string
	for n, p := range l.Params() {
		got = append(got, fmt.Sprint(n, p.Shape()))
	}
	if want := []string{"weight[3 4]", "bias[3]", "norm[4]", "scale[3]"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	for stop := 1; stop <= 4; stop++ {
		n := 0
		for range l.Params() {
			if n++; n == stop {
				break
			}
		}
		if n != stop {
			t.Errorf("%d parameters before the stop at %d", n, stop)
		}
	}
	if c := ternary.NewLinear(mk, 4, 3, false, ternary.Config{}).Config(); c.Rule != ternary.TWN ||
		c.Codebook != ternary.Ternary ||
		c.Threshold != 0.7 {
		t.Errorf("defaults are %+v", c)
	}
	w := tensor.FromFloats(mk.Device, normal(1, 12), 3, 4)
	if l := ternary.FromWeight(mk, w, false, ternary.Config{}); l.Weight.T != w || l.Bias != nil || l.Gain != nil ||
		l.Scale != nil {
		t.Error("FromWeight made another layer")
	}
	defer func() {
		if recover() == nil {
			t.Error("an invalid Config did not panic")
		}
	}()
	ternary.NewLinear(mk, 4, 3, false, ternary.Config{Rule: "median"})
}

func TestConfigValidate(t *testing.T) {
	for _, tt := range []struct {
		c    ternary.Config
		want string
	}{
		{ternary.Config{}, ""},
		{ternary.Config{Codebook: ternary.Five, Rule: ternary.LSQ, PerRow: true, FloatActs: true, SubNorm: true}, ""},
		{ternary.Config{Codebook: "seven"}, `ternary: unknown codebook "seven"; use "ternary" or "five"`},
		{ternary.Config{Rule: "median"}, `ternary: unknown rule "median"; use "absmean", "twn" or "lsq"`},
		{ternary.Config{Codebook: ternary.Five, Rule: ternary.TWN},
			`ternary: rule "twn" has no five-level form; use "absmean" or "lsq"`},
		{ternary.Config{Math: ternary.Int8, PerRow: true}, ""},
		{ternary.Config{Math: "int4"}, `ternary: unknown math "int4"; use "int8", "bf16" or "fp32"`},
		{ternary.Config{Math: ternary.Int8, FloatActs: true}, `ternary: math "int8" needs int8 activations; leave float_acts`},
		{ternary.Config{Columns: 256}, ""},
		{ternary.Config{Columns: -1}, "ternary: -1 column clusters; use 2 to 256, or 0 for none"},
		{ternary.Config{Columns: 257}, "ternary: 257 column clusters; use 2 to 256"},
		{ternary.Config{Threshold: -1}, "ternary: threshold -1 is not between 0 and 10 (in units of mean|w|; 0.7 is usual)"},
		{ternary.Config{Threshold: float32(math.NaN())}, "ternary: threshold NaN is not between 0 and 10"},
	} {
		err := tt.c.Validate()
		if (err == nil) != (tt.want == "") || err != nil && !strings.HasPrefix(err.Error(), tt.want) {
			t.Errorf("%+v: %v, want %q", tt.c, err, tt.want)
		}
	}
	b, err := json.Marshal(ternary.Config{Codebook: ternary.Five, PerRow: true})
	if string(b) != `{"codebook":"five","per_row":true}` || err != nil {
		t.Errorf("JSON is %s, %v", b, err)
	}
}
