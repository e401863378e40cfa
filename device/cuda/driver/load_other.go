//go:build nocuda || android || !(linux || windows) || !(amd64 || arm64)

package driver

import (
	"fmt"
	"runtime"
)

// load fails: NVIDIA has no driver here that the kernels run on, or the build tag nocuda leaves it out.
func load() (library, error) {
	return library{}, fmt.Errorf("%s/%s, as built, has no CUDA", runtime.GOOS, runtime.GOARCH)
}
