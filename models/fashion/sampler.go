package main

import (
	"context"
	"fmt"
	"os"

	"setun/cluster"
	"setun/data"
	"setun/device"
	"setun/internal/cli"
	"setun/tensor"
	"setun/train"
)

// sampler makes the source of batches that kind names, if it is worth it.
func sampler(ctx context.Context, kind string, fl cli.Flags, images *data.Images, m *classifier) (*data.Sampler, float64,
	error) {
	s := &images.Train
	shuffled, err := s.Shuffled(fl.Batch, fl.Seed)
	if kind == "shuffled" || err != nil {
		return shuffled, 1, err
	}
	strata, err := stratify(ctx, kind, m.dev, fl.Seed, s, images.Classes)
	if err != nil {
		return nil, 0, err
	}
	return train.Stratify(ctx, m, kind, func() (a, b *data.Sampler, err error) {
		if a, err = s.Stratified(fl.Batch, fl.Seed, strata); err == nil {
			b, err = s.Shuffled(fl.Batch, fl.Seed)
		}
		return a, b, err
	}, os.Stdout)
}

// stratify gives each image its stratum.
func stratify(ctx context.Context, kind string, dev device.Device, seed uint64, s *data.Split,
	classes int) ([]int32, error) {
	strata := make([]int32, s.N)
	if kind == "class" || kind == "both" {
		for i, c := range s.Labels {
			strata[i] = int32(c)
		}
	}
	groups, k := [][]int32{nil}, 32
	switch kind {
	case "class":
		return strata, nil
	case "both":
		groups, k = make([][]int32, classes), 4
	case "kmeans":
	default:
		return nil, fmt.Errorf("-sampler is %q; use shuffled, class, kmeans or both", kind)
	}
	for i, c := range strata {
		groups[c] = append(groups[c], int32(i))
	}
	size := s.H * s.W
	for g, rows := range groups {
		x := make([]float32, 0, len(rows)*size)
		for _, i := range rows {
			for _, v := range s.Pixels[int(i)*size : (int(i)+1)*size] {
				x = append(x, float32(v)/255)
			}
		}
		if len(rows) == 0 {
			continue
		}
		t := tensor.FromFloats(dev, x, len(rows), size)
		r, err := cluster.KMeans(ctx, t, cluster.Config{K: min(k, len(rows)), Seed: seed, MaxIter: 20})
		t.Free()
		if err != nil {
			return nil, err
		}
		for j, i := range rows {
			strata[i] = int32(g*k) + r.Labels[j]
		}
	}
	return strata, nil
}
