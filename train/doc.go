// Package train runs the loop: batches, gradients, optimizer steps, evaluation, checkpoints, metrics.
//
//	result, err := train.Run(ctx, train.Config{Steps: 1000, Dir: "runs/mine"}, model, train.Data{Train: windows, Val: val})
//
// A [Model] is anything with parameters and a loss. Everything a run leaves behind stands in Config.Dir: checkpoints/,
// metrics.jsonl, events.out.tfevents.*, loss.png, and with a trust region radius.png and rho.png. A run that was stopped,
// by Ctrl-C (cancel ctx) or kill -9, goes on with Resume as if it had never stopped: weights, optimizer, data position and
// randomness have the same bits.
//
// A loss that is NaN or infinite never reaches the weights: the run stops with an error that names the step and the
// parameter, or skips the batch, as Config.OnNaN says.
package train
