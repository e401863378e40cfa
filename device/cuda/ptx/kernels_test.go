package ptx

import (
	"os"
	"path/filepath"
	"testing"
)

// Every committed kernel must compile.
func TestCommittedKernels(t *testing.T) {
	files, err := filepath.Glob("../kernels/*.ptx")
	if err != nil || len(files) == 0 {
		t.Fatal("no kernels", err)
	}
	for _, name := range files {
		src, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Open(Config{}).Load(string(src)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
