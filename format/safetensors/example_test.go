package safetensors_test

import (
	"bytes"
	"fmt"
	"strings"

	"setun/format/safetensors"
)

func ExampleWrite() {
	var b bytes.Buffer
	w := safetensors.New("linear.weight", []int{2, 2}, []float32{0.5, -1, 0, 2})
	if err := safetensors.Write(&b, []safetensors.Tensor{w}, map[string]string{"format": "pt"}); err != nil {
		fmt.Println(err)
		return
	}
	f, err := safetensors.Read(bytes.NewReader(b.Bytes()), int64(b.Len()))
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, in := range f.Tensors() {
		x, err := f.ReadF32(in.Name)
		fmt.Println(in.Name, in.DType, in.Shape, x, err)
	}
	// Output: linear.weight F32 [2 2] [0.5 -1 0 2] <nil>
}

func ExampleRead_damaged() {
	b := []byte("\x02\x00\x00\x00\x00\x00\x00\x00{}rest")
	_, err := safetensors.Read(bytes.NewReader(b), int64(len(b)))
	what, advice, _ := strings.Cut(err.Error(), "; ")
	fmt.Println(what)
	fmt.Println(advice)
	// Output:
	// safetensors: the last 4 bytes of the data belong to no tensor
	// the file is damaged or not safetensors, get or save it again
}
