// Command vec writes the elementwise routines.
package main

import (
	. "github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/reg"

	. "setun/device/simd/gen/lane"
)

func main() {
	ConstraintExpr("amd64")
	for _, w := range Widths {
		axpy(w)
	}
	Generate()
}

func axpy(w W) {
	w.Func("axpy", "func(y, x *float32, n int, alpha float32)", "y[i] += alpha*x[i]")
	y, x, n := Ptr("y"), Ptr("x"), Ptr("n")
	alpha := w.Arg("alpha")
	w.Each(n, 4, []reg.GPVirtual{y, x}, func(s Span) {
		v, d := s.Load(x), s.Load(y)
		VFMADD231PS(v, alpha, d)
		s.Store(d, y)
	})
	w.End()
}
