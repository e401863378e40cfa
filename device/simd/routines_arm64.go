package simd

import (
	"unsafe"

	"setun/device"
)

// There is one width.
var (
	copyPanelRoutine = [...]func(dst, src *float32, stride, rows int){copyPanelNEON}
	compactRoutine   = [...]func(dst, src *float32, stride, rows, n int){compactNEON}
	dots1x4Routine   = [...]dotsFunc{dots1x4NEON}
	dots2x4Routine   = [...]dotsFunc{dots2x4NEON}

	gradColMaxRoutine = [...]func(top, x *float32, ld int, xs *float32, n int){gradColMaxNEON}
	gradColRoutine    = [...]func(dst *int8, stride int, sum *int32, x *float32, ld int, xs, s *float32, n int){
		gradColNEON}

	quantizeRowsRoutine = [...]func(q *int8, scale, x *float32, rows, cols int){quantizeRowsNEON}
	dequantizeRoutine   = [...]func(y *float32, q *int8, scale *float32, rows, cols, step int){dequantizeNEON}
	sumAbsRoutine       = [...]func(part *float64, x *float32, n int){sumAbsNEON}
	sumSquaresRoutine   = [...]func(part *float64, x *float32, n int){sumSquaresNEON}
	ternaryRoutine      = [...]func(q *int8, w *float32, n int, cut1, cut2 float32) uint32{ternaryNEON}
	encodeRoutine       = [...]func(q *int8, w *float32, n int, scale, top float32) uint32{encodeNEON}
	signsRoutine        = [...]func(q *int8, part *float64, w *float32, n int, cut float32) uint32{signsNEON}
	lsqRoutine          = [...]func(part *float64, dq, w *float32, n int, scale, top float32){lsqNEON}

	addRoutine    = routine3{addNEON}
	mulRoutine    = routine3{mulNEON}
	mulAddRoutine = routine3{mulAddNEON}
	swigluRoutine = routine3{swigluNEON}

	adamwRoutine = [...]func(w, m, v, grad *float32, n int,
		scale, beta1, c1, beta2, c2, corr1, corr2, eps, lr, keep float32){
		adamwNEON}
	narrowRoutine           = [...]func(y *uint16, x *float32, n int){narrowNEON}
	widenRoutine            = [...]func(y *float32, x *uint16, n int){widenNEON}
	rowDotsHalfRoutine      = [...]func(s, x *float32, row *uint16, ld, d, n int, scale float32){rowDotsHalfNEON}
	rowDotsInt8Routine      = [...]func(s, x *float32, row *int8, ld, d, n int, scale float32){rowDotsInt8NEON}
	rowDotsRoutine          = [...]func(s, x, row *float32, ld, d, n int, scale float32){rowDotsNEON}
	rowMixHalfRoutine       = [...]func(y, p *float32, row *uint16, ld, d, n int){rowMixHalfNEON}
	rowMixInt8Routine       = [...]func(y, p *float32, row *int8, ld, d, n int){rowMixInt8NEON}
	rowMixRoutine           = [...]func(y, p, row *float32, ld, d, n int){rowMixNEON}
	logSumExpRoutine        = [...]func(top, sum, x *float32, rows, cols int){logSumExpNEON}
	crossEntropyGradRoutine = [...]func(dx, lse, x *float32, targets *int32, rows, cols int, scale float32){
		crossEntropyGradNEON}
	swigluGradRoutine = [...]func(dg, du, dy, gate, u *float32, n int){swigluGradNEON}
	layerNormRoutine  = [...]func(y, mean, inv, x, gain, bias *float32, rows, cols int, recip, eps float32){
		layerNormNEON}
	layerNormGradRoutine = [...]func(dx, dy, x, gain, mean, inv *float32, rows, cols int, recip float32){
		layerNormGradNEON}
	layerNormGainRoutine = [...]func(gain, bias, dy, x, mean, inv *float32, rows, cols int){layerNormGainNEON}
	rmsNormRoutine       = [...]func(y, inv, x, gain *float32, rows, cols int, recip, eps float32){rmsNormNEON}
	rmsNormGradRoutine   = [...]func(dx, dy, x, gain, inv *float32, rows, cols int, recip float32){
		rmsNormGradNEON}
	rmsNormGainRoutine = [...]func(sum, dy, x, inv *float32, rows, cols int){rmsNormGainNEON}
	ropeRoutine        = [...]func(y, x, table *float32, heads, half int, sign uint32){ropeNEON}
	ropeAccRoutine     = [...]func(y, x, table *float32, heads, half int, sign uint32){ropeAccNEON}
	sumRowsRoutine     = [...]func(sum, x *float32, rows, cols, stride int){sumRowsNEON}
	softmaxRoutine     = [...]func(y, x *float32, rows, cols int){softmaxNEON}
	softmaxGradRoutine = [...]func(dx, dy, y *float32, rows, cols int){softmaxGradNEON}
	uniformRoutine     = [...]func(y *float32, n int, counter uint64, k0, k1 uint32, lo, width float32){
		uniformNEON}
	dropoutRoutine    = [...]dropoutFunc{dropoutNEON}
	dropoutAccRoutine = [...]dropoutFunc{dropoutAccNEON}
)

const widths = 1

// activations holds f and d += dy * f' of each activation.
var activations = [...]struct {
	value routine2
	slope routine3
}{
	device.SiLU:    {routine2{siluNEON}, routine3{siluGradNEON}},
	device.ReLU:    {routine2{reluNEON}, routine3{reluGradNEON}},
	device.ReLU2:   {routine2{relu2NEON}, routine3{relu2GradNEON}},
	device.GELU:    {routine2{geluNEON}, routine3{geluGradNEON}},
	device.Sigmoid: {routine2{sigmoidNEON}, routine3{sigmoidGradNEON}},
	device.Tanh:    {routine2{tanhNEON}, routine3{tanhGradNEON}},
	device.Exp:     {routine2{expNEON}, routine3{expGradNEON}},
}

// codeOffset: SDOT multiplies signed codes.
const codeOffset = 0

// dots: the tier has integer products.
func (d *Device) dots() bool { return d.tier != None && hasDot }

// packRows8 turns words of four codes.
func packRows8(dst *uint8, src *int8, ld, n int) {
	turn8xNEON((*float32)(unsafe.Pointer(dst)), 4*panelCols, (*float32)(unsafe.Pointer(src)), ld, n)
}

func packCols16(dst *uint8, src *int8, ld, groups, n int) { packColsNEON(dst, src, ld, groups, n) }

func (d *Device) width() int { return 0 }

func turn8(dst *float32, ds int, src *float32, ss, n int) { turn8xNEON(dst, ds, src, ss, n) }

// product computes g on all threads; bfloat16 would be no faster.
func (d *Device) product(g gemm, _ device.Math, threads int) { d.multiply(g, threads) }

// tile computes the next rows and says how many.
func (t *tiler) tile(a, c *float32, m, n int) int {
	rows := [...]int{1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 6}[min(m, tileM)]
	v := ceil(n, 4)
	tilesNEON[tileIndex[rows]][v-1](t.k, a, t.ars, t.acs, t.b, t.bs, c, t.cs, n-4*(v-1), t.alpha, t.beta, t.bias)
	return rows
}

var tilesNEON = [4][4]tileFunc{
	{tile1x1NEON, tile1x2NEON, tile1x3NEON, tile1x4NEON},
	{tile2x1NEON, tile2x2NEON, tile2x3NEON, tile2x4NEON},
	{tile4x1NEON, tile4x2NEON, tile4x3NEON, tile4x4NEON},
	{tile6x1NEON, tile6x2NEON, tile6x3NEON, tile6x4NEON},
}

// There are no matrix tiles.
const tileRows = tileM

func (d *Device) tiles(device.AttentionShape) bool { return false }

func (a *attention) forwardTiles(b, h, i, end int) {}
func (a *attention) backwardTiles(b, h, group int) {}
