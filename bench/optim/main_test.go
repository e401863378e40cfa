package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A study runs, keeps what it has, and is drawn.
func TestQuick(t *testing.T) {
	dir := t.TempDir()
	args := []string{"-quick", "-out", dir, "-run", "^rates/(adamw|trust-adamw)/ternary/x(0.01|1)/1$"}
	if err := run(t.Context(), args); err != nil {
		t.Fatal(err)
	}
	first, err := os.ReadFile(filepath.Join(dir, "trials.jsonl"))
	if err != nil || strings.Count(string(first), "\n") != 4 {
		t.Fatalf("%v: %s", err, first)
	}
	if err := run(t.Context(), args); err != nil {
		t.Fatal(err)
	}
	if again, _ := os.ReadFile(filepath.Join(dir, "trials.jsonl")); string(again) != string(first) {
		t.Error("it runs what it has")
	}
	if _, err := os.Stat(filepath.Join(dir, "rates-ternary-weights.png")); err != nil {
		t.Error(err)
	}
	for flag, want := range map[string]string{"-run=nothing": "no trial", "-jobs=0": "-jobs is 0", "-run=(": "-run:"} {
		if err := run(t.Context(), []string{flag, "-out", dir}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", flag, err)
		}
	}
}

func TestNamesAreUnique(t *testing.T) {
	seen := map[string]bool{}
	for _, x := range trials() {
		if seen[x.name()] {
			t.Error("twice:", x.name())
		}
		seen[x.name()] = true
	}
}
