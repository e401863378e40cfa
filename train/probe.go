package train

import (
	"context"
	"fmt"
	"io"

	"setun/autograd"
	"setun/data"
	"setun/optim"
	"setun/tensor"
)

// VarianceRatio compares two ways to draw batches: the variance of the gradient of m over n batches (at least 2) of a,
// over that over n of b. Below 1, a's gradients are the better estimates. It changes no parameter, but takes batches,
// and leaves gradients at 0.
func VarianceRatio(ctx context.Context, m Model, a, b Source, n int) (float64, error) {
	if n < 2 {
		return 0, fmt.Errorf("train: a variance needs at least 2 batches, not %d", n)
	}
	va, err := variance(ctx, m, a, n)
	if err != nil {
		return 0, err
	}
	vb, err := variance(ctx, m, b, n)
	if err != nil {
		return 0, err
	}
	return va / vb, nil
}

// Stratify chooses between two samplers that draw makes afresh each time: a, balanced by what, if its gradients have at
// most 0.9 of the variance of b's over 32 batches, else b. It says so in log, and gives the ratio.
func Stratify(ctx context.Context, m Model, what string, draw func() (a, b *data.Sampler, err error), log io.Writer) (
	*data.Sampler, float64, error) {
	a, b, err := draw()
	if err != nil {
		return nil, 0, err
	}
	ratio, err := VarianceRatio(ctx, m, a, b, 32)
	if err != nil {
		return nil, 0, err
	}
	fmt.Fprintf(log, "batches balanced by %s: gradients have %.2f of the variance of shuffled batches'\n", what, ratio)
	if a, b, err = draw(); !(ratio <= 0.9) { // NaN if nothing varies
		fmt.Fprintln(log, "that is not worth it: shuffled batches")
		return b, ratio, err
	}
	return a, ratio, err
}

// variance is the mean of ||g - mean g||^2 over n batches.
func variance(ctx context.Context, m Model, src Source, n int) (float64, error) {
	ps := optim.Collect(m.Params())
	if len(ps) == 0 {
		return 0, fmt.Errorf("train: the model has no trainable parameters")
	}
	tape := autograd.Tape{Pool: tensor.NewPool(ps[0].Value.Device()), Grad: true}
	defer tape.Pool.Close()
	defer tape.Reset()
	defer optim.ZeroGrad(ps)
	var sums []*tensor.Tensor
	for _, p := range ps {
		sums = append(sums, tensor.Zeros(p.Value.Device(), p.Value.Shape()...))
		defer sums[len(sums)-1].Free()
	}
	squares := 0.0
	var stopped error
	if err := autograd.Catch(func() {
		for i := range n {
			var b data.Batch
			if b, stopped = src.Next(ctx); stopped != nil {
				return
			}
			optim.ZeroGrad(ps)
			tape.Seed = uint64(i)
			tape.Backward(m.Loss(&tape, b))
			tape.Reset()
			norm := optim.GradNorm(ps)
			squares += norm * norm
			for j, p := range ps {
				if p.Value.HasGrad() {
					tensor.Axpy(sums[j], 1, p.Value.Grad)
				}
			}
		}
	}); err != nil {
		return 0, err
	}
	if stopped != nil {
		return 0, stopped
	}
	mean := tensor.Zeros(ps[0].Value.Device(), 1)
	defer mean.Free()
	for _, s := range sums {
		tensor.SumSquares(mean, s)
	}
	return (squares - float64(mean.Float())/float64(n)) / float64(n-1), nil
}
