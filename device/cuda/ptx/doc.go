// Package ptx interprets PTX, the assembly language of NVIDIA GPUs, over host memory: a machine without a GPU on which
// tests prove the kernels of device/cuda. [Open] gives a [GPU], which implements driver.Driver.
//
// # What it takes
//
// PTX for sm_80 as clang writes it, and the instructions that kernels write by hand: warp shuffles and votes, mma,
// ldmatrix, cp.async. What it does not know is an error of Load that quotes the line, never a silent guess. Device
// functions are expanded where they are called.
//
// # What it checks
//
//   - Every access to memory: its bounds, its alignment, that the memory was not freed. Addresses are never used again,
//     and far from each other. Fresh memory is full of 0xff, which is NaN.
//   - Shared memory: races, by vector clocks, whatever the order in which threads happen to run; reads of what nobody
//     wrote in this block. Lanes of a warp may run apart: they too need bar.warp.sync.
//   - Barriers that part of a warp reaches, shuffles from lanes that are not there, instructions that need the whole
//     warp.
//   - Global memory that blocks of one launch share without atomics, if Config.CheckBlocks is set.
//   - Loops without end, by a budget of instructions; integer division by zero; launches with the wrong arguments.
//
// An error names kernel, block, thread, line and address. As with CUDA it is reported by a later call, and sticks.
//
// # How it runs
//
// Each instruction is compiled once to a function over the 32 lanes of a warp; a predicate is a mask of lanes. Lanes
// that a branch parts meet again at its immediate post-dominator. Copies and launches wait in a queue until somebody
// waits for them, so that a program that forgets to wait is found out: what it reads is 0xff. The blocks of a grid run
// on all processors, or one after the other if the kernel has atomics in global memory. Results are the same each time.
//
// Arithmetic is exact: what PTX rounds to nearest is, and NaN is the GPU's one. The approximate instructions
// (ex2.approx and the like) are computed more exactly than a GPU does. Memory has one order, so a missing fence is not
// found.
package ptx
