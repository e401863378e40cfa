// Package nn has the layers of neural networks.
//
// A layer is a struct with exported parameters, a constructor that takes a [*tensor.Maker] (device and seeded
// generator), and a Forward method that takes the tape. A [Module] is anything that lists its parameters; a struct of
// layers lists them in one line:
//
//	func (m *MLP) Params() iter.Seq2[string, *autograd.Value] { return nn.Fields(m) }
//
// Names follow the fields ("blocks.0.attn.q.weight") and are the keys of checkpoints, so their order and spelling are
// stable. Layers know no device and write no derivative: what needs one is an operation and belongs to autograd.
// Shapes in comments: B batch, T tokens, C channels, H heads, D head dimension, V vocabulary.
package nn
