package driver

import (
	"fmt"
	"runtime"
)

// Open fails: this platform has no library of the driver.
func Open() (Driver, error) {
	return nil, fmt.Errorf("%w: not supported on %s/%s", ErrNone, runtime.GOOS, runtime.GOARCH)
}
