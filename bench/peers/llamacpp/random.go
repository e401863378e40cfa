package main

import (
	"bufio"
	"fmt"
	"math"
	"math/rand/v2"
	"os"

	"setun/format/gguf"
)

// writeRandom writes a "bitnet" model of random ternary weights: 24 blocks, 1536 wide, feed-forward 4096, 16 heads, a
// vocabulary of 32,000, the embedding F16.
func writeRandom(path string) error {
	const layers, width, hidden, heads, vocab, context = 24, 1536, 4096, 16, 32000, 8192
	rng := rand.New(rand.NewPCG(1, 2))
	var tensors []gguf.Tensor
	float := func(name string, typ gguf.Type, dims []int, f func() float32) error {
		n := 1
		for _, d := range dims {
			n *= d
		}
		x := make([]float32, n)
		for i := range x {
			x[i] = f()
		}
		t, err := gguf.Encode(name, typ, dims, x)
		tensors = append(tensors, t)
		return err
	}
	one := func() float32 { return 1 }
	linear := func(name string, in, out int) error {
		codes := make([]int8, in*out)
		for i := range codes {
			if v := rng.Float32(); v < 0.31 {
				codes[i] = 1
			} else if v < 0.62 {
				codes[i] = -1
			}
		}
		t, err := gguf.EncodeCodes(name+".weight", gguf.TQ2_0, []int{in, out}, codes, 1)
		if err != nil {
			return err
		}
		tensors = append(tensors, t)
		return float(name+".scale", gguf.F32, []int{1}, func() float32 { return float32(1 / math.Sqrt(0.62*float64(in))) })
	}
	if err := float("token_embd.weight", gguf.F16, []int{width, vocab}, func() float32 { return float32(rng.NormFloat64()) * 0.02 }); err != nil {
		return err
	}
	if err := float("output_norm.weight", gguf.F32, []int{width}, one); err != nil {
		return err
	}
	for i := range layers {
		for _, n := range []struct {
			name    string
			in, out int
		}{{"attn_norm", width, 0}, {"attn_sub_norm", width, 0}, {"ffn_norm", width, 0}, {"ffn_sub_norm", hidden, 0},
			{"attn_q", width, width}, {"attn_k", width, width}, {"attn_v", width, width}, {"attn_output", width, width},
			{"ffn_gate", width, hidden}, {"ffn_up", width, hidden}, {"ffn_down", hidden, width}} {
			name := fmt.Sprintf("blk.%d.%s", i, n.name)
			var err error
			if n.out == 0 {
				err = float(name+".weight", gguf.F32, []int{n.in}, one)
			} else {
				err = linear(name, n.in, n.out)
			}
			if err != nil {
				return err
			}
		}
	}
	tokens, scores, types := make([]string, vocab), make([]float32, vocab), make([]int32, vocab)
	for i := range tokens {
		tokens[i], types[i] = fmt.Sprintf("t%d", i), 1
		if i < 256 {
			tokens[i], types[i] = fmt.Sprintf("<0x%02X>", i), 6
		}
	}
	const k, t = "bitnet.", "tokenizer.ggml."
	meta := []gguf.KV{{Key: "general.architecture", Value: "bitnet"}, {Key: k + "context_length", Value: uint32(context)},
		{Key: k + "embedding_length", Value: uint32(width)}, {Key: k + "block_count", Value: uint32(layers)},
		{Key: k + "feed_forward_length", Value: uint32(hidden)}, {Key: k + "attention.head_count", Value: uint32(heads)},
		{Key: k + "attention.layer_norm_rms_epsilon", Value: float32(1e-5)}, {Key: k + "vocab_size", Value: uint32(vocab)},
		{Key: t + "model", Value: "llama"}, {Key: t + "tokens", Value: tokens}, {Key: t + "scores", Value: scores},
		{Key: t + "token_type", Value: types}, {Key: t + "bos_token_id", Value: uint32(0)},
		{Key: t + "eos_token_id", Value: uint32(0)}, {Key: t + "unknown_token_id", Value: uint32(0)}}
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	w := bufio.NewWriter(f)
	if err := gguf.Write(w, meta, tensors); err != nil {
		return err
	}
	return w.Flush()
}
