package driver

import "fmt"

// Open opens the first GPU of compute capability 8.0 or later. Its errors are ErrNone where there is nothing to open:
// no library, a driver older than CUDA 11.1, no such GPU; they say which, and what to do.
func Open() (Driver, error) {
	lib, err := load()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNone, err)
	}
	return open(lib)
}
