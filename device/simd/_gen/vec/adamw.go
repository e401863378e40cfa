package main

import (
	. "github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/reg"

	. "setun/device/simd/gen/lane"
)

func adamw(w W) {
	w.Func("adamw",
		"func(w, m, v, grad *float32, n int, scale, beta1, c1, beta2, c2, corr1, corr2, eps, lr, keep float32)",
		"h := scale*grad[i]; m[i] = beta1*m[i] + c1*h; v[i] = beta2*v[i] + c2*h*h;\n"+
			"w[i] = w[i]*keep - lr*(m[i]*corr1)/(sqrt(v[i]*corr2)+eps)")
	x, m, v, g, n := Ptr("w"), Ptr("m"), Ptr("v"), Ptr("grad"), Ptr("n")
	scale, beta1, c1, beta2, c2 := w.Arg("scale"), w.Arg("beta1"), w.Arg("c1"), w.Arg("beta2"), w.Arg("c2")
	corr1, corr2, eps, lr, keep := w.Arg("corr1"), w.Arg("corr2"), w.Arg("eps"), w.Arg("lr"), w.Arg("keep")
	w.Each(n, 1, []reg.GPVirtual{x, m, v, g}, func(s Span) {
		h, a, b, t := s.Load(g), s.Load(m), s.Load(v), w.Vec()
		VMULPS(scale, h, h)
		VMULPS(h, c1, t)
		VFMADD213PS(t, beta1, a)
		VMULPS(h, c2, t)
		VMULPS(h, t, t)
		VFMADD213PS(t, beta2, b)
		s.Store(a, m)
		s.Store(b, v)
		VMULPS(corr1, a, a)
		VMULPS(lr, a, a)
		VMULPS(corr2, b, b)
		VSQRTPS(b, b)
		VADDPS(eps, b, b)
		VDIVPS(b, a, a)
		y := s.Load(x)
		VFMSUB213PS(a, keep, y)
		s.Store(y, x)
	})
	w.End()
}
