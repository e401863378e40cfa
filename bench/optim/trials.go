package main

import (
	"fmt"
	"strconv"

	"setun/llm"
	"setun/optim"
)

// A trial is one run: an optimizer, its learning rate or radius times a factor, and a seed.
type trial struct {
	study, optimizer string
	weights          llm.Weights
	factor           float64
	seed             uint64

	config optim.Config
	aux    string
	abrupt bool // quantized from the first step, not blended in
}

func (t trial) name() string {
	return fmt.Sprintf("%s/%s/%s/%s/%d", t.study, t.optimizer, t.weights, t.column(), t.seed)
}

func (t trial) column() string { return "x" + strconv.FormatFloat(t.factor, 'g', -1, 64) }

// Best learning rates of a grid by factors of 2, ternary weights, 1000 steps.
const (
	bestAdamW = 1.25e-3
	bestMuon  = 0.02
)

func trust(direction, rho string, lr float64) optim.Config {
	return optim.Config{Name: "trust", LR: float32(lr), Trust: optim.Trust{Direction: direction, Rho: rho}}
}

// trials lists all of them, study by study.
func trials() []trial {
	var ts []trial
	add := func(study, name string, w llm.Weights, factors []float64, seeds []uint64, aux string,
		config func(factor float64) optim.Config) {
		for _, f := range factors {
			for _, s := range seeds {
				ts = append(ts, trial{study, name, w, f, s, config(f), aux, false})
			}
		}
	}
	far, wide := []float64{0.01, 1, 100}, []float64{0.01, 0.1, 1, 10, 100}
	one, three := []uint64{1}, []uint64{1, 2, 3}
	// rates: the loss from learning rates that are far too low to far too high.
	for _, w := range []llm.Weights{llm.TernaryWeights, llm.FP32Weights} {
		add("rates", "adamw", w, []float64{0.5, 1, 2}, three, "", func(f float64) optim.Config {
			return optim.Config{Name: "adamw", LR: float32(bestAdamW * f)}
		})
		add("rates", "adamw", w, []float64{0.01, 0.1, 10, 100}, one, "", func(f float64) optim.Config {
			return optim.Config{Name: "adamw", LR: float32(bestAdamW * f)}
		})
		for _, v := range []struct {
			name, rho string
			seeds     []uint64
		}{{"trust-adamw", "", three}, {"trust-adamw-naive", "naive", one}, {"trust-adamw-cap", "off", one}} {
			add("rates", v.name, w, wide, v.seeds, "", func(f float64) optim.Config {
				return trust("adamw", v.rho, bestAdamW*f)
			})
		}
		add("rates", "muon", w, []float64{0.5, 1, 2}, three, "", func(f float64) optim.Config {
			return optim.Config{Name: "muon", LR: float32(bestMuon * f)}
		})
		add("rates", "muon", w, []float64{0.01, 0.1, 10, 100}, one, "", func(f float64) optim.Config {
			return optim.Config{Name: "muon", LR: float32(bestMuon * f)}
		})
		for _, b := range []struct {
			name string
			lr   float64
		}{{"prodigy", 1}, {"schedulefree", 3e-3}, {"hypergradient", bestAdamW}, {"lamb", 0.015}} {
			add("rates", b.name, w, far, one, "", func(f float64) optim.Config {
				return optim.Config{Name: b.name, LR: float32(b.lr * f)}
			})
		}
		add("rates", "trust-muon", w, wide, three, "", func(f float64) optim.Config { return trust("muon", "", bestMuon*f) })
	}
	// aux: the rule, or the network in its place.
	for _, aux := range []string{"", "frozen", "online"} {
		name := "network-" + aux
		if aux == "" {
			name = "rule"
		}
		add("aux", name, llm.TernaryWeights, far, three, aux, func(f float64) optim.Config {
			return trust("adamw", "", bestAdamW*f)
		})
	}
	// abrupt: what the ratio compares with, where weights are quantized from the start; beside AdamW there.
	from := len(ts)
	for _, rho := range []string{"quantized", "naive", "off"} {
		add("abrupt", "rho-"+rho, llm.TernaryWeights, far, three, "", func(f float64) optim.Config {
			return trust("adamw", rho, bestAdamW*f)
		})
	}
	add("abrupt", "adamw", llm.TernaryWeights, []float64{0.5, 1, 2}, three, "", func(f float64) optim.Config {
		return optim.Config{Name: "adamw", LR: float32(bestAdamW * f)}
	})
	for i := range ts[from:] {
		ts[from+i].abrupt = true
	}
	// radius: how much it matters.
	for _, d := range []string{"adamw", "muon"} {
		add("radius", "trust-"+d, llm.TernaryWeights, []float64{0.25, 0.5, 1, 2, 4}, one, "", func(f float64) optim.Config {
			c := trust(d, "", 0)
			c.Trust.Radius = 0.02 * f
			return c
		})
	}
	// parts: clusters and flips.
	add("parts", "rows", llm.TernaryWeights, []float64{1}, one, "", func(float64) optim.Config {
		c := trust("muon", "", 0)
		c.Trust.Clusters = "rows"
		return c
	})
	add("parts", "global", llm.TernaryWeights, []float64{1}, one, "", func(float64) optim.Config {
		c := trust("muon", "", 0)
		c.Trust.Clusters = "global"
		return c
	})
	add("parts", "flips-1%", llm.TernaryWeights, []float64{1}, one, "", func(float64) optim.Config {
		c := trust("muon", "", 0)
		c.Trust.Flips = 0.01
		return c
	})
	return ts
}
