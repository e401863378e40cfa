package tests

import (
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// TestConsumer runs a program of another module, which sees only the public packages: it trains a model with its own
// layer and operation.
func TestConsumer(t *testing.T) {
	if runtime.GOOS == "js" || runtime.GOOS == "wasip1" {
		t.Skip("no processes on this system")
	}
	out, err := exec.Command("go", "run", "-C", "consumer", ".").CombinedOutput()
	if err != nil {
		t.Fatalf("%v (after a change of go.mod, run go mod tidy in tests/consumer)\n%s", err, out)
	}
	var steps int
	var bits float64 // it starts at 8; the last byte tells the next one but for 0.8
	n, err := fmt.Sscanf(string(out), "trained %d steps: %f bits", &steps, &bits)
	if n != 2 || steps != 100 || !(bits < 1.5) {
		t.Errorf("%v: %s", err, out)
	}
}

// TestReadme runs the program of README.md, which prints what README.md says.
func TestReadme(t *testing.T) {
	if runtime.GOOS == "js" || runtime.GOOS == "wasip1" {
		t.Skip("no processes on this system")
	}
	text, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "```go\n")
	program, rest, _ := strings.Cut(rest, "```\n")
	_, rest, _ = strings.Cut(rest, "It prints, in about a second:\n\n")
	want, _, ok := strings.Cut(rest, "\n\n")
	if !ok {
		t.Fatal("README.md has no program with its output")
	}
	file := filepath.Join(t.TempDir(), "main.go")
	if err := os.WriteFile(file, []byte(program), 0o666); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("go", "run", file)
	cmd.Dir = ".."
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	got := strings.Split(strings.TrimSpace(string(out)), "\n")
	lines := strings.Split(want, "\n")
	if len(got) != len(lines) {
		t.Fatalf("it prints\n%s\nnot\n%s", out, want)
	}
	for i, line := range lines {
		var step, step2 int
		var loss, loss2 float64
		line = strings.TrimSpace(line)
		fmt.Sscanf(line, "step %d loss %f", &step, &loss)
		fmt.Sscanf(got[i], "step %d loss %f", &step2, &loss2)
		// Other processors may fuse multiplications and additions.
		if got[i] != line && (step == 0 || step != step2 || runtime.GOARCH == "amd64" || math.Abs(loss-loss2) > 0.02) {
			t.Errorf("it prints %q, not %q", got[i], line)
		}
	}
}
