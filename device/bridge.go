package device

// A Call is one kernel call as a Bridge sees it.
type Call struct {
	Kernel  string // the method's name
	Mems    []Mem  // all Mem parameters in the order of the method; zero Mems are kept
	Results int    // the kernel may write the first Results Mems (and may read them too), the others are only read
	MulAdds int64  // multiply-adds of Gemm, QLinear*, PackedLinear, Attention*; 0 for the others
	// Run runs the kernel with its scalar arguments on another kernel set, mems standing in for Mems.
	Run func(host Kernels, mems []Mem)
}

// Bridge implements [Kernels] by handing every call to Do. A device embeds it for the kernels it lacks: Do makes the
// Mems readable by a host device, calls Run on that and writes the results back. Zero Mems must stay zero, and Mems
// that are the same span must stay the same span.
type Bridge struct {
	Do func(c Call)
}

func (z Bridge) do(kernel string, results int, mulAdds int64, run func(Kernels, []Mem), mems ...Mem) {
	z.Do(Call{kernel, mems, results, mulAdds, run})
}

func gemmMulAdds(s GemmShape) int64 {
	return int64(max(s.Batch, 1)) * int64(s.M) * int64(s.N) * int64(s.K)
}

// attentionPairs is the multiply-adds of one product over the visible pairs of queries and keys: the forward pass has
// two (q k^T and p v), the backward pass five.
func attentionPairs(s AttentionShape) int64 {
	pairs := int64(s.Queries) * int64(s.Keys)
	if s.Causal {
		pairs = 0
		for i := range s.Queries {
			pairs += int64(s.Sees(i))
		}
	}
	return int64(s.Batch) * int64(s.Heads) * pairs * int64(s.Dim)
}

func (z Bridge) Copy(dst, src Mem) {
	z.do("Copy", 1, 0, func(host Kernels, o []Mem) { host.Copy(o[0], o[1]) }, dst, src)
}

func (z Bridge) Fill(dst Mem, v float32) {
	z.do("Fill", 1, 0, func(host Kernels, o []Mem) { host.Fill(o[0], v) }, dst)
}

func (z Bridge) CopyRows(dst Mem, ldd int, src Mem, lds int, rows, cols int, acc bool) {
	z.do("CopyRows", 1, 0, func(host Kernels, o []Mem) {
		host.CopyRows(o[0], ldd, o[1], lds, rows, cols, acc)
	}, dst, src)
}

func (z Bridge) Add(dst, a, b Mem) {
	z.do("Add", 1, 0, func(host Kernels, o []Mem) { host.Add(o[0], o[1], o[2]) }, dst, a, b)
}

func (z Bridge) Mul(dst, a, b Mem) {
	z.do("Mul", 1, 0, func(host Kernels, o []Mem) { host.Mul(o[0], o[1], o[2]) }, dst, a, b)
}

func (z Bridge) MulAdd(d, a, b Mem) {
	z.do("MulAdd", 1, 0, func(host Kernels, o []Mem) { host.MulAdd(o[0], o[1], o[2]) }, d, a, b)
}

func (z Bridge) Scale(dst Mem, alpha float32, x Mem) {
	z.do("Scale", 1, 0, func(host Kernels, o []Mem) { host.Scale(o[0], alpha, o[1]) }, dst, x)
}

func (z Bridge) Axpy(d Mem, alpha float32, x Mem) {
	z.do("Axpy", 1, 0, func(host Kernels, o []Mem) { host.Axpy(o[0], alpha, o[1]) }, d, x)
}

func (z Bridge) Unary(f UnaryOp, dst, x Mem) {
	z.do("Unary", 1, 0, func(host Kernels, o []Mem) { host.Unary(f, o[0], o[1]) }, dst, x)
}

func (z Bridge) UnaryGrad(f UnaryOp, dx, dy, x Mem, acc bool) {
	z.do("UnaryGrad", 1, 0, func(host Kernels, o []Mem) { host.UnaryGrad(f, o[0], o[1], o[2], acc) }, dx, dy, x)
}

func (z Bridge) Gated(f UnaryOp, dst, g, u Mem) {
	z.do("Gated", 1, 0, func(host Kernels, o []Mem) { host.Gated(f, o[0], o[1], o[2]) }, dst, g, u)
}

func (z Bridge) GatedGrad(f UnaryOp, dg, du, dy, g, u Mem, acc bool) {
	z.do("GatedGrad", 2, 0, func(host Kernels, o []Mem) {
		host.GatedGrad(f, o[0], o[1], o[2], o[3], o[4], acc)
	}, dg, du, dy, g, u)
}

func (z Bridge) Dropout(dst, x Mem, p float32, seed uint64, acc bool) {
	z.do("Dropout", 1, 0, func(host Kernels, o []Mem) { host.Dropout(o[0], o[1], p, seed, acc) }, dst, x)
}

func (z Bridge) AddRows(y, x, b Mem, alpha float32, groups, rows, cols int) {
	z.do("AddRows", 1, 0, func(host Kernels, o []Mem) {
		host.AddRows(o[0], o[1], o[2], alpha, groups, rows, cols)
	}, y, x, b)
}

func (z Bridge) SumRows(d, x Mem, alpha float32, groups, rows, cols int) {
	z.do("SumRows", 1, 0, func(host Kernels, o []Mem) {
		host.SumRows(o[0], o[1], alpha, groups, rows, cols)
	}, d, x)
}

func (z Bridge) SumSquares(d, x Mem) {
	z.do("SumSquares", 1, 0, func(host Kernels, o []Mem) { host.SumSquares(o[0], o[1]) }, d, x)
}

func (z Bridge) Softmax(y, x Mem, rows, cols int) {
	z.do("Softmax", 1, 0, func(host Kernels, o []Mem) { host.Softmax(o[0], o[1], rows, cols) }, y, x)
}

func (z Bridge) SoftmaxGrad(dx, dy, y Mem, rows, cols int) {
	z.do("SoftmaxGrad", 1, 0, func(host Kernels, o []Mem) {
		host.SoftmaxGrad(o[0], o[1], o[2], rows, cols)
	}, dx, dy, y)
}

func (z Bridge) RMSNorm(y, inv, x, gain Mem, rows, cols int, eps float32) {
	z.do("RMSNorm", 2, 0, func(host Kernels, o []Mem) {
		host.RMSNorm(o[0], o[1], o[2], o[3], rows, cols, eps)
	}, y, inv, x, gain)
}

func (z Bridge) RMSNormGrad(dx, dgain, dy, x, gain, inv Mem, rows, cols int, acc bool) {
	z.do("RMSNormGrad", 2, 0, func(host Kernels, o []Mem) {
		host.RMSNormGrad(o[0], o[1], o[2], o[3], o[4], o[5], rows, cols, acc)
	}, dx, dgain, dy, x, gain, inv)
}

func (z Bridge) LayerNorm(y, mean, inv, x, gain, bias Mem, rows, cols int, eps float32) {
	z.do("LayerNorm", 3, 0, func(host Kernels, o []Mem) {
		host.LayerNorm(o[0], o[1], o[2], o[3], o[4], o[5], rows, cols, eps)
	}, y, mean, inv, x, gain, bias)
}

func (z Bridge) LayerNormGrad(dx, dgain, dbias, dy, x, gain, mean, inv Mem, rows, cols int) {
	z.do("LayerNormGrad", 3, 0, func(host Kernels, o []Mem) {
		host.LayerNormGrad(o[0], o[1], o[2], o[3], o[4], o[5], o[6], o[7], rows, cols)
	}, dx, dgain, dbias, dy, x, gain, mean, inv)
}

func (z Bridge) CrossEntropy(loss, rowLoss, stats, logits, targets Mem, rows, cols int) {
	z.do("CrossEntropy", 3, 0, func(host Kernels, o []Mem) {
		host.CrossEntropy(o[0], o[1], o[2], o[3], o[4], rows, cols)
	}, loss, rowLoss, stats, logits, targets)
}

func (z Bridge) CrossEntropyGrad(dlogits, dloss, stats, logits, targets Mem, rows, cols int) {
	z.do("CrossEntropyGrad", 1, 0, func(host Kernels, o []Mem) {
		host.CrossEntropyGrad(o[0], o[1], o[2], o[3], o[4], rows, cols)
	}, dlogits, dloss, stats, logits, targets)
}

func (z Bridge) Gather(y, table, ids Mem, rows, cols int) {
	z.do("Gather", 1, 0, func(host Kernels, o []Mem) { host.Gather(o[0], o[1], o[2], rows, cols) }, y, table, ids)
}

func (z Bridge) ScatterAdd(dtable, dy, ids Mem, rows, cols int) {
	z.do("ScatterAdd", 1, 0, func(host Kernels, o []Mem) {
		host.ScatterAdd(o[0], o[1], o[2], rows, cols)
	}, dtable, dy, ids)
}

func (z Bridge) Gemm(c, a, b, bias Mem, s GemmShape) {
	z.do("Gemm", 1, gemmMulAdds(s), func(host Kernels, o []Mem) {
		host.Gemm(o[0], o[1], o[2], o[3], s)
	}, c, a, b, bias)
}

func (z Bridge) Im2Col(cols, x Mem, s ConvShape) {
	z.do("Im2Col", 1, 0, func(host Kernels, o []Mem) { host.Im2Col(o[0], o[1], s) }, cols, x)
}

func (z Bridge) Col2Im(dx, dcols Mem, s ConvShape) {
	z.do("Col2Im", 1, 0, func(host Kernels, o []Mem) { host.Col2Im(o[0], o[1], s) }, dx, dcols)
}

func (z Bridge) RoPE(y, x, table Mem, s RoPEShape) {
	z.do("RoPE", 1, 0, func(host Kernels, o []Mem) { host.RoPE(o[0], o[1], o[2], s) }, y, x, table)
}

func (z Bridge) Attention(out, lse, q, k, v Mem, s AttentionShape) {
	z.do("Attention", 2, 2*attentionPairs(s), func(host Kernels, o []Mem) {
		host.Attention(o[0], o[1], o[2], o[3], o[4], s)
	}, out, lse, q, k, v)
}

func (z Bridge) AttentionGrad(dq, dk, dv, dout, out, lse, q, k, v Mem, s AttentionShape) {
	z.do("AttentionGrad", 3, 5*attentionPairs(s), func(host Kernels, o []Mem) {
		host.AttentionGrad(o[0], o[1], o[2], o[3], o[4], o[5], o[6], o[7], o[8], s)
	}, dq, dk, dv, dout, out, lse, q, k, v)
}

func (z Bridge) QuantizeRows(q, scale, x Mem, rows, cols int) {
	z.do("QuantizeRows", 2, 0, func(host Kernels, o []Mem) {
		host.QuantizeRows(o[0], o[1], o[2], rows, cols)
	}, q, scale, x)
}

func (z Bridge) QuantizeWeights(codes, scale, w Mem, s WeightQuant) {
	z.do("QuantizeWeights", 2, 0, func(host Kernels, o []Mem) {
		host.QuantizeWeights(o[0], o[1], o[2], s)
	}, codes, scale, w)
}

func (z Bridge) QuantizeStochastic(codes, scale, x Mem, s StochasticQuant) {
	z.do("QuantizeStochastic", 2, 0, func(host Kernels, o []Mem) {
		host.QuantizeStochastic(o[0], o[1], o[2], s)
	}, codes, scale, x)
}

func (z Bridge) Dequantize(y, codes, scale Mem, rows, cols int) {
	z.do("Dequantize", 1, 0, func(host Kernels, o []Mem) {
		host.Dequantize(o[0], o[1], o[2], rows, cols)
	}, y, codes, scale)
}

func (z Bridge) LSQGrad(dscale, dq, w, scale Mem, rows, cols, levels int, alpha float32) {
	z.do("LSQGrad", 1, 0, func(host Kernels, o []Mem) {
		host.LSQGrad(o[0], o[1], o[2], o[3], rows, cols, levels, alpha)
	}, dscale, dq, w, scale)
}

func (z Bridge) QLinear(y, xq, xs, codes, ws, bias Mem, m, n, k int) {
	z.do("QLinear", 1, int64(m)*int64(n)*int64(k), func(host Kernels, o []Mem) {
		host.QLinear(o[0], o[1], o[2], o[3], o[4], o[5], m, n, k)
	}, y, xq, xs, codes, ws, bias)
}

func (z Bridge) PackedLinear(y, xq, xs, panels, ws, bias Mem, m, n, k, levels int) {
	z.do("PackedLinear", 1, int64(m)*int64(n)*int64(k), func(host Kernels, o []Mem) {
		host.PackedLinear(o[0], o[1], o[2], o[3], o[4], o[5], m, n, k, levels)
	}, y, xq, xs, panels, ws, bias)
}

func (z Bridge) UnpackPanels(codes, panels Mem, n, k, levels int) {
	z.do("UnpackPanels", 1, 0, func(host Kernels, o []Mem) { host.UnpackPanels(o[0], o[1], n, k, levels) }, codes, panels)
}

func (z Bridge) QLinearGradX(dx, dy, codes, ws Mem, m, n, k int, math Math, acc bool) {
	z.do("QLinearGradX", 1, int64(m)*int64(n)*int64(k), func(host Kernels, o []Mem) {
		host.QLinearGradX(o[0], o[1], o[2], o[3], m, n, k, math, acc)
	}, dx, dy, codes, ws)
}

func (z Bridge) QLinearGradW(dw, dy, xq, xs Mem, m, n, k int, math Math, acc bool) {
	z.do("QLinearGradW", 1, int64(m)*int64(n)*int64(k), func(host Kernels, o []Mem) {
		host.QLinearGradW(o[0], o[1], o[2], o[3], m, n, k, math, acc)
	}, dw, dy, xq, xs)
}

func (z Bridge) AdamW(w, m, v, g Mem, s AdamWStep) {
	z.do("AdamW", 3, 0, func(host Kernels, o []Mem) { host.AdamW(o[0], o[1], o[2], o[3], s) }, w, m, v, g)
}

func (z Bridge) Uniform(dst Mem, seed uint64, lo, hi float32) {
	z.do("Uniform", 1, 0, func(host Kernels, o []Mem) { host.Uniform(o[0], seed, lo, hi) }, dst)
}

func (z Bridge) Normal(dst Mem, seed uint64, std float32) {
	z.do("Normal", 1, 0, func(host Kernels, o []Mem) { host.Normal(o[0], seed, std) }, dst)
}
