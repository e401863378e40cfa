package trit_test

import (
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

func ExampleEntropy() {
	bits, counts := trit.Entropy([]int8{0, 0, -1, 1})
	fmt.Println(bits, counts)
	// Output: 1.5 map[-1:1 0:2 1:1]
}
