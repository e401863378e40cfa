package train

import (
	"context"
	"math"

	"setun/autograd"
	"setun/tensor"
)

// Evaluate is the mean loss in nats over held-out batches, weighted by their targets.
func Evaluate(ctx context.Context, m Model, held Held) (float64, error) {
	var tape autograd.Tape
	sum, n := 0.0, 0
	for b, err := range held.Batches(ctx) {
		if err != nil {
			return 0, err
		}
		loss := m.Loss(&tape, b)
		dev := loss.Device()
		if tape.Pool == nil { // the first batch shows the device; its memory goes with the tape
			tape.Reset()
			tape.Pool = tensor.NewPool(dev)
			defer tape.Pool.Close()
			loss = m.Loss(&tape, b)
		}
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
