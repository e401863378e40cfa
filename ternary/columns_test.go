package ternary_test

import (
	"bytes"
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
	"setun/optim"
	"setun/tensor"
	"setun/ternary"
)

// uneven is a weight whose columns have one of three sizes, and which.
func uneven(seed uint64, out, in int) (w []float32, kind []int) {
	w, kind = normal(seed, out*in), make([]int, in)
	rng := rand.New(rand.NewPCG(seed, 1))
	for j := range kind {
		kind[j] = rng.IntN(3)
	}
	for i := range w {
		w[i] *= []float32{0.05, 0.4, 3}[kind[i%in]]
	}
	return w, kind
}

func columnMeans(w []float32, in int) (means []float64, all float64) {
	means = make([]float64, in)
	for i, v := range w {
		means[i%in] += math.Abs(float64(v)) / float64(len(w)/in)
		all += math.Abs(float64(v)) / float64(len(w))
	}
	return means, all
}

func regrouped(dev device.Device, w []float32, out, in int, c ternary.Config) *ternary.Linear {
	l := ternary.FromWeight(tensor.NewMaker(dev, 1), tensor.FromFloats(dev, w, out, in), false, c)
	ternary.Regroup(l)
	return l
}

// Regroup finds planted clusters; |W/s| has the same mean in all of them; a second call keeps them.
func TestRegroup(t *testing.T) {
	const out, in = 50, 41
	w, kind := uneven(4, out, in)
	for _, dev := range []device.Device{cpu.New(0), devicetest.Opaque(cpu.New(1))} {
		l := regrouped(dev, w, out, in, ternary.Config{Columns: 3})
		s := l.Columns.T.Floats()
		means, all := columnMeans(w, in)
		sums, n := map[float32]float64{}, map[float32]float64{}
		for j, v := range s {
			sums[v] += means[j]
			n[v]++
			for i, u := range s {
				if (u == v) != (kind[i] == kind[j]) {
					t.Fatalf("columns %d and %d of kinds %d and %d have scales %g and %g", i, j, kind[i], kind[j], u, v)
				}
			}
		}
		for v, sum := range sums {
			near(t, "mean of |W/s|", []float32{float32(sum / n[v] / float64(v))}, []float64{all}, 1e-5)
		}
		version := l.Columns.Version()
		if ternary.Regroup(l); l.Columns.Version() != version || !slices.Equal(l.Columns.T.Floats(), s) {
			t.Error("a second call changes the scales")
		}
		// As many as there are columns, or more than there are.
		l = regrouped(dev, w[:3*4], 3, 4, ternary.Config{Columns: 9})
		means, all = columnMeans(w[:3*4], 4)
		for j := range means {
			means[j] /= all
		}
		near(t, "a cluster each", l.Columns.T.Floats(), means, 1e-5)
		if err := dev.Sync(); err != nil {
			t.Error(err)
		}
	}
}

// Called again with the same weights Regroup changes nothing, whatever the clusters were before: a run that is resumed
// calls it once more.
func TestRegroupTwice(t *testing.T) {
	const out, in = 8, 60
	dev := cpu.New(1)
	for seed := range uint64(60) {
		rng := rand.New(rand.NewPCG(seed, 3))
		k := 2 + rng.IntN(12)
		w := normal(seed, out*in)
		l := regrouped(dev, w, out, in, ternary.Config{Columns: k})
		for range 4 {
			for j := range in { // columns drift, and sometimes all of a kind die
				f := float32(math.Exp(0.5 * rng.NormFloat64()))
				if rng.IntN(20) == 0 {
					f = 0
				}
				for i := j; i < len(w); i += in {
					w[i] *= f
				}
			}
			l.Weight.T.SetFloats(w)
			l.Weight.Changed()
			ternary.Regroup(l)
			s := l.Columns.T.Floats()
			if n := len(slices.Compact(slices.Sorted(slices.Values(s)))); n > k {
				t.Fatalf("%d clusters of %d", n, k)
			}
			if ternary.Regroup(l); !slices.Equal(l.Columns.T.Floats(), s) {
				t.Fatalf("seed %d, %d clusters: another call gives other scales", seed, k)
			}
		}
	}
}

// A column between two clusters stays in the one it is in.
func TestRegroupSticks(t *testing.T) {
	const in = 21
	dev := cpu.New(1)
	of := func(start float64) float32 { // the scale of the last column, that moves from start to the middle
		w := make([]float32, in)
		for j := range w {
			w[j] = []float32{1, 100}[j%2]
		}
		w[in-1] = float32(start)
		l := regrouped(dev, w, 1, in, ternary.Config{Columns: 2})
		w[in-1] = 10
		l.Weight.T.SetFloats(w)
		l.Weight.Changed()
		ternary.Regroup(l)
		s := l.Columns.T.Floats()
		if s[0] >= s[1] {
			t.Fatalf("scales %v", s)
		}
		return s[in-1] / s[0]
	}
	if low, high := of(2), of(60); low != 1 || high < 10 {
		t.Errorf("a column in the middle has scales %g and %g of the lower cluster", low, high)
	}
}

// Layers that share an input get one set of scales, that of their rows together.
func TestRegroupShared(t *testing.T) {
	const in = 30
	dev := cpu.New(1)
	c := ternary.Config{Columns: 3}
	w, _ := uneven(5, 24, in)
	whole := regrouped(dev, w, 24, in, c).Columns.T.Floats()
	mk := tensor.NewMaker(dev, 1)
	a := ternary.FromWeight(mk, tensor.FromFloats(dev, w[:9*in], 9, in), false, c)
	b := ternary.FromWeight(mk, tensor.FromFloats(dev, w[9*in:], 15, in), false, c)
	plain := ternary.NewLinear(mk, in, 2, false, ternary.Config{})
	ternary.Regroup(a, plain, b)
	if plain.Columns != nil {
		t.Error("a layer without column clusters got some")
	}
	if got := a.Columns.T.Floats(); !slices.Equal(got, b.Columns.T.Floats()) {
		t.Error("two layers with different scales")
	} else {
		near(t, "shared", got, wide(whole), 1e-5)
	}
	ternary.Regroup()
	if _, err := a.Freeze(); err != nil {
		t.Fatal(err)
	}
	before := a.Columns.T.Floats()
	if ternary.Regroup(a); !slices.Equal(a.Columns.T.Floats(), before) {
		t.Error("a frozen layer changed")
	}
}

func wide(x []float32) []float64 {
	y := make([]float64, len(x))
	for i, v := range x {
		y[i] = float64(v)
	}
	return y
}

// Weights that say nothing leave the scales as they are.
func TestRegroupDegenerate(t *testing.T) {
	dev := cpu.New(1)
	for _, v := range []float32{0, float32(math.NaN()), float32(math.Inf(1))} {
		l := regrouped(dev, []float32{v, 1 * v, v, v}, 2, 2, ternary.Config{Columns: 2})
		if s := l.Columns.T.Floats(); s[0] != 1 || s[1] != 1 {
			t.Errorf("weights of %g give scales %v", v, s)
		}
	}
	l := regrouped(dev, []float32{0, 1, 0, -1}, 2, 2, ternary.Config{Columns: 2}) // a column of zeros
	if s := l.Columns.T.Floats(); !(s[0] > 0 && s[0] < 0.01 && s[1] == 2) {
		t.Errorf("scales %v", s)
	}
	if l := ternary.NewLinear(tensor.NewMaker(dev, 1), 2, 2, false, ternary.Config{Columns: 1}); l.Columns != nil {
		t.Error("one cluster is a scale for all")
	}
}

// The reference is float64: y = Q8(norm(x)*s) (W' + lambda (Q(W') - W'))ᵀ with W' = W/s, straight through: norm(x)
// gets (dy W'q)*s, dw = dyᵀ Q8 / s; LSQ's dscale is that of W'.
func TestColumnGradients(t *testing.T) {
	const rows, in, out = 5, 12, 7
	dev := cpu.New(0)
	w, _ := uneven(8, out, in)
	for _, c := range configs() {
		c.Columns = 3
		for _, math8 := range []bool{false, true} {
			if math8 && c.FloatActs {
				continue
			}
			c.Math = ternary.FP32
			tol := 2e-5
			if math8 {
				c.Math, tol = ternary.Int8, 2e-2
			}
			if c.SubNorm {
				tol = max(tol, 6e-3) // one activation may round the other way
			}
			for _, lambda := range []float32{0, 0.25, 1} {
				if math8 && lambda < 1 {
					continue // bfloat16 or float32, tested without columns
				}
				checkColumns(t, dev, c, w, lambda, tol, rows, in, out)
			}
		}
	}
}

func checkColumns(t *testing.T, dev device.Device, c ternary.Config, w []float32, lambda float32, tol float64,
	rows, in, out int) {
	t.Helper()
	l := regrouped(dev, w, out, in, c)
	s := wide(l.Columns.T.Floats())
	if len(slices.Compact(slices.Sorted(slices.Values(s)))) != 3 {
		t.Fatalf("scales %v", s)
	}
	l.SetLambda(lambda)
	inner := make([]float32, len(w)) // W/s
	for i, v := range w {
		inner[i] = float32(float64(v) / s[i%in])
	}
	codes, scales := quantize(c, inner, out)
	if l.Scale != nil { // it was found before the first Regroup
		scales = wide(l.Scale.T.Floats())
		for i, v := range inner {
			top := float64(c.Codebook.Levels())
			codes[i] = int8(max(-top, min(top, math.RoundToEven(float64(v)/scales[i/in%len(scales)]))))
		}
	}
	gain := make([]float64, in)
	for j := range gain {
		gain[j] = s[j]
	}
	var gains []float32
	if c.SubNorm {
		gains = normal(4, in)
		l.Gain.T.SetFloats(gains)
		for j := range gain {
			gain[j] *= float64(gains[j])
		}
	}
	x, dy := normal(3, rows*in), normal(9, rows*out)
	z, inv := wide(x), make([]float64, rows)
	for r := range rows {
		row, sq, a := z[r*in:][:in], 0.0, 1e-5
		for _, v := range row {
			sq += v * v / float64(in)
		}
		inv[r] = 1
		if c.SubNorm {
			inv[r] = 1 / math.Sqrt(sq+1e-5)
		}
		for j := range row {
			row[j] *= inv[r] * gain[j]
			a = max(a, math.Abs(row[j]))
		}
		for j := range row {
			if !c.FloatActs {
				row[j] = math.RoundToEven(row[j]*127/a) * a / 127
			}
		}
	}
	weff := make([]float64, len(w)) // what z meets
	for i, v := range inner {
		weff[i] = float64(v) + float64(lambda)*(float64(codes[i])*scales[i/in%len(scales)]-float64(v))
	}
	y, dz, dw := make([]float64, rows*out), make([]float64, rows*in), make([]float64, len(w))
	for r := range rows {
		for o := range out {
			for j := range in {
				y[r*out+o] += z[r*in+j] * weff[o*in+j]
				dz[r*in+j] += float64(dy[r*out+o]) * weff[o*in+j] * gain[j] // dx of the normed x
				dw[o*in+j] += float64(dy[r*out+o]) * z[r*in+j] / s[j]
			}
		}
	}
	if c.SubNorm {
		for r := range rows {
			mean := 0.0
			for j := range in {
				mean += dz[r*in+j] * float64(x[r*in+j]) / float64(in)
			}
			for j := range in {
				dz[r*in+j] = inv[r] * (dz[r*in+j] - float64(x[r*in+j])*inv[r]*inv[r]*mean)
			}
		}
	}
	in0 := autograd.NewParam(tensor.FromFloats(dev, x, rows, in))
	tp := tape{Pool: tensor.NewPool(dev), Grad: true}
	tp.Pool.Poison = true
	got := l.Forward(&tp, in0)
	what := fmt.Sprintf("%s, lambda %g: ", name(c), lambda)
	near(t, what+"y", got.T.Floats(), y, min(tol, 6e-3))
	tp.Backward(tp.Sum(tp.Mul(got, tp.Floats(dev, dy, rows, out))))
	tp.Reset()
	near(t, what+"dx", in0.Grad.Floats(), dz, tol)
	dws := l.Weight.Grad.Floats()
	for i := range dw { // int8 products err in units of the largest gradient of W'
		dws[i] *= float32(s[i%in])
		dw[i] *= s[i%in]
	}
	near(t, what+"dw", dws, dw, tol)
	if l.Scale != nil && c.Math != ternary.Int8 {
		want := make([]float64, len(scales))
		for i, v := range inner {
			top, r := float64(c.Codebook.Levels()), i/in%len(scales)
			u := float64(v) / scales[r]
			d := math.RoundToEven(u) - u
			if math.Abs(u) >= top {
				d = math.Copysign(top, u)
			}
			want[r] += float64(lambda) * dw[i] * d / math.Sqrt(float64(len(w)/len(scales))*top)
		}
		near(t, what+"dscale", l.Scale.Grad.Floats(), want, 3*tol)
	}
	if n := tp.Pool.InUse(); n != 0 {
		t.Errorf("%s%d bytes in use", what, n)
	}
	// What an optimizer is told: the weights that meet norm(x).
	eff := tensor.New(dev, device.F32, out, in)
	l.Weight.Quant.Effective(eff)
	for i := range weff {
		weff[i] *= s[i%in]
	}
	near(t, what+"effective", eff.Floats(), weff, 1e-5)
}

// A frozen layer, one that is loaded, and one whose columns went through bytes give the bits of the layer in training.
func TestFrozenColumns(t *testing.T) {
	const in, out = 40, 9
	w, _ := uneven(2, out, in)
	for _, dev := range []device.Device{cpu.New(0), devicetest.Opaque(cpu.New(1))} {
		for _, c := range configs() {
			c.Columns = 3
			l := regrouped(dev, w, out, in, c)
			tp := tape{Pool: tensor.NewPool(dev), Grad: true}
			run := func(l *ternary.Linear) []float32 {
				defer tp.Reset()
				return l.Forward(&tp, tp.Floats(dev, normal(3, 5*in), 5, in)).T.Floats()
			}
			want := run(l)
			p, err := l.Freeze()
			if err != nil {
				t.Fatal(err)
			}
			loaded, err := ternary.FromPacked(dev, p, ternary.Config{Rule: c.Rule, FloatActs: c.FloatActs, SubNorm: c.SubNorm})
			if err != nil {
				t.Fatal(err)
			}
			loaded.Gain = l.Gain
			for what, l := range map[string]*ternary.Linear{"frozen": l, "loaded": loaded} {
				if !slices.Equal(run(l), want) {
					t.Errorf("%s: %s gives other bits", name(c), what)
				}
			}
			names := []string{}
			for n := range l.Params() {
				names = append(names, n)
			}
			if !slices.Contains(names, "columns") || slices.Contains(names, "weight") {
				t.Errorf("a frozen layer lists %v", names)
			}
		}
		if err := dev.Sync(); err != nil {
			t.Error(err)
		}
	}
}

func TestFreezeColumnsFrees(t *testing.T) {
	dev := devicetest.Opaque(cpu.New(1))
	w, _ := uneven(2, 6, 8)
	l := regrouped(dev, w, 6, 8, ternary.Config{Columns: 2})
	tp := tape{Grad: true}
	tp.Backward(tp.Sum(l.Forward(&tp, tp.Floats(dev, normal(1, 8), 1, 8))))
	tp.Reset()
	l.Weight.Quant.Effective(l.Weight.Grad)
	if _, err := l.Freeze(); err != nil {
		t.Fatal(err)
	}
	if n := dev.Live(); n != 3 { // codes, scale and columns
		t.Errorf("%d allocations live, want 3", n)
	}
}

// New clusters are a change: codes follow, once.
func TestRegroupQuantizesOnce(t *testing.T) {
	dev := &counting{Device: cpu.New(0)}
	w, _ := uneven(2, 6, 8)
	l := ternary.FromWeight(tensor.NewMaker(dev, 1), tensor.FromFloats(dev, w, 6, 8), false, ternary.Config{Columns: 2})
	old := slices.Clone(first(l.Quantized()).Codes())
	dev.n = 0
	ternary.Regroup(l)
	var tp tape
	for range 2 {
		l.Forward(&tp, tp.Floats(dev, normal(1, 8), 1, 8))
	}
	if dev.n != 1 || slices.Equal(first(l.Quantized()).Codes(), old) {
		t.Errorf("%d quantizations", dev.n)
	}
	ternary.Regroup(l)
	if l.Quantized(); dev.n != 1 {
		t.Error("a call that changes nothing quantizes again")
	}
}

func first(a, _ *tensor.Tensor) *tensor.Tensor { return a }

func TestPackColumns(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for _, k := range []int{1, 2, 3, 4, 5, 8, 9, 255, 256} {
		for _, cols := range []int{k, k + 1, 3 * k, 511} {
			s := make([]float32, cols)
			for j := range s {
				s[j] = 1 + float32(j%k)/4
			}
			rng.Shuffle(cols, func(i, j int) { s[i], s[j] = s[j], s[i] })
			k := min(k, cols)
			b := ternary.PackColumns(s)
			if want := 4*k + (cols*int(math.Ceil(math.Log2(float64(k))))+7)/8; len(b) != want {
				t.Errorf("%d clusters of %d columns take %d bytes, want %d", k, cols, len(b), want)
			}
			got, err := ternary.UnpackColumns(b, cols)
			if err != nil || !slices.Equal(got, s) {
				t.Fatalf("%d clusters of %d columns: %v, %v", k, cols, got, err)
			}
		}
	}
	good := ternary.PackColumns([]float32{1, 2, 4, 1, 2})
	for what, c := range map[string]struct {
		b    []byte
		want string
	}{
		"cut":      {good[:len(good)-1], "bytes are no column scales"},
		"empty":    {nil, "bytes are no column scales"},
		"cluster":  {append(slices.Clone(good[:len(good)-1]), 0xff), "column cluster 3 of 3"},
		"zero":     {slices.Concat(make([]byte, 4), good[4:]), "must be positive"},
		"infinite": {slices.Concat([]byte{0, 0, 0x80, 0x7f}, good[4:]), "must be positive"},
	} {
		if _, err := ternary.UnpackColumns(c.b, 5); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", what, err, c.want)
		}
	}
}

// Packed weights carry the columns along and count them; scales that do not fit are refused.
func TestPackedColumns(t *testing.T) {
	const out, in = 32, 24
	w, _ := uneven(6, out, in)
	c := ternary.Config{Columns: 3}
	p, err := ternary.Quantize(w, out, in, c)
	if err != nil {
		t.Fatal(err)
	}
	want, err := regrouped(cpu.New(1), w, out, in, c).Pack()
	if err != nil || !bytes.Equal(p.Data, want.Data) || !slices.Equal(p.Columns, want.Columns) {
		t.Fatalf("not what the layer packs: %v", err)
	}
	bits := 8 * float64(len(p.Data)+4+len(ternary.PackColumns(p.Columns))) / (out * in)
	if got := p.BitsPerWeight(); got != bits || len(ternary.PackColumns(p.Columns)) != 3*4+24*2/8 {
		t.Errorf("%g bits per weight, want %g", got, bits)
	}
	again, err := p.As("2bit")
	if err != nil || !slices.Equal(again.Columns, p.Columns) {
		t.Errorf("As: %v", err)
	}
	y, err := p.Dequantize()
	if err != nil {
		t.Fatal(err)
	}
	codes, err := p.Unpack()
	if err != nil {
		t.Fatal(err)
	}
	sum, plain := 0.0, 0.0
	q, err := ternary.Quantize(w, out, in, ternary.Config{})
	if err != nil {
		t.Fatal(err)
	}
	y2, err := q.Dequantize()
	if err != nil {
		t.Fatal(err)
	}
	for i, v := range y {
		if v != float32(codes[i])*p.Scales[0]*p.Columns[i%in] {
			t.Fatalf("value %d is %g", i, v)
		}
		sum += math.Pow(float64(v-w[i]), 2)
		plain += math.Pow(float64(y2[i]-w[i]), 2)
	}
	if sum > 0.5*plain { // what it is for
		t.Errorf("squared error %g, with one scale %g", sum, plain)
	}
	for _, bad := range [][]float32{{1}, make([]float32, in)} {
		p.Columns = bad
		if _, err := p.Dequantize(); err == nil || !strings.Contains(err.Error(), "column") {
			t.Errorf("Dequantize: %v", err)
		}
		_, err := ternary.FromPacked(cpu.New(1), p, ternary.Config{})
		if err == nil || !strings.Contains(err.Error(), "column") {
			t.Errorf("FromPacked: %v", err)
		}
	}
}

// A layer that learns a map with columns of three sizes ends nearer to it with column clusters than without, whatever
// finds the other scale.
func TestColumnsPay(t *testing.T) {
	const in, out, batch = 48, 24, 64
	dev := cpu.New(1)
	teacher, _ := uneven(11, out, in)
	for _, rule := range []ternary.Rule{ternary.AbsMean, ternary.TWN, ternary.LSQ} {
		loss := map[int]float64{}
		for _, k := range []int{0, 3} {
			l := ternary.NewLinear(tensor.NewMaker(dev, 7), in, out, false, ternary.Config{Rule: rule, Columns: k})
			opt, err := optim.New(optim.Config{Name: "adamw", LR: 0.03}, optim.Collect(l.Params()))
			if err != nil {
				t.Fatal(err)
			}
			params := optim.Collect(l.Params())
			const steps = 300
			for step := range steps {
				if step%50 == 0 {
					ternary.Regroup(l)
				}
				tp := tape{Grad: true}
				optim.ZeroGrad(params)
				x := tp.Floats(dev, normal(uint64(step), batch*in), batch, in)
				want := tp.Linear(x, autograd.NewConst(tensor.FromFloats(dev, teacher, out, in)), nil)
				diff := tp.Sub(l.Forward(&tp, x), want)
				y := tp.Mean(tp.Mul(diff, diff))
				tp.Backward(y)
				if step >= steps-50 {
					loss[k] += float64(y.Float()) / 50
				}
				tp.Reset()
				opt.Step(1-float32(step)/steps, 1)
			}
		}
		t.Logf("%s: mean squared error %.2f, with 3 clusters %.2f", rule, loss[0], loss[3])
		if loss[3] > 0.8*loss[0] {
			t.Errorf("%s: mean squared error %.2f, with 3 clusters %.2f", rule, loss[0], loss[3])
		}
	}
}
