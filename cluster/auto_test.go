package cluster_test

import (
	"context"
	"fmt"
	"math"
	"strings"
	"testing"

	"setun/cluster"
	"setun/device/auto"
	"setun/device/cpu"
	"setun/tensor"
)

// Four kinds of clusters, three seeds each: on at least 10 of 12 the gap statistic is within 1 of the truth. The other
// methods are logged.
func TestAutoK(t *testing.T) {
	dev, err := auto.Open("auto", 0)
	if err != nil {
		t.Fatal(err)
	}
	methods := []string{"gap", "knee", "silhouette", "bic"}
	if testing.Short() {
		methods = methods[:1]
	}
	for _, method := range methods {
		hits, exact, picks := 0, 0, ""
		for _, tt := range []struct {
			k, d   int
			spread float64
		}{{5, 2, 5}, {8, 8, 3}, {12, 16, 2.5}, {6, 16, 1.5}} {
			for seed := range uint64(3) {
				host, _ := blobs(seed+100, 1500, tt.d, tt.k, tt.spread)
				x := tensor.FromFloats(dev, host, 1500, tt.d)
				r, scores, err := cluster.AutoK(t.Context(), x, cluster.AutoConfig{Method: method})
				if err != nil {
					t.Fatal(err)
				}
				k := len(r.Counts)
				if math.Abs(float64(k-tt.k)) <= 1 {
					hits++
				}
				if k == tt.k {
					exact++
				}
				picks += fmt.Sprintf(" %d/%d", k, tt.k)
				if last := scores[len(scores)-1]; last.K != 20 || len(scores) < 19 {
					t.Errorf("%d scores up to %d", len(scores), last.K)
				}
			}
		}
		t.Logf("%-10s %2d exact, %2d within 1 of 12:%s", method, exact, hits, picks)
		if hits < 10 && method == "gap" {
			t.Errorf("%s is within 1 of the truth on %d of 12", method, hits)
		}
	}
}

func TestAutoKRefuses(t *testing.T) {
	x := tensor.FromFloats(cpu.New(1), []float32{1, 2, 3, 4}, 4, 1)
	for _, tt := range []struct {
		c    cluster.AutoConfig
		want string
	}{
		{cluster.AutoConfig{Method: "elbow"}, "unknown method"},
		{cluster.AutoConfig{Max: 5}, "4 rows"},
		{cluster.AutoConfig{Min: 3, Max: 2}, "k from 3 to 2"},
		{cluster.AutoConfig{KMeans: cluster.Config{Weights: make([]float32, 4)}}, "no weights"},
	} {
		if _, _, err := cluster.AutoK(t.Context(), x, tt.c); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%+v: %v, want %q", tt.c, err, tt.want)
		}
	}
	if r, _, err := cluster.AutoK(t.Context(), x, cluster.AutoConfig{Max: 3}); err != nil || len(r.Counts) < 2 {
		t.Error(r, err)
	}
}

func ExampleKMeans() {
	x := tensor.FromFloats(cpu.New(1), []float32{0, 0, 0, 1, 9, 9, 9, 8}, 4, 2)
	r, err := cluster.KMeans(context.Background(), x, cluster.Config{K: 2})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(r.Counts, r.Inertia, r.Labels[0] == r.Labels[1], r.Labels[0] == r.Labels[2])
	// Output: [2 2] 1 true false
}
