//go:build linux || darwin || freebsd || netbsd || openbsd

package dirlock_test

import (
	"fmt"
	"os"

	"setun/internal/dirlock"
)

func Example() {
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	mine, err := dirlock.Lock(dir)
	if err != nil {
		fmt.Println(err)
		return
	}
	_, err = dirlock.Lock(dir)
	fmt.Println(err)
	mine.Close()
	_, err = dirlock.Lock(dir)
	fmt.Println(err)
	// Output:
	// another process has locked it
	// <nil>
}
