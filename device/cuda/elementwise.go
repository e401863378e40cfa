package cuda

import (
	"setun/device"
	"setun/internal/half"
)

func (d *Device) Copy(dst, src device.Mem) {
	n := min(dst.Len(), src.Len())
	switch {
	case dst.Type() == src.Type():
		d.move(addr(dst), addr(src), n*dst.Type().Size())
	case dst.Type() == device.F16:
		d.each("narrow", n, addr(dst), addr(src), num(n))
	default:
		d.each("widen", n, addr(dst), addr(src), num(n))
	}
}

func (d *Device) Fill(dst device.Mem, v float32) {
	n := dst.Len()
	switch dst.Type() {
	case device.F32:
		d.each("fill4", n, addr(dst), f32(v), num(n))
	case device.I32:
		d.each("fill4", n, addr(dst), u64(uint64(uint32(int32(v)))), num(n))
	case device.F16:
		d.each("fill2", n, addr(dst), num(int(half.F16(v))), num(n))
	case device.I8:
		d.each("fill1", n, addr(dst), num(int(int8(v))), num(n))
	case device.U8:
		d.each("fill1", n, addr(dst), num(int(uint8(v))), num(n))
	}
}

func (d *Device) CopyRows(dst device.Mem, ldd int, src device.Mem, lds int, rows, cols int, acc bool) {
	n := rows * cols
	switch {
	case dst.Len() == 0 || src.Len() == 0:
	case dst.Type() == device.I8:
		d.each("int8Rows", 32*rows, addr(dst), num(ldd), addr(src), num(lds), num(rows), num(cols))
	case dst.Type() == device.F16:
		d.each("narrowRows", n, addr(dst), num(ldd), addr(src), num(lds), num(n), num(cols))
	default:
		d.each("copyRows", n, addr(dst), num(ldd), addr(src), num(lds), num(n), num(cols), flag(acc))
	}
}

func (d *Device) Add(dst, a, b device.Mem) {
	n := dst.Len()
	d.each("add", n, addr(dst), addr(a), addr(b), num(n))
}

func (d *Device) Mul(dst, a, b device.Mem) {
	n := dst.Len()
	d.each("mul", n, addr(dst), addr(a), addr(b), num(n))
}

func (d *Device) MulAdd(dst, a, b device.Mem) {
	n := dst.Len()
	d.each("mulAdd", n, addr(dst), addr(a), addr(b), num(n))
}

func (d *Device) Scale(dst device.Mem, alpha float32, x device.Mem) {
	n := dst.Len()
	d.each("scale", n, addr(dst), f32(alpha), addr(x), num(n))
}

func (d *Device) Axpy(dst device.Mem, alpha float32, x device.Mem) {
	n := dst.Len()
	d.each("axpy", n, addr(dst), f32(alpha), addr(x), num(n))
}

// lastActivation is the last that kernels/elementwise.cu has; the host computes those after it.
const lastActivation = device.Exp

func (d *Device) Unary(f device.UnaryOp, dst, x device.Mem) {
	if f > lastActivation {
		d.Bridge.Unary(f, dst, x)
		return
	}
	n := dst.Len()
	d.each("unary", n, num(int(f)), addr(dst), addr(x), num(n))
}

// start clears what a kernel adds to, unless it is to add.
func (d *Device) start(acc bool, to ...device.Mem) {
	for _, m := range to {
		if !acc && !m.IsZero() {
			d.Fill(m, 0)
		}
	}
}

func (d *Device) UnaryGrad(f device.UnaryOp, dx, dy, x device.Mem, acc bool) {
	if f > lastActivation {
		d.Bridge.UnaryGrad(f, dx, dy, x, acc)
		return
	}
	n := dx.Len()
	d.each("unaryGrad", n, num(int(f)), addr(dx), addr(dy), addr(x), flag(acc), num(n))
}

func (d *Device) Gated(f device.UnaryOp, dst, g, u device.Mem) {
	if f > lastActivation {
		d.Bridge.Gated(f, dst, g, u)
		return
	}
	n := dst.Len()
	d.each("gated", n, num(int(f)), addr(dst), addr(g), addr(u), num(n))
}

func (d *Device) GatedGrad(f device.UnaryOp, dg, du, dy, g, u device.Mem, acc bool) {
	if f > lastActivation {
		d.Bridge.GatedGrad(f, dg, du, dy, g, u, acc)
		return
	}
	if dg.IsZero() && du.IsZero() {
		return
	}
	n := dy.Len()
	d.each("gatedGrad", n, num(int(f)), addr(dg), addr(du), addr(dy), addr(g), addr(u), flag(acc), num(n))
}
