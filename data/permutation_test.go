package data

import (
	"math"
	"testing"
)

func checkBijection(t *testing.T, n, key uint64) {
	t.Helper()
	p := newPermutation(n, key)
	seen := make([]bool, n)
	for i := range n {
		v := p.at(i)
		if v >= n {
			t.Fatalf("n=%d key=%d: at(%d) = %d, out of range", n, key, i, v)
		}
		if seen[v] {
			t.Fatalf("n=%d key=%d: at(%d) = %d comes twice", n, key, i, v)
		}
		seen[v] = true
	}
}

func TestPermutationBijection(t *testing.T) {
	for n := uint64(1); n < 300; n++ {
		checkBijection(t, n, n*n)
	}
	checkBijection(t, 60000, 1)
	checkBijection(t, 1<<16, 2)
	checkBijection(t, 1<<16+1, 3)
}

func FuzzPermutation(f *testing.F) {
	f.Add(uint16(0), uint64(0))
	f.Add(uint16(255), uint64(1))
	f.Add(uint16(256), uint64(math.MaxUint64))
	f.Fuzz(func(t *testing.T, n uint16, key uint64) { checkBijection(t, uint64(n)+1, key) })
}

func TestPermutationLarge(t *testing.T) {
	for _, n := range []uint64{1 << 40, 1<<40 + 1, 1 << 62} {
		p := newPermutation(n, 7)
		for i := range uint64(1000) {
			if v := p.at(n - 1 - i); v >= n {
				t.Fatalf("n=%d: at(%d) = %d", n, n-1-i, v)
			}
		}
	}
}

// Over many keys, item 0 must land everywhere alike, and so must the item after it relative to it.
func TestPermutationUniform(t *testing.T) {
	const trials = 60000
	for _, n := range []uint64{2, 3, 5, 8, 17, 100} {
		first, step := make([]float64, n), make([]float64, n)
		for key := range uint64(trials) {
			p := newPermutation(n, mix(key))
			a, b := p.at(0), p.at(1)
			first[a]++
			step[(b+n-a)%n]++
		}
		if step[0] != 0 {
			t.Errorf("n=%d: items 0 and 1 in the same place %v times", n, step[0])
		}
		for name, h := range map[string][]float64{"first": first, "step": step[1:]} {
			want, chi := trials/float64(len(h)), 0.
			for _, c := range h {
				chi += (c - want) * (c - want) / want
			}
			// Mean k and deviation sqrt(2k) with k = len(h)-1: 5 deviations, and room for k = 1.
			k := float64(len(h) - 1)
			if limit := k + 5*math.Sqrt(2*k) + 5; chi > limit {
				t.Errorf("n=%d %s: chi-square %.1f > %.1f: %v", n, name, chi, limit, h)
			}
		}
	}
}
