package main

import (
	"fmt"
	"math"

	"setun/device"
)

// kernels are the other kernels of a training step, in its sizes: 4096 tokens, rows of 256 channels, heads of 64,
// hidden layers of 704.
func kernels(quick bool) []benchmark {
	tokens, width, hidden, context, batch, params := 4096, 256, 704, 256, 16, 1<<22
	spans, weights := []int{1 << 20, 1 << 24}, 1<<24
	if quick {
		tokens, context, batch, params, spans, weights = 256, 64, 4, 1<<16, []int{1 << 16}, 1<<16
	}
	heads := width / 64
	var none device.Mem
	var bs []benchmark
	for _, n := range spans {
		bs = append(bs, copyCase(n))
	}
	return append(bs,
		moved(fmt.Sprintf("add/n=%d", tokens*width), 12*tokens*width, func(p *pen) func() {
			x, y, z := p.normal(tokens*width), p.normal(tokens*width), p.normal(tokens*width)
			return func() { p.Add(z, x, y) }
		}),
		rmsnorm(tokens, width), rmsnormGrad(tokens, width),
		rmsnorm(tokens*heads, 64), rmsnormGrad(tokens*heads, 64),
		moved(sized("softmax", tokens, width), 8*tokens*width, func(p *pen) func() {
			x, y := p.normal(tokens*width), p.normal(tokens*width)
			return func() { p.Softmax(y, x, tokens, width) }
		}),
		moved(sized("swiglu", tokens, hidden), 12*tokens*hidden, func(p *pen) func() {
			g, u, y := p.normal(tokens*hidden), p.normal(tokens*hidden), p.normal(tokens*hidden)
			return func() { p.Gated(device.SiLU, y, g, u) }
		}),
		moved(sized("swiglu-grad", tokens, hidden), 28*tokens*hidden, func(p *pen) func() {
			n := tokens * hidden
			g, u, dy, dg, du := p.normal(n), p.normal(n), p.normal(n), p.normal(n), p.normal(n)
			return func() { p.GatedGrad(device.SiLU, dg, du, dy, g, u, true) }
		}),
		moved(sized("crossentropy", tokens, 256), 16*tokens*256, func(p *pen) func() { // and its gradient
			logits, dlogits, targets := p.normal(tokens*256), p.normal(tokens*256), p.ids(tokens, 256)
			loss, dloss, stats := p.alloc(device.F32, 1), p.alloc(device.F32, 1), p.alloc(device.F32, tokens+1)
			p.Fill(dloss, 1)
			return func() {
				p.CrossEntropy(loss, none, stats, logits, targets, tokens, 256)
				p.CrossEntropyGrad(dlogits, dloss, stats, logits, targets, tokens, 256)
			}
		}),
		moved(fmt.Sprintf("rope/rows=%d,heads=%d,dim=64", tokens, heads), 8*tokens*width, func(p *pen) func() {
			s := device.RoPEShape{Rows: tokens, Seq: context, Heads: heads, Dim: 64}
			x, y, table := p.normal(tokens*width), p.normal(tokens*width), p.normal(context*64)
			return func() { p.RoPE(y, x, table, s) }
		}),
		moved(fmt.Sprintf("adamw/n=%d", params), 28*params, func(p *pen) func() {
			w, m, v, g := p.normal(params), p.normal(params), p.normal(params), p.normal(params)
			p.Mul(v, v, v)
			s := device.AdamWStep{LR: 1e-3, Beta1: 0.9, Beta2: 0.95, Eps: 1e-8, Decay: 0.1, Corr1: 1, Corr2: 1, GradScale: 1}
			return func() { p.AdamW(w, m, v, g, s) }
		}),
		quantizer("absmean", weights, 9, func(p *pen) func() {
			w, codes, scale := p.normal(weights), p.alloc(device.I8, weights), p.alloc(device.F32, 1)
			return func() { p.QuantizeWeights(codes, scale, w, absMean(weights/256, 256)) }
		}),
		quantizer("rows", tokens*width, 5, func(p *pen) func() {
			x, codes, scale := p.normal(tokens*width), p.alloc(device.I8, tokens*width), p.alloc(device.F32, tokens)
			return func() { p.QuantizeRows(codes, scale, x, tokens, width) }
		}),
		attention(batch, context, heads, 64, device.MathFP32),
		attention(batch, context, heads, 64, device.MathBF16),
	)
}

func sized(name string, rows, cols int) string {
	return fmt.Sprintf("%s/rows=%d,cols=%d", name, rows, cols)
}

// moved is a case bounded by memory: bytes are those that a call must read and write.
func moved(name string, bytes int, prepare func(p *pen) func()) benchmark {
	return benchmark{name: name, unit: "GB/s", work: float64(bytes) / 1e9, bytes: float64(bytes), setup: kernel(prepare)}
}

func copyCase(n int) benchmark {
	return moved(fmt.Sprintf("memory/copy/n=%d", n), 8*n, func(p *pen) func() {
		x, y := p.normal(n), p.normal(n)
		return func() { p.Copy(y, x) }
	})
}

func rmsnorm(rows, cols int) benchmark {
	return moved(sized("rmsnorm", rows, cols), 8*rows*cols, func(p *pen) func() {
		x, y, gain, inv := p.normal(rows*cols), p.normal(rows*cols), p.normal(cols), p.normal(rows)
		return func() { p.RMSNorm(y, inv, x, gain, rows, cols, 1e-5) }
	})
}

func rmsnormGrad(rows, cols int) benchmark {
	return moved(sized("rmsnorm-grad", rows, cols), 16*rows*cols, func(p *pen) func() {
		x, y, dy, dx := p.normal(rows*cols), p.normal(rows*cols), p.normal(rows*cols), p.normal(rows*cols)
		gain, dgain, inv := p.normal(cols), p.normal(cols), p.normal(rows)
		p.RMSNorm(y, inv, x, gain, rows, cols, 1e-5)
		return func() { p.RMSNormGrad(dx, dgain, dy, x, gain, inv, rows, cols, true) }
	})
}

// quantizer moves the given bytes for each of n values.
func quantizer(name string, n, bytes int, prepare func(p *pen) func()) benchmark {
	return benchmark{name: fmt.Sprintf("quantize/%s/n=%d", name, n), unit: "Mvalue/s", work: float64(n) / 1e6,
		bytes: float64(bytes * n), setup: kernel(prepare)}
}

// attention is causal, forward and backward: 2 and 5 products of (tokens, tokens, dim), each half masked.
func attention(batch, tokens, heads, dim int, how device.Math) benchmark {
	s := device.AttentionShape{Batch: batch, Queries: tokens, Keys: tokens, Heads: heads, KVHeads: heads, Dim: dim,
		Causal: true, Scale: float32(1 / math.Sqrt(float64(dim))), Math: how}
	name := "attention"
	if how == device.MathBF16 {
		name += "/bf16"
	}
	name += fmt.Sprintf("/b=%d,t=%d,h=%d,d=%d", batch, tokens, heads, dim)
	n, flops := batch*tokens*heads*dim, 7*float64(batch*heads*tokens*tokens*dim)
	return benchmark{name: name, unit: "GFLOP/s",
		work: flops / 1e9, flops: flops, setup: kernel(func(p *pen) func() {
			q, k, v, out, dout := p.normal(n), p.normal(n), p.normal(n), p.normal(n), p.normal(n)
			dq, dk, dv, lse := p.normal(n), p.normal(n), p.normal(n), p.alloc(device.F32, batch*heads*tokens)
			return func() {
				p.Attention(out, lse, q, k, v, s)
				p.AttentionGrad(dq, dk, dv, dout, out, lse, q, k, v, s)
			}
		})}
}
