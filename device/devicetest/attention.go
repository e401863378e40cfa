package devicetest

import (
	"fmt"
	"math"

	"setun/device"
)

// pairsOf calls f for each query head and the probabilities of the keys it sees. at and kv index the elements of the
// query and of key j, step elements apart; row indexes lse.
func pairsOf(q, k []float64, s device.AttentionShape, f func(p []float64, lse float64, at, kv, step, row int)) {
	step, head := s.KVHeads*s.Dim, s.Dim
	if s.Cache > 0 {
		step, head = s.Dim, s.Cache*s.Dim
	}
	for b := range s.Batch {
		for h := range s.Heads {
			for i := range s.Queries {
				at := ((b*s.Queries+i)*s.Heads + h) * s.Dim
				kv := b*s.KV() + h*s.KVHeads/s.Heads*head
				keys := s.Keys
				if s.Causal {
					keys = i + s.Keys - s.Queries + 1
				}
				p := make([]float64, keys)
				top := math.Inf(-1)
				for j := range p {
					p[j] = float64(s.Scale) * dot(q[at:at+s.Dim], k[kv+j*step:])
					top = max(top, p[j])
				}
				sum := 0.0
				for j := range p {
					p[j] = math.Exp(p[j] - top)
					sum += p[j]
				}
				for j := range p {
					p[j] /= sum
				}
				f(p, top+math.Log(sum), at, kv, step, (b*s.Heads+h)*s.Queries+i)
			}
		}
	}
}

func attention(out, lse, q, k, v []float64, s device.AttentionShape) {
	pairsOf(q, k, s, func(p []float64, l float64, at, kv, step, row int) {
		if lse != nil {
			lse[row] = l
		}
		for d := range s.Dim {
			sum := 0.0
			for j := range p {
				sum += p[j] * v[kv+j*step+d]
			}
			out[at+d] = sum
		}
	})
}

// attentionGrad composes the gradients of the products and of softmax, per query.
func attentionGrad(dq, dk, dv, dout, q, k, v []float64, s device.AttentionShape) {
	pairsOf(q, k, s, func(p []float64, _ float64, at, kv, step, _ int) {
		dp := make([]float64, len(p))
		for j := range p {
			dp[j] = dot(dout[at:at+s.Dim], v[kv+j*step:])
		}
		mean := dot(p, dp)
		for j := range p {
			ds := p[j] * (dp[j] - mean) * float64(s.Scale)
			for d := range s.Dim {
				key := kv + j*step + d
				if dq != nil {
					dq[at+d] += ds * k[key]
				}
				if dk != nil {
					dk[key] += ds * q[at+d]
				}
				if dv != nil {
					dv[key] += p[j] * dout[at+d]
				}
			}
		}
	})
}

// int8Rows gives rows of codes, each with a scale behind it, see device.Int8Row.
func (g gen) int8Rows(rows, n int) []int8 {
	var x []int8
	for range rows {
		x = append(x, g.codes(n, 127)...)
		bits := math.Float32bits(0.01 + 0.01*g.Float32())
		x = append(x, int8(bits), int8(bits>>8), int8(bits>>16), int8(bits>>24))
	}
	return x
}

// fromInt8Rows are the numbers that rows of n codes and their scales stand for.
func fromInt8Rows(x []float64, n int) []float64 {
	var y []float64
	for ; len(x) > 0; x = x[n+4:] {
		bits := uint32(0)
		for i := range 4 {
			bits |= uint32(uint8(int8(x[n+i]))) << (8 * i)
		}
		for _, c := range x[:n] {
			y = append(y, c*float64(math.Float32frombits(bits)))
		}
	}
	return y
}

func attentionTables() []table {
	// Scores, probabilities and values are of size 1, and off by some 2^-9 of it each.
	const bf16 = 0.03
	f, b := table{kernel: "Attention"}, table{kernel: "AttentionGrad"}
	for _, s := range []struct {
		device.AttentionShape
		tol      float64
		sizeable bool
	}{
		{AttentionShape: device.AttentionShape{Batch: 0, Queries: 2, Keys: 2, Heads: 1, KVHeads: 1, Dim: 4}},
		{AttentionShape: device.AttentionShape{Batch: 1, Queries: 0, Keys: 2, Heads: 1, KVHeads: 1, Dim: 4}},
		{AttentionShape: device.AttentionShape{Batch: 1, Queries: 5, Keys: 0, Heads: 2, KVHeads: 2, Dim: 8}},
		{AttentionShape: device.AttentionShape{Batch: 1, Queries: 1, Keys: 1, Heads: 1, KVHeads: 1, Dim: 1}},
		{AttentionShape: device.AttentionShape{Batch: 1, Queries: 3, Keys: 3, Heads: 1, KVHeads: 1, Dim: 4}},
		{AttentionShape: device.AttentionShape{Batch: 2, Queries: 5, Keys: 5, Heads: 3, KVHeads: 3, Dim: 7, Causal: true}},
		{AttentionShape: device.AttentionShape{Batch: 2, Queries: 4, Keys: 7, Heads: 4, KVHeads: 2, Dim: 6}},
		{AttentionShape: device.AttentionShape{Batch: 2, Queries: 4, Keys: 7, Heads: 4, KVHeads: 2, Dim: 6, Causal: true}},
		{AttentionShape: device.AttentionShape{Batch: 2, Queries: 3, Keys: 5, Heads: 6, KVHeads: 1, Dim: 16, Causal: true}},
		// One query over a cache longer than its keys.
		{AttentionShape: device.AttentionShape{Batch: 3, Queries: 1, Keys: 9, Heads: 4, KVHeads: 2, Dim: 8, Causal: true,
			Cache: 16}},
		{AttentionShape: device.AttentionShape{Batch: 2, Queries: 7, Keys: 5, Heads: 2, KVHeads: 1, Dim: 8,
			Cache: 7}},
		{AttentionShape: device.AttentionShape{Batch: 2, Queries: 17, Keys: 33, Heads: 2, KVHeads: 2, Dim: 32, Causal: true}},
		{AttentionShape: device.AttentionShape{Batch: 1, Queries: 65, Keys: 65, Heads: 3, KVHeads: 1, Dim: 31, Causal: true}},
		{AttentionShape: device.AttentionShape{Batch: 1, Queries: 31, Keys: 127, Heads: 1, KVHeads: 1, Dim: 64}},
		{AttentionShape: device.AttentionShape{Batch: 1, Queries: 1, Keys: 1000, Heads: 2, KVHeads: 1, Dim: 17}},
		{AttentionShape: device.AttentionShape{Batch: 1, Queries: 1, Keys: 67, Heads: 2, KVHeads: 1, Dim: 96}},
		{AttentionShape: device.AttentionShape{Batch: 2, Queries: 3, Keys: 131, Heads: 3, KVHeads: 1, Dim: 128, Causal: true}},
		{AttentionShape: device.AttentionShape{Batch: 1, Queries: 2, Keys: 21, Heads: 2, KVHeads: 2, Dim: 48, Causal: true,
			Cache: 40}},
		// exp overflows without the maximum.
		{AttentionShape: device.AttentionShape{Batch: 1, Queries: 5, Keys: 9, Heads: 2, KVHeads: 2, Dim: 16, Scale: 20},
			tol: 4e-4},
		// Rounded to bfloat16, by devices that do so.
		{AttentionShape: device.AttentionShape{Batch: 2, Queries: 5, Keys: 9, Heads: 2, KVHeads: 1, Dim: 32,
			Math: device.MathBF16}, tol: bf16},
		{AttentionShape: device.AttentionShape{Batch: 1, Queries: 65, Keys: 65, Heads: 3, KVHeads: 1, Dim: 32, Causal: true,
			Math: device.MathBF16}, tol: bf16},
		{AttentionShape: device.AttentionShape{Batch: 2, Queries: 33, Keys: 50, Heads: 4, KVHeads: 2, Dim: 64, Causal: true,
			Math: device.MathBF16}, tol: bf16},
		{AttentionShape: device.AttentionShape{Batch: 1, Queries: 50, Keys: 31, Heads: 2, KVHeads: 2, Dim: 96,
			Math: device.MathBF16}, tol: bf16},
		{AttentionShape: device.AttentionShape{Batch: 1, Queries: 40, Keys: 300, Heads: 2, KVHeads: 1, Dim: 24, Causal: true,
			Cache: 310, Math: device.MathBF16}, tol: bf16},
		{AttentionShape: device.AttentionShape{Batch: 1, Queries: 40, Keys: 300, Heads: 2, KVHeads: 1, Dim: 64, Causal: true,
			Cache: 310, Math: device.MathBF16}, tol: bf16},
		{AttentionShape: device.AttentionShape{Batch: 2, Queries: 200, Keys: 200, Heads: 4, KVHeads: 2, Dim: 64,
			Causal: true}, sizeable: true},
		{AttentionShape: device.AttentionShape{Batch: 2, Queries: 200, Keys: 200, Heads: 4, KVHeads: 2, Dim: 64,
			Causal: true, Math: device.MathBF16}, tol: bf16, sizeable: true},
		{AttentionShape: device.AttentionShape{Batch: 8, Queries: 1, Keys: 512, Heads: 8, KVHeads: 2, Dim: 64,
			Causal: true}, sizeable: true},
	} {
		tol, sizeable := s.tol, s.sizeable
		s := s.AttentionShape
		if s.Scale == 0 {
			s.Scale = float32(1 / math.Sqrt(float64(s.Dim)))
		}
		name := fmt.Sprintf("batch=%d,queries=%d,keys=%d,heads=%d,kv=%d,dim=%d,causal=%t,cache=%d,scale=%.3g",
			s.Batch, s.Queries, s.Keys, s.Heads, s.KVHeads, s.Dim, s.Causal, s.Cache, s.Scale)
		if s.Math == device.MathBF16 {
			name += ",bf16"
		}
		nq, nl := s.Batch*s.Queries*s.Heads*s.Dim, s.Batch*s.Heads*s.Queries
		nkv := s.Batch * s.KV()
		free := func(i int) bool { return s.Cache > 0 && i/s.Dim%s.Cache >= s.Keys } // room of a cache
		// keys makes keys or values, NaN where a cache is free.
		keys := func(g gen) []float32 {
			x := g.normal(nkv)
			for i := range x {
				if free(i) {
					x[i] = nan
				}
			}
			return x
		}
		f = f.with(name+",f16", func(g gen) call {
			return call{
				ops: []operand{out("out", nq), out("lse", nl).opt(), in("q", g.normal(nq)), in("k", g.halves(nkv)),
					in("v", g.halves(nkv))},
				run: func(k device.Kernels, m []device.Mem) { k.Attention(m[0], m[1], m[2], m[3], m[4], s) },
				ref: func(x [][]float64) { attention(x[0], x[1], x[2], x[3], x[4], s) },
				tol: max(tol, 4e-6),
			}
		})
		if s.Cache > 0 {
			s := s
			s.Row = device.Int8Row(s.Dim)
			f = f.with(name+",i8", func(g gen) call {
				wide := s
				wide.Row = 0
				return call{
					ops: []operand{out("out", nq), out("lse", nl).opt(), in("q", g.normal(nq)),
						in("k", g.int8Rows(nkv/s.Dim, s.Dim)), in("v", g.int8Rows(nkv/s.Dim, s.Dim))},
					run: func(k device.Kernels, m []device.Mem) { k.Attention(m[0], m[1], m[2], m[3], m[4], s) },
					ref: func(x [][]float64) {
						attention(x[0], x[1], x[2], fromInt8Rows(x[3], s.Dim), fromInt8Rows(x[4], s.Dim), wide)
					},
					tol: max(tol, 4e-6),
				}
			})
		}
		visible := s.Keys
		if s.Causal {
			visible = (2*s.Keys - s.Queries + 1) / 2
		}
		mulAdds := s.Batch * s.Heads * s.Queries * visible * s.Dim
		f.cases = append(f.cases, kase{name: name, sizeable: sizeable, make: func(g gen) call {
			return call{
				ops: []operand{out("out", nq), out("lse", nl).opt(), in("q", g.normal(nq)), in("k", keys(g)),
					in("v", keys(g))},
				run:     func(k device.Kernels, m []device.Mem) { k.Attention(m[0], m[1], m[2], m[3], m[4], s) },
				ref:     func(x [][]float64) { attention(x[0], x[1], x[2], x[3], x[4], s) },
				tol:     max(tol, 4e-6),
				mulAdds: 2 * mulAdds,
			}
		}})
		b.cases = append(b.cases, kase{name: name, sizeable: sizeable, make: func(g gen) call {
			q, k, v := g.normal(nq), keys(g), keys(g)
			o, lse := make([]float64, nq), make([]float64, nl)
			attention(o, lse, floats(device.Wrap(q)), floats(device.Wrap(k)), floats(device.Wrap(v)), s)
			c := call{
				ops: []operand{grad("dq", g.normal(nq)), grad("dk", g.normal(nkv)), grad("dv", g.normal(nkv)),
					in("dout", g.normal(nq)), in("out", narrow(o)), in("lse", narrow(lse)), in("q", q), in("k", k),
					in("v", v)},
				ref: func(x [][]float64) {
					attentionGrad(x[0], x[1], x[2], x[3], x[6], x[7], x[8], s)
				},
				diff: func(x [][]float64) map[int][]float64 {
					loss := func() float64 {
						attention(o, nil, x[6], x[7], x[8], s)
						return dot(x[3], o)
					}
					grads := map[int][]float64{0: central(x[6], loss), 1: central(x[7], loss), 2: central(x[8], loss)}
					for i := range nkv { // central differences of NaN gaps
						if free(i) {
							grads[1][i], grads[2][i] = 0, 0
						}
					}
					return grads
				},
				tol:     max(tol, 1e-5),
				mulAdds: 5 * mulAdds,
			}.adding(3, func(k device.Kernels, m []device.Mem, acc bool) {
				s := s
				s.Acc = acc
				k.AttentionGrad(m[0], m[1], m[2], m[3], m[4], m[5], m[6], m[7], m[8], s)
			})
			if s.Queries*s.Keys > 50 {
				c.diff = nil
			}
			if s.Cache > 0 { // what of a gradient is free is not written
				c.write = nil
			}
			return c
		}})
	}
	return []table{f, b}
}
