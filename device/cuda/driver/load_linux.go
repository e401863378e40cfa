//go:build linux && !android && (amd64 || arm64) && !nocuda

package driver

import (
	"fmt"
	"runtime"

	"github.com/ebitengine/purego"
)

// load finds libcuda.so.1, which belongs to NVIDIA's driver.
func load() (library, error) {
	runtime.LockOSThread() // dlerror is of the thread
	defer runtime.UnlockOSThread()
	handle, err := purego.Dlopen("libcuda.so.1", purego.RTLD_NOW|purego.RTLD_LOCAL)
	if err != nil {
		return library{}, fmt.Errorf("%w; NVIDIA's driver (455 or later) installs it", err)
	}
	find := func(name string) (uintptr, error) { return purego.Dlsym(handle, name) }
	return library{find, call}, nil
}

func call(entry uintptr, args []uintptr) uintptr {
	r, _, _ := purego.SyscallN(entry, args...)
	return r
}
