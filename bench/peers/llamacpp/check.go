package main

import (
	"fmt"
	"math"
	"slices"

	"setun/format/gguf"
	"setun/llm/llmtest"
)

// check compares the engines with computations of the file in float64, one with the activations of llama.cpp (Q8_K:
// blocks of 256) and one with those of setun (one scale per token), after each byte of text.
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
	rules := map[string]llmtest.Rule{"setun": llmtest.PerToken, "llama.cpp": llmtest.Q8K}
	ids := make([]int32, len(text))
	for i, b := range text {
		ids[i] = int32(b)
	}
	if len(engines) == 2 {
		fmt.Println("largest difference of a logit, by byte, and greedy tokens that agree:")
	}
	var last [][]float64
	for _, e := range engines {
		var worst []float64 // by byte
		same := 0
		want := ref.Forward(ids, rules[e.name()])
		for i := range ids {
			got, err := e.next(ids[i : i+1])
			if err != nil {
				return err
			}
			y, far := make([]float64, len(got)), 0.0
			for j, v := range got {
				y[j] = float64(v)
				far = max(far, math.Abs(y[j]-want[i][j]))
			}
			worst = append(worst, far)
			if argmax(y) == argmax(want[i]) {
				same++
			}
			if i == len(text)-1 {
				last = append(last, y)
			}
		}
		slices.Sort(worst)
		fmt.Printf("  %-10s against float64 with its activations: median %.1e, worst %.1e; %d of %d\n", e.name(),
			worst[len(worst)/2], worst[len(worst)-1], same, len(text))
	}
	if len(last) == 2 {
		worst := 0.0
		for j := range last[0] {
			worst = max(worst, math.Abs(last[0][j]-last[1][j]))
		}
		fmt.Printf("  setun against llama.cpp, last byte: %.1e\n", worst)
	}
	return nil
}

func argmax(x []float64) int { return slices.Index(x, slices.Max(x)) }
