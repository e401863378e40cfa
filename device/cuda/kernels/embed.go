// Package kernels holds the kernels of device/cuda: CUDA C++ sources and the PTX that is made of them.
package kernels

// PTX is the code of each module.
var PTX = map[string]string{}
