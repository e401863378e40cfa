package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"setun/train/metrics"
)

func TestRun(t *testing.T) {
	dir := t.TempDir()
	var runs []string
	for _, name := range []string{"a", "b"} {
		run := filepath.Join(dir, name)
		if err := os.Mkdir(run, 0o755); err != nil {
			t.Fatal(err)
		}
		j, err := metrics.OpenJSONL(filepath.Join(run, "metrics.jsonl"), -1)
		if err != nil {
			t.Fatal(err)
		}
		for step := range 20 {
			for _, kind := range []string{metrics.Train, metrics.Eval} {
				r := metrics.Record{Step: step, Kind: kind, Values: map[string]float64{"loss": 4 - 0.1*float64(step)}}
				if err := j.Write(r); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
		runs = append(runs, run)
	}
	png := filepath.Join(dir, "c.png")
	for _, flags := range [][]string{nil, {"-training", "-nats"}} {
		os.Remove(png)
		if err := run(t.Context(), append(append(flags, "-png", png), runs...)); err != nil {
			t.Fatal(err)
		}
		if b, err := os.ReadFile(png); err != nil || !strings.HasPrefix(string(b), "\x89PNG") {
			t.Errorf("%v: no picture: %v", flags, err)
		}
	}
	for args, want := range map[string]string{"": "no runs", filepath.Join(dir, "none"): "no folder of a run"} {
		if err := run(t.Context(), strings.Fields(args)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", args, err, want)
		}
	}
}
