package kernels

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestFresh: each PTX carries the hash of what it was made of, as build.sh writes it.
func TestFresh(t *testing.T) {
	sources, err := filepath.Glob("*.cu")
	if err != nil || len(sources) == 0 {
		t.Fatalf("no sources: %v", err)
	}
	if len(sources) != len(PTX) {
		t.Errorf("%d sources, %d files of PTX", len(sources), len(PTX))
	}
	for _, name := range sources {
		source, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		made := []string{"build.sh"}
		for _, m := range regexp.MustCompile(`(?m)^#include "(.*)"$`).FindAllSubmatch(source, -1) {
			made = append(made, string(m[1]))
		}
		var all bytes.Buffer
		for _, f := range append(made, name) {
			text, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			all.Write(text)
		}
		want := fmt.Sprintf("\n// sha256 %x\n", sha256.Sum256(all.Bytes()))
		if !strings.Contains(PTX[strings.TrimSuffix(name, ".cu")], want) {
			t.Errorf("the PTX of %s is not made of it; run go generate in device/cuda/kernels", name)
		}
	}
}

// TestNames: a kernel is found by its name alone.
func TestNames(t *testing.T) {
	in := map[string]string{}
	for module, ptx := range PTX {
		for _, m := range regexp.MustCompile(`\.entry (\w+)\(`).FindAllStringSubmatch(ptx, -1) {
			if other, ok := in[m[1]]; ok {
				t.Errorf("%s is in %s and in %s", m[1], other, module)
			}
			in[m[1]] = module
		}
	}
	if len(in) == 0 {
		t.Error("no kernels")
	}
}
