package train_test

import (
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"setun/optim"
	"setun/optim/gradq"
	"setun/train"
	"setun/train/metrics"
)

// With a trust region, the auxiliary network, gradients with residuals, dropout and several batches a step, a run that was
// stopped ends with the bits of one that was not.
func TestTrustResumes(t *testing.T) {
	for _, aux := range []string{"", "frozen", "online"} {
		alone, dir := t.TempDir(), t.TempDir()
		stopAndResume(t, alone, dir, func(cfg *train.Config) {
			cfg.Optimizer = optim.Config{Name: "trust", LR: 1e-3, Trust: optim.Trust{Every: 3,
				Clusters: map[string]string{"frozen": "rows", "online": "global"}[aux]}}
			cfg.Aux = aux
			cfg.Gradients = gradq.Config{Kind: gradq.TernaryEF}
		})
		want, err := metrics.ReadJSONL(filepath.Join(alone, "metrics.jsonl"))
		if err != nil {
			t.Fatal(err)
		}
		have, err := metrics.ReadJSONL(filepath.Join(dir, "metrics.jsonl"))
		if err != nil {
			t.Fatal(err)
		}
		measured := 0
		for i, r := range want {
			for name, v := range r.Values {
				if name != "seconds" && have[i].Values[name] != v {
					t.Errorf("aux %q: %s of step %d is %v, want %v", aux, name, r.Step, have[i].Values[name], v)
				}
			}
			if rho, ok := r.Values["trust/rho"]; ok {
				measured++
				if math.IsNaN(rho) {
					t.Errorf("rho of step %d is NaN", r.Step)
				}
			}
			if _, ok := r.Values["aux/cosine"]; ok && aux == "" {
				t.Error("signals without a network")
			}
		}
		if measured == 0 {
			t.Errorf("aux %q: nothing was measured", aux)
		}
		for _, name := range []string{"radius.png", "rho.png"} {
			if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
				t.Error(err)
			}
		}
	}
}

// The loss that a step is judged by is that of its own batches and random numbers: with steps of next to nothing it is
// the same to rounding, though dropout draws and batches change.
func TestTrustMeasuresTheSameBatch(t *testing.T) {
	dir := t.TempDir()
	cfg := resumable(dir)
	cfg.Optimizer = optim.Config{Name: "trust", LR: 1e-12, Trust: optim.Trust{Every: 1, Up: 1, Hi: 1.9, Lo: 1e-9, Down: 0.999}}
	if _, err := train.Run(t.Context(), cfg, newClassifier(0.5), train.Data{Train: &source{batch: 4}}); err != nil {
		t.Fatal(err)
	}
	records, err := metrics.ReadJSONL(filepath.Join(dir, "metrics.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range records {
		if a, ok := r.Values["trust/actual"]; !ok || math.Abs(a) > 1e-5 {
			t.Errorf("step %d: the loss changes by %g", r.Step, a)
		}
	}
}

func TestAuxNeedsTrust(t *testing.T) {
	for aux, want := range map[string]string{"frozen": "needs the optimizer trust", "yes": "needs the optimizer trust"} {
		cfg := train.Config{Steps: 1, Aux: aux}
		if err := cfg.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", aux, err)
		}
	}
	cfg := train.Config{Steps: 1, Aux: "yes", Optimizer: optim.Config{Name: "trust"}}
	if err := cfg.Validate(); err == nil || !strings.Contains(err.Error(), "use frozen or online") {
		t.Error(err)
	}
}
