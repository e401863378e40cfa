package simd

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
	dequantizeRoutine   = [...]func(y *float32, q *int8, scale *float32, rows, cols, step int){dequantizeAVX512, dequantizeAVX2}
	sumAbsRoutine       = [...]func(part *float64, x *float32, n int){sumAbsAVX512, sumAbsAVX2}
	sumSquaresRoutine   = [...]func(part *float64, x *float32, n int){sumSquaresAVX512, sumSquaresAVX2}
	ternaryRoutine      = [...]func(q *int8, w *float32, n int, cut1, cut2 float32) uint32{ternaryAVX512, ternaryAVX2}
	encodeRoutine       = [...]func(q *int8, w *float32, n int, scale, top float32) uint32{encodeAVX512, encodeAVX2}
	signsRoutine        = [...]func(q *int8, part *float64, w *float32, n int, cut float32) uint32{signsAVX512, signsAVX2}
	lsqRoutine          = [...]func(part *float64, dq, w *float32, n int, scale, top float32){lsqAVX512, lsqAVX2}
)

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

// wide is the routine of the device's width.
func wide[F any](d *Device, avx512, avx2 F) F {
	if d.tier >= AVX512 {
		return avx512
	}
	return avx2
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
