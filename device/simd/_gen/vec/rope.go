package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"

	. "setun/device/simd/gen/lane"
)

// rope turns the heads of one row.
func rope(w W) {
	for _, acc := range []bool{false, true} {
		name, op := "rope", "="
		if acc {
			name, op = "ropeAcc", "+="
		}
		w.Func(name, "func(y, x, table *float32, heads, half int, sign uint32)",
			"c, s := table[i], sign^table[half+i]; for each head of y and x, 2*half long:\n"+
				"y[i] "+op+" x[i]*c - x[half+i]*s; y[half+i] "+op+" x[half+i]*c + x[i]*s")
		y, x, heads, half := Ptr("y"), Ptr("x"), Ptr("heads"), Ptr("half")
		sign := w.Arg("sign")
		y1, x1, y2, x2 := GP64(), GP64(), GP64(), GP64()
		cos, sin, n := GP64(), GP64(), GP64()
		next := Fresh("head")
		Label(next)
		Load(Param("table"), cos)
		LEAQ(Mem{Base: cos, Index: half, Scale: 4}, sin)
		MOVQ(y, y1)
		MOVQ(x, x1)
		LEAQ(Mem{Base: y, Index: half, Scale: 4}, y2)
		LEAQ(Mem{Base: x, Index: half, Scale: 4}, x2)
		LEAQ(Mem{Base: y, Index: half, Scale: 8}, y)
		LEAQ(Mem{Base: x, Index: half, Scale: 8}, x)
		MOVQ(half, n)
		w.Each(n, 1, []reg.GPVirtual{y1, y2, x1, x2, cos, sin}, func(s Span) {
			c, sn, a, b := s.Load(cos), s.Load(sin), s.Load(x1), s.Load(x2)
			p, q := w.Vec(), w.Vec()
			w.Xor(sign, sn, sn)
			VMULPS(sn, b, p)
			VMULPS(sn, a, q)
			VFMSUB213PS(p, c, a)
			VFMADD213PS(q, c, b)
			if acc {
				VADDPS(operand(s, y1), a, a)
				VADDPS(operand(s, y2), b, b)
			}
			s.Store(a, y1)
			s.Store(b, y2)
		})
		DECQ(heads)
		JNE(LabelRef(next))
		w.End()
	}
}
