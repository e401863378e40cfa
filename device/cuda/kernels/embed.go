// Package kernels holds the kernels of device/cuda: CUDA C++ sources and the PTX that is made of them.
//
// setun.h is all that the sources need of CUDA, row.h, lanes.h, index.h, products.h and attention.h what families of
// kernels share. build.sh makes the PTX with clang 19; where a CUDA toolkit is at hand, "ptxas -v -arch=sm_80" tells
// registers and spills. A kernel's name is unique over all modules; its parameters are numbers and addresses.
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
