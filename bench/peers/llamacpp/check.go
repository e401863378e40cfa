package main

import (
	"fmt"
	"math"
	"slices"

	"setun/format/gguf"
	"setun/llm/llmtest"
)

// A rule is what an engine may round its activations by.
type rule struct {
	engine, what string
	round        llmtest.Rule
}

var rules = []rule{
	{"setun", "a scale per token", llmtest.PerToken},
	{"llama.cpp", "Q8_K", llmtest.Q8KFloat},
	{"llama.cpp", "Q8_K, halves for halves", llmtest.Q8K},
}

// check compares the engines with computations of the file in float64 that round activations as they do, after each byte of
// text. llama.cpp's build for AMX multiplies half-precision weights with activations as they are, the others round those.
func check(path string, text []byte, engines []engine) error {
	f, err := gguf.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	ref, err := llmtest.Open(f)
	if err != nil {
		return err
	}
	ids := make([]int32, len(text))
	for i, b := range text {
		ids[i] = int32(b)
	}
	fmt.Println("largest difference of a logit from float64, by byte, and greedy tokens that agree:")
	var last [][]float64
	for _, e := range engines {
		var got [][]float64
		for i := range ids {
			logits, err := e.next(ids[i : i+1])
			if err != nil {
				return err
			}
			y := make([]float64, len(logits))
			for j, v := range logits {
				y[j] = float64(v)
			}
			got = append(got, y)
		}
		var best rule
		var least float64
		for _, r := range rules {
			if r.engine != e.name() {
				continue
			}
			want, worst, same := ref.Forward(ids, r.round), make([]float64, len(ids)), 0
			for i, y := range got {
				worst[i] = apart(y, want[i])
				if argmax(y) == argmax(want[i]) {
					same++
				}
			}
			slices.Sort(worst)
			fmt.Printf("  %-10s %-24s median %.1e, worst %.1e; %d of %d\n", r.engine, r.what, worst[len(worst)/2],
				worst[len(worst)-1], same, len(text))
			if best.round == nil || worst[0] < least { // a tie is in all bytes after it, but not in those before
				best, least = r, worst[0]
			}
		}
		explain(ref, ids, got, best.round)
		last = append(last, got[len(got)-1])
	}
	if len(last) == 2 {
		fmt.Printf("  setun against llama.cpp, last byte: %.1e\n", apart(last[0], last[1]))
	}
	return nil
}

// apart is the largest difference.
func apart(x, y []float64) float64 {
	far := 0.0
	for j := range x {
		far = max(far, math.Abs(x[j]-y[j]))
	}
	return far
}

func argmax(x []float64) int { return slices.Index(x, slices.Max(x)) }
