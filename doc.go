// Package setun is the root of a small reverse-mode autograd framework over a device-abstracted tensor, to train and run
// neural networks with 1.58-bit (ternary) weights in pure Go. It has no code of its own.
//
// The few types:
//
//   - device.Device is memory and kernels; device.Mem is a span of memory.
//   - tensor.Tensor is a shape on a device; tensor.Pool uses memory again; tensor.Maker draws weights.
//   - autograd.Value is a tensor with a gradient; autograd.Tape is one step.
//   - nn.Module lists parameters, nn.Layer also maps a value to a value.
//   - ternary.Linear is a linear layer with quantized weights; ternary.Packed is such a weight in bytes.
//   - optim.Optimizer updates parameters; train.Run is the loop around all of it; llm.Model is a language model.
//
// Read README.md first, then models/minimal, a whole program on one page, then docs/quickref.md. ARCHITECTURE.md says how
// the packages fit together and CONTRIBUTING.md how to add to them; the documentation of each package begins with its
// types and invariants.
package setun
