//go:build windows && (amd64 || arm64) && !nocuda

package driver

import (
	"fmt"
	"syscall"

	"golang.org/x/sys/windows"
)

// load finds nvcuda.dll, which belongs to NVIDIA's driver.
func load() (library, error) {
	dll := windows.NewLazySystemDLL("nvcuda.dll")
	if err := dll.Load(); err != nil {
		return library{}, fmt.Errorf("%w; NVIDIA's driver (456 or later) installs it", err)
	}
	find := func(name string) (uintptr, error) {
		p := dll.NewProc(name)
		if err := p.Find(); err != nil {
			return 0, err
		}
		return p.Addr(), nil
	}
	return library{find, call}, nil
}

func call(entry uintptr, args []uintptr) uintptr {
	r, _, _ := syscall.SyscallN(entry, args...)
	return r
}
