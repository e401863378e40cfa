package devicetest

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"setun/device"
	"setun/device/cpu"
)

// recorder is a T that stops at the first failure.
type recorder struct{ first string }

type stop struct{}

func (r *recorder) Helper()                         {}
func (r *recorder) Run(name string, f func(T)) bool { f(r); return true }
func (r *recorder) Errorf(format string, args ...any) {
	r.first = fmt.Sprintf(format, args...)
	panic(stop{})
}

// finding is the first complaint of the suite, run on the kernels or specials only; "" if it passes.
func finding(open func() device.Device, only ...string) string {
	var names map[string]bool // nil: everything
	for _, name := range only {
		if names == nil {
			names = map[string]bool{}
		}
		names[name] = true
	}
	r := &recorder{}
	func() {
		defer func() {
			if p := recover(); p != nil && p != any(stop{}) {
				panic(p)
			}
		}()
		run(r, open, names, small, 1)
	}()
	return r.first
}

// mutant is a cpu whose kernels go through do.
type mutant struct {
	device.Bridge
	*memory
}

// memory is a device without its kernels.
type memory struct{ d device.Device }

func (m *memory) Name() string                          { return m.d.Name() }
func (m *memory) Alloc(t device.Type, n int) device.Mem { return m.d.Alloc(t, n) }
func (m *memory) Free(x device.Mem)                     { m.d.Free(x) }
func (m *memory) Upload(dst, src device.Mem)            { m.d.Upload(dst, src) }
func (m *memory) Download(dst, src device.Mem)          { m.d.Download(dst, src) }
func (m *memory) Sync() error                           { return m.d.Sync() }

func mutate(do func(c device.Call, run func())) func() device.Device {
	return func() device.Device {
		d := cpu.New(1)
		return mutant{device.Bridge{Do: func(c device.Call) {
			do(c, func() { c.Run(d, c.Mems) })
		}}, &memory{d}}
	}
}

// nudge changes element i of m by a little: more than a tolerance, less than a blunder.
func nudge(m device.Mem, i int) {
	switch m.Type() {
	case device.F32:
		m.F32()[i] += 2e-3 * (1 + float32(math.Abs(float64(m.F32()[i]))))
	case device.I32:
		m.I32()[i]++
	case device.I8:
		m.I8()[i] ^= 1
	case device.U8:
		m.U8()[i] ^= 1
	}
}

// ulp flips the last bit.
func ulp(m device.Mem, i int) {
	if m.Type() == device.F32 {
		m.F32()[i] = math.Float32frombits(math.Float32bits(m.F32()[i]) ^ 1)
	} else {
		nudge(m, i)
	}
}

// stretch is m with one more element on each side.
func stretch(m device.Mem) device.Mem {
	return device.Span(m.Buffer()).Slice(m.Offset()-1, m.Offset()+m.Len()+1)
}

// TestFindsPlantedBugs plants the bugs that any kernel may have, one at a time, in every kernel.
func TestFindsPlantedBugs(t *testing.T) {
	if got := finding(mutate(func(c device.Call, run func()) { run() })); got != "" {
		t.Fatalf("without a bug: %s", got)
	}
	for _, tb := range tables() {
		c := tb.cases[len(tb.cases)-1].build()
		type bug struct {
			name string
			do   func(m []device.Mem, run func())
		}
		bugs := []bug{{"does nothing", func(m []device.Mem, run func()) {}}}
		add := func(i int, name string, do func(m device.Mem, run func())) {
			bugs = append(bugs, bug{name + " " + c.ops[i].name, func(m []device.Mem, run func()) {
				if m[i].IsZero() {
					run()
				} else {
					do(m[i], run)
				}
			}})
		}
		for i, o := range c.ops {
			if o.mode == input {
				add(i, "writes to", func(m device.Mem, run func()) {
					run()
					if m.Len() > 0 {
						ulp(m, m.Len()-1)
					}
				})
				if o.optional {
					bugs = append(bugs, bug{"ignores " + o.name, func(m []device.Mem, run func()) {
						m[i] = device.Mem{}
						run()
					}})
				}
			} else {
				add(i, "gets the first element wrong in", func(m device.Mem, run func()) {
					run()
					if m.Len() > 0 {
						nudge(m, 0)
					}
				})
				add(i, "gets the last element wrong in", func(m device.Mem, run func()) {
					run()
					if m.Len() > 0 {
						nudge(m, m.Len()-1)
					}
				})
				if o.val.Len() != 1 {
					add(i, "gets the second element wrong in", func(m device.Mem, run func()) {
						run()
						if m.Len() > 1 {
							nudge(m, 1)
						}
					})
				}
				add(i, "writes one past", func(m device.Mem, run func()) {
					run()
					if s := stretch(m); m.Len() > 0 {
						ulp(s, s.Len()-1)
					}
				})
				add(i, "writes one before", func(m device.Mem, run func()) {
					run()
					if m.Len() > 0 {
						ulp(stretch(m), 0)
					}
				})
				calls := 0
				add(i, "is not deterministic in", func(m device.Mem, run func()) {
					run()
					if calls++; calls%2 == 0 && m.Len() > 0 {
						ulp(m, m.Len()/2)
					}
				})
			}
			if o.mode == update {
				add(i, "overwrites", func(m device.Mem, run func()) {
					clear(m.F32())
					run()
				})
			}
			if o.mode == output {
				add(i, "adds to", func(m device.Mem, run func()) {
					old := floats(m)
					run()
					for j, v := range old {
						switch m.Type() {
						case device.F32:
							m.F32()[j] += float32(v)
						case device.I8:
							m.I8()[j] += int8(v)
						}
					}
				})
			}
			if o.optional {
				bugs = append(bugs, bug{"gives up without " + o.name, func(m []device.Mem, run func()) {
					if !m[i].IsZero() {
						run()
					}
				}})
			}
		}
		// A gradient or result that is the only one can go missing without a trace.
		optionalOnly := c.results() == 1 && c.ops[0].optional
		if c.alias != nil {
			add(0, "clears first", func(m device.Mem, run func()) {
				clear(m.F32())
				run()
			})
		}
		for _, b := range bugs {
			if optionalOnly && b.name == "gives up without "+c.ops[0].name {
				continue
			}
			t.Run(tb.kernel+"/"+b.name, func(t *testing.T) {
				got := finding(mutate(func(c device.Call, run func()) {
					if c.Kernel == tb.kernel {
						b.do(c.Mems, run)
					} else {
						run()
					}
				}), tb.kernel)
				if got == "" {
					t.Error("not found")
				}
			})
		}
	}
}

// TestFindsMistakes plants the mistakes that people make.
func TestFindsMistakes(t *testing.T) {
	for _, tt := range []struct {
		name, where string
		dev         func(d *cpu.Device) device.Device
	}{
		{"Softmax without the maximum", "Softmax", func(d *cpu.Device) device.Device { return noMax{d} }},
		{"CrossEntropy without the maximum", "CrossEntropy", func(d *cpu.Device) device.Device { return noMaxCE{d} }},
		{"ScatterAdd loses duplicates", "ScatterAdd", func(d *cpu.Device) device.Device { return lastWins{d} }},
		{"ScatterAdd in reverse", "ScatterAdd", func(d *cpu.Device) device.Device { return backwards{d} }},
		{"RMSNorm without eps", "RMSNorm", func(d *cpu.Device) device.Device { return noEps{d} }},
		{"LayerNorm without eps", "LayerNorm", func(d *cpu.Device) device.Device { return noEps{d} }},
		{"CrossEntropy counts ignored rows", "CrossEntropy", func(d *cpu.Device) device.Device { return countsAll{d} }},
		{"Gemm reads C with beta 0", "Gemm", gemmBug(func(s *device.GemmShape) {
			if s.Beta == 0 {
				s.Beta = 1e-30
			}
		})},
		{"Gemm ignores alpha", "Gemm", gemmBug(func(s *device.GemmShape) { s.Alpha = 1 })},
		{"Gemm ignores beta", "Gemm", gemmBug(func(s *device.GemmShape) { s.Beta = min(s.Beta, 1) })},
		{"Gemm ignores ldc", "Gemm", gemmBug(func(s *device.GemmShape) { s.LDC = 0 })},
		{"Gemm ignores lda", "Gemm", gemmBug(func(s *device.GemmShape) { s.LDA = 0 })},
		{"Gemm ignores ldb", "Gemm", gemmBug(func(s *device.GemmShape) { s.LDB = 0 })},
		{"Gemm stops after one product", "Gemm", gemmBug(func(s *device.GemmShape) { s.Batch = 0 })},
		{"Gemm shares A", "Gemm", gemmBug(func(s *device.GemmShape) { s.StrideA = 0 })},
		{"Gemm shares B", "Gemm", gemmBug(func(s *device.GemmShape) { s.StrideB = 0 })},
		{"Attention is never causal", "Attention", attentionBug(func(s *device.AttentionShape) { s.Causal = false })},
		{"Attention ignores scale", "Attention", attentionBug(func(s *device.AttentionShape) { s.Scale = 1 })},
		{"Attention ignores Cache", "Attention", attentionBug(func(s *device.AttentionShape) { s.Cache = 0 })},
		{"AttentionGrad is never causal", "AttentionGrad",
			attentionBug(func(s *device.AttentionShape) { s.Causal = false })},
		{"AttentionGrad ignores Cache", "AttentionGrad",
			attentionBug(func(s *device.AttentionShape) { s.Cache = 0 })},
		{"RoPE ignores offset", "RoPE", ropeBug(func(s *device.RoPEShape) { s.Offset = 0 })},
		{"RoPE ignores inverse", "RoPE", ropeBug(func(s *device.RoPEShape) { s.Inverse = false })},
		{"RoPE ignores seq", "RoPE", ropeBug(func(s *device.RoPEShape) { s.Seq = 1 })},
		{"QLinear saturates at 16 bits", "QLinear", func(d *cpu.Device) device.Device { return sixteenBits{d} }},
		{"QLinear sums in float32", "QLinear", func(d *cpu.Device) device.Device { return floatSums{d} }},
		{"QLinear uses one scale", "QLinear", func(d *cpu.Device) device.Device { return oneScale{d} }},
		{"QLinearGradX is always float32", "QLinearGradX", func(d *cpu.Device) device.Device { return noInt8{d} }},
		{"QLinearGradW is always float32", "QLinearGradW", func(d *cpu.Device) device.Device { return noInt8{d} }},
		{"QLinearGradW has a floor of 1e-5", "QLinearGradW", func(d *cpu.Device) device.Device { return coarse{d} }},
		{"UnaryGrad always adds", "UnaryGrad", func(d *cpu.Device) device.Device { return alwaysAdds{d} }},
		{"GatedGrad always adds", "GatedGrad", func(d *cpu.Device) device.Device { return alwaysAdds{d} }},
		{"RMSNormGrad always adds", "RMSNormGrad", func(d *cpu.Device) device.Device { return alwaysAdds{d} }},
		{"RMSNormGrad overwrites all", "RMSNormGrad", func(d *cpu.Device) device.Device { return freshGain{d} }},
		{"AttentionGrad always adds", "AttentionGrad", attentionBug(func(s *device.AttentionShape) { s.Acc = true })},
		{"QLinearGradX always adds", "QLinearGradX", func(d *cpu.Device) device.Device { return alwaysAdds{d} }},
		{"Dequantize uses one scale", "Dequantize", func(d *cpu.Device) device.Device { return oneScale{d} }},
		{"QuantizeRows rounds half away", "QuantizeRows", func(d *cpu.Device) device.Device { return awayFromZero{d} }},
		{"QuantizeWeights sums in order", "QuantizeWeights", func(d *cpu.Device) device.Device { return inOrder{d} }},
		{"QuantizeStochastic ignores clip", "QuantizeStochastic",
			stochasticBug(func(s *device.StochasticQuant) { s.Clip = 0 })},
		{"QuantizeStochastic ignores the seed", "QuantizeStochastic",
			stochasticBug(func(s *device.StochasticQuant) { s.Seed = 0 })},
		{"QuantizeStochastic finds its own scale", "QuantizeStochastic",
			stochasticBug(func(s *device.StochasticQuant) { s.Given = false })},
		{"QuantizeStochastic always draws the same", "Moments",
			stochasticBug(func(s *device.StochasticQuant) { s.Seed = 0 })},
		{"AdamW decays without LR", "AdamW", func(d *cpu.Device) device.Device { return bareDecay{d} }},
		{"Dropout keeps p", "Dropout", func(d *cpu.Device) device.Device { return keepsP{d} }},
		{"Dropout ignores the seed", "Dropout", func(d *cpu.Device) device.Device { return oneSeed{d} }},
		{"Uniform ignores the seed", "Uniform", func(d *cpu.Device) device.Device { return oneSeed{d} }},
		{"Normal is half as wide", "Moments", func(d *cpu.Device) device.Device { return halfNormal{d} }},
		{"Upload keeps the source", "Memory", func(d *cpu.Device) device.Device { return &lateUpload{Device: d} }},
		{"Alloc of nothing gives nothing", "Memory", func(d *cpu.Device) device.Device { return noEmpty{d} }},
		{"Sync forgets", "Errors", func(d *cpu.Device) device.Device { return &forgets{Device: d} }},
		{"Kernels go on after an error", "Errors", func(d *cpu.Device) device.Device { return goesOn{d} }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if finding(func() device.Device { return tt.dev(cpu.New(1)) }, tt.where) == "" {
				t.Error("not found")
			}
		})
	}
}

type noMax struct{ *cpu.Device }

func (d noMax) Softmax(y, x device.Mem, rows, cols int) {
	for i := range rows {
		sum := float32(0)
		y, x := y.F32()[i*cols:(i+1)*cols], x.F32()[i*cols:(i+1)*cols]
		for j, v := range x {
			y[j] = float32(math.Exp(float64(v)))
			sum += y[j]
		}
		for j := range y {
			y[j] /= sum
		}
	}
}

type noMaxCE struct{ *cpu.Device }

func (d noMaxCE) CrossEntropy(loss, rowLoss, stats, logits, targets device.Mem, rows, cols int) {
	d.Device.CrossEntropy(loss, rowLoss, stats, logits, targets, rows, cols)
	for i := range rows {
		sum := float32(0)
		for _, v := range logits.F32()[i*cols : (i+1)*cols] {
			sum += float32(math.Exp(float64(v)))
		}
		stats.F32()[i] = float32(math.Log(float64(sum)))
	}
}

type countsAll struct{ *cpu.Device }

func (d countsAll) CrossEntropy(loss, rowLoss, stats, logits, targets device.Mem, rows, cols int) {
	d.Device.CrossEntropy(loss, rowLoss, stats, logits, targets, rows, cols)
	if s := stats.F32(); !loss.IsZero() && rows > 0 && s[rows] != 0 {
		loss.F32()[0] /= s[rows] * float32(rows)
		s[rows] = 1 / float32(rows)
	}
}

type lastWins struct{ *cpu.Device }

func (d lastWins) ScatterAdd(dtable, dy, ids device.Mem, rows, cols int) {
	if dtable.IsZero() {
		return
	}
	old := append([]float32(nil), dtable.F32()...)
	for i, id := range ids.I32()[:rows] {
		for j := range cols {
			dtable.F32()[int(id)*cols+j] = old[int(id)*cols+j] + dy.F32()[i*cols+j]
		}
	}
}

type backwards struct{ *cpu.Device }

func (d backwards) ScatterAdd(dtable, dy, ids device.Mem, rows, cols int) {
	for i := rows - 1; i >= 0; i-- {
		d.Device.ScatterAdd(dtable, dy.Slice(i*cols, (i+1)*cols), ids.Slice(i, i+1), 1, cols)
	}
}

type noEps struct{ *cpu.Device }

func (d noEps) RMSNorm(y, inv, x, gain device.Mem, rows, cols int, _ float32) {
	d.Device.RMSNorm(y, inv, x, gain, rows, cols, 0)
}

func (d noEps) LayerNorm(y, mean, inv, x, gain, bias device.Mem, rows, cols int, _ float32) {
	d.Device.LayerNorm(y, mean, inv, x, gain, bias, rows, cols, 0)
}

type badGemm struct {
	*cpu.Device
	bug func(s *device.GemmShape)
}

func gemmBug(bug func(s *device.GemmShape)) func(d *cpu.Device) device.Device {
	return func(d *cpu.Device) device.Device { return badGemm{d, bug} }
}

func (d badGemm) Gemm(c, a, b, bias device.Mem, s device.GemmShape) {
	d.bug(&s)
	d.Device.Gemm(c, a, b, bias, s)
}

type badAttention struct {
	*cpu.Device
	bug func(s *device.AttentionShape)
}

func attentionBug(bug func(s *device.AttentionShape)) func(d *cpu.Device) device.Device {
	return func(d *cpu.Device) device.Device { return badAttention{d, bug} }
}

func (d badAttention) Attention(out, lse, q, k, v device.Mem, s device.AttentionShape) {
	d.bug(&s)
	d.Device.Attention(out, lse, q, k, v, s)
}

func (d badAttention) AttentionGrad(dq, dk, dv, dout, out, lse, q, k, v device.Mem, s device.AttentionShape) {
	d.bug(&s)
	d.Device.AttentionGrad(dq, dk, dv, dout, out, lse, q, k, v, s)
}

type badRoPE struct {
	*cpu.Device
	bug func(s *device.RoPEShape)
}

func ropeBug(bug func(s *device.RoPEShape)) func(d *cpu.Device) device.Device {
	return func(d *cpu.Device) device.Device { return badRoPE{d, bug} }
}

func (d badRoPE) RoPE(y, x, table device.Mem, s device.RoPEShape) {
	d.bug(&s)
	d.Device.RoPE(y, x, table, s)
}

type sixteenBits struct{ *cpu.Device }

func (d sixteenBits) QLinear(y, xq, xs, codes, ws, bias device.Mem, m, n, k int) {
	d.Device.QLinear(y, xq, xs, codes, ws, bias, m, n, k)
	for i := range m * n {
		if s := y.F32()[i] / xs.F32()[i/n] / column(ws, i%n); s > math.MaxInt16 && bias.IsZero() {
			y.F32()[i] *= math.MaxInt16 / s
		}
	}
}

func column(m device.Mem, i int) float32 {
	if m.Len() == 1 {
		return m.F32()[0]
	}
	return m.F32()[i]
}

type floatSums struct{ *cpu.Device }

func (d floatSums) QLinear(y, xq, xs, codes, ws, bias device.Mem, m, n, k int) {
	for i := range m {
		for j := range n {
			sum := float32(0)
			for l := range k {
				sum += float32(xq.I8()[i*k+l]) * float32(codes.I8()[j*k+l])
			}
			v := sum * xs.F32()[i] * column(ws, j)
			if !bias.IsZero() {
				v += bias.F32()[j]
			}
			y.F32()[i*n+j] = v
		}
	}
}

type oneScale struct{ *cpu.Device }

func (d oneScale) QLinear(y, xq, xs, codes, ws, bias device.Mem, m, n, k int) {
	d.Device.QLinear(y, xq, xs, codes, ws.Slice(0, 1), bias, m, n, k)
}

type noInt8 struct{ *cpu.Device }

func (d noInt8) QLinearGradX(dx, dy, codes, ws device.Mem, m, n, k int, _ device.Math, acc bool) {
	d.Device.QLinearGradX(dx, dy, codes, ws, m, n, k, device.MathFP32, acc)
}

func (d noInt8) QLinearGradW(dw, dy, xq, xs device.Mem, m, n, k int, _ device.Math, acc bool) {
	d.Device.QLinearGradW(dw, dy, xq, xs, m, n, k, device.MathFP32, acc)
}

// alwaysAdds adds where it should overwrite.
type alwaysAdds struct{ *cpu.Device }

func (d alwaysAdds) UnaryGrad(f device.UnaryOp, dx, dy, x device.Mem, _ bool) {
	d.Device.UnaryGrad(f, dx, dy, x, true)
}

func (d alwaysAdds) GatedGrad(f device.UnaryOp, dg, du, dy, g, u device.Mem, _ bool) {
	d.Device.GatedGrad(f, dg, du, dy, g, u, true)
}

func (d alwaysAdds) RMSNormGrad(dx, dgain, dy, x, gain, inv device.Mem, rows, cols int, _ bool) {
	d.Device.RMSNormGrad(dx, dgain, dy, x, gain, inv, rows, cols, true)
}

func (d alwaysAdds) QLinearGradX(dx, dy, codes, ws device.Mem, m, n, k int, math device.Math, _ bool) {
	d.Device.QLinearGradX(dx, dy, codes, ws, m, n, k, math, true)
}

// freshGain overwrites the gradient of the gain too.
type freshGain struct{ *cpu.Device }

func (d freshGain) RMSNormGrad(dx, dgain, dy, x, gain, inv device.Mem, rows, cols int, acc bool) {
	if !acc && !dgain.IsZero() {
		d.Device.Fill(dgain, 0)
	}
	d.Device.RMSNormGrad(dx, dgain, dy, x, gain, inv, rows, cols, acc)
}

// coarse loses the gradients that lie below 1e-5/254.
type coarse struct{ *cpu.Device }

func (d coarse) QLinearGradW(dw, dy, xq, xs device.Mem, m, n, k int, math device.Math, acc bool) {
	if small := func(v float32) bool { return max(v, -v) < 1e-5/254 }; math == device.MathFP32 ||
		slices.ContainsFunc(dy.F32(), func(v float32) bool { return !small(v) }) {
		d.Device.QLinearGradW(dw, dy, xq, xs, m, n, k, math, acc)
	}
}

func (d oneScale) Dequantize(y, codes, scale device.Mem, rows, cols int) {
	d.Device.Dequantize(y, codes, scale.Slice(0, 1), rows, cols)
}

type awayFromZero struct{ *cpu.Device }

func (d awayFromZero) QuantizeRows(q, scale, x device.Mem, rows, cols int) {
	d.Device.QuantizeRows(q, scale, x, rows, cols)
	for i := range rows * cols {
		if s := scale.F32()[i/cols]; s == s {
			q.I8()[i] = int8(math.Round(float64(x.F32()[i] * (1 / s))))
		}
	}
}

type stochastic struct {
	*cpu.Device
	change func(s *device.StochasticQuant)
}

func stochasticBug(change func(s *device.StochasticQuant)) func(d *cpu.Device) device.Device {
	return func(d *cpu.Device) device.Device { return stochastic{d, change} }
}

func (d stochastic) QuantizeStochastic(codes, scale, x device.Mem, s device.StochasticQuant) {
	d.change(&s)
	d.Device.QuantizeStochastic(codes, scale, x, s)
}

type inOrder struct{ *cpu.Device }

func (d inOrder) QuantizeWeights(codes, scale, w device.Mem, s device.WeightQuant) {
	d.Device.QuantizeWeights(codes, scale, w, s)
	if s.Rule == device.AbsMean && !s.PerRow && s.Rows > 1 {
		sum := 0.0
		for _, v := range w.F32() {
			sum += math.Abs(float64(v))
		}
		scale.F32()[0] = max(s.Factor*float32(sum)/float32(w.Len()), 1e-8)
	}
}

type bareDecay struct{ *cpu.Device }

func (d bareDecay) AdamW(w, m, v, g device.Mem, s device.AdamWStep) {
	s.Decay /= s.LR
	d.Device.AdamW(w, m, v, g, s)
}

type keepsP struct{ *cpu.Device }

func (d keepsP) Dropout(dst, x device.Mem, p float32, seed uint64, acc bool) {
	d.Device.Dropout(dst, x, 1-p, seed, acc)
}

type oneSeed struct{ *cpu.Device }

func (d oneSeed) Dropout(dst, x device.Mem, p float32, _ uint64, acc bool) {
	d.Device.Dropout(dst, x, p, 1, acc)
}

func (d oneSeed) Uniform(dst device.Mem, _ uint64, lo, hi float32) { d.Device.Uniform(dst, 1, lo, hi) }

type halfNormal struct{ *cpu.Device }

func (d halfNormal) Normal(dst device.Mem, seed uint64, std float32) {
	d.Device.Normal(dst, seed, std/2)
}

type lateUpload struct {
	*cpu.Device
	late []func()
}

func (d *lateUpload) Upload(dst, src device.Mem) {
	d.late = append(d.late, func() { d.Device.Upload(dst, src) })
}

func (d *lateUpload) Download(dst, src device.Mem) {
	for _, f := range d.late {
		f()
	}
	d.late = nil
	d.Device.Download(dst, src)
}

type noEmpty struct{ *cpu.Device }

func (d noEmpty) Alloc(t device.Type, n int) device.Mem {
	if n == 0 {
		return device.Mem{}
	}
	return d.Device.Alloc(t, n)
}

type forgets struct {
	*cpu.Device
	told bool
}

func (d *forgets) Sync() error {
	if d.told {
		return nil
	}
	err := d.Device.Sync()
	d.told = err != nil
	return err
}

type goesOn struct{ *cpu.Device }

func (d goesOn) Scale(dst device.Mem, alpha float32, x device.Mem) {
	for i, v := range x.F32() {
		dst.F32()[i] = alpha * v
	}
}
