// Package driver is the CUDA Driver API as Go: what device/cuda needs of a GPU, and its implementation over libcuda.so.1
// (nvcuda.dll), found at run time by dlopen, without cgo and without a CUDA toolkit.
//
// [Driver] is the interface. [Open] gives the one over the library; device/cuda/ptx has another, an interpreter of the same
// PTX for machines without a GPU.
package driver
