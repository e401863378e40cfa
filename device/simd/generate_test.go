package simd

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestGenerated: the committed assembly is what its generators write.
func TestGenerated(t *testing.T) {
	if testing.Short() {
		t.Skip("compiles the generators")
	}
	doc, err := os.ReadFile("doc.go")
	if err != nil {
		t.Fatal(err)
	}
	tmp := t.TempDir()
	if err := os.CopyFS(filepath.Join(tmp, "_gen"), os.DirFS("_gen")); err != nil {
		t.Fatal(err)
	}
	known := map[string]bool{}
	for _, line := range regexp.MustCompile(`(?m)^//go:generate go -C _gen (.*)$`).FindAllStringSubmatch(string(doc), -1) {
		cmd := exec.Command("go", strings.Fields(line[1])...)
		cmd.Dir = filepath.Join(tmp, "_gen")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("go %s: %v\n%s", line[1], err, out)
		}
	}
	made, err := filepath.Glob(filepath.Join(tmp, "*_*64.*"))
	if err != nil || len(made) == 0 {
		t.Fatalf("the generators wrote nothing: %v", err)
	}
	for _, path := range made {
		name := filepath.Base(path)
		known[name] = true
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(name)
		if err != nil {
			t.Errorf("%v; run go generate in device/simd", err)
		} else if !bytes.Equal(got, want) {
			t.Errorf("%s is not what its generator writes; run go generate in device/simd", name)
		}
	}
	committed, err := filepath.Glob("*.s")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range committed {
		if !known[name] {
			t.Errorf("%s has no generator", name)
		}
	}
}
