package main

import (
	"log"

	"github.com/gomlx/gomlx/pkg/core/dtypes"
	"github.com/gomlx/gomlx/pkg/core/graph"
	"github.com/gomlx/gomlx/pkg/core/tensors"
	"github.com/gomlx/gomlx/pkg/ml/context"
	"github.com/gomlx/gomlx/pkg/ml/layers"
	"github.com/gomlx/gomlx/pkg/ml/layers/activations"
	"github.com/gomlx/gomlx/pkg/ml/train"
	"github.com/gomlx/gomlx/pkg/ml/train/losses"
	"github.com/gomlx/gomlx/pkg/ml/train/optimizers"
	G "gorgonia.org/gorgonia"
	gorgonia "gorgonia.org/tensor"

	"setun/autograd"
	"setun/device"
	"setun/nn"
	"setun/optim"
	"setun/tensor"
)

const int8Type = dtypes.Int8

const batch = 128

var widths = []int{784, 512, 512, 10}

// perceptrons are training steps of an MLP 784-512-512-10 on one batch of 128, with AdamW (gorgonia has only Adam).
func perceptrons(devs map[string]device.Device, threads int) (ps []peer, err error) {
	add := func(device string, setup func() func()) {
		ps = append(ps, peer{"train/mlp/fp32/784-512-512-10", "steps/s", 1, device, setup})
	}
	for name, d := range devs {
		add(name, func() func() { return ourMLP(d) })
	}
	backend, err := gomlx(threads)
	if err != nil {
		return nil, err
	}
	add("gomlx", func() func() {
		model := func(ctx *context.Context, _ any, in []*graph.Node) []*graph.Node {
			x := activations.Relu(layers.DenseWithBias(ctx.In("a"), in[0], widths[1]))
			x = activations.Relu(layers.DenseWithBias(ctx.In("b"), x, widths[2]))
			return []*graph.Node{layers.DenseWithBias(ctx.In("c"), x, widths[3])}
		}
		t := train.NewTrainer(backend, context.New(), model, losses.SparseCategoricalCrossEntropyLogits,
			optimizers.Adam().LearningRate(1e-3).WeightDecay(0.01).Done(), nil, nil)
		x := tensors.FromFlatDataAndDimensions(normal(batch*widths[0]), batch, widths[0])
		y := tensors.FromFlatDataAndDimensions(make([]int32, batch), batch, 1)
		return func() {
			if _, err := t.TrainStep(nil, []*tensors.Tensor{x}, []*tensors.Tensor{y}); err != nil {
				log.Fatal("peers: gomlx: ", err)
			}
		}
	})
	add("gorgonia", gorgoniaMLP)
	return ps, nil
}

func ourMLP(d device.Device) func() {
	mk := tensor.NewMaker(d, 1)
	relu := nn.Func((*autograd.Tape).ReLU)
	m := nn.Sequential{nn.NewLinear(mk, widths[0], widths[1], true), relu,
		nn.NewLinear(mk, widths[1], widths[2], true), relu, nn.NewLinear(mk, widths[2], widths[3], true)}
	x := autograd.NewConst(mk.Normal(1, batch, widths[0]))
	y := autograd.NewConst(tensor.FromInts(d, make([]int32, batch), batch))
	params := optim.Collect(m.Params())
	opt, err := optim.New(optim.Config{Name: "adamw", LR: 1e-3, Decay: 0.01}, params)
	if err != nil {
		log.Fatal("peers: ", err)
	}
	tape := autograd.Tape{Pool: tensor.NewPool(d), Grad: true}
	return func() {
		optim.ZeroGrad(params)
		tape.Backward(tape.CrossEntropy(m.Forward(&tape, x), y))
		opt.Step(1, 1)
		tape.Reset()
	}
}

func gorgoniaMLP() func() {
	g := G.NewGraph()
	x := G.NewMatrix(g, G.Float32, G.WithShape(batch, widths[0]), G.WithName("x"),
		G.WithValue(gorgonia.New(gorgonia.WithShape(batch, widths[0]), gorgonia.WithBacking(normal(batch*widths[0])))))
	classes := make([]float32, batch*widths[3]) // one hot
	for i := range batch {
		classes[i*widths[3]] = 1
	}
	y := G.NewMatrix(g, G.Float32, G.WithShape(batch, widths[3]), G.WithName("y"),
		G.WithValue(gorgonia.New(gorgonia.WithShape(batch, widths[3]), gorgonia.WithBacking(classes))))
	var params G.Nodes
	for i, name := range []string{"a", "b", "c"} {
		w := G.NewMatrix(g, G.Float32, G.WithShape(widths[i], widths[i+1]), G.WithName(name), G.WithInit(G.GlorotN(1)))
		b := G.NewMatrix(g, G.Float32, G.WithShape(1, widths[i+1]), G.WithName(name+"0"), G.WithInit(G.Zeroes()))
		params = append(params, w, b)
		x = G.Must(G.BroadcastAdd(G.Must(G.Mul(x, w)), b, nil, []byte{0}))
		if i < 2 {
			x = G.Must(G.Rectify(x))
		}
	}
	p := G.Must(G.SoftMax(x))
	loss := G.Must(G.Neg(G.Must(G.Mean(G.Must(G.HadamardProd(G.Must(G.Log(p)), y))))))
	if _, err := G.Grad(loss, params...); err != nil {
		log.Fatal("peers: gorgonia: ", err)
	}
	vm := G.NewTapeMachine(g, G.BindDualValues(params...))
	solver := G.NewAdamSolver(G.WithLearnRate(1e-3))
	return func() {
		if err := vm.RunAll(); err != nil {
			log.Fatal("peers: gorgonia: ", err)
		}
		if err := solver.Step(G.NodesToValueGrads(params)); err != nil {
			log.Fatal("peers: gorgonia: ", err)
		}
		vm.Reset()
	}
}
