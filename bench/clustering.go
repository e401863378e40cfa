package main

import (
	"context"
	"fmt"
	"math/rand/v2"

	"setun/cluster"
	"setun/device"
	"setun/tensor"
)

// clustering is K-means from given centres, on data with and without clusters, 20 iterations.
func clustering(quick bool) []benchmark {
	n, d, k := 100_000, 64, 64
	if quick {
		n, d, k = 2000, 8, 8
	}
	return []benchmark{kmeans("noise", 0, n, d, k), kmeans("clustered", 1, n, d, k)}
}

func kmeans(name string, spread float64, n, d, k int) benchmark {
	const iterations = 20
	return benchmark{name: fmt.Sprintf("kmeans/%s/n=%d,d=%d,k=%d", name, n, d, k), unit: "iterations/s",
		work: iterations, whole: true,
		setup: func(dev device.Device) (call, free func(), err error) {
			rng := rand.New(rand.NewPCG(1, 2))
			host, centers := make([]float32, n*d), make([]float64, k*d)
			for i := range centers {
				centers[i] = spread * rng.NormFloat64()
			}
			for i := range n {
				at := centers[rng.IntN(k)*d:]
				for j := range d {
					host[i*d+j] = float32(at[j] + 1.2*rng.NormFloat64())
				}
			}
			x := tensor.FromFloats(dev, host, n, d)
			return func() {
				c := cluster.Config{K: k, MaxIter: iterations, Centers: host[:k*d]}
				if _, err := cluster.KMeans(context.Background(), x, c); err != nil {
					panic(err)
				}
			}, x.Free, dev.Sync()
		}}
}
