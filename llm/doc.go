// Package llm has a decoder-only transformer language model and its text generation.
//
// [Model] is the whole architecture in one file, model.go, read top to bottom; [Config] describes it, and
// [Depth] derives a sensible Config from one number. Every linear layer of the blocks is ternary, five-level or
// float32; the embedding and the head stay float32. [Generate] samples text; a [Decoder] is what runs below it: frozen
// models from two bits a weight, with key-value caches in half precision.
//
// A model leaves by [Model.WritePacked], the smallest file, [Model.WriteGGUF] for llama.cpp and [Model.WriteHF] for
// Hugging Face's transformers, and arrives by [Open].
//
// Switches of the Config give the graphs of known models: sub-norms with SwiGLU are llama.cpp's "bitnet", QK-norm with
// SwiGLU its "qwen3", neither its "llama", sub-norms with gated ReLU^2 the published "bitnet-b1.58".
package llm
