package tests

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"
)

// TestKill kills a training run (kill -9) at random moments and resumes it, until it is done: the weights have the
// bits of a run that was left alone, and every step is recorded once. A run that gets done before its next kill is
// followed by another. SETUN_KILLS sets the number of kills.
func TestKill(t *testing.T) {
	t.Run("plain", func(t *testing.T) { testKill(t) })
	t.Run("every option", func(t *testing.T) {
		testKill(t, "-optimizer", "trust", "-aux", "online", "-gradients", "ternary-ef", "-lr", "0.001",
			"-columns", "3", "-rule", "lsq")
	})
}

func testKill(t *testing.T, options ...string) {
	kills := 5
	if testing.Short() {
		kills = 2
	}
	if n, err := strconv.Atoi(os.Getenv("SETUN_KILLS")); err == nil {
		kills = n
	}
	const steps = 150
	text := writeText(t, 6000)
	args := func(run string) []string {
		return gopher(text, run, slices.Concat(options, []string{"-resume", "-steps", strconv.Itoa(steps), "-val-windows",
			"64"})...)
	}
	left := filepath.Join(t.TempDir(), "left-alone")
	first := command(t, "gopher", args(left)...)
	start := time.Now()
	if code, _, stderr := execute(t, first); code != 0 {
		t.Fatal(stderr)
	}
	alone := time.Since(start)
	wantWeights, wantRecords := weightsOf(t, left, steps), checkRun(t, left, steps, 10)

	rng := rand.New(rand.NewPCG(9, uint64(kills)))
	killed, atLoad, restarts := 0, 0, 0
	for run := 0; killed < kills; run++ {
		dir := filepath.Join(t.TempDir(), fmt.Sprint("run", run))
		for done := false; !done; {
			cmd := command(t, "gopher", args(dir)...)
			var stdout, stderr bytes.Buffer
			cmd.Stdout, cmd.Stderr = &stdout, &stderr
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			timer := time.NewTimer(time.Duration(rng.Float64() * float64(alone) / 2))
			if killed == kills {
				timer.Stop() // let it finish
			}
			ended := make(chan error, 1)
			go func() { ended <- cmd.Wait() }()
			select {
			case err := <-ended:
				if err != nil {
					t.Fatalf("run %d: %v\n%s", run, err, stderr.String())
				}
				done = true
			case <-timer.C:
				cmd.Process.Kill()
				if err := <-ended; err == nil {
					done = true // it was faster
					break
				}
				killed++
				if stdout.Len() == 0 {
					atLoad++
				}
			}
			if bytes.Contains(stdout.Bytes(), []byte("resumed from")) {
				restarts++
			}
			if bytes.Contains(stdout.Bytes(), []byte("skipped")) {
				t.Fatalf("run %d: a checkpoint was damaged:\n%s", run, stdout.String())
			}
		}
		if !bytes.Equal(weightsOf(t, dir, steps), wantWeights) {
			t.Errorf("run %d: the weights differ from those of the run left alone", run)
		}
		for i, r := range checkRun(t, dir, steps, 10) {
			for name, v := range wantRecords[i].Values {
				if r.Values[name] != v && name != "seconds" {
					t.Errorf("run %d: %s of step %d is %v, want %v", run, name, r.Step, r.Values[name], v)
				}
			}
		}
		if r := readResult(t, dir); r["val_bpb"] != readResult(t, left)["val_bpb"] {
			t.Errorf("run %d: result %v", run, r)
		}
	}
	t.Logf("%d kills, %d of them before the first word; %d times training went on from a checkpoint; "+
		"a run left alone took %v",
		killed, atLoad, restarts, alone.Round(time.Millisecond))
}
