package tests

import (
	"slices"
	"testing"

	"setun/data"
	"setun/device"
	"setun/device/cpu"
	"setun/device/devicetest"
	"setun/llm"
	"setun/optim"
	"setun/tensor"
	"setun/train"
)

// TestOpaqueTraining trains the model of models/gopher where the host cannot read the memory: the same losses, to the
// bit, and no memory lost.
func TestOpaqueTraining(t *testing.T) {
	depth := 2
	if testing.Short() {
		depth = 1
	}
	cfg := llm.Depth(depth)
	cfg.Context = 64
	run := func(dev device.Device) []float32 {
		model, err := llm.New(tensor.NewMaker(dev, 1), cfg)
		if err != nil {
			t.Fatal(err)
		}
		windows, err := data.NewWindows(data.NewStream(tinyText(1<<14)), 4, cfg.Context, 1)
		if err != nil {
			t.Fatal(err)
		}
		val, err := data.ValWindows(data.NewStream(tinyText(1<<10)), 8, cfg.Context, 0)
		if err != nil {
			t.Fatal(err)
		}
		rec := &recorder{Model: model}
		result, err := train.Run(t.Context(), train.Config{Steps: 20, Seed: 1, EvalEvery: 10}, rec,
			train.Data{Train: windows, Val: val})
		if err != nil {
			t.Fatal(err)
		}
		if first := rec.losses[0]; !(result.TrainLoss < 0.9*float64(first)) {
			t.Errorf("%s: loss %v at first, %v at last", dev.Name(), first, result.TrainLoss)
		}
		return rec.losses
	}
	host, opaque := run(cpu.New(0)), run(devicetest.Opaque(cpu.New(0)))
	if !slices.Equal(host, opaque) {
		t.Errorf("losses on the opaque device\n%v, on cpu\n%v", opaque, host)
	}
}

// TestRunFreesMemory counts allocations: after Run only the model and its gradients are left.
func TestRunFreesMemory(t *testing.T) {
	for _, name := range optim.Names {
		t.Run(name, func(t *testing.T) {
			dev := devicetest.Opaque(cpu.New(0))
			m := tinies()[1]
			model, err := llm.New(tensor.NewMaker(dev, 1), m.llm)
			if err != nil {
				t.Fatal(err)
			}
			before := dev.Live()
			cfg := train.Config{Steps: 3, Accum: 2, Optimizer: optim.Config{Name: name}, Dir: t.TempDir()}
			val, err := data.ValWindows(data.NewStream(tinyText(400)), 4, m.llm.Context, 0)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := train.Run(t.Context(), cfg, model, train.Data{Train: tinyData(t), Val: val}); err != nil {
				t.Fatal(err)
			}
			gradients := 0
			for range model.Params() {
				gradients++
			}
			if left := dev.Live() - before; left != gradients {
				t.Errorf("%d allocations are left for %d gradients", left, gradients)
			}
		})
	}
}
