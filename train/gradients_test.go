package train_test

import (
	"context"
	"encoding/json"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"setun/optim"
	"setun/optim/gradq"
	"setun/train"
	"setun/train/checkpoint"
	"setun/train/metrics"
)

// stopAndResume runs a classifier in alone, and in dir up to step 9 and then on. Both end in the same bits, the weights that
// it returns.
func stopAndResume(t *testing.T, alone, dir string, set func(*train.Config)) (want, got *train.Result, end []float32) {
	t.Helper()
	run := func(dir string, stop int) (*train.Result, []float32, error) {
		m := newClassifier(0.2)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		cfg := resumable(dir)
		set(&cfg)
		cfg.OnStep = func(step int, _ float64) {
			if step == stop {
				cancel()
			}
		}
		r, err := train.Run(ctx, cfg, m, train.Data{Train: &source{batch: 4}})
		return r, weights(m), err
	}
	want, end, err := run(alone, -1)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := run(dir, 9); !errors.Is(err, train.ErrStopped) {
		t.Fatal(err)
	}
	got, again, err := run(dir, -1)
	if err != nil {
		t.Fatal(err)
	}
	if got.Resumed != 9 || !slices.Equal(again, end) {
		t.Errorf("goes on differently after step %d", got.Resumed)
	}
	return want, got, end
}

// With every kind of gradients a run that was stopped ends with the bits of one that was not, and reports its bytes.
func TestGradients(t *testing.T) {
	const params = 6*16 + 16 + 16*3 + 3
	ends := map[string][]float32{}
	for _, kind := range gradq.Kinds {
		dir := t.TempDir()
		want, got, end := stopAndResume(t, t.TempDir(), dir, func(cfg *train.Config) {
			cfg.Optimizer = optim.Config{Name: "sgd", LR: 0.5}
			cfg.Clip = 0.3 // takes part in most steps
			cfg.Gradients.Kind = kind
		})
		if got.GradBytes != want.GradBytes {
			t.Errorf("%s: %d bytes after step %d, want %d", kind, got.GradBytes, got.Resumed, want.GradBytes)
		}
		for other, e := range ends {
			if slices.Equal(e, end) {
				t.Errorf("%s ends as %s does", kind, other)
			}
		}
		ends[kind] = end

		records, err := metrics.ReadJSONL(filepath.Join(dir, "metrics.jsonl"))
		if err != nil {
			t.Fatal(err)
		}
		sum := 0.0
		for _, r := range records {
			sum += r.Values["grad_bytes"]
		}
		fp32 := float64(20 * (4*params + 2*2 + 2)) // two lengths of two bytes, two of one
		if int64(sum) != got.GradBytes || (kind == "fp32") != (sum == fp32) || kind != "fp32" && sum > fp32/3 {
			t.Errorf("%s: %g bytes in the metrics, %d in the result", kind, sum, got.GradBytes)
		}
	}
}

// A checkpoint of a version that did not know of gradients resumes with fp32, and with nothing else.
func TestGradientsOfOldCheckpoint(t *testing.T) {
	dir := t.TempDir()
	cfg := resumable(dir)
	if _, err := train.Run(t.Context(), cfg, newClassifier(0), train.Data{Train: &source{batch: 4}}); err != nil {
		t.Fatal(err)
	}
	c, _, _, err := checkpoint.LoadLatest(filepath.Join(dir, "checkpoints"))
	if err != nil {
		t.Fatal(err)
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(c.Config, &fields); err != nil {
		t.Fatal(err)
	}
	delete(fields, "gradients")
	if c.Config, err = json.Marshal(fields); err != nil {
		t.Fatal(err)
	}
	if _, err := checkpoint.Save(filepath.Join(dir, "checkpoints"), c, 0); err != nil {
		t.Fatal(err)
	}
	cfg.Steps++
	for kind, want := range map[string]string{"": "", "fp32": "", "int8": "gradients.", "none": "unknown kind of gradients"} {
		cfg.Gradients.Kind = kind
		_, err := train.Run(t.Context(), cfg, newClassifier(0), train.Data{Train: &source{batch: 4}})
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%q: error %v, want %q", kind, err, want)
		}
	}
}
