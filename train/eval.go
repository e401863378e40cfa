package train

import (
	"context"
	"math"

	"setun/autograd"
	"setun/tensor"
)

// Evaluate is the mean loss in nats over held-out batches, weighted by their targets.
func Evaluate(ctx context.Context, m Model, held Held) (float64, error) {
	var pool *tensor.Pool
	for _, p := range m.Params() {
		pool = tensor.NewPool(p.Device())
		defer pool.Close()
		break
	}
	return evaluate(ctx, pool, m, held)
}

func evaluate(ctx context.Context, pool *tensor.Pool, m Model, held Held) (float64, error) {
	tape := autograd.Tape{Pool: pool}
	defer tape.Reset() // also when the model panics
	sum, n := 0.0, 0
	for b, err := range held.Batches(ctx) {
		if err != nil {
			return 0, err
		}
		loss := m.Loss(&tape, b)
		dev := loss.Device()
		sum += float64(loss.Float()) * float64(len(b.Targets))
		n += len(b.Targets)
		tape.Reset()
		if err := dev.Sync(); err != nil {
			return 0, err
		}
	}
	if n == 0 {
		return math.NaN(), nil
	}
	return sum / float64(n), nil
}
