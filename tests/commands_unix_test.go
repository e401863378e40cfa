//go:build unix

package tests

import (
	"bufio"
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestInterrupt presses Ctrl-C: the run saves a checkpoint, says how to go on, and goes on as if nothing had been.
func TestInterrupt(t *testing.T) {
	text := writeText(t, 6000)
	dir := t.TempDir()
	alone, run := filepath.Join(dir, "alone"), filepath.Join(dir, "run")
	const steps = 60
	args := func(run string) []string { return gopher(text, run, "-steps", "60", "-accum", "3", "-resume") }
	must(t, "gopher", args(alone)...)

	cmd := command(t, "gopher", args(run)...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for lines := bufio.NewScanner(stdout); lines.Scan(); {
		if strings.Contains(lines.Text(), "step 12: held out") {
			if err := cmd.Process.Signal(os.Interrupt); err != nil {
				t.Fatal(err)
			}
		}
	}
	cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != 1 || strings.Count(stderr.String(), "\n") != 1 ||
		!strings.Contains(stderr.String(), "stopped at step ") || !strings.Contains(stderr.String(), "-resume") {
		t.Errorf("exit status %d, stderr:\n%s", code, stderr.String())
	}
	if left := leftovers(t, run); len(left) > 0 {
		t.Errorf("left over: %v", left)
	}
	must(t, "gopher", args(run)...)
	if !bytes.Equal(weightsOf(t, run, steps), weightsOf(t, alone, steps)) {
		t.Error("the weights differ from those of the run left alone")
	}
	records, want := checkRun(t, run, steps, 10), checkRun(t, alone, steps, 10)
	for i := range records {
		if records[i].Values["loss"] != want[i].Values["loss"] {
			t.Errorf("step %d has another loss", records[i].Step)
		}
	}
}

// TestNoPermission runs as a user who may not read or write, which root always may.
func TestNoPermission(t *testing.T) {
	dir := t.TempDir()
	text := writeFile(t, dir, "text.go", strings.Repeat("some text ", 1000))
	secret := writeFile(t, dir, "secret.go", strings.Repeat("some text ", 1000))
	closed := filepath.Join(dir, "closed")
	as := func(cmd *exec.Cmd) *exec.Cmd { return cmd }
	if os.Getuid() == 0 {
		for d := dir; d != filepath.Clean(os.TempDir()) && d != "/"; d = filepath.Dir(d) {
			if err := os.Chmod(d, 0o755); err != nil {
				t.Fatal(err)
			}
		}
		as = func(cmd *exec.Cmd) *exec.Cmd {
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
			return cmd
		}
	}
	if err := os.Chmod(secret, 0); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(closed, 0o555); err != nil {
		t.Fatal(err)
	}
	if err := as(command(t, "gopher", "-help")).Run(); err != nil {
		t.Skipf("cannot run as another user: %v", err)
	}
	run := filepath.Join(closed, "run")
	refuse(t, as(command(t, "gopher", gopher(secret, filepath.Join(dir, "out"))...)), dir, "secret.go",
		"permission denied", "make it readable")
	refuse(t, as(command(t, "gopher", gopher(text, run)...)), dir, run, "permission denied", "choose another folder")
	refuse(t, as(command(t, "gopher", gopher(text, closed)...)), dir, filepath.Join(closed, "metrics.jsonl"),
		"permission denied", "choose a place")
}
