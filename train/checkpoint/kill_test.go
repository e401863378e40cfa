//go:build !js && !wasip1

package checkpoint

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

const killEnv = "SETUN_CHECKPOINT_TEST_DIR"

// TestKillProcess kills a process that saves without pause. What it reported as saved must be there.
func TestKillProcess(t *testing.T) {
	if dir := os.Getenv(killEnv); dir != "" {
		first := 1
		if c, _, _, err := LoadLatest(dir); err == nil {
			first = c.Step + 1
		}
		for step := first; ; step++ {
			for generation := range 2 { // the second replaces the first
				if _, err := Save(dir, at(step, generation), 2); err != nil {
					fmt.Println("error", err)
					return
				}
				fmt.Println("saved", step, generation)
			}
		}
	}
	if testing.Short() {
		t.Skip("starts processes")
	}
	dir := filepath.Join(t.TempDir(), "checkpoints")
	for round := range 12 {
		cmd := exec.Command(os.Args[0], "-test.run=^TestKillProcess$")
		cmd.Env = append(os.Environ(), killEnv+"="+dir)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		timer := time.AfterFunc(time.Minute, func() { cmd.Process.Kill() })
		var step, generation, saved int
		for lines := bufio.NewScanner(out); lines.Scan(); {
			var s, g int
			if _, err := fmt.Sscanf(lines.Text(), "saved %d %d", &s, &g); err != nil {
				if saved == 0 {
					t.Errorf("the process says %q", lines.Text())
				}
				continue
			}
			step, generation = s, g
			if saved++; saved == 1+round%3 {
				time.AfterFunc(time.Duration(round)*300*time.Microsecond, func() { cmd.Process.Kill() })
			}
		}
		cmd.Wait()
		timer.Stop()
		if saved == 0 {
			t.Fatal("the process saved nothing")
		}
		c, _, skipped, err := LoadLatest(dir)
		if err != nil || len(skipped) > 0 {
			t.Fatalf("round %d: %v, skipped %v", round, err, skipped)
		}
		if c.Step < step {
			t.Fatalf("round %d: step %d was saved, %d is the latest", round, step, c.Step)
		}
		old, next := at(c.Step, 0), at(c.Step, 1)
		if !same(c, next) && (!same(c, old) || c.Step == step && generation == 1) {
			t.Fatalf("round %d: step %d has other contents: %s", round, c.Step, c.State)
		}
		if round%4 == 3 {
			if err := os.RemoveAll(dir); err != nil {
				t.Fatal(err)
			}
		}
	}
}
