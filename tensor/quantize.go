package tensor

import "setun/device"

// QuantizeRows: int8 absmax along the last dimension, codes q (like x, I8) and scale (rows), x ≈ q * scale.
func QuantizeRows(q, scale, x *Tensor) {
	sameLen("QuantizeRows", q, x)
	rows, cols := x.matrix()
	hasLen("QuantizeRows", scale, rows)
	check(q.Type() == device.I8, "QuantizeRows", "needs int8 codes", q)
	where("QuantizeRows", q, scale, x).QuantizeRows(q.mem, scale.mem, x.mem, rows, cols)
}

// QuantizeWeights: codes in [-levels, levels] of w (out, in) with one scale, or one per row when scale has out
// elements.
func QuantizeWeights(codes, scale, w *Tensor, levels int, rule device.WeightRule, factor float32) {
	sameLen("QuantizeWeights", codes, w)
	rows, cols := w.matrix()
	check(codes.Type() == device.I8, "QuantizeWeights", "needs int8 codes", codes)
	check(scale.Len() == 1 || scale.Len() == rows, "QuantizeWeights", "do not fit: one scale, or one per row", scale, w)
	where("QuantizeWeights", codes, scale, w).QuantizeWeights(codes.mem, scale.mem, w.mem, device.WeightQuant{Rows: rows,
		Cols: cols, Levels: levels, Rule: rule, Factor: factor, PerRow: scale.Len() == rows && rows != 1})
}

// QuantizeStochastic: codes of x (out, in) in [-levels, levels], rounded at random without bias, with one scale, or one
// per row when scale has out elements. The shapes give s.Rows, s.Cols and s.PerRow.
func QuantizeStochastic(codes, scale, x *Tensor, s device.StochasticQuant) {
	sameLen("QuantizeStochastic", codes, x)
	s.Rows, s.Cols = x.matrix()
	check(codes.Type() == device.I8, "QuantizeStochastic", "needs int8 codes", codes)
	check(scale.Len() == 1 || scale.Len() == s.Rows, "QuantizeStochastic", "do not fit: one scale, or one per row",
		scale, x)
	s.PerRow = scale.Len() == s.Rows && s.Rows != 1
	where("QuantizeStochastic", codes, scale, x).QuantizeStochastic(codes.mem, scale.mem, x.mem, s)
}

// Dequantize: y = codes * scale; scale has one element or one per row.
func Dequantize(y, codes, scale *Tensor) {
	sameLen("Dequantize", y, codes)
	rows, cols := codes.matrix()
	check(scale.Len() == 1 || scale.Len() == rows, "Dequantize", "do not fit: one scale, or one per row", scale, codes)
	where("Dequantize", y, codes, scale).Dequantize(y.mem, codes.mem, scale.mem, rows, cols)
}

// LSQGrad: dscale += alpha * the gradient of a learned scale, see device.Kernels.
func LSQGrad(dscale, dq, w, scale *Tensor, levels int, alpha float32) {
	if dscale == nil {
		return
	}
	sameLen("LSQGrad", dq, w)
	sameLen("LSQGrad", dscale, scale)
	rows, cols := w.matrix()
	check(scale.Len() == 1 || scale.Len() == rows, "LSQGrad", "do not fit: one scale, or one per row", scale, w)
	where("LSQGrad", dscale, dq, w, scale).LSQGrad(dscale.mem, dq.mem, w.mem, scale.mem, rows, cols, levels, alpha)
}

// QLinear: y = (xq codesᵀ) * xs * ws + bias with an exact integer product; xq (..., in) and codes (out, in) are I8, xs
// has one element per row of xq, ws one or out, bias (out) may be nil.
func QLinear(y, xq, xs, codes, ws, bias *Tensor) {
	m, n, k := linearShape("QLinear", y, xq, codes)
	checkScales(xs, ws, m, n)
	hasLen("QLinear", bias, n)
	where("QLinear", y, xq, xs, codes, ws, bias).QLinear(y.mem, xq.mem, xs.mem, codes.mem, ws.mem, bias.Mem(), m, n, k)
}

// int8Sums is how many products of two int8 an int32 holds the sum of.
const int8Sums = 1 << 17

// QLinearGrad: dx = (dy * ws) codes, with accX, +=; dw = dyᵀ (xq * xs), with accW, +=; dbias += sum over rows of dy. Each may be nil. In
// device.MathInt8, more than 2^17 rows are taken in pieces, and for more than 2^17 outputs dx is in float32.
func QLinearGrad(dx, dw, dbias, dy, xq, xs, codes, ws *Tensor, math device.Math, accX, accW bool) {
	m, n, k := linearShape("QLinear", dy, xq, codes)
	checkScales(xs, ws, m, n)
	dev := where("QLinear", dx, dw, dbias, dy, xq, xs, codes, ws)
	sameLen("QLinear", xq, dx)
	sameLen("QLinear", codes, dw)
	mathX, piece := math, max(m, 1)
	if math == device.MathInt8 {
		piece = int8Sums
		if n > int8Sums {
			mathX = device.MathFP32
		}
	}
	for i := 0; i == 0 || i < m; i += piece {
		end := min(i+piece, m)
		part := dy.mem.Slice(i*n, end*n)
		if dx != nil {
			dev.QLinearGradX(dx.mem.Slice(i*k, end*k), part, codes.mem, ws.mem, end-i, n, k, mathX, accX)
		}
		if dw != nil {
			dev.QLinearGradW(dw.mem, part, xq.mem.Slice(i*k, end*k), xs.mem.Slice(i, end), end-i, n, k, math, accW || i > 0)
		}
	}
	if dbias != nil {
		dev.SumRows(dbias.mem, dy.mem, 1, 1, m, n)
	}
}

func checkScales(xs, ws *Tensor, m, n int) {
	hasLen("QLinear", xs, m)
	check(ws.Len() == 1 || ws.Len() == n, "QLinear", "should have one scale, or one per output", ws)
}
