package cluster_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"testing"

	"setun/cluster"
	"setun/device"
	"setun/device/auto"
	"setun/device/cpu"
	"setun/device/devicetest"
	"setun/internal/rss"
	"setun/tensor"
)

// blobs draws n rows around k centres; spread is the deviation of the centres' coordinates in units of the rows'.
func blobs(seed uint64, n, d, k int, spread float64) (x []float32, labels []int) {
	rng := rand.New(rand.NewPCG(seed, 77))
	centers := make([]float64, k*d)
	for i := range centers {
		centers[i] = spread * rng.NormFloat64()
	}
	x, labels = make([]float32, n*d), make([]int, n)
	for i := range n {
		labels[i] = rng.IntN(k)
		for j := range d {
			x[i*d+j] = float32(centers[labels[i]*d+j] + rng.NormFloat64())
		}
	}
	return x, labels
}

func fit(t testing.TB, x *tensor.Tensor, c cluster.Config) *cluster.Result {
	t.Helper()
	r, err := cluster.KMeans(context.Background(), x, c)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func same(a, b *cluster.Result) bool {
	return slices.Equal(a.Centers, b.Centers) && slices.Equal(a.Labels, b.Labels) && a.Inertia == b.Inertia &&
		a.Iterations == b.Iterations
}

// Bounds change no bit of the result, only how many distances it takes; nor do, from the same centres, devices and
// threads.
func TestBoundsAreExact(t *testing.T) {
	fast, err := auto.Open("auto", 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		n, d, k int
		spread  float64
		share   float64 // of Lloyd's distances, at most
	}{{3000, 2, 50, 20, 0.4}, {3000, 16, 32, 3, 0.4}, {2000, 16, 20, 0, 1}, {500, 1, 3, 5, 1},
		{9000, 8, 40, 4, 0.4}, {64, 5, 64, 1, 1}} {
		host, _ := blobs(1, tt.n, tt.d, tt.k, tt.spread)
		for i := range tt.d * 50 { // duplicates make ties
			host[len(host)-1-i] = host[i%tt.d]
		}
		c := cluster.Config{K: tt.k, MaxIter: 60, Centers: host[:tt.k*tt.d]}
		plain := c
		plain.Plain = true
		want := fit(t, tensor.FromFloats(cpu.New(1), host, tt.n, tt.d), plain)
		for name, dev := range map[string]device.Device{"cpu": cpu.New(0), "auto": fast,
			"opaque": devicetest.Opaque(cpu.New(1))} {
			got := fit(t, tensor.FromFloats(dev, host, tt.n, tt.d), c)
			if !same(got, want) {
				t.Errorf("%v on %s: another result: inertia %v, want %v; %d iterations, want %d", tt, name, got.Inertia, want.Inertia,
					got.Iterations, want.Iterations)
			}
			if share := float64(got.Distances) / float64(want.Distances); share > tt.share {
				t.Errorf("%v on %s: %.0f%% of the distances", tt, name, 100*share)
			}
		}
		procs := runtime.GOMAXPROCS(1)
		got := fit(t, tensor.FromFloats(cpu.New(1), host, tt.n, tt.d), c)
		runtime.GOMAXPROCS(procs)
		if !same(got, want) {
			t.Errorf("%v: another result on one thread", tt)
		}
		c.Centers, c.Seed = nil, 3
		plain = c
		plain.Plain = true
		x := tensor.FromFloats(fast, host, tt.n, tt.d)
		if !same(fit(t, x, c), fit(t, x, plain)) || !same(fit(t, x, c), fit(t, x, c)) {
			t.Errorf("%v: another result from the same seed", tt)
		}
	}
}

// Labels are the nearest centres, centres the means, the inertia its formula, counts the labels'.
func TestResult(t *testing.T) {
	const n, d, k = 1500, 7, 12
	host, _ := blobs(2, n, d, k, 3)
	for i := range host {
		host[i] += 1000 // far from the origin
	}
	w := make([]float32, n)
	for i := range w {
		w[i] = float32(i % 3)
	}
	for _, weights := range [][]float32{nil, w} {
		r := fit(t, tensor.FromFloats(cpu.New(1), host, n, d), cluster.Config{K: k, Seed: 1, Weights: weights})
		inertia, counts := 0.0, make([]int, k)
		sums, mass := make([]float64, k*d), make([]float64, k)
		for i := range n {
			wi := 1.0
			if weights != nil {
				wi = float64(weights[i])
			}
			own, best := 0.0, math.Inf(1)
			for a := range k {
				s := 0.0
				for j := range d {
					u := float64(host[i*d+j]) - float64(r.Centers[a*d+j])
					s += u * u
				}
				if best = min(best, s); a == int(r.Labels[i]) {
					own = s
				}
			}
			if own > best*(1+1e-3) {
				t.Fatalf("row %d is at %g from its centre, %g from another", i, own, best)
			}
			inertia += wi * own
			counts[r.Labels[i]]++
			mass[r.Labels[i]] += wi
			for j := range d {
				sums[int(r.Labels[i])*d+j] += wi * float64(host[i*d+j])
			}
		}
		if !r.Converged || math.Abs(inertia-r.Inertia) > 1e-4*inertia || !slices.Equal(counts, r.Counts) {
			t.Errorf("converged %v, inertia %g, want %g; counts %v, want %v", r.Converged, r.Inertia, inertia, r.Counts, counts)
		}
		for a := range k {
			for j := range d {
				if c := sums[a*d+j] / mass[a]; math.Abs(c-float64(r.Centers[a*d+j])) > 1e-3 {
					t.Fatalf("centre %d is at %g in column %d, its rows' mean is %g", a, r.Centers[a*d+j], j, c)
				}
			}
		}
	}
}

// A weight of 2 is a row that is there twice.
func TestWeights(t *testing.T) {
	const n, d = 200, 3
	host, _ := blobs(5, n, d, 4, 3)
	w := make([]float32, n)
	var twice []float32
	for i := range n {
		w[i] = float32(i % 3)
		for range i % 3 {
			twice = append(twice, host[i*d:(i+1)*d]...)
		}
	}
	start := slices.Clone(host[:4*d])
	a := fit(t, tensor.FromFloats(cpu.New(1), host, n, d), cluster.Config{K: 4, Weights: w, Centers: start})
	b := fit(t, tensor.FromFloats(cpu.New(1), twice, len(twice)/d, d), cluster.Config{K: 4, Centers: start})
	if math.Abs(a.Inertia-b.Inertia) > 1e-6*b.Inertia {
		t.Errorf("inertia %g with weights, %g with rows repeated", a.Inertia, b.Inertia)
	}
}

// Seeding finds what many random starts find at best; more restarts are never worse; mini-batches come close.
func TestSeeding(t *testing.T) {
	const n, d, k = 4000, 8, 20
	host, _ := blobs(6, n, d, k, 4)
	x := tensor.FromFloats(cpu.New(0), host, n, d)
	rng := rand.New(rand.NewPCG(1, 2))
	best := math.Inf(1)
	for range 10 {
		var centers []float32
		for _, i := range rng.Perm(n)[:k] {
			centers = append(centers, host[i*d:(i+1)*d]...)
		}
		best = min(best, fit(t, x, cluster.Config{K: k, Centers: centers}).Inertia)
	}
	plus := 0.0
	for _, init := range []string{"k-means++", "k-means||"} {
		got := fit(t, x, cluster.Config{K: k, Seed: 4, Init: init}).Inertia
		if got > 1.05*best {
			t.Errorf("%s: inertia %g, the best of random starts %g", init, got, best)
		}
		if init == "k-means++" {
			plus = got
		}
	}
	if got := fit(t, x, cluster.Config{K: k, Seed: 4, Restarts: 4}).Inertia; got > plus {
		t.Errorf("four starts give %g, one gives %g", got, plus)
	}
	if got := fit(t, x, cluster.Config{K: k, Seed: 4, Batch: 512, MaxIter: 200}).Inertia; got > 1.1*plus {
		t.Errorf("mini-batches give %g, all rows %g", got, plus)
	}
}

// Empty clusters take far rows; rows that are all the same do no harm.
func TestEmptyClusters(t *testing.T) {
	host := []float32{0, 0, 1, 1, 10, 10, 11, 11}
	r := fit(t, tensor.FromFloats(cpu.New(1), host, 8, 1), cluster.Config{K: 4, Centers: []float32{0, 500, 600, 700}})
	if r.Inertia != 0 || slices.Contains(r.Counts, 0) {
		t.Errorf("inertia %g, counts %v", r.Inertia, r.Counts)
	}
	for _, init := range []string{"k-means++", "k-means||"} {
		r := fit(t, tensor.FromFloats(cpu.New(1), make([]float32, 100), 50, 2), cluster.Config{K: 3, Init: init})
		if r.Inertia != 0 || !r.Converged {
			t.Errorf("%s: %+v", init, r)
		}
	}
}

func TestRefuses(t *testing.T) {
	ok := tensor.FromFloats(cpu.New(1), []float32{1, 2, 3, 4}, 4, 1)
	far := tensor.FromFloats(cpu.New(1), []float32{1, 2, 3, 4, 1e20, 4}, 3, 2)
	nan := tensor.FromFloats(cpu.New(1), []float32{1, 2, float32(math.NaN()), 4}, 2, 2)
	empty := tensor.Zeros(cpu.New(1), 0, 3)
	for _, tt := range []struct {
		x    *tensor.Tensor
		c    cluster.Config
		want string
	}{
		{ok, cluster.Config{}, "k is 0"},
		{ok, cluster.Config{K: 5}, "number of rows, 4"},
		{nan, cluster.Config{K: 1}, "row 1 has NaN in column 0"},
		{far, cluster.Config{K: 1}, "row 0 lies 3.33e+19 from the mean, and its square"},
		{empty, cluster.Config{K: 1}, "nothing to cluster"},
		{ok, cluster.Config{K: 2, Init: "random"}, "unknown init"},
		{ok, cluster.Config{K: 2, Centers: []float32{1}}, "1 numbers for 2 centres"},
		{ok, cluster.Config{K: 2, Weights: []float32{1}}, "1 weights for 4 rows"},
		{ok, cluster.Config{K: 2, Weights: []float32{1, 1, -1, 1}}, "weight of row 2"},
		{ok, cluster.Config{K: 2, Weights: make([]float32, 4)}, "all weights are 0"},
		{ok, cluster.Config{K: 2, Tol: math.NaN()}, "tol NaN"},
	} {
		if _, err := cluster.KMeans(t.Context(), tt.x, tt.c); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%+v: %v, want %q", tt.c, err, tt.want)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	c := cluster.Config{K: 2, Seed: 1, Progress: func(iter, _ int) { cancel() }}
	host, _ := blobs(9, 1000, 2, 8, 1)
	c.K = 8
	if _, err := cluster.KMeans(ctx, tensor.FromFloats(cpu.New(1), host, 1000, 2), c); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// All memory goes back to the device.
func TestMemory(t *testing.T) {
	dev := devicetest.Opaque(cpu.New(1))
	host, _ := blobs(9, 1000, 2, 8, 1)
	x := tensor.FromFloats(dev, host, 1000, 2)
	before := dev.Live()
	for _, c := range []cluster.Config{{K: 8}, {K: 8, Init: "k-means||"}, {K: 8, Batch: 64, MaxIter: 10}} {
		fit(t, x, c)
		if left := dev.Live() - before; left != 0 {
			t.Errorf("%+v leaves %v", c, left)
		}
	}
}

// BenchmarkMillion is five iterations on 1,000,000 x 64 with 64 centres, and the memory of the process.
func BenchmarkMillion(b *testing.B) {
	const n, d, k = 1_000_000, 64, 64
	dev, err := auto.Open("auto", 0)
	if err != nil {
		b.Fatal(err)
	}
	x := tensor.New(dev, device.F32, n, d)
	dev.Normal(x.Mem(), 1, 1)
	centers := x.Rows(0, k).Floats()
	b.ReportMetric(float64(x.Bytes())/(1<<20), "MiB-data")
	for b.Loop() {
		fit(b, x, cluster.Config{K: k, MaxIter: 5, Centers: centers})
	}
	b.ReportMetric(float64(rss.Peak())/(1<<20), "MiB-peak")
}

// 20 iterations of Lloyd's algorithm on 100,000 x 64 with 64 centres; see bench/peers for scikit-learn.
func BenchmarkKMeans(b *testing.B) {
	const n, d, k = 100_000, 64, 64
	for _, data := range []struct {
		name   string
		spread float64
	}{{"noise", 0}, {"clustered", 1}} {
		host, _ := blobs(1, n, d, k, data.spread)
		for _, threads := range []int{1, 2} {
			b.Run(fmt.Sprintf("%s/threads=%d", data.name, threads), func(b *testing.B) {
				defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(threads))
				dev, err := auto.Open("auto", threads)
				if err != nil {
					b.Fatal(err)
				}
				x := tensor.FromFloats(dev, host, n, d)
				for b.Loop() {
					fit(b, x, cluster.Config{K: k, MaxIter: 20, Centers: host[:k*d]})
				}
			})
		}
	}
}
