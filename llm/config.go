package llm

import (
	"fmt"
	"math"
	"strings"

	"setun/ternary"
)

// Weights says what the linear layers of the blocks are made of.
type Weights string

const (
	TernaryWeights Weights = "ternary" // -1, 0, 1
	FiveWeights    Weights = "five"    // -1, -.5, 0, .5, 1
	FP32Weights    Weights = "fp32"
)

// Config describes a model. It is part of every checkpoint.
type Config struct {
	Vocab   int `json:"vocab"`
	Context int `json:"context"` // longest sequence
	Depth   int `json:"depth"`   // blocks
	Width   int `json:"width"`   // channels C
	Heads   int `json:"heads"`
	KVHeads int `json:"kv_heads"` // grouped queries: Heads is a multiple
	Hidden  int `json:"hidden"`   // channels inside the feed-forward block

	Weights Weights        `json:"weights"`
	Quant   ternary.Config `json:"quant"` // how; of fp32 Weights, only whether Math is bf16

	QKNorm  bool    `json:"qk_norm"`  // RMSNorm over each head of q and k
	SubNorm bool    `json:"sub_norm"` // RMSNorm before the output projections of attention and feed-forward
	MLP     string  `json:"mlp"`      // "swiglu", "relu2" (two matrices) or "relu2-glu" (three)
	Tied    bool    `json:"tied"`     // the head is the embedding, transposed
	Theta   float64 `json:"theta"`    // base of the rotary angles
	Eps     float32 `json:"eps"`      // of all norms
	Dropout float32 `json:"dropout,omitempty"`

	Checkpoint bool `json:"checkpoint,omitempty"` // recompute blocks in the backward pass: less memory, more time
}

// Depth is the default Config of a byte-level model with the given number of blocks: width 64*depth, heads of 32 or 64,
// a feed-forward block of about 8/3 width.
func Depth(depth int) Config {
	c := Config{Vocab: 256, Context: 128, Depth: depth, Weights: TernaryWeights, QKNorm: true, MLP: "swiglu", Tied: true,
		Theta: 10000, Eps: 1e-5}
	c.SetWidth(64 * depth)
	return c
}

// SetWidth changes the width and what follows from it: heads and hidden size.
func (c *Config) SetWidth(width int) {
	c.Width = width
	head := 64
	if width < 256 {
		head = 32
	}
	c.Heads = max(1, width/head)
	c.KVHeads = c.Heads
	c.Hidden = (width*8/3 + 63) / 64 * 64
}

// Archs names the graphs that SetArch knows, after the llama.cpp architectures that run them.
var Archs = []string{"qwen3", "bitnet", "llama", "bitnet-b1.58"}

// SetArch sets the switches of a known graph: "qwen3" (QK-norm), "bitnet" (sub-norms), "llama" (neither), all with
// SwiGLU, or "bitnet-b1.58" (sub-norms, gated ReLU^2).
func (c *Config) SetArch(name string) error {
	c.QKNorm, c.SubNorm, c.MLP = false, false, "swiglu"
	switch name {
	case "qwen3":
		c.QKNorm = true
	case "bitnet":
		c.SubNorm = true
	case "llama":
	case "bitnet-b1.58":
		c.SubNorm, c.MLP = true, "relu2-glu"
	default:
		return fmt.Errorf("llm: unknown architecture %q; use one of %s", name, strings.Join(Archs, ", "))
	}
	return nil
}

// maxMatrix is the most numbers in one tensor of a model.
const maxMatrix = 1 << 34

// Validate reports sizes that do not fit together and unknown names.
func (c Config) Validate() error {
	positive := func(name string, v int) error {
		if v <= 0 || v > 1<<24 {
			return fmt.Errorf("llm: %s is %d; it must be between 1 and %d", name, v, 1<<24)
		}
		return nil
	}
	for _, err := range []error{positive("vocab", c.Vocab), positive("context", c.Context), positive("depth", c.Depth),
		positive("width", c.Width), positive("heads", c.Heads), positive("kv_heads", c.KVHeads),
		positive("hidden", c.Hidden)} {
		if err != nil {
			return err
		}
	}
	for _, m := range []struct {
		what string
		rows int
	}{{"embedding of vocab x width", c.Vocab}, {"projection of width x hidden", c.Hidden},
		{"projection of width x width", c.Width}, {"position table of context x width", c.Context}} {
		if n := int64(m.rows) * int64(c.Width); n > maxMatrix {
			return fmt.Errorf("llm: the %s has %d numbers; choose smaller sizes", m.what, n)
		}
	}
	switch {
	case c.Width%c.Heads != 0 || c.Width/c.Heads%2 != 0:
		return fmt.Errorf("llm: width %d does not divide into %d heads of even size; choose a multiple of %d",
			c.Width, c.Heads, 2*c.Heads)
	case c.Heads%c.KVHeads != 0:
		return fmt.Errorf("llm: %d heads are no multiple of %d kv_heads", c.Heads, c.KVHeads)
	case c.Weights != TernaryWeights && c.Weights != FiveWeights && c.Weights != FP32Weights:
		return fmt.Errorf("llm: unknown weights %q; use ternary, five or fp32", c.Weights)
	case c.Weights == TernaryWeights && c.Quant.Codebook == ternary.Five,
		c.Weights == FiveWeights && c.Quant.Codebook == ternary.Ternary:
		return fmt.Errorf("llm: weights %q contradict the quant codebook %q; leave the codebook empty",
			c.Weights, c.Quant.Codebook)
	case c.MLP != "swiglu" && c.MLP != "relu2" && c.MLP != "relu2-glu":
		return fmt.Errorf("llm: unknown mlp %q; use swiglu, relu2 or relu2-glu", c.MLP)
	case !(c.Theta > 1) || math.IsInf(c.Theta, 0):
		return fmt.Errorf("llm: theta is %g; it must be above 1 (10000 is usual)", c.Theta)
	case !(c.Eps > 0 && c.Eps < 1):
		return fmt.Errorf("llm: eps is %g; it must be small and positive (1e-5 is usual)", c.Eps)
	case !(c.Dropout >= 0 && c.Dropout < 1):
		return fmt.Errorf("llm: dropout is %g; it must be at least 0 and below 1", c.Dropout)
	}
	return c.quant().Validate()
}

// quant is the quantizer of the layers.
func (c Config) quant() ternary.Config {
	q := c.Quant
	if c.Weights == FiveWeights {
		q.Codebook = ternary.Five
	}
	return q
}

// bf16 reports whether attention, the head in training, and blocks with float weights may multiply in bfloat16: on request,
// and in quantized models unless Math is fp32, as these round gradients and activations anyway.
func (c Config) bf16() bool {
	if c.Weights == FP32Weights {
		return c.Quant.Math == ternary.BF16
	}
	return c.Quant.Math != ternary.FP32
}
