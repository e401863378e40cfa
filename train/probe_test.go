package train_test

import (
	"context"
	"math"
	"strings"
	"testing"

	"setun/data"
	"setun/train"
)

// Batches of four times the size have gradients of a quarter of the variance; the same batches the same.
func TestVarianceRatio(t *testing.T) {
	m := newClassifier(0)
	before := weights(m)
	same, err := train.VarianceRatio(t.Context(), m, &source{batch: 8}, &source{batch: 8}, 20)
	if err != nil || same != 1 {
		t.Errorf("a source beside itself: %g, %v", same, err)
	}
	r, err := train.VarianceRatio(t.Context(), m, &source{batch: 32}, &source{batch: 8}, 60)
	if err != nil || math.Abs(r-0.25) > 0.08 {
		t.Errorf("batches of 32 beside batches of 8: %g, %v, want 0.25", r, err)
	}
	for i, w := range weights(m) {
		if w != before[i] {
			t.Fatal("a parameter has moved")
		}
	}
	if _, err := train.VarianceRatio(t.Context(), m, &source{batch: 8}, &source{batch: 8}, 1); err == nil ||
		!strings.Contains(err.Error(), "at least 2") {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	stop := &source{batch: 8, event: func(int, *data.Batch) error { return ctx.Err() }}
	if _, err := train.VarianceRatio(ctx, m, stop, stop, 3); err == nil {
		t.Error("goes on after it is cancelled")
	}
}
