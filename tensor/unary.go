package tensor

import "setun/device"

// Unary: dst = f(x).
func Unary(f device.UnaryOp, dst, x *Tensor) {
	sameLen(f.String(), dst, x)
	where(f.String(), dst, x).Unary(f, dst.mem, x.mem)
}

// UnaryGrad: dx = dy * f'(x); with acc, it adds.
func UnaryGrad(f device.UnaryOp, dx, dy, x *Tensor, acc bool) {
	sameLen(f.String(), dx, dy, x)
	where(f.String(), dx, dy, x).UnaryGrad(f, dx.Mem(), dy.mem, x.mem, acc)
}

// Gated: dst = f(g) * u; SwiGLU with f = SiLU.
func Gated(f device.UnaryOp, dst, g, u *Tensor) {
	sameLen("Gated", dst, g, u)
	where("Gated", dst, g, u).Gated(f, dst.mem, g.mem, u.mem)
}

// GatedGrad: dg = dy * f'(g) * u; du = dy * f(g); with acc, it adds.
func GatedGrad(f device.UnaryOp, dg, du, dy, g, u *Tensor, acc bool) {
	sameLen("Gated", dg, du, dy, g, u)
	if alias(dg, du) {
		GatedGrad(f, dg, nil, dy, g, u, acc)
		dg, acc = nil, true
	}
	where("Gated", dg, du, dy, g, u).GatedGrad(f, dg.Mem(), du.Mem(), dy.mem, g.mem, u.mem, acc)
}

// Dropout: dst = x * keep / (1-p), keep drawn from seed with probability 1-p; with acc, it adds: its own gradient.
func Dropout(dst, x *Tensor, p float32, seed uint64, acc bool) {
	sameLen("Dropout", dst, x)
	where("Dropout", dst, x).Dropout(dst.Mem(), x.mem, p, seed, acc)
}
