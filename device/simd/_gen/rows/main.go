// Command rows writes the routines of rows, reductions and quantizers.
package main

import (
	. "github.com/mmcloughlin/avo/build"

	. "setun/device/simd/gen/lane"
)

func main() {
	ConstraintExpr("amd64")
	for _, w := range Widths {
		expRow(w)
		maxRow(w)
		probGrad(w)
		dot(w)
	}
	Generate()
}
