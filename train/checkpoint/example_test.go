package checkpoint_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"setun/format/safetensors"
	"setun/train/checkpoint"
)

// A run resumes from the newest good checkpoint, or starts at step 0.
func Example() {
	run, err := os.MkdirTemp("", "")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(run)
	dir := filepath.Join(run, "checkpoints")

	if _, _, _, err := checkpoint.LoadLatest(dir); errors.Is(err, checkpoint.ErrNone) {
		fmt.Println("start at step 0")
	}
	for step := 100; step <= 300; step += 100 {
		path, err := checkpoint.Save(dir, &checkpoint.Checkpoint{
			Step:    step,
			State:   json.RawMessage(`{"lr": 0.001}`),
			Weights: []safetensors.Tensor{safetensors.New("w", []int{2}, []float32{0.5, float32(step)})},
		}, 2)
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(filepath.Base(path))
	}

	// The disk eats a part of the last one.
	if err := os.Truncate(filepath.Join(dir, "step-00000300", "model.safetensors"), 80); err != nil {
		fmt.Println(err)
		return
	}
	c, path, skipped, err := checkpoint.LoadLatest(dir)
	if err != nil {
		fmt.Println(err)
		return
	}
	w, err := safetensors.Values[float32](c.Weights[0])
	fmt.Println(filepath.Base(path), c.Step, string(c.State), w, err)
	fmt.Println(len(skipped), errors.Is(skipped[0], checkpoint.ErrDamaged))
	// Output:
	// start at step 0
	// step-00000100
	// step-00000200
	// step-00000300
	// step-00000200 200 {"lr":0.001} [0.5 200] <nil>
	// 1 true
}
