package metrics_test

import (
	"fmt"
	"os"
	"path/filepath"
	"time"

	"setun/train/metrics"
)

func Example() {
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "metrics.jsonl")

	// The first run is killed after step 3; its last checkpoint is that of step 2.
	run := func(resume, to int) {
		j, err := metrics.OpenJSONL(path, resume)
		if err != nil {
			fmt.Println(err)
			return
		}
		defer j.Close()
		for step := max(resume, 0) + 1; step <= to; step++ {
			loss := 8 / float64(step)
			if err := j.Write(metrics.Record{Step: step, Kind: metrics.Train,
				Values: map[string]float64{"loss": loss, "lr": 0.01}}); err != nil {
				fmt.Println(err)
			}
		}
	}
	run(-1, 3)
	run(2, 4)

	b, _ := os.ReadFile(path)
	fmt.Print(string(b))
	// Output:
	// {"step":1,"kind":"train","loss":8,"lr":0.01}
	// {"step":2,"kind":"train","loss":4,"lr":0.01}
	// {"step":3,"kind":"train","loss":2.6666666666666665,"lr":0.01}
	// {"step":4,"kind":"train","loss":2,"lr":0.01}
}

func ExampleTensorBoard() {
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	tb, err := metrics.OpenTensorBoard(dir)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(tb.Scalar(1, "loss/train", 2.5, time.Now()))
	fmt.Println(tb.Close())
	// Output:
	// <nil>
	// <nil>
}

func ExampleWriteLossPNG() {
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	err = metrics.WriteLossPNG(filepath.Join(dir, "loss.png"), []metrics.Curve{
		{Name: "train", X: []float64{1, 2, 3, 4}, Y: []float64{4, 3, 2.5, 2.4}, Smooth: 0.9},
		{Name: "validation", X: []float64{2, 4}, Y: []float64{3.1, 2.6}, Dots: true},
	}, "a small run", "step", "loss (nats)")
	fmt.Println(err)
	// Output: <nil>
}

func ExampleProgress() {
	p := metrics.NewProgress(os.Stderr, 100, 0)
	defer p.Done()
	for step := 1; step <= 100; step++ {
		p.Step(step, metrics.Loss(2.5), metrics.TokensPerSec(12000))
		if step%50 == 0 {
			p.Log("step %d: validation loss %.2f", step, 2.6)
		}
	}
	// Output:
}
