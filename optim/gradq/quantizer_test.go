package gradq_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"setun/autograd"
	"setun/device"
	"setun/device/cpu"
	"setun/optim"
	"setun/optim/gradq"
	"setun/tensor"
)

// model has a parameter of each shape.
func model(dev device.Device, shapes ...[]int) []optim.Param {
	var ps []optim.Param
	for i, s := range shapes {
		ps = append(ps, optim.Param{Name: fmt.Sprintf("p%d", i), Value: autograd.NewParam(tensor.Zeros(dev, s...))})
	}
	return ps
}

// push makes g the gradient of v.
func push(v *autograd.Value, g []float32) {
	v.ZeroGrad()
	tape := autograd.Tape{Grad: true}
	c := autograd.NewConst(tensor.FromFloats(v.Device(), g, v.Shape()...))
	tape.Backward(tape.Scale(tape.Mean(tape.Mul(v, c)), float32(len(g))))
	tape.Reset()
	v.Grad.SetFloats(g) // to the bit
}

func normal(r *rand.Rand, n int, std float64) []float32 {
	g := make([]float32, n)
	for i := range g {
		g[i] = float32(r.NormFloat64() * std)
	}
	return g
}

func open(t testing.TB, c gradq.Config, ps []optim.Param) *gradq.Quantizer {
	t.Helper()
	q, err := gradq.New(c, ps)
	if err != nil {
		t.Fatal(err)
	}
	return q
}

var every = []gradq.Config{
	{}, {Kind: "int8"}, {Kind: "int8", PerRow: true}, {Kind: "ternary"}, {Kind: "ternary", Codec: "2bit"},
	{Kind: "ternary", Codec: "base3", Clip: -1}, {Kind: "ternary", PerRow: true}, {Kind: "ternary-ef"},
	{Kind: "ternary-ef", Codec: "base3", PerRow: true},
}

var someShapes = [][]int{{40, 33}, {7}, {1, 5}, {300, 2, 10}, {1}}

// The mean over many steps is the gradient, within 5 standard errors; of ternary, what clipping leaves.
func TestUnbiased(t *testing.T) {
	const steps = 5000
	r := rand.New(rand.NewPCG(1, 2))
	for _, c := range []gradq.Config{{Kind: "int8"}, {Kind: "ternary", Clip: -1}, {Kind: "ternary"}, {Kind: "int8", PerRow: true}} {
		ps := model(cpu.New(1), []int{4, 16})
		g := normal(r, 64, 1e-7) // far below the floor of QuantizeRows
		q := open(t, c, ps)
		sum, squares := make([]float64, len(g)), make([]float64, len(g))
		for step := range steps {
			push(ps[0].Value, g)
			if left := q.Quantize(step, 0.5); left != 1 {
				t.Fatalf("%g is left of the scale", left)
			}
			for i, v := range ps[0].Value.Grad.Floats() {
				sum[i] += float64(v)
				squares[i] += float64(v) * float64(v)
			}
		}
		rms := 0.0
		for _, v := range g {
			rms += float64(v) * float64(v) / float64(len(g))
		}
		for i, v := range g {
			want := float64(v) / 2
			if c.Clip == 0 && c.Kind == "ternary" {
				limit := 2.5 * math.Sqrt(rms) / 2
				want = max(-limit, min(limit, want))
			}
			mean := sum[i] / steps
			sigma := math.Sqrt(max(squares[i]/steps-mean*mean, 0) / steps)
			if math.Abs(mean-want) > 5*sigma+1e-6*math.Abs(want)+1e-16 {
				t.Errorf("%+v: element %d is %g in the mean, want %g; standard error %g", c, i, mean, want, sigma)
			}
		}
	}
}

// What was sent and what is left are what there was: exactly where all sums are exact (pairs of whole numbers, whose
// kept mean is one of them or half their sum), and to rounding for any gradients.
func TestErrorFeedback(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for _, tt := range []struct {
		shape []int
		steps int
		exact bool
		draw  func(n int) []float32
	}{
		{[]int{200, 2}, 10, true, func(n int) []float32 {
			g := make([]float32, n)
			for i := range g {
				g[i] = float32(r.IntN(17) - 8)
			}
			return g
		}},
		{[]int{20, 301}, 100, false, func(n int) []float32 { return normal(r, n, 0.01) }},
	} {
		ps := model(cpu.New(2), tt.shape)
		n := ps[0].Value.T.Len()
		q := open(t, gradq.Config{Kind: "ternary-ef", PerRow: tt.exact}, ps)
		given, sent := make([]float64, n), make([]float64, n)
		var largest float64
		var residual []float32
		for step := range tt.steps {
			g := tt.draw(n)
			push(ps[0].Value, g)
			scale := float32(1)
			if step%3 == 1 {
				scale = 0.5
			}
			before := residual
			q.Quantize(step, scale)
			for _, e := range q.State() {
				residual = e.Floats()
			}
			for i, v := range ps[0].Value.Grad.Floats() {
				p := scale * g[i]
				if before != nil {
					p += before[i]
				}
				if residual[i] != p-v {
					t.Fatalf("step %d: the residual is %g, want %g - %g", step, residual[i], p, v)
				}
				given[i] += float64(scale * g[i])
				sent[i] += float64(v)
				largest = max(largest, math.Abs(float64(p)))
			}
		}
		tol := float64(tt.steps) * largest * 0x1p-23
		if tt.exact {
			tol = 0
		}
		for i := range given {
			if math.Abs(sent[i]+float64(residual[i])-given[i]) > tol {
				t.Fatalf("element %d: sent %g and left %g of %g", i, sent[i], residual[i], given[i])
			}
		}
	}
}

// The residual of C stays bounded, |e|^2 <= (1-delta)|p|^2 with delta = (sum kept|p|)^2 / (kept |p|^2).
func TestContraction(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	ps := model(cpu.New(1), []int{1000})
	for _, power := range []float64{1, 3} { // Gaussian, heavy tails
		q := open(t, gradq.Config{Kind: "ternary-ef"}, ps)
		g := normal(r, 1000, 1)
		mean, all := 0.0, 0.0
		for i, v := range g {
			g[i] = float32(math.Pow(math.Abs(float64(v)), power) * math.Copysign(1, float64(v)))
			mean += math.Abs(float64(g[i])) / 1000
			all += float64(g[i]) * float64(g[i])
		}
		sum, kept := 0.0, 0.0
		for _, v := range g {
			if a := math.Abs(float64(v)); a > 0.7*mean {
				sum, kept = sum+a, kept+1
			}
		}
		push(ps[0].Value, g)
		q.Quantize(0, 1)
		left := 0.0
		for _, e := range q.State() {
			for _, v := range e.Floats() {
				left += float64(v) * float64(v)
			}
		}
		if delta := sum * sum / (kept * all); delta < 0.3 || math.Abs(left/all-(1-delta)) > 1e-5 {
			t.Errorf("power %g: %g of the square is left, want %g", power, left/all, 1-delta)
		}
	}
}

// run takes steps of random gradients and gives the gradients of all of them, and their messages if send.
func run(t testing.TB, q *gradq.Quantizer, ps []optim.Param, seed uint64, from, to int, send bool) (all []float32, msgs [][]byte) {
	for step := from; step < to; step++ {
		r := rand.New(rand.NewPCG(seed, uint64(step)))
		for _, p := range ps {
			push(p.Value, normal(r, p.Value.T.Len(), 0.1))
		}
		if send {
			msg, _ := q.Append([]byte("head"), step, 0.25)
			msgs = append(msgs, msg[4:])
		} else {
			q.Quantize(step, 0.25)
		}
		for _, p := range ps {
			all = append(all, p.Value.Grad.Floats()...)
		}
	}
	return all, msgs
}

// The bits depend on seed and step, not on threads, nor on whether a message is written; the message has the bytes that
// were reported, and holds the gradients.
func TestQuantize(t *testing.T) {
	for _, c := range every {
		c.Seed = 7
		kind := c.WithDefaults().Kind
		shapes := append(slices.Clone(someShapes), []int{300, 400})
		a, b := model(cpu.New(1), shapes...), model(cpu.New(4), shapes...)
		qa, qb := open(t, c, a), open(t, c, b)
		first, _ := run(t, qa, a, 1, 0, 2, false)
		wire, fp32 := qa.Bytes()
		second, msgs := run(t, qb, b, 1, 0, 2, true)
		if !slices.Equal(first, second) {
			t.Errorf("%+v: the gradients depend on threads or messages", c)
		}
		if want := int64(len(first) / 2 * 4); wire != int64(len(msgs[1])) || fp32 != want {
			t.Errorf("%+v: %d bytes, instead of %d, reported; %d sent, of %d", c, wire, fp32, len(msgs[1]), want)
		}
		least := map[string]float64{"fp32": 0.99, "int8": 3.9, "ternary": 15, "ternary-ef": 19}[kind]
		if ratio := float64(fp32) / float64(wire); ratio < least && !c.PerRow {
			t.Errorf("%+v: %.2f times smaller than float32, want %g", c, ratio, least)
		}
		if kind != "fp32" {
			if err := qb.Average(msgs[1]); err != nil {
				t.Fatalf("%+v: %v", c, err)
			}
			var got []float32
			for _, p := range b {
				got = append(got, p.Value.Grad.Floats()...)
			}
			if !slices.Equal(got, second[len(second)/2:]) {
				t.Errorf("%+v: the message holds other gradients", c)
			}
		}
		if kind == "int8" || kind == "ternary" {
			c.Seed++
			if other, _ := run(t, open(t, c, a), a, 1, 0, 2, false); slices.Equal(other, first) {
				t.Errorf("%+v: the seed changes nothing", c)
			}
		}
		qa.Free()
		qb.Free()
	}
}

// Parameters draw apart: equal gradients do not round alike.
func TestParametersDrawApart(t *testing.T) {
	ps := model(cpu.New(1), []int{500}, []int{500})
	g := normal(rand.New(rand.NewPCG(1, 1)), 500, 1)
	push(ps[0].Value, g)
	push(ps[1].Value, g)
	open(t, gradq.Config{Kind: "ternary"}, ps).Quantize(0, 1)
	if slices.Equal(ps[0].Value.Grad.Floats(), ps[1].Value.Grad.Floats()) {
		t.Error("two parameters round alike")
	}
}

// A quantizer that takes its residuals from another goes on as that would have.
func TestState(t *testing.T) {
	for _, c := range every {
		ps := model(cpu.New(1), someShapes...)
		q, again := open(t, c, ps), open(t, c, ps)
		run(t, q, ps, 1, 0, 3, false)
		saved := map[string][]float32{}
		for name, x := range q.State() {
			saved[name] = x.Floats()
		}
		if want := len(ps) * strings.Count(c.Kind, "-ef"); len(saved) != want {
			t.Errorf("%+v: %d tensors of state, want %d", c, len(saved), want)
		}
		want, _ := run(t, q, ps, 1, 3, 5, false)
		for name, x := range again.State() {
			x.SetFloats(saved[name])
		}
		if got, _ := run(t, again, ps, 1, 3, 5, false); !slices.Equal(got, want) {
			t.Errorf("%+v: goes on differently", c)
		}
	}
}

// Workers with a shared scale send multiples of it; the mean is that of what each sent.
func TestShareAndAverage(t *testing.T) {
	const workers = 3
	shape := []int{30, 20}
	var ps [workers][]optim.Param
	var sent [workers][]float32
	var own [workers]float32
	var msgs [][]byte
	for w := range workers {
		ps[w] = model(cpu.New(1), shape, shape)
		q := open(t, gradq.Config{Kind: "ternary", Seed: uint64(w)}, ps[w])
		q.Share = func(scale []float32) {
			if len(scale) != 1 { // the other parameter has no gradient
				t.Errorf("%d scales", len(scale))
			}
			own[w], scale[0] = scale[0], 3
		}
		push(ps[w][1].Value, normal(rand.New(rand.NewPCG(1, uint64(w))), 600, 0.5))
		msg, left := q.Append(nil, 0, 0.5)
		if left != 1 || own[w] < 0.5 || own[w] > 2 {
			t.Errorf("%g is left, the scale is %g", left, own[w])
		}
		msgs, sent[w] = append(msgs, msg), ps[w][1].Value.Grad.Floats()
		for _, v := range sent[w] {
			if v != 0 && v != 1.5 && v != -1.5 {
				t.Fatalf("sent %g, no multiple of the shared scale", v)
			}
		}
	}
	q := open(t, gradq.Config{Kind: "ternary"}, ps[0])
	if err := q.Average(msgs...); err != nil {
		t.Fatal(err)
	}
	if ps[0][0].Value.HasGrad() {
		t.Error("the parameter without a gradient has one")
	}
	for i, v := range ps[0][1].Value.Grad.Floats() {
		want := (float64(sent[0][i]) + float64(sent[1][i]) + float64(sent[2][i])) / workers
		if math.Abs(float64(v)-want) > 1e-6 {
			t.Fatalf("the mean of element %d is %g, want %g", i, v, want)
		}
	}
}

func TestFP32(t *testing.T) {
	ps := model(cpu.New(1), []int{3}, []int{2})
	q := open(t, gradq.Config{}, ps)
	push(ps[0].Value, []float32{1, -2, 3e-30})
	msg, left := q.Append(nil, 0, 0.125)
	if got := ps[0].Value.Grad.Floats(); left != 0.125 || !slices.Equal(got, []float32{1, -2, 3e-30}) {
		t.Errorf("%v, %g is left", got, left)
	}
	if len(msg) != 1+12+1 {
		t.Errorf("%d bytes", len(msg))
	}
	push(ps[0].Value, []float32{0, 0, 0})
	if err := q.Average(msg, msg); err != nil || !slices.Equal(ps[0].Value.Grad.Floats(), []float32{1, -2, 3e-30}) {
		t.Errorf("%v, %v", ps[0].Value.Grad.Floats(), err)
	}
}

// Messages that are cut, damaged or of another model are errors, or numbers; nothing panics.
func TestAverageRefuses(t *testing.T) {
	for _, c := range every {
		ps := model(cpu.New(1), someShapes...)
		q := open(t, c, ps)
		_, msgs := run(t, q, ps, 1, 0, 1, true)
		msg := msgs[0]
		for n := range msg {
			if q.Average(msg[:n]) == nil {
				t.Fatalf("%+v: cut to %d of %d bytes and accepted", c, n, len(msg))
			}
		}
		for i := range msg {
			bad := slices.Clone(msg)
			bad[i] ^= 1 << (i % 8)
			_ = q.Average(msg, bad)
		}
		for what, bad := range map[string][]byte{
			"too many":  append(slices.Clone(msg), 1),
			"it is cut": {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1},
			"p0":        make([]byte, len(ps)),
		} {
			if err := q.Average(msg, bad); err == nil || !strings.Contains(err.Error(), what) ||
				!strings.Contains(err.Error(), "message 1") {
				t.Errorf("%+v: error %v, want %q", c, err, what)
			}
		}
		for _, other := range every {
			if other.WithDefaults().Codec != c.WithDefaults().Codec || other.PerRow != c.PerRow {
				if err := open(t, other, ps).Average(msg); err == nil {
					t.Errorf("a message of %+v passes for one of %+v", c, other)
				}
			}
		}
	}
}

// A gradient that is not finite becomes NaN and is not accepted from the wire.
func TestNotFinite(t *testing.T) {
	for _, c := range every[1:] {
		ps := model(cpu.New(1), []int{2, 3})
		q := open(t, c, ps)
		push(ps[0].Value, []float32{1, float32(math.Inf(1)), 3, 4, 5, 6})
		msg, _ := q.Append(nil, 0, 1)
		if v := ps[0].Value.Grad.Floats()[1]; v == v {
			t.Errorf("%+v: %g", c, v)
		}
		if err := q.Average(msg); err == nil || !strings.Contains(err.Error(), "not finite") {
			t.Errorf("%+v: error %v", c, err)
		}
	}
}
