package auto_test

import (
	"fmt"
	"testing"

	"setun/device/auto"
)

func Example() {
	dev, err := auto.Open("auto", 0)
	fmt.Println(dev != nil, err)
	_, err = auto.Open("abacus", 0)
	fmt.Println(err)
	// Output:
	// true <nil>
	// device: unknown device "abacus"; use auto or one of simd, cpu
}

func TestOpen(t *testing.T) {
	for _, name := range auto.Names {
		dev, err := auto.Open(name, 1)
		if err != nil || dev.Name() != name {
			t.Errorf("Open(%q) = %v, %v", name, dev, err)
		}
	}
	if _, err := auto.Open("cpu", -1); err == nil {
		t.Error("negative threads accepted")
	}
}
