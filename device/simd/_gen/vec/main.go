// Command vec writes the elementwise routines.
package main

import (
	. "github.com/mmcloughlin/avo/build"

	. "setun/device/simd/gen/lane"
)

func main() {
	ConstraintExpr("amd64")
	for _, w := range Widths {
		arith(w)
		unary(w)
		gated(w)
		adamw(w)
		rope(w)
		uniform(w)
		normal(w)
		dropout(w, false)
		dropout(w, true)
	}
	Generate()
}
