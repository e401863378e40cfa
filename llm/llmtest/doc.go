// Package llmtest computes language models in float64, straight from a GGUF file and from nothing else of this module:
// an oracle for what reads, writes and runs them.
package llmtest
