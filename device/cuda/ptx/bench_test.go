package ptx

import (
	"os"
	"testing"
)

func BenchmarkLoad(b *testing.B) {
	src, err := os.ReadFile("../kernels/attention.ptx")
	if err != nil {
		b.Skip(err)
	}
	b.SetBytes(int64(len(src)))
	for b.Loop() {
		compiled.Clear()
		if _, err := Open(Config{}).Load(string(src)); err != nil {
			b.Fatal(err)
		}
	}
}
