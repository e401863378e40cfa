// Curves draws the losses of several runs into one picture, to compare them.
//
//	go run ./bench/curves -png FILE RUN...     folders that a program of models/ left in -out
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"path/filepath"

	"setun/internal/cli"
	"setun/train"
	"setun/train/metrics"
)

func main() { cli.Main(run) }

func run(_ context.Context, args []string) error {
	f := flag.NewFlagSet("curves", flag.ContinueOnError)
	path := f.String("png", "curves.png", "write the picture to this `file`")
	title := f.String("title", "", "of the picture")
	training := f.Bool("training", false, "draw the loss of training, smoothed, instead of the one on held-out data")
	nats := f.Bool("nats", false, "in nats; else in bits")
	if err := cli.ParseArgs(f, args); err != nil {
		return err
	}
	if f.NArg() == 0 {
		return errors.New("no runs; name the folders of some, as in: go run ./bench/curves runs/a runs/b")
	}
	kind, unit := metrics.Eval, "bits per target"
	if *training {
		kind = metrics.Train
	}
	if *nats {
		unit = "nats per target"
	}
	var curves []metrics.Curve
	for _, dir := range f.Args() {
		records, err := metrics.ReadJSONL(filepath.Join(dir, "metrics.jsonl"))
		if err != nil {
			return fmt.Errorf("%s is no folder of a run: %w", dir, err)
		}
		c := metrics.Curve{Name: filepath.Base(dir), Dots: !*training}
		if *training {
			c.Smooth = 0.98
		}
		for _, r := range records {
			if r.Kind != kind {
				continue
			}
			loss := r.Values["loss"]
			if !*nats {
				loss = train.Bits(loss)
			}
			c.X, c.Y = append(c.X, float64(r.Step)), append(c.Y, loss)
		}
		curves = append(curves, c)
	}
	if err := metrics.WriteLossPNG(*path, curves, *title, "step", unit); err != nil {
		return err
	}
	fmt.Println(*path)
	return nil
}
