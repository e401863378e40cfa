package cpu

import (
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"runtime/metrics"
	"slices"
	"testing"

	"setun/device"
)

// A spans gives the operands of one call, shift elements into their allocations. The contents depend on the order of
// the calls alone.
type spans struct {
	rng   *rand.Rand
	shift int
	all   []device.Mem
}

func (s *spans) f32(n int) device.Mem {
	x := make([]float32, n+s.shift)[s.shift:]
	for i := range x {
		x[i] = float32(s.rng.NormFloat64())
	}
	return s.keep(device.Wrap(x))
}

func (s *spans) positive(n int) device.Mem {
	m := s.f32(n)
	for i, v := range m.F32() {
		m.F32()[i] = abs(v)
	}
	return m
}

func (s *spans) i8(n, top int) device.Mem {
	x := make([]int8, n+s.shift)[s.shift:]
	for i := range x {
		x[i] = int8(s.rng.IntN(2*top+1) - top)
	}
	return s.keep(device.Wrap(x))
}

func (s *spans) ids(n, rows int) device.Mem {
	x := make([]int32, n+s.shift)[s.shift:]
	for i := range x {
		x[i] = int32(s.rng.IntN(rows))
	}
	return s.keep(device.Wrap(x))
}

func (s *spans) keep(m device.Mem) device.Mem {
	s.all = append(s.all, m)
	return m
}

// bits is all operands, results included, as comparable words.
func (s *spans) bits() (b []uint32) {
	for _, m := range s.all {
		for _, v := range m.F32() {
			b = append(b, math.Float32bits(v))
		}
		for _, v := range m.I8() {
			b = append(b, uint32(v))
		}
	}
	return b
}

// calls are sizes at which every kernel is cut in several ranges.
var calls = []struct {
	name string
	call func(d *Device, s *spans)
}{
	{"CopyRows", func(d *Device, s *spans) { d.CopyRows(s.f32(40000), 400, s.f32(40000), 400, 100, 391, true) }},
	{"Add", func(d *Device, s *spans) { d.Add(s.f32(50001), s.f32(50001), s.f32(50001)) }},
	{"Mul", func(d *Device, s *spans) { d.Mul(s.f32(50001), s.f32(50001), s.f32(50001)) }},
	{"MulAdd", func(d *Device, s *spans) { d.MulAdd(s.f32(50001), s.f32(50001), s.f32(50001)) }},
	{"Scale", func(d *Device, s *spans) { d.Scale(s.f32(50001), 1.7, s.f32(50001)) }},
	{"Axpy", func(d *Device, s *spans) { d.Axpy(s.f32(50001), 1.7, s.f32(50001)) }},
	{"Unary", func(d *Device, s *spans) {
		for _, f := range device.UnaryOps {
			d.Unary(f, s.f32(5001), s.f32(5001))
			d.UnaryGrad(f, s.f32(5001), s.f32(5001), s.f32(5001), true)
			d.Gated(f, s.f32(5001), s.f32(5001), s.f32(5001))
			d.GatedGrad(f, s.f32(5001), s.f32(5001), s.f32(5001), s.f32(5001), s.f32(5001), true)
		}
	}},
	{"Dropout", func(d *Device, s *spans) { d.Dropout(s.f32(5003), s.f32(5003), 0.3, 7, true) }},
	{"AddRows", func(d *Device, s *spans) { d.AddRows(s.f32(60000), s.f32(60000), s.f32(300), 2, 3, 200, 100) }},
	{"SumRows", func(d *Device, s *spans) { d.SumRows(s.f32(450), s.f32(90000), 0.1, 3, 200, 150) }},
	{"SumSquares", func(d *Device, s *spans) { d.SumSquares(s.f32(1), s.f32(100001)) }},
	{"Softmax", func(d *Device, s *spans) {
		y := s.f32(70 * 101)
		d.Softmax(y, s.f32(70*101), 70, 101)
		d.SoftmaxGrad(s.f32(70*101), s.f32(70*101), y, 70, 101)
	}},
	{"RMSNorm", func(d *Device, s *spans) {
		y, inv, x, gain := s.f32(200*301), s.f32(200), s.f32(200*301), s.f32(301)
		d.RMSNorm(y, inv, x, gain, 200, 301, 1e-6)
		d.RMSNormGrad(s.f32(200*301), s.f32(301), y, x, gain, inv, 200, 301, true)
	}},
	{"LayerNorm", func(d *Device, s *spans) {
		y, mean, inv, x := s.f32(200*301), s.f32(200), s.f32(200), s.f32(200*301)
		gain, bias := s.f32(301), s.f32(301)
		d.LayerNorm(y, mean, inv, x, gain, bias, 200, 301, 1e-6)
		d.LayerNormGrad(s.f32(200*301), s.f32(301), s.f32(301), y, x, gain, mean, inv, 200, 301)
	}},
	{"CrossEntropy", func(d *Device, s *spans) {
		stats, logits, t := s.f32(91), s.f32(90*77), s.ids(90, 77)
		t.I32()[3] = -1
		d.CrossEntropy(s.f32(1), s.f32(90), stats, logits, t, 90, 77)
		d.CrossEntropyGrad(s.f32(90*77), s.f32(1), stats, logits, t, 90, 77)
	}},
	{"Gather", func(d *Device, s *spans) {
		ids := s.ids(500, 20)
		d.Gather(s.f32(500*65), s.f32(20*65), ids, 500, 65)
		d.ScatterAdd(s.f32(20*65), s.f32(500*65), ids, 500, 65)
	}},
	{"Gemm", func(d *Device, s *spans) {
		for _, z := range [][3]int{{1, 300, 301}, {5, 200, 33}, {150, 3, 700}, {301, 150, 13}, {129, 131, 530}} {
			for f := range 4 {
				m, n, k := z[0], z[1], z[2]
				d.Gemm(s.f32(2*m*n), s.f32(2*m*k), s.f32(2*n*k), s.f32(n), device.GemmShape{M: m, N: n, K: k, Alpha: 0.5,
					Beta: 0.5, TransA: f&1 != 0, TransB: f&2 != 0, Batch: 2, StrideA: m * k, StrideB: n * k, StrideC: m * n})
			}
		}
	}},
	{"Im2Col", func(d *Device, s *spans) {
		c := device.ConvShape{Batch: 3, H: 19, W: 17, C: 5, KH: 3, KW: 4, Stride: 2, Pad: 1}
		h, w := c.Out()
		d.Im2Col(s.f32(3*h*w*60), s.f32(3*19*17*5), c)
		d.Col2Im(s.f32(3*19*17*5), s.f32(3*h*w*60), c)
	}},
	{"RoPE", func(d *Device, s *spans) {
		d.RoPE(s.f32(300*4*30), s.f32(300*4*30), s.f32(150*30),
			device.RoPEShape{Rows: 300, Seq: 100, Heads: 4, Dim: 30, Offset: 50, Acc: true})
	}},
	{"Attention", func(d *Device, s *spans) {
		for _, a := range []device.AttentionShape{
			{Batch: 2, Queries: 150, Keys: 150, Heads: 4, KVHeads: 2, Dim: 7, Causal: true, Scale: 0.3},
			{Batch: 2, Queries: 1, Keys: 300, Heads: 4, KVHeads: 2, Dim: 18, Causal: true, Scale: 0.3},
			{Batch: 2, Queries: 70, Keys: 90, Heads: 4, KVHeads: 4, Dim: 16, Scale: 0.3},
		} {
			n, kv := a.Batch*a.Queries*a.Heads*a.Dim, a.Batch*a.KV()
			out, lse, q, k, v := s.f32(n), s.f32(a.Batch*a.Heads*a.Queries), s.f32(n), s.f32(kv), s.f32(kv)
			d.Attention(out, lse, q, k, v, a)
			d.AttentionGrad(s.f32(n), s.f32(kv), s.f32(kv), s.f32(n), out, lse, q, k, v, a)
		}
	}},
	{"Quantize", func(d *Device, s *spans) {
		d.QuantizeRows(s.i8(90*401, 1), s.f32(90), s.f32(90*401), 90, 401)
		for _, rule := range []device.WeightRule{device.AbsMean, device.TWN, device.Given} {
			for _, perRow := range []bool{false, true} {
				codes, scale, w, groups := s.i8(91*501, 1), s.positive(91), s.f32(91*501), 91
				if !perRow {
					scale, groups = scale.Slice(0, 1), 1
				}
				d.QuantizeWeights(codes, scale, w,
					device.WeightQuant{Rows: 91, Cols: 501, Levels: 1, Rule: rule, Factor: 0.8, PerRow: perRow})
				d.Dequantize(s.f32(91*501), codes, scale, 91, 501)
				d.LSQGrad(s.f32(groups), s.f32(91*501), w, scale, 91, 501, 1, 0.1)
			}
		}
	}},
	{"QLinear", func(d *Device, s *spans) {
		for _, z := range [][3]int{{1, 300, 301}, {150, 131, 700}, {301, 40, 13}} {
			m, n, k := z[0], z[1], z[2]
			y, xq, xs, codes, ws := s.f32(m*n), s.i8(m*k, 127), s.f32(m), s.i8(n*k, 2), s.f32(n)
			d.QLinear(y, xq, xs, codes, ws, s.f32(n), m, n, k)
			for _, math := range []device.Math{device.MathFP32, device.MathInt8} {
				d.QLinearGradX(s.f32(m*k), y, codes, ws, m, n, k, math, true)
				d.QLinearGradW(s.f32(n*k), y, xq, xs, m, n, k, math, true)
			}
		}
	}},
	{"AdamW", func(d *Device, s *spans) {
		d.AdamW(s.f32(20001), s.f32(20001), s.positive(20001), s.f32(20001), device.AdamWStep{LR: 0.1, Beta1: 0.9,
			Beta2: 0.99, Eps: 1e-8, Decay: 0.1, Corr1: 10, Corr2: 100, GradScale: 0.5})
	}},
	{"Uniform", func(d *Device, s *spans) { d.Uniform(s.f32(20001), 3, -1, 2) }},
	{"Normal", func(d *Device, s *spans) { d.Normal(s.f32(20001), 3, 2) }},
}

// TestSameBits: results depend neither on the number of threads nor on where operands lie in memory.
func TestSameBits(t *testing.T) {
	for _, c := range calls {
		t.Run(c.name, func(t *testing.T) {
			var want []uint32
			for _, threads := range []int{1, 2, 3} {
				for shift := range 4 {
					d, s := New(threads), &spans{rng: rand.New(rand.NewPCG(1, 2)), shift: shift}
					c.call(d, s)
					got := s.bits()
					if err := d.Sync(); err != nil {
						t.Fatal(err)
					}
					if want == nil {
						want = got
					}
					if !slices.Equal(got, want) {
						t.Errorf("threads %d, shift %d: other bits than one thread, unshifted", threads, shift)
					}
				}
			}
		})
	}
}

// TestOneThread: with Threads 1 a kernel starts no goroutine, gonum's included.
func TestOneThread(t *testing.T) {
	created := []metrics.Sample{{Name: "/sched/goroutines-created:goroutines"}}
	runtime.GC()
	for _, c := range calls {
		s := &spans{rng: rand.New(rand.NewPCG(1, 2))}
		d, started := New(1), uint64(math.MaxUint64)
		for range 3 { // the collector may start one of its own
			metrics.Read(created)
			before := created[0].Value.Uint64()
			c.call(d, s)
			metrics.Read(created)
			started = min(started, created[0].Value.Uint64()-before)
		}
		if started != 0 {
			t.Errorf("%s: %d goroutines started", c.name, started)
		}
	}
}

// race is set under the race detector, which makes sync.Pool forget at random.
var race bool

// TestAllocs: a call allocates a few small objects, whatever its size.
func TestAllocs(t *testing.T) {
	if race {
		t.Skip("pools forget under the race detector")
	}
	d := New(1)
	f32 := func(n int) device.Mem { return d.Alloc(device.F32, n) }
	i8 := func(n int) device.Mem { return d.Alloc(device.I8, n) }
	const n = 200
	x, y, z, row := f32(n*n), f32(n*n), f32(n*n), f32(n)
	xq, codes := i8(n*n), i8(n*n)
	a := device.AttentionShape{Batch: 1, Queries: n, Keys: n, Heads: 5, KVHeads: 5, Dim: 40, Causal: true}
	for _, c := range []struct {
		name string
		call func()
	}{
		{"Add", func() { d.Add(z, x, y) }},
		{"GatedGrad", func() { d.GatedGrad(device.SiLU, z, z, x, y, y, true) }},
		{"Dropout", func() { d.Dropout(z, x, 0.1, 1, false) }},
		{"Uniform", func() { d.Uniform(z, 1, 0, 1) }},
		{"SumSquares", func() { d.SumSquares(row, x) }},
		{"SumRows", func() { d.SumRows(row, x, 1, 1, n, n) }},
		{"RMSNormGrad", func() { d.RMSNormGrad(z, row, y, x, row, row, n, n, true) }},
		{"Gemm", func() { d.Gemm(z, x, y, device.Mem{}, device.GemmShape{M: n, N: n, K: n, Alpha: 1}) }},
		{"Attention", func() { d.Attention(z, device.Mem{}, x, y, x, a) }},
		{"AttentionGrad", func() { d.AttentionGrad(z, z, z, x, y, f32(n*5), x, y, x, a) }},
		{"QuantizeWeights", func() {
			d.QuantizeWeights(codes, row, x, device.WeightQuant{Rows: n, Cols: n, Levels: 1, Factor: 1, PerRow: true})
		}},
		{"QLinear", func() { d.QLinear(z, xq, row, codes, row, device.Mem{}, n, n, n) }},
		{"QLinearGradW", func() { d.QLinearGradW(z, y, xq, row, n, n, n, device.MathFP32, true) }},
		{"QLinearGradX in int8", func() { d.QLinearGradX(z, y, codes, row, n, n, n, device.MathInt8, true) }},
		{"QLinearGradW in int8", func() { d.QLinearGradW(z, y, xq, row, n, n, n, device.MathInt8, true) }},
	} {
		c.call() // fill the pool
		if got := testing.AllocsPerRun(20, c.call); got > 6 {
			t.Errorf("%s: %v allocations a call, want at most 6", c.name, got)
		}
	}
}

// TestLaneSum: the inlined sums have the bits of device.LaneSum.
func TestLaneSum(t *testing.T) {
	const cut = 0.7
	for _, c := range []struct {
		name string
		fast chunkSum
		f    func(float32) float64
	}{
		{"squares", sumSquares, func(v float32) float64 { return float64(v) * float64(v) }},
		{"abs", sumAbs, func(v float32) float64 { return math.Abs(float64(v)) }},
		{"above", sumAbove, func(v float32) float64 {
			if a := math.Abs(float64(v)); !(a <= float64(float32(cut))) {
				return a
			}
			return 0
		}},
	} {
		for _, n := range []int{0, 1, 15, 16, 17, 100, 4095, 4096, 4097, 8192, 30011} {
			s := &spans{rng: rand.New(rand.NewPCG(uint64(n), 1))}
			x := s.f32(n).F32()
			for i := range x {
				x[i] *= float32(math.Exp2(float64(i%40 - 20))) // so that order shows
			}
			want := device.LaneSum(x, c.f)
			for _, threads := range []int{1, 2, 3} {
				if got := laneSum(threads, x, c.fast, cut); math.Float64bits(got) != math.Float64bits(want) {
					t.Errorf("%s, n %d, threads %d: %v, want %v", c.name, n, threads, got, want)
				}
			}
			if n > 0 {
				x[n/2] = nan32
				if got := laneSum(2, x, c.fast, cut); got == got {
					t.Errorf("%s, n %d: a NaN is lost", c.name, n)
				}
			}
		}
	}
}

// TestExp: within one unit in the last place of float32 over its whole range, and right at the ends.
func TestExp(t *testing.T) {
	worst := 0.0
	for x := -104.0; x < 89; x += 0.000977 {
		v := float32(x)
		got, want := float64(float32(exp(float64(v)))), math.Exp(float64(v))
		if float32(want) == float32(math.Inf(1)) {
			if !math.IsInf(got, 1) {
				t.Errorf("exp(%v) = %v, want +Inf", v, got)
			}
			continue
		}
		w := float32(want)
		ulp := float64(math.Nextafter32(w, math.MaxFloat32) - w)
		worst = max(worst, math.Abs(got-want)/ulp)
	}
	if worst > 0.51 {
		t.Errorf("error of %.3f units in the last place, want at most 0.51", worst)
	}
	inf := math.Inf(1)
	for _, c := range []struct{ x, want float64 }{
		{0, 1}, {math.Copysign(0, -1), 1}, {inf, inf}, {-inf, 0}, {1e30, inf}, {-1e30, 0}, {-745.2, 0}, {710, inf},
	} {
		if got := exp(c.x); got != c.want {
			t.Errorf("exp(%v) = %v, want %v", c.x, got, c.want)
		}
	}
	if got := exp(math.NaN()); got == got {
		t.Errorf("exp(NaN) = %v", got)
	}
	y := make([]float32, 3)
	if sum := expRow(y, []float32{float32(-inf), 0, nan32}, 0); sum == sum || y[0] != 0 || y[1] != 1 || y[2] == y[2] {
		t.Errorf("expRow(-Inf, 0, NaN) = %v, sum %v", y, sum)
	}
}

// TestRoundCode: half to even over the range of codes.
func TestRoundCode(t *testing.T) {
	for i := -127 * 1024; i <= 127*1024; i++ {
		v := float32(i) / 1024
		for _, v := range []float32{v, math.Nextafter32(v, -200), math.Nextafter32(v, 200)} {
			if got, want := roundCode(v), int8(math.RoundToEven(float64(v))); got != want {
				t.Fatalf("roundCode(%v) = %d, want %d", v, got, want)
			}
		}
	}
}

// TestProductNaN: products spread 0*NaN in every form, and do not read C with beta 0.
func TestProductNaN(t *testing.T) {
	d := New(1)
	for _, m := range []int{1, 20} {
		for f := range 4 {
			const n, k = 9, 20
			a, b, c := make([]float32, m*k), make([]float32, n*k), make([]float32, m*n)
			b[0] = nan32 // meets a = 0 in column 0 of C
			for i := range c {
				c[i] = nan32
			}
			d.Gemm(device.Wrap(c), device.Wrap(a), device.Wrap(b), device.Mem{},
				device.GemmShape{M: m, N: n, K: k, Alpha: 1, TransA: f&1 != 0, TransB: f&2 != 0})
			for i, v := range c {
				if isNaN := v != v; isNaN != (i%n == 0) {
					t.Errorf("m %d, form %d: C[%d,%d] = %v", m, f, i/n, i%n, v)
				}
			}
		}
	}
}

// TestMaskedKeys: what stands in the keys and values that a query may not see does not reach it, not even NaN.
func TestMaskedKeys(t *testing.T) {
	d := New(1)
	for _, keys := range []int{5, 100} {
		s := device.AttentionShape{Batch: 1, Queries: keys, Keys: keys, Heads: 1, KVHeads: 1, Dim: 8, Causal: true, Scale: 1}
		for bad := range keys {
			sp := &spans{rng: rand.New(rand.NewPCG(3, 4))}
			q, k, v, want, got := sp.f32(keys*8), sp.f32(keys*8), sp.f32(keys*8), sp.f32(keys*8), sp.f32(keys*8)
			d.Attention(want, device.Mem{}, q, k, v, s)
			d.Fill(k.Slice(bad*8, keys*8), nan32)
			d.Fill(v.Slice(bad*8, keys*8), nan32)
			d.Attention(got, device.Mem{}, q, k, v, s)
			for i, w := range want.F32() {
				g := got.F32()[i]
				if i/8 < bad && g != w || i/8 >= bad && g == g {
					t.Fatalf("%d keys, NaN from key %d: query %d gives %v, without NaN %v", keys, bad, i/8, g, w)
				}
			}
		}
	}
}

// TestFirstError: the first error stays, names what is wrong, and stops the kernels after it.
func TestFirstError(t *testing.T) {
	f32, i32 := device.Wrap[float32], device.Wrap[int32]
	y, one := make([]float32, 4), make([]float32, 8)
	for _, c := range []struct {
		call func(d *Device)
		want string
	}{
		{func(d *Device) { d.Gather(f32(y), f32(one), i32([]int32{0, -1}), 2, 2) },
			"cpu: Gather: id -1 at row 1 is outside the table of 4 rows"},
		{func(d *Device) { d.ScatterAdd(f32(one), f32(y), i32([]int32{4, 0}), 2, 2) },
			"cpu: ScatterAdd: id 4 at row 0 is outside the table of 4 rows"},
		{func(d *Device) { d.CrossEntropy(f32(y), f32(y), f32(y), f32(one), i32([]int32{-1, 5}), 2, 4) },
			"cpu: CrossEntropy: id 5 at row 1 is outside the table of 4 rows"},
		{func(d *Device) { d.CrossEntropyGrad(f32(one), f32(y), f32(y), f32(one), i32([]int32{9, 5}), 2, 4) },
			"cpu: CrossEntropyGrad: id 9 at row 0 is outside the table of 4 rows"},
		{func(d *Device) { d.Alloc(device.I32, -3) }, "cpu: alloc: cannot reserve -3 elements of i32"},
	} {
		d := New(2)
		if err := d.Sync(); err != nil {
			t.Fatal(err)
		}
		c.call(d)
		d.Fail(fmt.Errorf("a later error"))
		d.Fill(f32(y), 1)
		d.Add(f32(y), f32(one), f32(one[4:]))
		if err := d.Sync(); err == nil || err.Error() != c.want {
			t.Errorf("error %q, want %q", err, c.want)
		}
		for _, x := range [][]float32{y, one} {
			if slices.ContainsFunc(x, func(v float32) bool { return v != 0 }) {
				t.Errorf("%s: a kernel ran", c.want)
			}
		}
	}
}

// TestNothing: zero Mems and zero counts are no work, and no panic.
func TestNothing(t *testing.T) {
	d, m := New(2), device.Mem{}
	var att device.AttentionShape
	for _, n := range []int{0, 3} {
		d.Copy(m, m)
		d.Fill(m, 1)
		d.CopyRows(m, n, m, n, n, n, true)
		d.Add(m, m, m)
		d.Unary(device.SiLU, m, m)
		d.UnaryGrad(device.SiLU, m, m, m, true)
		d.GatedGrad(device.SiLU, m, m, m, m, m, true)
		d.Dropout(m, m, 1, 1, false)
		d.AddRows(m, m, m, 1, n, n, n)
		d.SumRows(m, m, 1, n, n, n)
		d.SumSquares(m, m)
		d.Softmax(m, m, n, n)
		d.SoftmaxGrad(m, m, m, n, n)
		d.RMSNorm(m, m, m, m, n, n, 1)
		d.RMSNormGrad(m, m, m, m, m, m, n, n, true)
		d.LayerNorm(m, m, m, m, m, m, n, n, 1)
		d.LayerNormGrad(m, m, m, m, m, m, m, m, n, n)
		d.CrossEntropy(m, m, m, m, m, n, n)
		d.CrossEntropyGrad(m, m, m, m, m, n, n)
		d.Gather(m, m, m, n, n)
		d.ScatterAdd(m, m, m, n, n)
		d.Gemm(m, m, m, m, device.GemmShape{M: n, N: n, K: n})
		d.Im2Col(m, m, device.ConvShape{Batch: n, Stride: 1})
		d.Col2Im(m, m, device.ConvShape{Batch: n, Stride: 1})
		d.RoPE(m, m, m, device.RoPEShape{Rows: n})
		d.Attention(m, m, m, m, m, att)
		d.AttentionGrad(m, m, m, m, m, m, m, m, m, att)
		d.QuantizeRows(m, m, m, n, n)
		d.QuantizeWeights(m, m, m, device.WeightQuant{Rows: n, Cols: n})
		d.Dequantize(m, m, m, n, n)
		d.LSQGrad(m, m, m, m, n, n, 1, 1)
		d.QLinear(m, m, m, m, m, m, n, n, n)
		for _, math := range []device.Math{device.MathFP32, device.MathInt8} {
			d.QLinearGradX(m, m, m, m, n, n, n, math, true)
			d.QLinearGradW(m, m, m, m, n, n, n, math, true)
		}
		d.AdamW(m, m, m, m, device.AdamWStep{})
		d.Uniform(m, 1, 0, 1)
		d.Normal(m, 1, 1)
		att = device.AttentionShape{Batch: n, Queries: n, Keys: n, Heads: n, KVHeads: n, Dim: n}
	}
	e := d.Alloc(device.F32, 0)
	d.Softmax(e, e, 0, 5)
	d.RMSNorm(e, e, e, m, 0, 5, 1)
	d.Gemm(e, e, e, m, device.GemmShape{M: 0, N: 4, K: 4, Alpha: 1})
	d.Attention(e, m, e, e, e, device.AttentionShape{Batch: 1, Keys: 0, Heads: 1, KVHeads: 1, Dim: 4})
	if err := d.Sync(); err != nil {
		t.Error(err)
	}
}
