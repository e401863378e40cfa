package gguf_test

import (
	"bytes"
	"fmt"

	"setun/format/gguf"
)

func Example() {
	w, err := gguf.EncodeCodes("blk.0.attn_q.weight", gguf.TQ2_0, []int{256, 1}, make([]int8, 256), 1)
	if err != nil {
		panic(err)
	}
	var file bytes.Buffer
	if err := gguf.Write(&file, []gguf.KV{{Key: "general.architecture", Value: "bitnet"}}, []gguf.Tensor{w}); err != nil {
		panic(err)
	}
	f, err := gguf.Read(bytes.NewReader(file.Bytes()), int64(file.Len()))
	if err != nil {
		panic(err)
	}
	for _, t := range f.Tensors() {
		fmt.Println(t.Name, t.Type, t.Dims)
	}
	// Output: blk.0.attn_q.weight TQ2_0 [256 1]
}
