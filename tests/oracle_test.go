package tests

import (
	"math"
	"testing"

	"setun/autograd"
	"setun/data"
	"setun/device/cpu"
	"setun/llm"
	"setun/tensor"
)

// TestOracle compares the loss of the tiny models with a transformer in plain float64 loops that shares no code with
// the house.
func TestOracle(t *testing.T) {
	batch, err := tinyData(t).Next(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range tinies() {
		model, err := llm.New(tensor.NewMaker(cpu.New(0), 7), m.llm)
		if err != nil {
			t.Fatal(err)
		}
		o := oracle{m.llm, map[string][]float64{}}
		for name, v := range model.Params() {
			for _, x := range v.T.Floats() {
				o.w[name] = append(o.w[name], float64(x))
			}
		}
		var tape autograd.Tape
		got, want := float64(model.Loss(&tape, batch).Float()), o.loss(batch)
		if !(math.Abs(got-want) < 1e-5*want) {
			t.Errorf("%s: loss %.7f, the oracle's is %.7f", m.name, got, want)
		}
	}
}

// oracle is a model of the configurations in tinies: names of weights as in checkpoints, values in float64.
type oracle struct {
	c llm.Config
	w map[string][]float64
}

type matrix [][]float64 // rows of tokens

func (o oracle) loss(b data.Batch) float64 {
	sum := 0.0
	rows, n := b.Shape[0], b.Shape[1]
	for r := range rows {
		x := make(matrix, n)
		for i := range x {
			id := int(b.Tokens[r*n+i])
			x[i] = append([]float64(nil), o.w["embed.weight"][id*o.c.Width:][:o.c.Width]...)
		}
		for i := range o.c.Depth {
			p := "blocks." + string(rune('0'+i)) + "."
			add(x, o.attention(p+"attn.", o.norm(x, p+"attn_norm.weight")))
			add(x, o.mlp(p+"mlp.", o.norm(x, p+"mlp_norm.weight")))
		}
		head := "head.weight"
		if o.c.Tied {
			head = "embed.weight"
		}
		for i, logits := range linear(o.norm(x, "norm.weight"), o.w[head]) {
			total := 0.0
			for _, l := range logits {
				total += math.Exp(l)
			}
			sum += math.Log(total) - logits[b.Targets[r*n+i]]
		}
	}
	return sum / float64(rows*n)
}

func add(x, y matrix) {
	for i := range x {
		for j := range x[i] {
			x[i][j] += y[i][j]
		}
	}
}

// norm is RMSNorm of each run of as many numbers as there are gains.
func (o oracle) norm(x matrix, name string) matrix {
	gain := o.w[name]
	y := make(matrix, len(x))
	for i, row := range x {
		for at := 0; at < len(row); at += len(gain) {
			sq := 0.0
			for _, v := range row[at:][:len(gain)] {
				sq += v * v
			}
			inv := 1 / math.Sqrt(sq/float64(len(gain))+float64(o.c.Eps))
			for j, g := range gain {
				y[i] = append(y[i], row[at+j]*inv*g)
			}
		}
	}
	return y
}

func linear(x matrix, w []float64) matrix {
	y := make(matrix, len(x))
	for i, row := range x {
		for at := 0; at < len(w); at += len(row) {
			dot := 0.0
			for k, v := range row {
				dot += v * w[at+k]
			}
			y[i] = append(y[i], dot)
		}
	}
	return y
}

// project is a linear layer of a block: int8 activations per token and codes times a scale, unless it is fp32.
func (o oracle) project(x matrix, name string) matrix {
	w := o.w[name+".weight"]
	if o.c.Weights == llm.FP32Weights {
		return linear(x, w)
	}
	q := make(matrix, len(x))
	for i, row := range x {
		largest := 1e-5
		for _, v := range row {
			largest = max(largest, math.Abs(v))
		}
		for _, v := range row {
			q[i] = append(q[i], math.RoundToEven(v*127/largest)*largest/127)
		}
	}
	return linear(q, o.quantize(w))
}

func (o oracle) quantize(w []float64) []float64 {
	mean := 0.0
	for _, v := range w {
		mean += math.Abs(v) / float64(len(w))
	}
	q := make([]float64, len(w))
	if o.c.Weights == llm.FiveWeights { // the levels -1, -.5, 0, .5, 1, times two scales
		scale := 1.055 * mean
		for i, v := range w {
			q[i] = scale * min(max(math.RoundToEven(v/scale), -2), 2)
		}
		return q
	}
	kept, sum := 0.0, 0.0 // ternary weight networks
	for _, v := range w {
		if math.Abs(v) > 0.7*mean {
			kept++
			sum += math.Abs(v)
		}
	}
	for i, v := range w {
		if math.Abs(v) > 0.7*mean {
			q[i] = math.Copysign(sum/kept, v)
		}
	}
	return q
}

func (o oracle) attention(p string, x matrix) matrix {
	q, k, v := o.project(x, p+"q"), o.project(x, p+"k"), o.project(x, p+"v")
	if o.c.QKNorm {
		q, k = o.norm(q, p+"q_norm.weight"), o.norm(k, p+"k_norm.weight")
	}
	dim := o.c.Width / o.c.Heads
	rotate := func(x matrix) {
		for pos, row := range x {
			for at := 0; at < len(row); at += dim {
				for i := range dim / 2 {
					sin, cos := math.Sincos(float64(pos) / math.Pow(o.c.Theta, 2*float64(i)/float64(dim)))
					a, b := row[at+i], row[at+dim/2+i]
					row[at+i], row[at+dim/2+i] = a*cos-b*sin, b*cos+a*sin
				}
			}
		}
	}
	rotate(q)
	rotate(k)
	y := make(matrix, len(x))
	for i := range x {
		for h := range o.c.Heads {
			kv := h / (o.c.Heads / o.c.KVHeads) * dim // queries share keys
			weights, total := make([]float64, i+1), 0.0
			for j := range weights {
				dot := 0.0
				for d := range dim {
					dot += q[i][h*dim+d] * k[j][kv+d]
				}
				weights[j] = math.Exp(dot / math.Sqrt(float64(dim)))
				total += weights[j]
			}
			for d := range dim {
				sum := 0.0
				for j, a := range weights {
					sum += a / total * v[j][kv+d]
				}
				y[i] = append(y[i], sum)
			}
		}
	}
	if o.c.SubNorm {
		y = o.norm(y, p+"sub_norm.weight")
	}
	return o.project(y, p+"out")
}

func (o oracle) mlp(p string, x matrix) matrix {
	h := o.project(x, p+"up")
	var gate matrix
	if o.c.MLP != "relu2" {
		gate = o.project(x, p+"gate")
	}
	for i, row := range h {
		for j, up := range row {
			switch o.c.MLP {
			case "swiglu":
				row[j] = up * gate[i][j] / (1 + math.Exp(-gate[i][j]))
			case "relu2":
				row[j] = max(up, 0) * max(up, 0)
			case "relu2-glu":
				row[j] = up * max(gate[i][j], 0) * max(gate[i][j], 0)
			}
		}
	}
	if o.c.SubNorm {
		h = o.norm(h, p+"sub_norm.weight")
	}
	return o.project(h, p+"down")
}
