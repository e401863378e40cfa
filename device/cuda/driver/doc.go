// Package driver is the CUDA Driver API as Go: what device/cuda needs of a GPU, and its implementation over
// libcuda.so.1 (nvcuda.dll), found at run time, without cgo and without a CUDA toolkit.
//
// [Driver] is the interface. [Open] gives the one over the library; device/cuda/ptx has another, an interpreter of the
// same PTX for machines without a GPU.
//
// On Linux the library is called by way of purego, with which binaries are linked dynamically, to libc and libdl, even
// when cgo is off. The build tag nocuda leaves both out, for binaries that must be static; Open then finds no GPU.
package driver
