package tests

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"path"
	"slices"
	"strings"
	"testing"
)

// imports is the house: what each package may import, of our own and of others. A pattern ending in /* matches one more
// element. A new edge is a decision: it changes this table and ARCHITECTURE.md in the same commit.
var imports = map[string][]string{
	"setun/internal/par":        {},
	"setun/internal/scratch":    {},
	"setun/internal/rss":        {"golang.org/x/sys/*"},
	"setun/internal/trit":       {},
	"setun/internal/half":       {},
	"setun/internal/mmap":       {"golang.org/x/sys/*"},
	"setun/internal/atomicfile": {},
	"setun/internal/dirlock":    {"golang.org/x/sys/*"},
	"setun/internal/cli": {"setun/device", "setun/device/auto", "setun/internal/atomicfile", "setun/llm", "setun/optim",
		"setun/optim/gradq"},

	"setun/device": {},
	"setun/device/cpu": {"setun/device", "setun/internal/half", "setun/internal/par", "setun/internal/scratch", "github.com/chewxy/math32",
		"gonum.org/v1/gonum/blas", "gonum.org/v1/gonum/blas/gonum"},
	"setun/device/simd": {"setun/device", "setun/device/cpu", "setun/internal/par", "setun/internal/scratch", "golang.org/x/sys/cpu"},
	"setun/device/cuda": {"setun/device", "setun/device/cuda/driver", "setun/device/cuda/kernels", "setun/device/simd",
		"setun/internal/half"},
	"setun/device/cuda/driver":  {"github.com/ebitengine/purego", "golang.org/x/sys/windows"},
	"setun/device/cuda/kernels": {},
	"setun/device/cuda/ptx":     {"setun/device/cuda/driver", "setun/internal/half"},
	"setun/device/auto":         {"setun/device", "setun/device/cpu", "setun/device/cuda", "setun/device/cuda/driver", "setun/device/simd"},
	"setun/device/devicetest":   {"setun/device", "setun/internal/half"},

	"setun/tensor":            {"setun/device", "gorgonia.org/tensor"},
	"setun/autograd":          {"setun/device", "setun/tensor"},
	"setun/autograd/gradtest": {"setun/autograd", "setun/device", "setun/tensor"},

	"setun/nn":      {"setun/autograd", "setun/device", "setun/tensor"},
	"setun/ternary": {"setun/autograd", "setun/device", "setun/device/auto", "setun/tensor", "setun/internal/trit"},
	"setun/optim":   {"setun/autograd", "setun/cluster", "setun/device", "setun/tensor"},

	"setun/cluster": {"setun/device", "setun/internal/par", "setun/tensor", "gonum.org/v1/gonum/mat"},

	"setun/optim/auxnet":         {"setun/autograd", "setun/device/cpu", "setun/nn", "setun/optim", "setun/tensor"},
	"setun/optim/auxnet/distill": {"setun/optim/auxnet"},
	"setun/optim/gradq":          {"setun/device", "setun/internal/trit", "setun/optim", "setun/tensor"},

	"setun/data":               {},
	"setun/format/safetensors": {"setun/internal/half", "setun/internal/mmap"},
	"setun/format/gguf":        {"setun/internal/half", "setun/internal/mmap"},

	"setun/llm": {"setun/autograd", "setun/data", "setun/device", "setun/format/gguf", "setun/format/safetensors",
		"setun/internal/atomicfile", "setun/internal/half", "setun/internal/trit",
		"setun/nn", "setun/tensor", "setun/ternary"},

	"setun/llm/llmtest": {"setun/format/gguf", "setun/internal/half"},

	"setun/train/checkpoint": {"setun/format/safetensors", "setun/internal/atomicfile"},
	"setun/train/metrics": {"setun/internal/atomicfile", "setun/internal/rss", "gonum.org/v1/gonum/stat", "github.com/schollz/progressbar/v3",
		"golang.org/x/term", "gonum.org/v1/plot", "gonum.org/v1/plot/*", "gonum.org/v1/plot/vg/*"},
	"setun/train": {"setun/autograd", "setun/data", "setun/format/safetensors", "setun/optim", "setun/optim/auxnet",
		"setun/optim/gradq", "setun/tensor", "setun/internal/dirlock",
		"setun/train/checkpoint", "setun/train/metrics"},
}

// roof packages may import anything.
var roof = []string{"setun/models/*", "setun/bench", "setun/bench/curves", "setun/bench/optim", "setun/tests", "setun"}

func TestImportGraph(t *testing.T) {
	out, err := exec.Command("go", "list", "-json=ImportPath,Imports", "setun/...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	seen := map[string]bool{}
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p struct {
			ImportPath string
			Imports    []string
		}
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		seen[p.ImportPath] = true
		if matches(roof, p.ImportPath) {
			continue
		}
		allowed, ok := imports[p.ImportPath]
		if !ok {
			t.Errorf("package %s has no row in the table of imports: decide what it may import", p.ImportPath)
			continue
		}
		for _, i := range p.Imports {
			if first, _, _ := strings.Cut(i, "/"); first != "setun" && !strings.Contains(first, ".") {
				continue // standard library
			}
			if !matches(allowed, i) {
				t.Errorf("%s imports %s: not in the table", p.ImportPath, i)
			}
		}
	}
	for p := range imports {
		if !seen[p] {
			t.Errorf("the table has a row for %s, which does not exist", p)
		}
	}
}

func matches(patterns []string, name string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool {
		ok, _ := path.Match(p, name)
		return ok
	})
}
