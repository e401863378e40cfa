package main

import (
	"cmp"
	"fmt"
	"math"
	"slices"

	"setun/format/gguf"
	"setun/llm/llmtest"
)

// An int8 activation that is within the error of float32 of a tie may be rounded either way, and a logit moves by 0.01 to 0.1.
// That a difference is such a tie, and not an error, shows when the computation in float64 rounds it the other way too.
const (
	explained  = 1e-3 // largest difference that asks for no explanation
	candidates = 32   // activations to try, those nearest to a tie
	mostTurned = 8    // after a byte
)

// ties is a rule with some activations rounded the other way. Layers that read the same row round it once.
type ties struct {
	round  llmtest.Rule
	turned map[place]bool
	row    int
	last   []float64
	before int   // rows of the bytes before
	near   []tie // of the rows after them
}

// A place is an activation, by the row in the order of the computation.
type place struct{ row, i int }

type tie struct {
	place
	off float64 // what is left to the tie, in codes
}

func (t *ties) rule(x []float64, weight gguf.Type) {
	exact := slices.Clone(x)
	t.round(x, weight)
	if weight != gguf.TQ1_0 && weight != gguf.TQ2_0 {
		return
	}
	again := slices.Equal(exact, t.last)
	if !again {
		t.row++
		t.last = exact
	}
	for b := 0; b < len(x); b += 256 {
		step := 0.0
		for _, v := range exact[b : b+256] {
			step = max(step, math.Abs(v)/127)
		}
		for i := b; i < b+256; i++ {
			at, v := place{t.row, i}, exact[i]/step
			if t.turned[at] {
				x[i] += math.Copysign(step, exact[i]-x[i])
			}
			if !again && t.row > t.before {
				t.near = append(t.near, tie{at, math.Abs(math.Abs(v-math.Trunc(v)) - 0.5)})
			}
		}
	}
}

// explain looks for activations near ties that, rounded the other way, turn the computation in float64 into what an engine
// got, byte by byte where they are apart, and prints what it found.
func explain(ref *llmtest.Model, ids []int32, got [][]float64, round llmtest.Rule) {
	t := &ties{round: round, turned: map[place]bool{}}
	forward := func(pos int) float64 {
		t.row, t.last, t.near = 0, nil, nil
		return apart(got[pos], ref.Forward(ids[:pos+1], t.rule)[pos])
	}
	for pos := range ids {
		start := forward(pos)
		rows, far, widest, count := t.row, start, 0.0, len(t.turned)
		for far > explained && len(t.turned) < count+mostTurned {
			near := t.near
			slices.SortFunc(near, func(a, b tie) int { return cmp.Compare(a.off, b.off) })
			best, at := 0.9*far, tie{off: -1}
			for _, c := range near[:min(candidates, len(near))] {
				if t.turned[c.place] {
					continue
				}
				t.turned[c.place] = true
				if f := forward(pos); f < best {
					best, at = f, c
				}
				delete(t.turned, c.place)
			}
			if at.off < 0 {
				break
			}
			t.turned[at.place] = true
			far, widest = forward(pos), max(widest, at.off)
		}
		t.before = rows
		if n := len(t.turned) - count; n > 0 {
			fmt.Printf("    byte %d: %.1e, but %.1e with %d activations rounded the other way, at most %.0e of a code from a tie\n",
				pos, start, far, n, widest)
		} else if start > explained && len(t.near) > 0 {
			fmt.Printf("    byte %d: %.1e, and not by a tie\n", pos, start)
		}
	}
}
