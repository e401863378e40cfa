package simd

import "setun/device"

// There is one width.
var (
	copyPanelRoutine = [...]func(dst, src *float32, stride, rows int){copyPanelNEON}
	compactRoutine   = [...]func(dst, src *float32, stride, rows, n int){compactNEON}
	dots1x4Routine   = [...]dotsFunc{dots1x4NEON}
	dots2x4Routine   = [...]dotsFunc{dots2x4NEON}
)

func (d *Device) width() int { return 0 }

func turn8(dst *float32, ds int, src *float32, ss, n int) { turn8xNEON(dst, ds, src, ss, n) }

// product computes g on all threads; bfloat16 would be no faster.
func (d *Device) product(g gemm, _ device.Math, threads int) { d.multiply(g, threads) }

func (d *Device) gemmHalf(c, a, b, bias device.Mem, s device.GemmShape) {
	d.Device.Gemm(c, a, b, bias, s)
}

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
