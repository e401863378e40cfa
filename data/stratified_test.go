package data_test

import (
	"math"
	"slices"
	"strings"
	"testing"

	"setun/data"
)

// numbered are n images of one pixel whose class tells them apart, as far as a byte can.
func numbered(n int) *data.Split {
	s := &data.Split{N: n, H: 1, W: 2, Pixels: make([]byte, 2*n), Labels: make([]byte, n)}
	for i := range n {
		s.Pixels[2*i], s.Pixels[2*i+1] = byte(i), byte(i>>8)
	}
	return s
}

// ids are the numbers of a batch's images.
func ids(t *testing.T, b data.Batch) []int {
	t.Helper()
	var x []int
	for i := range b.Size() {
		lo, hi := math.Round(float64(b.Pixels[2*i])*255), math.Round(float64(b.Pixels[2*i+1])*255)
		x = append(x, int(lo)+256*int(hi))
	}
	return x
}

// Every batch has each stratum's share to within one, every image is dealt equally often, in an order of its own each
// epoch; what it deals does not depend on where it is resumed.
func TestStratified(t *testing.T) {
	const n, batch, batches = 330, 16, 3300
	s := numbered(n)
	strata, size := make([]int32, n), make([]int, 6)
	for i := range strata {
		k := []int{0, 0, 0, 0, 1, 1, 2, 3, 3, 3}[i%10]
		if i < 5 {
			k = 5 // and none in 4
		}
		strata[i] = int32(k)
		size[k]++
	}
	sampler, err := s.Stratified(batch, 7, strata)
	if err != nil {
		t.Fatal(err)
	}
	counts, dealt := make([]int, n), make([]int, 6)
	var states []data.State
	var all [][]int
	for range batches {
		states = append(states, sampler.State())
		b, err := sampler.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		got := ids(t, b)
		all = append(all, got)
		in := make([]int, 6)
		for _, i := range got {
			counts[i]++
			in[strata[i]]++
			dealt[strata[i]]++
		}
		if len(got) != batch {
			t.Fatalf("a batch of %d", len(got))
		}
		for k, c := range in {
			if exact := float64(batch*size[k]) / n; math.Abs(float64(c)-exact) >= 1+1e-9 {
				t.Fatalf("%d of stratum %d in a batch, want about %.2f", c, k, exact)
			}
		}
	}
	want := float64(batch*batches) / n
	for i, c := range counts {
		if math.Abs(float64(c)-want) > 0.1*want {
			t.Errorf("image %d is dealt %d times, the mean is %.0f", i, c, want)
		}
	}
	for k, c := range dealt {
		if w := want * float64(size[k]); math.Abs(float64(c)-w) > 4*math.Sqrt(batches)/2 {
			t.Errorf("stratum %d is dealt %d times, want %.0f", k, c, w)
		}
	}
	if slices.Equal(all[0], all[1]) {
		t.Error("two batches are alike")
	}
	for _, at := range []int{0, 5, 1000, 999} {
		other, _ := s.Stratified(batch, 7, strata)
		if err := other.Restore(states[at]); err != nil {
			t.Fatal(err)
		}
		b, _ := other.Next(t.Context())
		if got := ids(t, b); !slices.Equal(got, all[at]) {
			t.Errorf("batch %d after Restore is %v, want %v", at, got, all[at])
		}
	}
	plain, _ := s.Shuffled(batch, 7)
	if err := plain.Restore(states[3]); err == nil {
		t.Error("a shuffled sampler takes the state of a stratified one")
	}
}

// A state may be restored at any time, also while the next batch is read.
func TestStratifiedRestore(t *testing.T) {
	s := numbered(3000)
	strata := make([]int32, 3000)
	for i := range strata {
		strata[i] = int32(i % 300)
	}
	sampler, err := s.Stratified(1000, 7, strata)
	if err != nil {
		t.Fatal(err)
	}
	start := sampler.State()
	var want []int
	for range 200 {
		if err := sampler.Restore(start); err != nil {
			t.Fatal(err)
		}
		b, err := sampler.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if got := ids(t, b); want == nil {
			want = got
		} else if !slices.Equal(got, want) {
			t.Fatal("another batch")
		}
	}
}

func TestStratifiedRefuses(t *testing.T) {
	s := numbered(3)
	for want, strata := range map[string][]int32{"2 strata for 3": {0, 0}, "image 1 is in stratum -1": {0, -1, 0},
		"stratum 65536": {0, 0, 1 << 16}} {
		if _, err := s.Stratified(1, 1, strata); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %v, want %q", strata, err, want)
		}
	}
	if _, err := s.Stratified(0, 1, make([]int32, 3)); err == nil {
		t.Error("a batch of 0")
	}
}
