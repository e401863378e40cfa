// Package tensor gives device memory a shape: checked operations, a pool that reuses memory, and the border to
// gorgonia.org/tensor.
//
// The few types: [Tensor] (shape, memory, device), [Pool] (hands tensors out and takes them back), [Maker] (device plus
// seeded generator, for weights), [ShapeError].
//
// # Invariants
//
// A Tensor is contiguous and row-major, has 0 to [MaxDims] dimensions, and lives on one device. Reshape and Rows are
// views: they share memory with their parent and own nothing. Operations are functions with the destination first, as
// in copy; they check shapes and devices, then make one kernel call. Leading dimensions of matrix operands are
// flattened to rows: a (B, T, C) tensor is a (B*T, C) matrix. Elementwise operations allow dst to be an operand. A nil
// gradient or optional operand means "not wanted".
//
// # Errors
//
// A shape or device that does not fit is a mistake of the programmer: operations panic with a [*ShapeError] that names
// the operation and the shapes. autograd.Catch turns exactly these panics into errors.
package tensor
