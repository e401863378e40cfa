// Package ternary quantizes weights to 1.58 bits while they train, and packs them when they are done.
//
// The few types: [Config] (codebook, rule, granularity), [Linear] (a linear layer with two states: training on a latent
// float weight, or frozen on packed codes), [Packed] (codes, scales and a format; it prints,
// unpacks, and has no arithmetic of its own: Linear multiplies).
//
// A quantized weight is code * scale with integer codes: -1, 0, 1 (ternary) or -2..2 with half the scale (the five
// levels -1, -.5, 0, .5, 1). Activations are int8 per token. Both quantizers pass gradients straight through. The
// product is a sum of integers, so a frozen layer gives the bits of the training layer, and codes are equal on every
// device.
//
// With column clusters ([Regroup]) input channels have scales, which multiply the input before it is quantized: what a
// norm with a gain before the layer can learn as well, so they are off by default.
//
// Sources: BitNet b1.58 (Ma et al. 2024, arXiv 2402.17764), TWN (Li and Liu 2016, arXiv 1605.04711), LSQ (Esser et al.
// 2019, arXiv 1902.08153), straight-through estimator (Bengio et al. 2013, arXiv 1308.3432).
package ternary
