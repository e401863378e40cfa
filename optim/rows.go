package optim

import (
	"context"
	"fmt"
	"math"
	"slices"

	"setun/cluster"
	"setun/tensor"
)

// rowClusters is how many clusters the rows of a matrix make.
const rowClusters = 4

// splits says whether a parameter's rows are clustered.
func splits(p Param) bool { return IsMatrix(p) && p.Value.Dim(0) >= 4*rowClusters }

// newClusters makes the clusters that the configuration names, and says what belongs to them unless that is for findRows
// to find.
func (o *TrustRegion) newClusters() {
	rows := 0
	var pieces [][]piece
	for _, p := range o.ps {
		switch o.cfg.Trust.Clusters {
		case "global":
			if o.clusters == nil {
				o.clusters = []*group{{name: "all"}}
			}
		case "rows":
			if splits(p) {
				for i := range rowClusters {
					o.clusters = append(o.clusters, &group{name: fmt.Sprintf("%s/%d", p.Name, i)})
				}
				rows += p.Value.Dim(0)
				continue
			}
			fallthrough
		default:
			o.clusters = append(o.clusters, &group{name: p.Name})
		}
		pieces = append(pieces, []piece{{o.clusters[len(o.clusters)-1], p.Value.T, o.u[p.Value]}})
	}
	if rows == 0 {
		o.pieces = pieces
		return
	}
	o.rows = tensor.Zeros(o.ps[0].Value.Device(), rows)
}

// findRows clusters the rows of matrices by log mean w^2 and log mean g^2.
func (o *TrustRegion) findRows() {
	var labels []float32
	for _, p := range o.ps {
		if !splits(p) {
			continue
		}
		n := p.Value.Dim(0)
		x := rowSquares(p.Value.T)
		if p.Value.HasGrad() {
			x = append(x, rowSquares(p.Value.Grad)...)
		}
		points := make([]float32, 2*n)
		for i, v := range x {
			points[i%n*2+i/n] = float32(math.Log(float64(v) + 1e-30))
		}
		t := tensor.FromFloats(p.Value.Device(), points, n, 2)
		r, err := cluster.KMeans(context.Background(), t, cluster.Config{K: rowClusters, Seed: 1, MaxIter: 50})
		t.Free()
		for i := range n {
			label := float32(1)
			if err == nil { // else a row is not finite: one cluster
				label += float32(r.Labels[i])
			}
			labels = append(labels, label)
		}
	}
	o.rows.SetFloats(labels)
	o.splitRows()
}

// rowSquares is the sum of squares of each row.
func rowSquares(x *tensor.Tensor) []float32 {
	n := x.Dim(0)
	sums := tensor.Zeros(x.Device(), n)
	defer sums.Free()
	for i := range n {
		tensor.SumSquares(sums.Rows(i, i+1), x.Rows(i, i+1))
	}
	return sums.Floats()
}

// splitRows gives rows to the clusters that o.rows has for them, if they have been found.
func (o *TrustRegion) splitRows() {
	labels := o.rows.Floats()
	if slices.Contains(labels, 0) {
		return
	}
	o.pieces = nil
	next := 0 // cluster
	for _, p := range o.ps {
		u := o.u[p.Value]
		if !splits(p) {
			o.pieces = append(o.pieces, []piece{{o.clusters[next], p.Value.T, u}})
			next++
			continue
		}
		n := p.Value.Dim(0)
		var ps []piece
		for i, l := range labels[:n] {
			ps = append(ps, piece{o.clusters[next+int(l)-1], p.Value.T.Rows(i, i+1), u.Rows(i, i+1)})
		}
		o.pieces = append(o.pieces, ps)
		labels = labels[n:]
		next += rowClusters
	}
}
