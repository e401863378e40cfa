package tensor

import "setun/device"

// MatMul: c = alpha * op(a) op(b) + beta * c, where op transposes the last two dimensions if asked.
//
// When b has two dimensions, the leading dimensions of a and c are rows: (..., m, k) x (k, n). Otherwise all three have
// equal leading dimensions and the products are taken matrix by matrix.
func MatMul(c, a, b *Tensor, transA, transB bool, alpha, beta float32) {
	matMul(c, a, b, device.GemmShape{TransA: transA, TransB: transB, Alpha: alpha, Beta: beta})
}

// MatMulBF16 is MatMul with elements of a and b that the device may round to bfloat16. symmetric promises that c is
// symmetric, before and after.
func MatMulBF16(c, a, b *Tensor, transA, transB bool, alpha, beta float32, symmetric bool) {
	matMul(c, a, b, device.GemmShape{TransA: transA, TransB: transB, Alpha: alpha, Beta: beta, Math: device.MathBF16,
		Symmetric: symmetric})
}

func matMul(c, a, b *Tensor, s device.GemmShape) {
	const op = "MatMul"
	check(a.dims >= 1 && b.dims >= 2 && c.dims >= 1, op, "need two dimensions", a, b)
	s.Batch = 1
	if b.dims == 2 {
		s.M, s.K = a.matrix()
		if s.TransA {
			s.M, s.K = s.K, s.M
		}
	} else {
		check(a.dims == b.dims && c.dims == b.dims, op, "differ in dimensions", a, b)
		for i := range b.dims - 2 {
			check(a.shape[i] == b.shape[i] && c.shape[i] == b.shape[i], op, "differ in leading dimensions", a, b, c)
			s.Batch *= b.shape[i]
		}
		s.M, s.K = a.Dim(-2), a.Dim(-1)
		if s.TransA {
			s.M, s.K = s.K, s.M
		}
		s.StrideA, s.StrideB = s.M*s.K, b.Dim(-2)*b.Dim(-1)
	}
	kb, n := b.Dim(-2), b.Dim(-1)
	if s.TransB {
		kb, n = n, kb
	}
	s.N = n
	check(kb == s.K, op, "do not fit: inner dimensions differ", a, b)
	rows, cols := c.matrix()
	check(!s.Symmetric || s.M == s.N, op, "is not square, which a symmetric result must be", c)
	check(rows == s.Batch*s.M && cols == s.N, op, "do not fit the result", a, b, c)
	if s.Batch == 0 {
		return
	}
	s.StrideC = s.M * s.N
	where(op, c, a, b).Gemm(c.mem, a.mem, b.mem, device.Mem{}, s)
}

// Linear: y = x wᵀ + bias, with x (..., in), w (out, in), bias (out) or nil, y (..., out).
// See [device.Math].
func Linear(y, x, w, bias *Tensor, math device.Math) {
	m, n, k := linearShape("Linear", y, x, w)
	hasLen("Linear", bias, n)
	where("Linear", y, x, w, bias).Gemm(y.mem, x.mem, w.mem, bias.Mem(),
		device.GemmShape{M: m, N: n, K: k, TransB: true, Alpha: 1, Math: math})
}

// LinearGrad: dx = dy w, with accX, +=; dw = dyᵀ x, with accW, +=; dbias += sum over rows of dy. Each may be nil.
func LinearGrad(dx, dw, dbias, dy, x, w *Tensor, math device.Math, accX, accW bool) {
	m, n, k := linearShape("Linear", dy, x, w)
	dev := where("Linear", dx, dw, dbias, dy, x, w)
	if dx != nil {
		dev.Gemm(dx.mem, dy.mem, w.mem, device.Mem{},
			device.GemmShape{M: m, N: k, K: n, Alpha: 1, Beta: beta(accX), Math: math})
	}
	if dw != nil {
		dev.Gemm(dw.mem, dy.mem, x.mem, device.Mem{},
			device.GemmShape{M: n, N: k, K: m, TransA: true, Alpha: 1, Beta: beta(accW), Math: math})
	}
	if dbias != nil {
		dev.SumRows(dbias.mem, dy.mem, 1, 1, m, n)
	}
}

func beta(acc bool) float32 {
	if acc {
		return 1
	}
	return 0
}

func linearShape(op string, y, x, w *Tensor) (m, n, k int) {
	m, k = x.matrix()
	n, kw := w.matrix()
	check(w.dims == 2 && k == kw, op, "do not fit: x is (..., in), w is (out, in)", x, w)
	rows, cols := y.matrix()
	check(rows == m && cols == n, op, "do not fit the result", x, w, y)
	return m, n, k
}
