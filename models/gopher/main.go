// Gopher trains a 1.58-bit language model on Go source code, evaluates it, and writes code with it.
//
//	go run ./models/gopher                                   train for about three minutes, then write some text
//	go run ./models/gopher -data ~/books -ext .txt -depth 6  another text, a larger model
//	go run ./models/gopher generate -prompt 'func main() {'
//	go run ./models/gopher eval -baseline
//	go run ./models/gopher export -gguf gopher.gguf -type TQ2_0 -packed gopher.setun
package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"setun/data"
	"setun/device"
	"setun/format/gguf"
	"setun/internal/atomicfile"
	"setun/internal/cli"
	"setun/internal/rss"
	"setun/llm"
	"setun/nn"
	"setun/optim/gradq"
	"setun/tensor"
	"setun/ternary"
	"setun/train"
	"setun/train/checkpoint"
)

func main() { cli.Main(run) }

func run(ctx context.Context, args []string) error {
	name := "train"
	if len(args) > 0 && !strings.HasPrefix(args[0], "-") {
		name, args = args[0], args[1:]
	}
	switch name {
	case "train":
		return trainCommand(ctx, args)
	case "generate":
		return generateCommand(ctx, args)
	case "eval":
		return evalCommand(ctx, args)
	case "export":
		return exportCommand(ctx, args)
	case "help":
		return trainCommand(ctx, []string{"-help"})
	}
	return fmt.Errorf("unknown command %q; use train (the default), generate, eval or export", name)
}

// saved describes the model and its data in a checkpoint.
type saved struct {
	LLM    llm.Config `json:"llm"`
	Batch  int        `json:"batch"`
	Seed   uint64     `json:"seed"`
	Warmup float64    `json:"quant_warmup,omitempty"`
}

func trainCommand(ctx context.Context, args []string) error {
	fl := cli.Flags{Out: defaultModel, Weights: "ternary", Optimizer: "muon", Momentum: 0.9, Gradients: gradq.FP32,
		Batch: 8, Seed: 1}
	f := flag.NewFlagSet("gopher [train], beside gopher generate, eval and export, which have -help too", flag.ContinueOnError)
	fl.Register(f)
	ext := f.String("ext", ".go", "comma-separated file name endings to read in folders; empty: all")
	steps := f.Int("steps", 950, "optimizer steps")
	minutes := f.Float64("minutes", 0, "train for this long instead of -steps")
	depth := f.Int("depth", 4, "transformer blocks; the width follows")
	width := f.Int("width", 0, "channels; 0: 64 x depth")
	arch := f.String("arch", "qwen3", "graph: "+strings.Join(llm.Archs, ", "))
	rule := f.String("rule", "lsq", "how weights are quantized: twn, absmean or lsq")
	context_ := f.Int("context", 256, "bytes per sequence")
	theta := f.Float64("theta", 200, "base of the rotary angles; 10000 is usual for contexts of thousands")
	warmup := f.Float64("quant-warmup", 0.3, "share of the run in which quantization is blended in")
	from := f.String("from", "", "start from the weights and the graph of this model, a `path` as for generate -model; they become "+
		"what -weights says")
	sampling := f.String("sampler", "shuffled", "shuffled, or strata: each row of a batch from another part of the text, if that "+
		"makes better gradients")
	micro := f.Int("accum", 1, "batches per step")
	evals := f.Int("val-windows", 512, "held-out sequences that the last evaluation reads, those before an eighth; "+
		"0: all, and 64")
	if err := cli.Parse(f, args); err != nil {
		return err
	}
	if err := fl.Check(); err != nil {
		return err
	}
	cfg := llm.Depth(*depth)
	cfg.Context, cfg.Theta, cfg.Weights = *context_, *theta, llm.Weights(fl.Weights)
	if *width != 0 {
		cfg.SetWidth(*width)
	}
	if err := cfg.SetArch(*arch); err != nil {
		return err
	}
	cfg.Quant.Rule, cfg.Quant.Math, cfg.Quant.Columns = ternary.Rule(*rule), ternary.Math(fl.Math), fl.Columns
	if err := cfg.Validate(); err != nil {
		return err
	}
	if !(*warmup >= 0 && *warmup <= 1) {
		return fmt.Errorf("-quant-warmup is %g; it must be between 0 and 1", *warmup)
	}
	if *minutes != 0 {
		*steps = 0
	}
	dev, threads, err := fl.Open()
	if err != nil {
		return err
	}
	text, err := openText(ctx, fl.Data, *ext)
	if err != nil {
		return err
	}
	defer text.Close()
	val, err := data.ValWindows(text.Val(), fl.Batch, *context_, *evals)
	if err != nil {
		return err
	}
	few := 64
	if *evals > 0 {
		few = max(*evals/8, 1)
	}
	some, err := data.ValWindows(text.Val(), fl.Batch, *context_, few)
	if err != nil {
		return err
	}
	model, err := llm.New(tensor.NewMaker(dev, fl.Seed), cfg)
	if *from != "" {
		if model, _, err = load(*from, dev, cfg.Weights); err == nil {
			err = fits(f, cfg, model.Config())
			cfg = model.Config()
		}
	}
	if err != nil {
		return err
	}
	shuffled := func() (*data.Sampler, error) {
		return data.NewWindows(text.Train(), fl.Batch, *context_, fl.Seed)
	}
	var windows *data.Sampler
	switch *sampling {
	case "shuffled":
		windows, err = shuffled()
	case "strata":
		windows, _, err = train.Stratify(ctx, model, "parts of the text", func() (a, b *data.Sampler, err error) {
			if a, err = data.NewStrataWindows(text.Train(), fl.Batch, *context_, fl.Seed); err == nil {
				b, err = shuffled()
			}
			return a, b, err
		}, os.Stdout)
	default:
		err = fmt.Errorf("-sampler is %q; use shuffled or strata", *sampling)
	}
	if err != nil {
		return err
	}
	fmt.Printf("%s weights, %d blocks of %d channels, %s parameters, on %s with %d threads\n", cfg.Weights, cfg.Depth, cfg.Width,
		human(nn.Count(model)), dev.Name(), threads)
	fmt.Printf("training on %s bytes in %d files, held out: %s bytes in %d files\n", human(int(text.Train().Len())),
		text.Train().Files(), human(int(text.Val().Len())), text.Val().Files())

	meta, err := json.Marshal(saved{cfg, fl.Batch, fl.Seed, *warmup})
	if err != nil {
		return err
	}
	res, err := train.Run(ctx, train.Config{Steps: *steps, Minutes: *minutes, Accum: *micro, Seed: fl.Seed, Optimizer: fl.Optim(),
		Aux: fl.Aux, Gradients: gradq.Config{Kind: fl.Gradients},
		Dir: fl.Out, Resume: fl.Resume, Log: os.Stdout, Unit: "bytes", Model: meta,
		OnStep: func(step int, progress float64) {
			if step%cli.RegroupEvery == 0 {
				model.Regroup()
			}
			if *warmup > 0 {
				model.SetLambda(float32(min(progress/(*warmup), 1)))
			}
		}}, model, train.Data{Train: windows, Val: some})
	if err != nil {
		return err
	}
	model.SetLambda(1)
	loss, err := train.Evaluate(ctx, model, val)
	if err != nil {
		return err
	}
	fmt.Printf("\n%d steps, %s bytes in %.0f s (%.0f bytes/s); training %.3f, held out %.3f bits per byte over %d bytes\n\n",
		res.Steps, human(int(res.Targets)), res.Time.Seconds(), res.TargetsPerSecond(), train.Bits(res.TrainLoss),
		train.Bits(loss), val.Targets())
	params := nn.Count(model)
	result := map[string]any{
		"device": dev.Name(), "threads": threads, "weights": cfg.Weights, "params": params, "steps": res.Steps,
		"tokens": res.Targets, "seconds": res.Time.Seconds(), "tokens_per_second": res.TargetsPerSecond(),
		"train_bpb": train.Bits(res.TrainLoss), "val_bpb": train.Bits(loss), "val_bytes": val.Targets(),
		"peak_rss_bytes": rss.Peak(), "tape_bytes": res.TapeBytes, "seed": fl.Seed, "depth": cfg.Depth, "width": cfg.Width,
		"context": *context_, "batch": fl.Batch, "optimizer": fl.Optimizer, "skipped": res.Skipped,
		"gradients": fl.Gradients, "grad_bytes": res.GradBytes,
	}
	if cfg.Weights != llm.FP32Weights {
		size, err := model.WritePacked(io.Discard, false)
		if err != nil {
			return err
		}
		result["ternary_bits_per_weight"] = size.BitsPerWeight()
		result["compression_ternary"], result["compression_file"] = size.TernaryRatio(), size.FileRatio()
	}
	if err := cli.WriteResult(fl.Out, result); err != nil {
		return err
	}
	if _, err := model.Freeze(); err != nil {
		return err
	}
	prompt := "// "
	if strings.Contains(*ext, ".go") {
		prompt = "func "
	}
	return write(ctx, model, prompt, 400, llm.Sampling{Temperature: 0.7, TopP: 0.95, Seed: fl.Seed})
}

func generateCommand(ctx context.Context, args []string) error {
	var fl cli.Flags
	f := flag.NewFlagSet("gopher generate", flag.ContinueOnError)
	fl.RegisterDevice(f)
	dir := f.String("model", defaultModel, modelUsage)
	prompt := f.String("prompt", "func ", "text to continue")
	n := f.Int("n", 400, "bytes to write")
	s := llm.Sampling{}
	f.Float64Var(&s.Temperature, "temperature", 0.7, "0: most likely byte; 1: the model's distribution")
	f.IntVar(&s.TopK, "top-k", 0, "keep the k most likely bytes; 0: all")
	f.Float64Var(&s.TopP, "top-p", 0.95, "keep the most likely bytes with this probability together; 0: all")
	f.Uint64Var(&s.Seed, "seed", 1, "seed of the sampling")
	stop := f.String("stop", "", "end after this text")
	if err := cli.Parse(f, args); err != nil {
		return err
	}
	if *n < 0 {
		return fmt.Errorf("-n is %d; it must be 0 or more", *n)
	}
	if err := s.Validate(); err != nil {
		return err
	}
	dev, _, err := fl.Open()
	if err != nil {
		return err
	}
	model, _, err := load(*dir, dev, "")
	if err != nil {
		return err
	}
	if _, err := model.Freeze(); err != nil {
		return err
	}
	return writeUntil(ctx, model, *prompt, *stop, *n, s)
}

func exportCommand(ctx context.Context, args []string) error {
	var fl cli.Flags
	f := flag.NewFlagSet("gopher export", flag.ContinueOnError)
	fl.RegisterDevice(f)
	dir := f.String("model", defaultModel, modelUsage)
	ggufFile := f.String("gguf", "", "write a GGUF `file` for llama.cpp")
	typ := f.String("type", "TQ2_0", "type of the GGUF's matrices: TQ1_0, TQ2_0, F16, F32, BF16, Q8_0, or I2_S for bitnet.cpp")
	folder := f.String("safetensors", "", "write a `folder` for Hugging Face's transformers, packed if the graph is BitNet's")
	packed := f.String("packed", "", "write setun's own packed `file`, which loses no bit")
	halves := f.Bool("half", false, "round embedding and head of -packed to half precision, as TQ files have them: the smallest file")
	if err := cli.Parse(f, args); err != nil {
		return err
	}
	if *ggufFile == "" && *folder == "" && *packed == "" {
		return errors.New("say what to write: -gguf FILE, -safetensors FOLDER or -packed FILE")
	}
	if *halves && *packed == "" {
		return errors.New("-half is for -packed; the tables of a GGUF follow its -type")
	}
	as, err := gguf.TypeByName(*typ)
	if err != nil {
		return err
	}
	dev, _, err := fl.Open()
	if err != nil {
		return err
	}
	model, _, err := load(*dir, dev, "")
	if err != nil {
		return err
	}
	wrote := func(path string) error {
		st, err := os.Stat(path)
		if err == nil {
			fmt.Printf("%s: %s bytes\n", path, human(int(st.Size())))
		}
		return err
	}
	if *ggufFile != "" {
		if err := atomicfile.Write(*ggufFile, func(w io.Writer) error { return model.WriteGGUF(w, as) }); err != nil {
			return err
		}
		if err := wrote(*ggufFile); err != nil {
			return err
		}
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if *folder != "" {
		c := model.Config()
		if err := model.WriteHF(*folder, c.SubNorm && c.Weights == llm.TernaryWeights); err != nil {
			return err
		}
		if err := wrote(filepath.Join(*folder, "model.safetensors")); err != nil {
			return err
		}
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if *packed != "" {
		var size llm.Size
		if err := atomicfile.Write(*packed, func(w io.Writer) (err error) {
			size, err = model.WritePacked(w, *halves)
			return err
		}); err != nil {
			return err
		}
		if err := wrote(*packed); err != nil {
			return err
		}
		fmt.Printf("quantized weights: %.3f bits each, %.2f times smaller than float32; the whole file %.2f times\n",
			size.BitsPerWeight(), size.TernaryRatio(), size.FileRatio())
	}
	return nil
}

func evalCommand(ctx context.Context, args []string) error {
	var fl cli.Flags
	f := flag.NewFlagSet("gopher eval", flag.ContinueOnError)
	fl.RegisterDevice(f)
	f.StringVar(&fl.Data, "data", "", "`path` of the text; empty: the Go source of this machine")
	dir := f.String("model", defaultModel, modelUsage)
	ext := f.String("ext", ".go", "comma-separated file name endings to read in folders; empty: all")
	limit := f.Int("val-windows", 2048, "held-out sequences to read; 0: all")
	batch := f.Int("batch", 16, "sequences at a time")
	baseline := f.Bool("baseline", false, "print what byte n-gram models reach on the same split instead")
	orders := f.Int("orders", 5, "longest context of -baseline, 0 to 6 bytes")
	if err := cli.Parse(f, args); err != nil {
		return err
	}
	text, err := openText(ctx, fl.Data, *ext)
	if err != nil {
		return err
	}
	defer text.Close()
	if *baseline {
		bits, err := data.Baseline(ctx, text.Train(), text.Val(), *orders)
		for order, b := range bits {
			fmt.Printf("order %d  %.3f bits per byte\n", order, b)
		}
		return err
	}
	dev, _, err := fl.Open()
	if err != nil {
		return err
	}
	model, meta, err := load(*dir, dev, "")
	if err != nil {
		return err
	}
	val, err := data.ValWindows(text.Val(), *batch, meta.LLM.Context, *limit)
	if err != nil {
		return err
	}
	loss, err := train.Evaluate(ctx, model, val)
	if err != nil {
		return err
	}
	fmt.Printf("%.4f bits per byte over %d held-out bytes of %s\n", train.Bits(loss), val.Targets(), cmp.Or(fl.Data, "the Go source"))
	return nil
}

// openText opens the corpus; without a path, the source of the Go installation.
func openText(ctx context.Context, path, ext string) (*data.Text, error) {
	if path == "" {
		out, err := exec.CommandContext(ctx, "go", "env", "GOROOT").Output()
		root := strings.TrimSpace(string(out))
		if err != nil || root == "" {
			return nil, errors.New("cannot find the Go source to train on (go env GOROOT failed); name a text with -data PATH")
		}
		path = filepath.Join(root, "src")
	}
	var exts []string
	for e := range strings.SplitSeq(ext, ",") {
		if e = strings.TrimSpace(e); e != "" {
			exts = append(exts, e)
		}
	}
	return data.OpenText(data.TextConfig{Paths: []string{path}, Ext: exts})
}

const (
	defaultModel = "runs/gopher"
	modelForms   = "a run or one of its checkpoints, a packed file, a GGUF file or a folder of Hugging Face"
	modelUsage   = "`path` of " + modelForms
)

// fits reports what flags ask of the model that -from names and it has otherwise.
func fits(f *flag.FlagSet, want, has llm.Config) (err error) {
	if want.Context > has.Context {
		return fmt.Errorf("-context is %d, but the model that -from names has %d; add -context %[2]d, or less", want.Context, has.Context)
	}
	graph := has
	f.Visit(func(g *flag.Flag) {
		var a, b any
		switch g.Name {
		case "depth":
			a, b = want.Depth, has.Depth
		case "width":
			a, b = want.Width, has.Width
		case "theta":
			a, b = want.Theta, has.Theta
		case "rule":
			a, b = cmp.Or(want.Quant.Rule, ternary.TWN), cmp.Or(has.Quant.Rule, ternary.TWN)
		case "math":
			a, b = cmp.Or(want.Quant.Math, ternary.Int8), cmp.Or(has.Quant.Math, ternary.Int8)
		case "columns":
			a, b = want.Quant.Columns, has.Quant.Columns
		case "arch":
			err = errors.Join(err, graph.SetArch(g.Value.String()))
			if graph != has {
				a, b = g.Value, "another graph"
			}
		}
		if a != b && err == nil {
			err = fmt.Errorf("-%s is %v, but the model that -from names has %v; leave it out", g.Name, a, b)
		}
	})
	return err
}

// load reads a model from a run's newest checkpoint, from one checkpoint's own folder, or in any other form; as says what
// its weights become, for what is no run as llm.Open does.
func load(dir string, dev device.Device, as llm.Weights) (*llm.Model, saved, error) {
	var meta saved
	if _, err := os.Stat(filepath.Join(filepath.Dir(dir), "state.json")); err == nil && filepath.Base(dir) == "model.safetensors" {
		dir = filepath.Dir(dir) // a file of a checkpoint
	}
	st, err := os.Stat(dir)
	_, noHF := os.Stat(filepath.Join(dir, "config.json"))
	if err == nil && (!st.IsDir() || noHF == nil) {
		m, err := llm.Open(dev, dir, as)
		if err != nil {
			return nil, meta, err
		}
		if meta.LLM = m.Config(); meta.LLM.Vocab != 256 {
			return nil, meta, fmt.Errorf("%s has a vocabulary of %d tokens; gopher reads and writes bytes", dir, meta.LLM.Vocab)
		}
		return m, meta, nil
	}
	var c *checkpoint.Checkpoint
	if _, err = os.Stat(filepath.Join(dir, "state.json")); err == nil {
		c, err = checkpoint.Load(dir)
	} else {
		var skipped []error
		all := dir
		if filepath.Base(dir) != "checkpoints" {
			all = filepath.Join(dir, "checkpoints")
		}
		c, _, skipped, err = checkpoint.LoadLatest(all)
		for _, s := range skipped {
			if err == nil {
				fmt.Fprintln(os.Stderr, "skipped:", s)
			}
		}
	}
	switch {
	case errors.Is(err, checkpoint.ErrNone) && st == nil && dir != defaultModel:
		return nil, meta, fmt.Errorf("%s: no such file or folder; name %s", dir, modelForms)
	case errors.Is(err, checkpoint.ErrNone):
		return nil, meta, fmt.Errorf("%w; name %s; go run ./models/gopher trains one", err, modelForms)
	}
	if err != nil {
		return nil, meta, err
	}
	var cfg train.Config
	if err := json.Unmarshal(c.Config, &cfg); err != nil {
		return nil, meta, fmt.Errorf("%s: the checkpoint's configuration is not readable: %w", dir, err)
	}
	if err := json.Unmarshal(cfg.Model, &meta); err != nil {
		return nil, meta, fmt.Errorf("%s: the checkpoint does not describe a language model: %w", dir, err)
	}
	if meta.LLM.Vocab == 0 {
		return nil, meta, fmt.Errorf("%s: the checkpoint is not of a language model; name a run of gopher", dir)
	}
	over := float64(c.Step) / float64(max(cfg.Steps, 1))
	if cfg.Steps > 0 && over < meta.Warmup && meta.LLM.Weights != llm.FP32Weights {
		fmt.Fprintf(os.Stderr, "%s: step %d of %d, when the weights were quantized by %.0f%%; now they are wholly, and do worse\n",
			dir, c.Step, cfg.Steps, 100*over/meta.Warmup)
	}
	model, err := llm.New(tensor.NewMaker(dev, 0), meta.LLM)
	if err != nil {
		return nil, meta, fmt.Errorf("%s: %w", dir, err)
	}
	if err := train.LoadParams(model, c.Weights); err != nil {
		return nil, meta, fmt.Errorf("%s: %w", dir, err)
	}
	if as != "" && as != meta.LLM.Weights {
		if model, err = model.As(as); err != nil {
			return nil, meta, fmt.Errorf("%s: %w", dir, err)
		}
		meta.LLM = model.Config()
	}
	return model, meta, nil
}

func write(ctx context.Context, m *llm.Model, prompt string, n int, s llm.Sampling) error {
	return writeUntil(ctx, m, prompt, "", n, s)
}

// writeUntil prints prompt and its continuation byte by byte, until stop has been written.
func writeUntil(ctx context.Context, m *llm.Model, prompt, stop string, n int, s llm.Sampling) error {
	fmt.Print(prompt)
	var text []byte
	err := llm.Generate(ctx, m, data.Bytes{}.Encode([]byte(prompt)), n, s, func(id int32) bool {
		b := data.Bytes{}.Decode([]int32{id})
		text = append(text, b...)
		_, err := os.Stdout.Write(b)
		return err == nil && (stop == "" || !strings.HasSuffix(string(text), stop))
	})
	fmt.Println()
	return err
}

// human writes a count with a suffix: 86.6M.
func human(n int) string {
	switch x := float64(n); {
	case x >= 1e9:
		return fmt.Sprintf("%.1fG", x/1e9)
	case x >= 1e6:
		return fmt.Sprintf("%.1fM", x/1e6)
	case x >= 1e3:
		return fmt.Sprintf("%.1fk", x/1e3)
	}
	return fmt.Sprint(n)
}
