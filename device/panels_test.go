package device

import (
	"math/rand/v2"
	"slices"
	"testing"
)

// Panels hold what was packed, at every shape, and nothing beyond.
func TestPanels(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for _, s := range [][2]int{{1, 1}, {3, 15}, {32, 16}, {33, 17}, {31, 64}, {70, 47}} {
		for levels := 1; levels <= 2; levels++ {
			n, k := s[0], s[1]
			codes := make([]int8, n*k)
			for i := range codes {
				codes[i] = int8(rng.IntN(2*levels+1) - levels)
			}
			p := make([]uint8, PanelBytes(n, k, levels))
			PackPanels(p, codes, n, k, levels)
			back := make([]int8, n*k)
			UnpackRows(back, p, 0, n, k, levels)
			if !slices.Equal(back, codes) {
				t.Errorf("%d x %d, %d levels: other codes", n, k, levels)
			}
			// With rows and columns in whole panels, all the rest is 0.
			rows, cols := (n+31)/32*32, (k+15)/16*16
			all := make([]int8, rows*cols)
			UnpackRows(all, p, 0, rows, cols, levels)
			for i, c := range all {
				if (i/cols >= n || i%cols >= k) && c != 0 {
					t.Fatalf("%d x %d, %d levels: code %d at row %d, column %d", n, k, levels, c, i/cols, i%cols)
				}
			}
		}
	}
}

func BenchmarkPackPanels(b *testing.B) {
	codes := make([]int8, 1<<22)
	p := make([]uint8, PanelBytes(1<<11, 1<<11, 1))
	b.SetBytes(1 << 22)
	for b.Loop() {
		PackPanels(p, codes, 1<<11, 1<<11, 1)
	}
}
