// Package optim has optimizers and learning-rate schedules.
//
// An [Optimizer] holds named parameters and their state; Step updates them in place from their gradients. A [Schedule]
// maps the step to a factor of the optimizer's base learning rate. [GradNorm] and [Clip] bound the gradient. State goes
// to and from checkpoints as named tensors. A [TrustRegion] bounds its steps and judges them by the loss; [Minimize] does
// so for smooth functions, with a guarantee. An [Averager] must be told when its weights are to be looked at.
//
// optim knows names, tensors and gradients, not models. Of quantized weights it knows two functions,
// autograd.Quantizer.
package optim
