package autograd_test

import (
	"errors"
	"math"
	"slices"
	"strings"
	"testing"

	"setun/autograd"
	"setun/device"
	"setun/device/cpu"
	"setun/device/devicetest"
	"setun/tensor"
)

// net is a small network with most operations in it, and its parameters.
type net struct {
	embed, qkv, out, gain, gate, up, down, bias, img, scale *value
	codes, ws, table                                        *tensor.Tensor
}

const width, heads, tokens = 8, 2, 5

func newNet(dev device.Device) *net {
	n := &net{embed: param(dev, 1, 11, width), qkv: param(dev, 2, 3*width, width), out: param(dev, 3, width, width),
		gain: param(dev, 4, width), gate: param(dev, 5, 12, width), up: param(dev, 6, 12, width), down: param(dev, 7,
			width, 12),
		bias: param(dev, 8, width), img: param(dev, 9, 2, 4, 4, 1), scale: param(dev, 10, 1),
		codes: tensor.New(dev, device.I8, width, width), ws: tensor.New(dev, device.F32, 1), table: tensor.RoPETable(dev,
			8, 4, 100)}
	n.scale.T.SetFloats([]float32{0.5})
	tensor.QuantizeWeights(n.codes, n.ws, n.out.T, 1, device.TWN, 0.7)
	return n
}

func (n *net) params() []*value {
	return []*value{n.embed, n.qkv, n.out, n.gain, n.gate, n.up, n.down, n.bias, n.img, n.scale}
}

func (n *net) block(t *tape, x *value) *value {
	h := t.RMSNorm(x, n.gain, 1e-5)
	qkv := t.Linear(h, n.qkv, nil)
	head := func(i int) *value {
		return t.Reshape(t.SliceLast(qkv, i*width, (i+1)*width), 2, tokens, heads, width/heads)
	}
	y := t.Attention(t.RoPE(head(0), n.table, 0), t.RoPE(head(1), n.table, 0), head(2), true)
	y = t.QLinear(t.Reshape(y, 2, tokens, width), t.LSQ(n.out, n.scale, 1, 1), n.codes, n.ws, n.bias, device.MathInt8)
	x = t.Add(x, t.Dropout(y, 0.2))
	h = t.LayerNorm(x, n.gain, n.bias, 1e-5)
	h = t.Gated(device.SiLU, t.Linear(h, n.gate, nil), t.Linear(t.Int8(h), n.up, nil))
	h = t.Custom(product, h, h)
	return t.Sub(x, t.Linear(h, n.down, nil))
}

func (n *net) loss(t *tape, checkpoint bool) *value {
	dev := n.embed.Device()
	x := t.Embedding(n.embed, t.Ints(dev, []int32{1, 2, 3, 4, 5, 6, 7, 8, 9, 1}, 2, tokens))
	patches := t.MeanRows(t.Reshape(t.Im2Col(n.img, 2, 4, 2, 0), 2, 2, 8))
	x = t.AddRows(x, patches)
	for range 3 {
		if checkpoint {
			x = t.Checkpoint(n.block, x)
		} else {
			x = n.block(t, x)
		}
	}
	logits := t.MatMul(x, n.embed, false, true)
	loss := t.CrossEntropy(logits, t.Ints(dev, []int32{2, 3, 4, 5, -1, 7, 8, 9, 1, -1}, 2, tokens))
	t.TokenLoss(logits, t.Ints(dev, make([]int32, 10), 10))
	t.Softmax(logits) // not used
	return t.Add(loss, t.Scale(t.Mean(t.ConcatLast(t.Exp(t.Tanh(x)), x)), 0.1))
}

// step returns the loss and the gradients as bits.
func (n *net) step(t *tape, checkpoint bool) (loss float32, grads [][]float32) {
	for _, p := range n.params() {
		p.ZeroGrad()
	}
	l := n.loss(t, checkpoint)
	t.Backward(l)
	loss = l.Float()
	t.Reset()
	for _, p := range n.params() {
		grads = append(grads, p.Grad.Floats())
	}
	return loss, grads
}

func sameBits(a, b [][]float32) bool {
	return slices.EqualFunc(a, b, func(a, b []float32) bool {
		return slices.EqualFunc(a, b, func(a, b float32) bool { return math.Float32bits(a) == math.Float32bits(b) })
	})
}

// Where the memory comes from, and what is recomputed, changes no bit.
func TestSameBitsHoweverMemoryIsManaged(t *testing.T) {
	want, wantGrads := float32(0), [][]float32(nil)
	opaque := devicetest.Opaque(cpu.New(1))
	for _, tt := range []struct {
		name             string
		dev              device.Device
		pool, checkpoint bool
	}{
		{"plain", cpu.New(0), false, false}, {"pool", cpu.New(0), true, false}, {"checkpoint", cpu.New(0), false, true},
		{"pool, checkpoint", cpu.New(0), true, true}, {"one thread", cpu.New(1), true, false},
		{"opaque", opaque, true, true}, {"opaque without a pool", opaque, false, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			n := newNet(tt.dev)
			tp := autograd.Tape{Grad: true, Seed: 5}
			if tt.pool {
				tp.Pool = pool(tt.dev)
			}
			for i := range 3 { // reused memory too
				loss, grads := n.step(&tp, tt.checkpoint)
				if math.IsNaN(float64(loss)) {
					t.Fatalf("loss is NaN in step %d", i)
				}
				if wantGrads == nil {
					want, wantGrads = loss, grads
				}
				if loss != want {
					t.Errorf("step %d: loss %g, want %g", i, loss, want)
				}
				for j := range grads {
					if !sameBits(grads[j:j+1], wantGrads[j:j+1]) {
						t.Errorf("step %d: other bits in gradient %d", i, j)
					}
				}
				if tp.Pool != nil && tp.Pool.InUse() != 0 {
					t.Errorf("step %d: %d bytes in use after Reset", i, tp.Pool.InUse())
				}
			}
			if err := tt.dev.Sync(); err != nil {
				t.Error(err)
			}
		})
	}
}

// Without a pool every tensor of the tape goes back to the device, once.
func TestNoPoolLeaksNothing(t *testing.T) {
	dev := devicetest.Opaque(cpu.New(1))
	n := newNet(dev)
	tp := autograd.Tape{Grad: true}
	n.step(&tp, false) // makes the gradients
	live := dev.Live()
	n.step(&tp, true)
	n.loss(&tp, true) // no Backward
	tp.Reset()
	tp.Grad = false
	n.loss(&tp, true)
	tp.Reset()
	if dev.Live() != live {
		t.Errorf("%d allocations live after a step, %d before", dev.Live(), live)
	}
	if err := dev.Sync(); err != nil {
		t.Error(err)
	}
}

// Views of one value as two inputs: the gradients share memory, which no kernel is given as two results.
func TestViewsOfOne(t *testing.T) {
	dev := devicetest.Opaque(cpu.New(1))
	x := param(dev, 1, 2, 3, 2, 8)
	tp := autograd.Tape{Grad: true}
	a := tp.Attention(tp.Reshape(x, 2, 3, 2, 8), tp.Reshape(x, 2, 3, 2, 8), x, true)
	g := tp.Gated(device.SiLU, tp.Reshape(x, 12, 8), tp.Reshape(x, 12, 8))
	tp.Backward(tp.Add(tp.Sum(a), tp.Sum(g)))
	tp.Reset()
	if err := dev.Sync(); err != nil {
		t.Error(err)
	}
}

func TestReset(t *testing.T) {
	dev := cpu.New(0)
	n := newNet(dev)
	p := pool(dev)
	x := param(dev, 1, 2, 3)
	save := autograd.Op{ // saves the same tensor twice, its input and its output
		Forward: func(c *autograd.Ctx, in []*tensor.Tensor) *tensor.Tensor {
			y, s := c.New(2, 3), c.New(4)
			tensor.Copy(y, in[0])
			tensor.Fill(s, 3)
			c.Save(s, s, in[0], y)
			return y
		},
		Backward: func(c *autograd.Ctx, din []*tensor.Tensor, dy *tensor.Tensor) {
			if c.Saved[0].Floats()[3] != 3 || c.Saved[2] != c.In[0] || c.Saved[3] != c.Out {
				t.Error("saved tensors have changed")
			}
			tensor.MulAdd(din[0], dy, c.Saved[2])
		},
	}
	bad := func(tp *tape) { // every operation that takes memory before it finds the shapes wrong
		y := tp.Exp(x)
		for _, f := range []func(){
			func() { tp.Add(y, tp.Reshape(y, 3, 2)) },
			func() { tp.Sub(y, tp.Reshape(y, 6)) },
			func() { tp.Mul(y, tp.Reshape(y, 6)) },
			func() { tp.AddRows(y, tp.SliceLast(y, 0, 2)) },
			func() { tp.MeanRows(y) },
			func() { tp.Gated(device.SiLU, y, tp.Reshape(y, 6)) },
			func() { tp.RMSNorm(y, tp.SliceLast(y, 0, 2), 1e-5) },
			func() { tp.LayerNorm(y, nil, y, 1e-5) },
			func() { tp.CrossEntropy(y, tp.Ints(dev, []int32{1}, 1)) },
			func() { tp.TokenLoss(y, y) },
			func() { tp.Embedding(y, y) },
			func() { tp.MatMul(y, y, false, false) },
			func() { tp.MatMul(tp.Reshape(y, 1, 2, 3), tp.Reshape(y, 2, 3, 1), false, false) },
			func() { tp.Linear(y, tp.Reshape(y, 3, 2), nil) },
			func() { tp.Linear(tp.Sum(y), y, nil) },
			func() { tp.Reshape(y, 4) },
			func() { tp.SliceLast(y, 2, 4) },
			func() { tp.SliceLast(y, 2, 1) },
			func() { tp.ConcatLast(y, tp.Reshape(y, 3, 2)) },
			func() { tp.ConcatLast() },
			func() { tp.Im2Col(y, 1, 1, 1, 0) },
			func() { tp.Im2Col(tp.Reshape(y, 1, 2, 3, 1), 3, 3, 2, 0) },
			func() { tp.RoPE(y, y.T, 0) },
			func() { tp.Attention(y, y, y, true) },
			func() { tp.Attention(tp.Reshape(y, 1, 2, 3, 1), tp.Reshape(y, 1, 1, 3, 2), y, true) },
			func() { tp.CachedAttention(tp.Reshape(y, 1, 2, 3, 1), y.T, y.T, 1) },
			func() { tp.QLinear(y, nil, n.codes, n.ws, nil, device.MathFP32) },
			func() { tp.QLinear(tp.Sum(y), nil, n.codes, n.ws, nil, device.MathFP32) },
			func() { tp.Floats(dev, []float32{1, 2}, 3) },
			func() { tp.Custom(save, tp.SliceLast(y, 0, 1)) },
			func() {
				tp.Custom(autograd.Op{Forward: func(c *autograd.Ctx, in []*tensor.Tensor) *tensor.Tensor { return in[0] }}, y)
			},
			func() {
				tp.Custom(autograd.Op{Forward: func(c *autograd.Ctx, in []*tensor.Tensor) *tensor.Tensor { return nil }}, y)
			},
			func() { tp.Checkpoint(func(tp *tape, x *value) *value { return tp.Linear(tp.Exp(x), n.qkv, nil) }, y) },
			func() { tp.Checkpoint(func(tp *tape, x *value) *value { tp.Exp(x); return tp.MeanRows(x) }, y) },
			func() { tp.Backward(y) },
		} {
			err := autograd.Catch(f)
			var shape *tensor.ShapeError
			if !errors.As(err, &shape) {
				t.Errorf("got %v, want a ShapeError", err)
			}
		}
		tp.Exp(y) // the tape still works
	}
	badBackward := func(tp *tape, checkpoint bool) {
		op := product
		op.Backward = func(c *autograd.Ctx, din []*tensor.Tensor, dy *tensor.Tensor) {
			c.New(3)
			tensor.MulAdd(din[0], dy, c.New(2))
		}
		f := func(tp *tape, x *value) *value { return tp.Exp(tp.Custom(op, tp.Exp(x), tp.Tanh(x))) }
		y := tp.Exp(x)
		if checkpoint {
			y = tp.Checkpoint(f, y)
		} else {
			y = f(tp, y)
		}
		if err := autograd.Catch(func() { tp.Backward(tp.Sum(tp.Exp(y))) }); err == nil {
			t.Error("a wrong Backward gave no error")
		}
	}
	for _, tt := range []struct {
		name string
		grad bool
		f    func(tp *tape)
	}{
		{"training", true, func(tp *tape) { tp.Backward(n.loss(tp, false)) }},
		{"checkpoint", true, func(tp *tape) { tp.Backward(n.loss(tp, true)) }},
		{"no Backward", true, func(tp *tape) { n.loss(tp, false) }},
		{"no Backward, checkpoint", true, func(tp *tape) { n.loss(tp, true) }},
		{"inference", false, func(tp *tape) { n.loss(tp, false) }},
		{"inference, checkpoint", false, func(tp *tape) { n.loss(tp, true) }},
		{"Backward of a constant", true, func(tp *tape) { tp.Exp(x); tp.Backward(tp.Sum(tp.Floats(dev, []float32{1}, 1))) }},
		{"Save", true, func(tp *tape) { tp.Backward(tp.Sum(tp.Exp(tp.Custom(save, tp.Exp(x))))) }},
		{"Save, no Backward", true, func(tp *tape) { tp.Custom(save, tp.Exp(x)) }},
		{"Save, inference", false, func(tp *tape) { tp.Custom(save, tp.Exp(x)) }},
		{"shape errors", true, bad},
		{"shape errors, inference", false, bad},
		{"error in Backward", true, func(tp *tape) { badBackward(tp, false) }},
		{"error in Backward, checkpoint", true, func(tp *tape) { badBackward(tp, true) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tp := autograd.Tape{Pool: p, Grad: tt.grad}
			for range 2 {
				tt.f(&tp)
				if !tt.grad && tp.Nodes() != 0 {
					t.Errorf("inference recorded %d nodes", tp.Nodes())
				}
				tp.Reset()
				if n := p.InUse(); n != 0 {
					t.Fatalf("%d bytes in use after Reset", n)
				}
				if tp.Nodes() != 0 {
					t.Errorf("%d nodes after Reset", tp.Nodes())
				}
			}
		})
	}
	p.Close()
	if p.Held() != 0 {
		t.Errorf("%d bytes held after Close", p.Held())
	}
}

// What a custom operation saves but did not make stays with its owner.
func TestSaveLeavesTheTensorsOfOthers(t *testing.T) {
	op := product
	op.Forward = func(c *autograd.Ctx, in []*tensor.Tensor) *tensor.Tensor {
		y := c.New(in[0].Shape()...)
		tensor.Mul(y, in[0], in[1])
		c.Save(in[1])
		return y
	}
	dev := devicetest.Opaque(cpu.New(1))
	for _, p := range []*tensor.Pool{pool(dev), nil} {
		tp := autograd.Tape{Pool: p, Grad: true}
		x, w := param(dev, 1, 3), param(dev, 2, 3)
		y := tp.Exp(x)
		early := tp.Tanh(y) // its gradient needs y after that of op has run
		tp.Backward(tp.Sum(tp.Add(early, tp.Add(tp.Custom(op, w, y), tp.Custom(op, y, w)))))
		tp.Reset()
		wf := w.T.Floats()
		var want []float64
		for i, v := range x.T.Floats() {
			e := math.Exp(float64(v))
			want = append(want, e*(1-math.Pow(math.Tanh(e), 2)+2*float64(wf[i])))
		}
		near(t, "dx", x.Grad.Floats(), want, 1e-5)
		for _, v := range []*value{x, w} {
			v.T.Free()
			v.Grad.Free()
		}
		if p != nil {
			p.Close()
		}
	}
	if err := dev.Close(); err != nil {
		t.Error(err)
	}
}

// A chain needs the memory of what is alive, not of all it ever made.
func TestMemoryIsFreedEarly(t *testing.T) {
	dev := cpu.New(1)
	const layers, rows, n = 12, 64, 32
	var w [layers]*value
	for i := range w {
		w[i] = param(dev, uint64(i), n, n)
	}
	block := func(t *tape, x *value, w *value) *value {
		return t.Add(x, t.SiLU(t.Linear(t.RMSNorm(x, nil, 1e-5), w, nil)))
	}
	run := func(checkpoint bool) (forward, backward, peak int64) {
		tp := autograd.Tape{Pool: pool(dev), Grad: true}
		x := tp.Floats(dev, floats(1, rows*n), rows, n)
		for i := range w {
			if checkpoint {
				x = tp.Checkpoint(func(t *tape, x *value) *value { return block(t, x, w[i]) }, x)
			} else {
				x = block(&tp, x, w[i])
			}
		}
		loss := tp.Sum(x)
		forward = tp.Pool.InUse()
		tp.Pool.ResetPeak()
		tp.Backward(loss)
		backward, peak = tp.Pool.InUse(), tp.Pool.Peak()
		tp.Reset()
		return forward, backward, peak
	}
	forward, after, peak := run(false)
	const tensorBytes = rows * n * 4
	if forward < layers*4*tensorBytes {
		t.Errorf("the forward pass keeps %d bytes, fewer than backward needs", forward)
	}
	// All gradients kept would double it; freed early they are a few tensors.
	if peak > forward+5*tensorBytes {
		t.Errorf("backward peaks at %d bytes over the forward pass's %d; a layer has %d", peak-forward, forward,
			4*tensorBytes)
	}
	if after > 3*tensorBytes { // the input and its norm, which need no gradient, and the loss
		t.Errorf("%d bytes are left after Backward", after)
	}
	_, _, checkpointed := run(true)
	if checkpointed > forward/2 {
		t.Errorf("with checkpoints the peak is %d bytes, without %d", checkpointed, peak)
	}
}

func TestBackward(t *testing.T) {
	dev := cpu.New(0)
	tp := autograd.Tape{Pool: pool(dev), Grad: true}
	a, b, unused, frozen := param(dev, 1, 3), param(dev, 2, 3), param(dev, 3, 3), param(dev, 4, 3)
	frozen.Freeze(true)
	for pass := 1; pass <= 2; pass++ {
		x := tp.Floats(dev, []float32{1, 2, 3}, 3)
		tp.Mul(unused, x) // has a consumer, but not the loss
		loss := tp.Sum(tp.Add(tp.Mul(a, x), tp.Mul(b, frozen)))
		tp.Backward(loss)
		if math.IsNaN(float64(loss.Float())) {
			t.Error("the loss cannot be read after Backward")
		}
		tp.Reset()
		near(t, "da", a.Grad.Floats(), []float64{float64(pass), 2 * float64(pass), 3 * float64(pass)}, 0) // gradients add up
		if x.Grad != nil {
			t.Error("a constant has a gradient")
		}
	}
	if !a.HasGrad() || !b.HasGrad() || unused.HasGrad() || frozen.HasGrad() || frozen.Grad != nil {
		t.Errorf("HasGrad: used %v %v, not connected %v, frozen %v", a.HasGrad(), b.HasGrad(), unused.HasGrad(),
			frozen.HasGrad())
	}
	g := a.Grad
	a.ZeroGrad()
	if a.HasGrad() {
		t.Error("ZeroGrad left a gradient")
	}
	// A loss that is a view stays readable as well.
	loss := tp.Reshape(tp.Sum(a), 1, 1)
	want := loss.Float()
	tp.Backward(loss)
	if got := loss.Float(); got != want {
		t.Errorf("a reshaped loss is %g before Backward, %g after", want, got)
	}
	if near(t, "da after ZeroGrad", a.Grad.Floats(), []float64{1, 1, 1}, 0); a.Grad != g {
		t.Error("ZeroGrad did not keep the gradient's memory")
	}
	tp.Reset()
}

func TestTemp(t *testing.T) {
	dev := cpu.New(0)
	tp := autograd.Tape{Pool: pool(dev), Grad: true}
	x := param(dev, 1, 3)
	c := tp.Temp(x, device.F32, 3)
	tensor.Fill(c, 2)
	tp.Backward(tp.Sum(tp.Mul(x, autograd.NewConst(c))))
	near(t, "temp after Backward", c.Floats(), []float64{2, 2, 2}, 0)
	near(t, "dx", x.Grad.Floats(), []float64{2, 2, 2}, 0)
	tp.Reset()
	if n := tp.Pool.InUse(); n != 0 {
		t.Errorf("%d bytes in use", n)
	}
	// A pool of another device is not asked.
	other := cpu.New(0)
	if y := tp.Temp(param(other, 1, 3), device.I8, 3); y.Device() != device.Device(other) || tp.Pool.InUse() != 0 {
		t.Error("Temp on another device took from the pool")
	}
	tp.Reset()
}

func TestDropout(t *testing.T) {
	dev := cpu.New(0)
	ones := make([]float32, 4000)
	for i := range ones {
		ones[i] = 1
	}
	draw := func(seed uint64, checkpoint bool) (masks [2][]float32, dx []float32) {
		x := autograd.NewParam(tensor.FromFloats(dev, ones, len(ones)))
		tp := autograd.Tape{Pool: pool(dev), Grad: true, Seed: seed}
		drop := func(t *tape, x *value) *value { return t.Dropout(x, 0.25) }
		a := tp.Dropout(x, 0.25)
		b := drop(&tp, a)
		if checkpoint {
			tp.Reset()
			a = tp.Dropout(x, 0.25)
			b = tp.Checkpoint(drop, a)
		}
		masks = [2][]float32{a.T.Floats(), b.T.Floats()}
		tp.Backward(tp.Sum(b))
		tp.Reset()
		return masks, x.Grad.Floats()
	}
	masks, dx := draw(1, false)
	zeros := 0
	for i, v := range masks[0] {
		switch v {
		case 0:
			zeros++
		default:
			near(t, "kept", []float32{v}, []float64{1 / 0.75}, 1e-6)
		}
		if w := masks[1][i]; (w != 0) != (dx[i] != 0) {
			t.Fatalf("element %d is %g with the gradient %g", i, w, dx[i])
		}
	}
	if zeros < 900 || zeros > 1100 {
		t.Errorf("%d of 4000 dropped with p = 0.25", zeros)
	}
	if second := 4000 - zeros; slices.Equal(masks[0], masks[1]) || second == 0 {
		t.Error("two draws gave one mask")
	}
	again, dxAgain := draw(1, true)
	if !slices.Equal(again[0], masks[0]) || !slices.Equal(again[1], masks[1]) || !slices.Equal(dxAgain, dx) {
		t.Error("the same seed gave another mask, or Checkpoint did")
	}
	if other, _ := draw(2, false); slices.Equal(other[0], masks[0]) {
		t.Error("another seed gave the same mask")
	}
	x := param(dev, 1, 3)
	inference := autograd.Tape{}
	training := autograd.Tape{Grad: true}
	if inference.Dropout(x, 0.5) != x || training.Dropout(x, 0) != x {
		t.Error("Dropout acts without training or with p = 0")
	}
}

func TestValue(t *testing.T) {
	dev := cpu.New(0)
	p, c := param(dev, 1, 2, 3), autograd.NewConst(tensor.Zeros(dev, 4))
	if !p.WantsGrad() || c.WantsGrad() || p.HasGrad() || p.Dim(-1) != 3 || p.Dim(0) != 2 ||
		c.Device() != device.Device(dev) {
		t.Error("NewParam or NewConst is wrong")
	}
	v := p.Version()
	p.Changed()
	if p.Version() == v {
		t.Error("Changed left the version")
	}
	c.ZeroGrad() // no gradient to set
	p.Freeze(true)
	if p.WantsGrad() {
		t.Error("a frozen parameter wants a gradient")
	}
	tp := autograd.Tape{Grad: true}
	if y := tp.Exp(p); y.WantsGrad() || tp.Nodes() != 0 {
		t.Error("a frozen parameter is recorded")
	}
	p.Freeze(false)
	if y := tp.Exp(p); !y.WantsGrad() || tp.Nodes() != 1 {
		t.Error("a thawed parameter is not recorded")
	}
	tp.Reset()
}

func TestCatch(t *testing.T) {
	dev := cpu.New(0)
	tp := autograd.Tape{}
	a, b := param(dev, 1, 2, 3), param(dev, 1, 4)
	for _, tt := range []struct {
		f    func()
		want string
	}{
		{func() { tp.Add(a, b) }, "tensor: Add: [2, 3] and [4] differ"},
		{func() { tp.Add(a, param(dev, 1, 3, 2)) }, "tensor: Add: [2, 3] and [3, 2] differ"},
		{func() { tp.Linear(a, b, nil) }, "tensor: Linear: [2, 3] and [4] do not fit: x is (..., in), w is (out, in)"},
		{func() { tp.MatMul(a, a, false, false) }, "tensor: MatMul: [2, 3] and [2, 3] do not fit: inner dimensions differ"},
		{func() { tp.Backward(a) }, "tensor: Backward: [2, 3] is not a scalar"},
		{func() { tp.Mul(a, param(cpu.New(1), 1, 2, 3)) },
			"tensor: Mul: [2, 3] and [2, 3] and [2, 3] live on different devices (cpu and cpu)"},
		{func() {
			tp.Custom(autograd.Op{Name: "id", Forward: func(c *autograd.Ctx,
				in []*tensor.Tensor) *tensor.Tensor {
				return in[0]
			}}, a)
		},
			"tensor: Custom id: [2, 3] is a result that Forward did not make with Ctx.New"},
		{func() {}, "<nil>"},
	} {
		got := "<nil>"
		if err := autograd.Catch(tt.f); err != nil {
			got = err.Error()
		}
		if got != tt.want {
			t.Errorf("got  %s\nwant %s", got, tt.want)
		}
	}
	tp.Reset()

	defer func() {
		if r := recover(); r == nil || !strings.Contains(r.(error).Error(), "index out of range") {
			t.Errorf("a runtime error came through Catch as %v", r)
		}
	}()
	_ = autograd.Catch(func() { _ = []int{}[tp.Nodes()] })
}

var race bool // the race detector is on

// Steady-state training makes a few small objects per operation: the value, its closure, what it saves, and in the
// kernels a closure or two.
func TestAllocations(t *testing.T) {
	if race {
		t.Skip("the race detector allocates")
	}
	idle := cpu.New(1)
	n := newNet(idle)
	idle.Fail(errors.New("kernels do nothing from here on"))
	tape, nodes := n.allocations()
	all, _ := newNet(cpu.New(1)).allocations()
	t.Logf("%.2f objects per operation, with those of the kernels %.2f", tape/nodes, all/nodes)
	if tape/nodes > 3.5 {
		t.Errorf("the tape makes %.2f objects per operation", tape/nodes)
	}
	if all/nodes > 6.5 {
		t.Errorf("tape and kernels make %.2f objects per operation", all/nodes)
	}
}

// allocations counts the objects of a step, and its operations.
func (n *net) allocations() (objects, nodes float64) {
	tp := autograd.Tape{Pool: tensor.NewPool(n.embed.Device()), Grad: true}
	step := func() {
		for _, p := range n.params() {
			p.ZeroGrad()
		}
		loss := n.loss(&tp, false)
		nodes = float64(tp.Nodes())
		tp.Backward(loss)
		tp.Reset()
	}
	step()
	return testing.AllocsPerRun(20, step), nodes
}

// A pool in its steady state takes no more memory.
func TestSteadyState(t *testing.T) {
	n := newNet(cpu.New(0))
	tp := autograd.Tape{Pool: pool(n.embed.Device()), Grad: true}
	n.step(&tp, true)
	held := tp.Pool.Held()
	for range 3 {
		n.step(&tp, true)
	}
	if tp.Pool.Held() != held {
		t.Errorf("the pool grew from %d to %d bytes", held, tp.Pool.Held())
	}
}
