package tensor

// Add: dst = a + b.
func Add(dst, a, b *Tensor) {
	sameLen("Add", dst, a, b)
	where("Add", dst, a, b).Add(dst.mem, a.mem, b.mem)
}

// Mul: dst = a * b, elementwise.
func Mul(dst, a, b *Tensor) {
	sameLen("Mul", dst, a, b)
	where("Mul", dst, a, b).Mul(dst.mem, a.mem, b.mem)
}

// MulAdd: d += a * b, elementwise.
func MulAdd(d, a, b *Tensor) {
	if d == nil {
		return
	}
	sameLen("MulAdd", d, a, b)
	where("MulAdd", d, a, b).MulAdd(d.mem, a.mem, b.mem)
}

// Scale: dst = alpha * x.
func Scale(dst *Tensor, alpha float32, x *Tensor) {
	sameLen("Scale", dst, x)
	where("Scale", dst, x).Scale(dst.mem, alpha, x.mem)
}

// Axpy: d += alpha * x.
func Axpy(d *Tensor, alpha float32, x *Tensor) {
	if d == nil {
		return
	}
	sameLen("Axpy", d, x)
	where("Axpy", d, x).Axpy(d.mem, alpha, x.mem)
}
