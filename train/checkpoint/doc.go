// Package checkpoint saves and loads the state of a training run so that it survives a kill, a full disk and a damaged
// file.
//
// There is one type, [Checkpoint]: a step, weights, optimizer state and two pieces of JSON, config and state (schedule,
// data position, random generators). On disk it is a folder in the run's checkpoints folder, called dir below:
//
//	dir/step-00001234/model.safetensors   weights; other tools open it
//	                  optim.safetensors   optimizer state
//	                  state.json          version, step, config, state, size and SHA-256 of the other two files, and
//	                                      last a SHA-256 of its own text up to there
//
// [Save] writes one, [Load] reads one, [Latest] and [LoadLatest] find the newest.
//
// # Invariants
//
//   - A folder named step-N is complete: Save writes to ".tmp-step-N", flushes everything to the disk and renames it.
//     At every instant of Save the last checkpoint saved before it, or the new one, is readable.
//   - To save a step again, Save moves the old folder to ".old-step-N" first. While step-N does not exist, that folder
//     counts as step-N; the next Save moves it back or removes it, and removes what killed saves left.
//   - Load checks every byte of all three files, and nothing is returned from a damaged checkpoint.
//   - The same checkpoint gives the same bytes: there are no dates or names of machines in it.
//   - One process saves to a dir at a time. Any number may load.
package checkpoint
