// Package optim has optimizers and learning-rate schedules.
//
// An [Optimizer] holds named parameters and their state; Step updates them in place from their gradients. A [Schedule]
// maps the step to a factor of the optimizer's base learning rate. [GradNorm] and [Clip] bound the gradient. State goes
// to and from checkpoints as named tensors.
//
// optim knows names, tensors and gradients, not models; whether a weight is quantized it never sees.
package optim
