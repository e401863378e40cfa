package ternary

import (
	"math"
	"slices"

	"setun/autograd"
	"setun/device"
	"setun/tensor"
)

// Column clusters give the columns of a weight, its input channels, scales of their own: with s (in) of at most
// Config.Columns different values, the layer quantizes W' = W/s and multiplies its input by s before it is quantized:
//
//	y = Q8(x*s) Q(W/s)ᵀ
//
// so that the product stays one of codes. To the gradients the quantizers are not there: dx = dx'*s, dW = dW'/s.

// maxColumns is the most clusters: one byte tells them apart.
const maxColumns = 256

// stick is the hysteresis of Regroup: a column changes its cluster when the new centre is nearer by this share.
const stick = 0.1

// Regroup clusters the columns of layers that read the same input, as Config.Columns says of them: by K-means on
// log mean|W[:,j]|, the mean over the rows of all of them. They get the same scales: the mean of |W| in the cluster, in
// units of that in all columns. New layers have scales of 1. Call it before training and every some hundred steps;
// columns between two clusters stay where they are, and a second call with the same weights changes nothing. It does
// nothing to layers without column clusters and frozen ones.
func Regroup(layers ...*Linear) {
	layers = slices.DeleteFunc(slices.Clone(layers), func(l *Linear) bool { return l.Columns == nil || l.Weight == nil })
	if len(layers) == 0 {
		return
	}
	first, rows := layers[0], 0
	means := make([]float64, first.in)
	for _, l := range layers { // on the host, in one order: codes are equal on every device
		for i, w := range l.Weight.T.Floats() {
			means[i%first.in] += math.Abs(float64(w))
		}
		rows += l.out
	}
	for j := range means {
		means[j] /= float64(rows)
	}
	s := columnScales(means, first.Columns.T.Floats(), first.cfg.Columns)
	for _, l := range layers {
		if !slices.Equal(s, l.Columns.T.Floats()) {
			l.Columns.T.SetFloats(s)
			l.Columns.Changed()
		}
	}
}

// columnScales clusters columns with the given means of |W| into k: in one dimension, by Lloyd's algorithm run to its
// end, from the clusters that old tells apart or else from quantiles. If old is the result for these means, it stays.
func columnScales(means []float64, old []float32, k int) []float32 {
	all := 0.0
	for _, m := range means {
		all += m / float64(len(means))
	}
	if !(all > 0) || math.IsInf(all, 0) {
		return old
	}
	x := make([]float64, len(means))
	for j, m := range means {
		x[j] = math.Log(max(m, all/1024)) // columns that are all but zero are of one kind
	}
	k = min(k, len(x))
	of := make([]int, len(x))
	if levels := distinct(old); len(levels) == k {
		for j, s := range old {
			of[j], _ = slices.BinarySearch(levels, s)
		}
		lloyd(x, of, make([]float64, k), stick)
		if s := scalesOf(x, of, all, k); len(distinct(s)) == k { // no cluster has lost its columns
			return s
		}
	}
	sorted, c := slices.Sorted(slices.Values(x)), make([]float64, k)
	for i := range c {
		c[i] = sorted[(2*i+1)*len(x)/(2*k)]
	}
	for j := range of {
		of[j] = nearest(c, x[j])
	}
	lloyd(x, of, c, 0)
	return scalesOf(x, of, all, k)
}

// scalesOf are the means of exp(x) in the clusters, in units of all, for each column.
func scalesOf(x []float64, of []int, all float64, k int) []float32 {
	sum, n := make([]float64, k), make([]float64, k)
	for j, i := range of {
		sum[i] += math.Exp(x[j]) / all
		n[i]++
	}
	s := make([]float32, len(x))
	for j, i := range of {
		s[j] = float32(sum[i] / n[i])
	}
	return s
}

// lloyd moves the points x between the clusters that of names, until no other centre is nearer by the share stick. An
// empty cluster keeps its centre in c.
func lloyd(x []float64, of []int, c []float64, stick float64) {
	for range 1000 { // it ends long before
		sum, n := make([]float64, len(c)), make([]float64, len(c))
		for j, i := range of {
			sum[i] += x[j]
			n[i]++
		}
		for i := range c {
			if n[i] > 0 {
				c[i] = sum[i] / n[i]
			}
		}
		moved := false
		for j, v := range x {
			if to := nearest(c, v); math.Abs(v-c[to]) < (1-stick)*math.Abs(v-c[of[j]]) {
				of[j], moved = to, true
			}
		}
		if !moved {
			return
		}
	}
}

func nearest(c []float64, x float64) int {
	best := 0
	for i := range c {
		if math.Abs(x-c[i]) < math.Abs(x-c[best]) {
			best = i
		}
	}
	return best
}

// distinct are the different values of s, sorted.
func distinct(s []float32) []float32 { return slices.Compact(slices.Sorted(slices.Values(s))) }

// addColumns gives the layer column scales of 1.
func (l *Linear) addColumns(dev device.Device) {
	if l.cfg.Columns == 0 {
		return
	}
	l.Columns = autograd.NewConst(tensor.New(dev, device.F32, l.in))
	tensor.Fill(l.Columns.T, 1)
}

// source is the weight that is quantized: Weight, or with column clusters Weight/Columns, computed once per change.
func (l *Linear) source() *tensor.Tensor {
	w := l.Weight.T
	if l.Columns == nil {
		return w
	}
	if l.inverse == nil {
		l.inverse, l.scaled = tensor.New(w.Device(), device.F32, l.in), tensor.New(w.Device(), device.F32, l.out, l.in)
	}
	if v := 1 + l.Columns.Version(); v != l.inverseOf {
		s := l.Columns.T.Floats()
		for j := range s {
			s[j] = 1 / s[j]
		}
		l.inverse.SetFloats(s)
		l.inverseOf = v
	}
	tensor.AddRows(l.scaled, nil, l.inverse, 1)
	tensor.Mul(l.scaled, l.scaled, w)
	return l.scaled
}
