package trit_test

import (
	"bytes"
	"fmt"

	"setun/internal/trit"
)

func Example() {
	codes := []int8{-1, 0, 1, 0, -1, 1}
	for _, f := range []*trit.Format{trit.Base3, trit.TwoBit} {
		packed := make([]byte, f.Bytes(len(codes)))
		if err := f.Pack(packed, codes); err != nil {
			fmt.Println(err)
			return
		}
		back := make([]int8, len(codes))
		err := f.Unpack(back, packed)
		fmt.Println(f.Name, f.Bits(), packed, back, err)
	}
	// Output:
	// base3 1.6 [48 122] [-1 0 1 0 -1 1] <nil>
	// 2bit 2 [100 88] [-1 0 1 0 -1 1] <nil>
}

func ExampleFormat_Unpack_damaged() {
	fmt.Println(trit.Base3.Unpack(make([]int8, 10), []byte{121, 250}))
	// Output: trit: unpack base3: byte 250 at 1 is invalid: the data is damaged or in another format
}

// Gradients of one layer, most of them 0: 20 times smaller than float32 in base 3, and more after Compress.
func ExampleFormat_Compress() {
	codes := make([]int8, 100_000)
	for i := 0; i < len(codes); i += 7 {
		codes[i] = int8(1 - i%2*2)
	}
	packed := make([]byte, trit.Base3.Bytes(len(codes)))
	if err := trit.Base3.Pack(packed, codes); err != nil {
		fmt.Println(err)
		return
	}
	small := trit.Base3.Compress(nil, packed)
	back := make([]byte, len(packed))
	err := trit.Base3.Expand(back, small)
	bits, _ := trit.Entropy(codes)
	fmt.Println(len(packed), len(small) < int(bits*1e5/8), bytes.Equal(back, packed), err)
	// Output: 20000 true true <nil>
}

func ExampleEntropy() {
	bits, counts := trit.Entropy([]int8{0, 0, -1, 1})
	fmt.Println(bits, counts)
	// Output: 1.5 map[-1:1 0:2 1:1]
}
