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
		softmax(w)
		softmaxGrad(w)
		logSumExp(w)
		crossEntropyGrad(w)
		rmsNorm(w)
		rmsNormGrad(w)
		rmsNormGain(w)
		layerNorm(w)
		layerNormGrad(w)
		layerNormGain(w)
		sumRows(w)
		sumAbs(w)
		sumSquares(w)
		quantizeRows(w)
		ternary(w)
		signs(w)
		encode(w)
		dequantize(w)
		lsq(w)
	}
	Generate()
}
