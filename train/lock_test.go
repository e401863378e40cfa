//go:build linux || darwin || freebsd || netbsd || openbsd

package train_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"setun/train"
)

// Two runs do not share a folder; one after the other, the older is put aside.
func TestLock(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "run")
	cfg := train.Config{Steps: 3, Optimizer: adamw, Dir: dir}
	other := errors.New("not tried")
	first := cfg
	first.OnStep = func(step int, _ float64) {
		if step == 2 { // there is a checkpoint
			_, other = train.Run(t.Context(), cfg, newClassifier(0), train.Data{Train: &source{batch: 8}})
		}
	}
	for range 2 {
		if _, err := train.Run(t.Context(), first, newClassifier(0), train.Data{Train: &source{batch: 8}}); err != nil {
			t.Fatal(err)
		}
		if other == nil || !strings.Contains(other.Error(), "another process trains into") {
			t.Errorf("a second run into the folder: %v", other)
		}
	}
	if entries, _ := filepath.Glob(dir + "*"); len(entries) != 2 {
		t.Errorf("%v, want the run and the one before", entries)
	}
	if _, err := os.Stat(filepath.Join(dir, "checkpoints", "step-00000003")); err != nil {
		t.Error(err)
	}
}
