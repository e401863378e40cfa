package llm_test

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"setun/device/cpu"
	"setun/format/gguf"
	"setun/llm"
	"setun/tensor"
)

// FuzzOpen: any file is a model or an error.
func FuzzOpen(f *testing.F) {
	dev := cpu.New(1)
	c := small()
	c.Vocab, c.Depth = 256, 1
	m, err := llm.New(tensor.NewMaker(dev, 1), c)
	if err != nil {
		f.Fatal(err)
	}
	var packed, halves, float bytes.Buffer
	if _, err := m.WritePacked(&packed, false); err != nil {
		f.Fatal(err)
	}
	if _, err := m.WritePacked(&halves, true); err != nil {
		f.Fatal(err)
	}
	if err := m.WriteGGUF(&float, gguf.F16); err != nil {
		f.Fatal(err)
	}
	f.Add(packed.Bytes())
	f.Add(halves.Bytes())
	f.Add(float.Bytes())
	path := filepath.Join(f.TempDir(), "model")
	f.Fuzz(func(t *testing.T, b []byte) {
		if err := os.WriteFile(path, b, 0o644); err != nil {
			t.Fatal(err)
		}
		m, err := llm.Open(dev, path, "")
		if err != nil {
			return
		}
		if err := m.Config().Validate(); err != nil {
			t.Fatal(err)
		}
	})
}
