package scratch_test

import (
	"fmt"

	"setun/internal/scratch"
)

func Example() {
	b := scratch.Get[float32](3) // whatever was there
	defer b.Free()
	clear(b.X)
	fmt.Println(b.X)
	// Output: [0 0 0]
}
