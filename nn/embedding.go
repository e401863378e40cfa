package nn

import (
	"iter"

	"setun/autograd"
	"setun/tensor"
)

// Embedding: y[...,:] = Weight[ids[...],:], Weight (V, C).
type Embedding struct {
	Weight *autograd.Value
}

// NewEmbedding draws Weight with standard deviation std.
func NewEmbedding(mk *tensor.Maker, vocab, width int, std float32) *Embedding {
	return &Embedding{autograd.NewParam(mk.Normal(std, vocab, width))}
}

// Params yields weight.
func (e *Embedding) Params() iter.Seq2[string, *autograd.Value] { return Fields(e) }

// Forward maps ids (...) to (..., C).
func (e *Embedding) Forward(t *autograd.Tape, ids *autograd.Value) *autograd.Value {
	return t.Embedding(e.Weight, ids)
}

// Logits multiplies with the transposed table: the tied output head, (..., C) to (..., V).
func (e *Embedding) Logits(t *autograd.Tape, x *autograd.Value) *autograd.Value {
	return t.Linear(x, e.Weight, nil)
}
