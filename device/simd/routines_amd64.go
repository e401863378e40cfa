package simd

import "setun/device"

// Routines come in two widths, 512 bits first: width is the index of the one to use.
var (
	copyPanelRoutine = [...]func(dst, src *float32, stride, rows int){copyPanelAVX512, copyPanelAVX2}
	compactRoutine   = [...]func(dst, src *float32, stride, rows, n int){compactAVX512, compactAVX2}
	dots1x4Routine   = [...]dotsFunc{dots1x4AVX512, dots1x4AVX2}
	dots2x4Routine   = [...]dotsFunc{dots2x4AVX512, dots2x4AVX2}

	gradColMaxRoutine = [...]func(top, x *float32, ld int, xs *float32, n int){gradColMaxAVX512, gradColMaxAVX2}
	gradColRoutine    = [...]func(dst *int8, stride int, sum *int32, x *float32, ld int, xs, s *float32, n int){
		gradColAVX512, gradColAVX2}

	quantizeRowsRoutine = [...]func(q *int8, scale, x *float32, rows, cols int){quantizeRowsAVX512, quantizeRowsAVX2}
	dequantizeRoutine   = [...]func(y *float32, q *int8, scale *float32, rows, cols, step int){
		dequantizeAVX512, dequantizeAVX2}
	sumAbsRoutine     = [...]func(part *float64, x *float32, n int){sumAbsAVX512, sumAbsAVX2}
	sumSquaresRoutine = [...]func(part *float64, x *float32, n int){sumSquaresAVX512, sumSquaresAVX2}
	ternaryRoutine    = [...]func(q *int8, w *float32, n int, cut1, cut2 float32) uint32{ternaryAVX512, ternaryAVX2}
	encodeRoutine     = [...]func(q *int8, w *float32, n int, scale, top float32) uint32{encodeAVX512, encodeAVX2}
	signsRoutine      = [...]func(q *int8, part *float64, w *float32, n int, cut float32) uint32{signsAVX512, signsAVX2}
	lsqRoutine        = [...]func(part *float64, dq, w *float32, n int, scale, top float32){lsqAVX512, lsqAVX2}

	addRoutine    = routine3{addAVX512, addAVX2}
	mulRoutine    = routine3{mulAVX512, mulAVX2}
	mulAddRoutine = routine3{mulAddAVX512, mulAddAVX2}
	swigluRoutine = routine3{swigluAVX512, swigluAVX2}

	adamwRoutine = [...]func(w, m, v, grad *float32, n int,
		scale, beta1, c1, beta2, c2, corr1, corr2, eps, lr, keep float32){
		adamwAVX512, adamwAVX2}
	narrowRoutine      = [...]func(y *uint16, x *float32, n int){narrowAVX512, narrowAVX2}
	widenRoutine       = [...]func(y *float32, x *uint16, n int){widenAVX512, widenAVX2}
	rowDotsHalfRoutine = [...]func(s, x *float32, row *uint16, ld, d, n int, scale float32){
		rowDotsHalfAVX512, rowDotsHalfAVX2}
	rowDotsInt8Routine = [...]func(s, x *float32, row *int8, ld, d, n int, scale float32){
		rowDotsInt8AVX512, rowDotsInt8AVX2}
	rowDotsRoutine          = [...]func(s, x, row *float32, ld, d, n int, scale float32){rowDotsAVX512, rowDotsAVX2}
	rowMixHalfRoutine       = [...]func(y, p *float32, row *uint16, ld, d, n int){rowMixHalfAVX512, rowMixHalfAVX2}
	rowMixInt8Routine       = [...]func(y, p *float32, row *int8, ld, d, n int){rowMixInt8AVX512, rowMixInt8AVX2}
	rowMixRoutine           = [...]func(y, p, row *float32, ld, d, n int){rowMixAVX512, rowMixAVX2}
	logSumExpRoutine        = [...]func(top, sum, x *float32, rows, cols int){logSumExpAVX512, logSumExpAVX2}
	crossEntropyGradRoutine = [...]func(dx, lse, x *float32, targets *int32, rows, cols int, scale float32){
		crossEntropyGradAVX512, crossEntropyGradAVX2}
	swigluGradRoutine = [...]func(dg, du, dy, gate, u *float32, n int){swigluGradAVX512, swigluGradAVX2}
	layerNormRoutine  = [...]func(y, mean, inv, x, gain, bias *float32, rows, cols int, recip, eps float32){
		layerNormAVX512, layerNormAVX2}
	layerNormGradRoutine = [...]func(dx, dy, x, gain, mean, inv *float32, rows, cols int, recip float32){
		layerNormGradAVX512, layerNormGradAVX2}
	layerNormGainRoutine = [...]func(gain, bias, dy, x, mean, inv *float32, rows, cols int){
		layerNormGainAVX512, layerNormGainAVX2}
	rmsNormRoutine = [...]func(y, inv, x, gain *float32, rows, cols int, recip, eps float32){
		rmsNormAVX512, rmsNormAVX2}
	rmsNormGradRoutine = [...]func(dx, dy, x, gain, inv *float32, rows, cols int, recip float32){
		rmsNormGradAVX512, rmsNormGradAVX2}
	rmsNormGainRoutine = [...]func(sum, dy, x, inv *float32, rows, cols int){
		rmsNormGainAVX512, rmsNormGainAVX2}
	ropeRoutine        = [...]func(y, x, table *float32, heads, half int, sign uint32){ropeAVX512, ropeAVX2}
	ropeAccRoutine     = [...]func(y, x, table *float32, heads, half int, sign uint32){ropeAccAVX512, ropeAccAVX2}
	sumRowsRoutine     = [...]func(sum, x *float32, rows, cols, stride int){sumRowsAVX512, sumRowsAVX2}
	softmaxRoutine     = [...]func(y, x *float32, rows, cols int){softmaxAVX512, softmaxAVX2}
	softmaxGradRoutine = [...]func(dx, dy, y *float32, rows, cols int){softmaxGradAVX512, softmaxGradAVX2}
	uniformRoutine     = [...]func(y *float32, n int, counter uint64, k0, k1 uint32, lo, width float32){
		uniformAVX512, uniformAVX2}
	dropoutRoutine    = [...]dropoutFunc{dropoutAVX512, dropoutAVX2}
	dropoutAccRoutine = [...]dropoutFunc{dropoutAccAVX512, dropoutAccAVX2}
)

const widths = 2

// activations holds f and d += dy * f' of each activation.
var activations = [...]struct {
	value routine2
	slope routine3
}{
	device.SiLU:    {routine2{siluAVX512, siluAVX2}, routine3{siluGradAVX512, siluGradAVX2}},
	device.ReLU:    {routine2{reluAVX512, reluAVX2}, routine3{reluGradAVX512, reluGradAVX2}},
	device.ReLU2:   {routine2{relu2AVX512, relu2AVX2}, routine3{relu2GradAVX512, relu2GradAVX2}},
	device.GELU:    {routine2{geluAVX512, geluAVX2}, routine3{geluGradAVX512, geluGradAVX2}},
	device.Sigmoid: {routine2{sigmoidAVX512, sigmoidAVX2}, routine3{sigmoidGradAVX512, sigmoidGradAVX2}},
	device.Tanh:    {routine2{tanhAVX512, tanhAVX2}, routine3{tanhGradAVX512, tanhGradAVX2}},
	device.Exp:     {routine2{expAVX512, expAVX2}, routine3{expGradAVX512, expGradAVX2}},
}

// codeOffset makes the codes of B unsigned.
const codeOffset = 128

// dots: the tier has integer products.
func (d *Device) dots() bool { return d.tier != None }

func packRows8(dst *uint8, src *int8, ld, n int) { packRowsAVX2(dst, src, ld, n) }

func packCols16(dst *uint8, src *int8, ld, groups, n int) { packColsAVX2(dst, src, ld, groups, n) }

func (d *Device) width() int {
	if d.tier >= AVX512 {
		return 0
	}
	return 1
}

func turn8(dst *float32, ds int, src *float32, ss, n int) { turn8xAVX2(dst, ds, src, ss, n) }

// tile computes the next rows and says how many.
func (t *tiler) tile(a, c *float32, m, n int) int {
	rows := [...]int{1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 6}[min(m, tileM)]
	if t.wide {
		tiles, v := &tilesAVX512, ceil(n, 16)
		if t.pairs {
			tiles = &tilesBF16
		}
		tiles[tileIndex[rows]][v-1](t.k, a, t.ars, t.acs, t.b, t.bs, c, t.cs, n-16*(v-1), t.alpha, t.beta, t.bias)
	} else {
		v := ceil(n, 8)
		tilesAVX2[tileIndex[rows]][v-1](t.k, a, t.ars, t.acs, t.b, t.bs, c, t.cs, n-8*(v-1), t.alpha, t.beta, t.bias)
	}
	return rows
}

var tilesAVX512 = [4][4]tileFunc{
	{tile1x1AVX512, tile1x2AVX512, tile1x3AVX512, tile1x4AVX512},
	{tile2x1AVX512, tile2x2AVX512, tile2x3AVX512, tile2x4AVX512},
	{tile4x1AVX512, tile4x2AVX512, tile4x3AVX512, tile4x4AVX512},
	{tile6x1AVX512, tile6x2AVX512, tile6x3AVX512, tile6x4AVX512},
}

var tilesBF16 = [4][4]tileFunc{
	{tileBF16x1x1AVX512, tileBF16x1x2AVX512, tileBF16x1x3AVX512, tileBF16x1x4AVX512},
	{tileBF16x2x1AVX512, tileBF16x2x2AVX512, tileBF16x2x3AVX512, tileBF16x2x4AVX512},
	{tileBF16x4x1AVX512, tileBF16x4x2AVX512, tileBF16x4x3AVX512, tileBF16x4x4AVX512},
	{tileBF16x6x1AVX512, tileBF16x6x2AVX512, tileBF16x6x3AVX512, tileBF16x6x4AVX512},
}

var tilesAVX2 = [4][2]tileFunc{
	{tile1x1AVX2, tile1x2AVX2},
	{tile2x1AVX2, tile2x2AVX2},
	{tile4x1AVX2, tile4x2AVX2},
	{tile6x1AVX2, tile6x2AVX2},
}
