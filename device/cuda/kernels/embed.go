// Package kernels holds the kernels of device/cuda: CUDA C++ sources and the PTX that is made of them.
package kernels

import (
	"embed"
	"strings"
)

//go:generate ./build.sh

//go:embed *.ptx
var files embed.FS

// PTX is the code of each module, by the name of its source without ".cu".
var PTX = func() map[string]string {
	ptx := map[string]string{}
	entries, _ := files.ReadDir(".") // of an embed.FS it does not fail
	for _, e := range entries {
		code, _ := files.ReadFile(e.Name())
		ptx[strings.TrimSuffix(e.Name(), ".ptx")] = string(code)
	}
	return ptx
}()
