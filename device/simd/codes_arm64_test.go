//go:build linux

package simd

import "fmt"

// testedTiles are the kernels of this processor.
func testedTiles() (tiles []testedTile) {
	if hasDot {
		for i, f := range tilesDot {
			tiles = append(tiles, testedTile{fmt.Sprint(i+1, "NEON"), i + 1, 16, f})
		}
	}
	return
}

// code is element i of row j of a turned A.
func code(_ Tier, p *qproduct, j, i int) int8 { return p.word(j, i/4)[i%4] }
