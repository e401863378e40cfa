package tests

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"io"
	"math"
	"testing"

	"setun/autograd"
	"setun/data"
	"setun/device"
	"setun/llm"
	"setun/optim"
	"setun/tensor"
	"setun/ternary"
	"setun/train"
)

// tiny is a small language model with the optimizer that trains it.
type tiny struct {
	name      string
	llm       llm.Config
	optimizer optim.Config
}

// tinies cover all weights, norms, feed-forward blocks, heads and optimizers between them.
func tinies() []tiny {
	base := llm.Config{Vocab: 64, Context: 16, Depth: 2, Width: 32, Heads: 4, KVHeads: 2, Hidden: 48,
		Weights: llm.FP32Weights, QKNorm: true, MLP: "swiglu", Tied: true, Theta: 10000, Eps: 1e-5}
	fp32, three, five := base, base, base
	three.Weights, three.QKNorm, three.SubNorm, three.MLP, three.Tied = llm.TernaryWeights, false, true, "relu2-glu", false
	five.Weights, five.Quant, five.MLP, five.Dropout = llm.FiveWeights, ternary.Config{Rule: ternary.LSQ}, "relu2", 0.1
	return []tiny{{"fp32", fp32, optim.Config{Name: "sgd", LR: 0.5}}, {"ternary", three, optim.Config{Name: "muon"}},
		{"five", five, optim.Config{Name: "adamw", LR: 5e-3}}}
}

// tinyText is n bytes below 64 in which each follows from the one before but for one bit.
func tinyText(n int) []byte {
	text := make([]byte, n)
	for i := range n - 1 {
		text[i+1] = byte((int(text[i])*5 + 7 + int(tensor.Mix(uint64(i), 1)&1)) % 64)
	}
	return text
}

// tinyData deals batches of four rows of 16 bytes.
func tinyData(t testing.TB) *data.Sampler {
	t.Helper()
	w, err := data.NewWindows(data.NewStream(tinyText(4000)), 4, 16, 3)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// recorder keeps the losses that a model reports.
type recorder struct {
	*llm.Model
	losses []float32
}

func (r *recorder) Loss(t *autograd.Tape, b data.Batch) *autograd.Value {
	y := r.Model.Loss(t, b)
	r.losses = append(r.losses, y.Float())
	return y
}

// run trains m for 20 steps on dev and returns the loss of each and a checksum of the weights after the last.
func (m tiny) run(t *testing.T, dev device.Device, poison bool) (losses []float32, sum string) {
	t.Helper()
	model, err := llm.New(tensor.NewMaker(dev, 7), m.llm)
	if err != nil {
		t.Fatal(err)
	}
	rec := &recorder{Model: model}
	cfg := train.Config{Steps: 20, Seed: 5, Optimizer: m.optimizer, Poison: poison}
	if _, err := train.Run(t.Context(), cfg, rec, train.Data{Train: tinyData(t)}); err != nil {
		t.Fatal(err)
	}
	return rec.losses, checksum(model)
}

// checksum is a hash of the names and bits of all parameters.
func checksum(m train.Model) string {
	h := sha256.New()
	for name, v := range m.Params() {
		io.WriteString(h, name)
		for _, x := range v.T.Floats() {
			h.Write(binary.LittleEndian.AppendUint32(nil, math.Float32bits(x)))
		}
	}
	return hex.EncodeToString(h.Sum(nil)[:16])
}
