// Llamacpp runs stock llama.cpp and setun on the same GGUF file, side by side.
//
//	./setup.sh                                              install llama.cpp into lib
//	go run . -write random.gguf                             a random ternary model of 0.78 billion weights
//	go run . -model random.gguf -threads 2                  speeds, in turns, medians
//	go run . -model random.gguf -only setun                 one of them, with its peak memory
//	go run . -model gopher.gguf -check 'func main() {'      logits, both against a float64 computation of the file
//
// llama.cpp is loaded by yzma, without cgo; it needs libffi.so.8.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"setun/device/simd"
	"setun/internal/rss"
	"setun/llm"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "llamacpp:", err)
		os.Exit(1)
	}
}

// An engine has one sequence of tokens.
type engine interface {
	name() string
	// next appends tokens and gives the logits of the last; they hold until the next call.
	next(tokens []int32) ([]float32, error)
	// truncate forgets all but the first n tokens.
	truncate(n int) error
}

func run() error {
	lib := flag.String("lib", "lib", "`folder` of llama.cpp's libraries, see setup.sh")
	model := flag.String("model", "", "GGUF `file`")
	threads := flag.Int("threads", 2, "threads of each")
	prompt := flag.Int("pp", 512, "tokens of a prompt")
	generate := flag.Int("tg", 64, "tokens to generate")
	at := flag.String("at", "0,512,4096", "tokens in the context when generation starts")
	rounds := flag.Int("rounds", 5, "turns of each")
	only := flag.String("only", "", "setun or llama.cpp")
	flash := flag.Bool("fa", false, "flash attention in llama.cpp: slower here, but for an empty context")
	int8Cache := flag.Bool("int8", false, "keep setun's keys and values in int8, llama.cpp's in half precision")
	text := flag.String("check", "", "compare the logits of each byte of this `text`")
	write := flag.String("write", "", "write a random model to this `file`")
	flag.Parse()
	if *write != "" {
		return writeRandom(*write)
	}
	if *model == "" {
		return fmt.Errorf("name a model with -model, or make one with -write")
	}
	var depths []int
	room := len(*text) + 1
	for s := range strings.SplitSeq(*at, ",") {
		n, err := strconv.Atoi(s)
		if err != nil || n < 0 {
			return fmt.Errorf("-at %q: want numbers of tokens with commas between", *at)
		}
		depths = append(depths, n)
		if *text == "" {
			room = max(room, n+*generate+1, *prompt)
		}
	}
	var engines []engine
	if *only != "llama.cpp" {
		e, err := newSetun(*model, *threads, room, *text != "", *int8Cache)
		if err != nil {
			return err
		}
		engines = append(engines, e)
	}
	if *only != "setun" {
		e, err := newLlama(*lib, *model, *threads, room, *text != "", *flash)
		if err != nil {
			return err
		}
		engines = append(engines, e)
	}
	if *text != "" {
		return check(*model, []byte(*text), engines)
	}
	return speeds(engines, *prompt, *generate, depths, *rounds, *threads)
}

func speeds(engines []engine, prompt, generate int, depths []int, rounds, threads int) error {
	tokens := make([]int32, max(prompt, slices.Max(depths)))
	for i := range tokens {
		tokens[i] = int32(32 + i*37%90)
	}
	type result struct {
		Name   string  `json:"name"`
		Value  float64 `json:"tokens_per_second"`
		Engine string  `json:"engine"`
	}
	var results []result
	measure := func(name string, n int, prepare, call func(e engine) error) error {
		times := make([][]float64, len(engines))
		for range rounds {
			for i, e := range engines {
				if err := prepare(e); err != nil {
					return err
				}
				start := time.Now()
				if err := call(e); err != nil {
					return err
				}
				times[i] = append(times[i], time.Since(start).Seconds())
			}
		}
		line := fmt.Sprintf("%-28s", name)
		var values []float64
		for i, e := range engines {
			slices.Sort(times[i])
			v := float64(n) / times[i][rounds/2]
			values = append(values, v)
			results = append(results, result{name, v, e.name()})
			line += fmt.Sprintf("  %s %8.1f", e.name(), v)
		}
		if len(values) == 2 {
			line += fmt.Sprintf("  ratio %.2f", values[0]/values[1])
		}
		fmt.Println(line)
		return nil
	}
	fmt.Printf("tokens a second, %d threads, medians of %d turns\n", threads, rounds)
	read := func(n int) func(e engine) error {
		return func(e engine) error {
			if err := e.truncate(0); err != nil {
				return err
			}
			for from := 0; from < n; from += 512 {
				if _, err := e.next(tokens[from:min(from+512, n)]); err != nil {
					return err
				}
			}
			return nil
		}
	}
	if err := measure(fmt.Sprintf("prompt of %d", prompt), prompt, read(0), read(prompt)); err != nil {
		return err
	}
	for _, depth := range depths {
		there := map[string]bool{}
		err := measure(fmt.Sprintf("%d tokens at %d", generate, depth), generate, func(e engine) error {
			if !there[e.name()] {
				there[e.name()] = true
				return read(depth)(e)
			}
			return e.truncate(depth)
		}, func(e engine) error {
			for i := range generate {
				if _, err := e.next(tokens[i%len(tokens)%len(tokens) : i%len(tokens)+1]); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	if len(engines) == 1 {
		fmt.Printf("peak memory %d MiB\n", rss.Peak()>>20)
	}
	out, err := json.Marshal(results)
	if err != nil {
		return err
	}
	fmt.Println(string(out))
	return nil
}

type setun struct {
	d      *llm.Decoder
	logits []float32
}

func newSetun(path string, threads, room int, exact, int8Cache bool) (engine, error) {
	dev, err := simd.New(threads)
	if err != nil {
		return nil, err
	}
	m, err := llm.ReadGGUF(dev, path, "")
	if err != nil {
		return nil, err
	}
	d, err := llm.NewDecoder(m, llm.DecoderConfig{Context: room, Float32: exact, Int8: int8Cache})
	return &setun{d, make([]float32, m.Config().Vocab)}, err
}

func (s *setun) name() string { return "setun" }

func (s *setun) next(tokens []int32) ([]float32, error) { return s.logits, s.d.Next(tokens, s.logits) }

func (s *setun) truncate(n int) error { s.d.Truncate(n); return nil }
