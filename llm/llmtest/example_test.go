package llmtest_test

import (
	"bytes"
	"fmt"

	"setun/device/cpu"
	"setun/format/gguf"
	"setun/llm"
	"setun/llm/llmtest"
	"setun/tensor"
)

func Example() {
	c := llm.Depth(1)
	model, err := llm.New(tensor.NewMaker(cpu.New(1), 1), c)
	if err != nil {
		panic(err)
	}
	var file bytes.Buffer
	if err := model.WriteGGUF(&file, gguf.F32); err != nil {
		panic(err)
	}
	f, err := gguf.Read(bytes.NewReader(file.Bytes()), int64(file.Len()))
	if err != nil {
		panic(err)
	}
	ref, err := llmtest.Open(f)
	if err != nil {
		panic(err)
	}
	logits := ref.Forward([]int32{'g', 'o'}, llmtest.PerToken)
	fmt.Println(len(logits), "tokens,", len(logits[0]), "logits each")
	// Output: 2 tokens, 256 logits each
}
