package tests

import (
	"fmt"
	"os/exec"
	"runtime"
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
