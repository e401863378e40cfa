//go:build amd64 && linux

package simd

import (
	"fmt"
	"slices"
	"testing"
)

// testedTiles are the kernels of this processor.
func testedTiles() (tiles []testedTile) {
	if best >= AVX2 {
		tiles = append(tiles, testedTile{"1AVX2", 1, 16, qtile1AVX2}, testedTile{"4AVX2", 4, 16, qtile4AVX2})
	}
	if best >= AVX512 {
		tiles = append(tiles, testedTile{"1AVX512", 1, 32, qtile1AVX512}, testedTile{"4AVX512", 4, 32, qtile4AVX512})
	}
	if best >= VNNI {
		for i, f := range tilesVNNI {
			tiles = append(tiles, testedTile{fmt.Sprint(i+1, "VNNI"), i + 1, 64, f})
		}
	}
	return
}

// code is element i of row j of a turned A.
func code(tier Tier, p *qproduct, j, i int) int8 {
	if tier == AMX {
		return p.a[j/tileRows*tileRows*p.depth+(i/tileBytes*tileRows+j%tileRows)*tileBytes+i%tileBytes]
	}
	return p.word(j, i/4)[i%4]
}

// TestStrips: the strips of AMX, all rows and columns, with A in rows and in tiles, B in panels of both widths.
func TestStrips(t *testing.T) {
	if best < AMX {
		t.Skip("needs AMX")
	}
	for rows := 1; rows <= tileRows; rows++ {
		for _, cols := range []int{1, 15, 16, 17, 31, 32, 33, 47, 48, 63, 64} {
			steps, strips, mode, tiled := 1+cols%3, 1, (rows+cols)%3, rows%2 == 0
			if rows == tileRows {
				strips = 1 + cols%3
			}
			places(t, fmt.Sprintf("%d rows, %d columns", rows, cols), func(p place) {
				all, ld, bs := strips*rows, cols+3, 256
				if cols <= 32 {
					bs = 128
				}
				c := p.floats((all-1)*ld+cols, 1)
				rs, cs, bias := p.floats(all, 1), p.floats(cols, 1), p.floats(cols, 1)
				comp := guarded[int32](t, all, p.head)
				for i := range comp {
					comp[i] = int32(p.rng.Uint32())
				}
				ars, aks := steps*tileBytes, tileBytes
				if tiled {
					ars, aks = tileBytes, rows*tileBytes
				}
				a, b := p.codes(all*steps*tileBytes), guarded[uint8](t, (16*steps-1)*bs+max(bs, 4*cols), p.head)
				for i := range b {
					b[i] = uint8(p.rng.UintN(256))
				}
				at := func(i, l int) int8 {
					if tiled {
						return a[i/rows*rows*ars+i%rows*ars+l/tileBytes*aks+l%tileBytes]
					}
					return a[i*ars+l]
				}
				if tiled && strips > 1 {
					return // strips of tiles are called one by one
				}
				want := slices.Clone(c)
				for i := range all {
					for j := range cols {
						sum := comp[i]
						for l := range steps * tileBytes {
							sum += int32(at(i, l)) * int32(b[l/4*bs+4*j+l%4])
						}
						v := float32(float32(float32(sum)*rs[i]) * cs[j])
						switch mode {
						case addBias:
							v += bias[j]
						case accumulate:
							v += want[i*ld+j]
						}
						want[i*ld+j] = v
					}
				}
				kernel := qstrip32AMX
				if rows <= 16 {
					kernel = qstrip16AMX
				}
				kernel(&c[0], ld, &a[0], ars, aks, &b[0], bs, steps, &comp[0], &rs[0], &cs[0], &bias[0], mode, cols, rows, strips,
					&shapes[rows][0], &make([]int32, tileSums)[0])
				sameBits(t, "strip", c, want)
			})
		}
	}
}

func TestTurnWords(t *testing.T) {
	if best < AMX {
		t.Skip("needs AMX")
	}
	places(t, "turnWords", func(p place) {
		const ss = 192
		src, dst := p.codes(15*ss+64), guarded[int8](t, 1024, p.head)
		turnWordsAVX512(&dst[0], &src[0], ss)
		for i := range 1024 {
			if want := src[i%64/4*ss+i/64*4+i%4]; dst[i] != want {
				t.Fatalf("byte %d is %d, want %d", i, dst[i], want)
			}
		}
	})
}
