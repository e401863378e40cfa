package data_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"setun/data"
)

// A corpus is a list of files, folders and patterns. Here is one file, which is split by position.
func ExampleOpenText() {
	dir, err := os.MkdirTemp("", "corpus")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	poem := "The woods are lovely, dark and deep,\nBut I have promises to keep,\n"
	if err := os.WriteFile(filepath.Join(dir, "frost.txt"), []byte(poem), 0o644); err != nil {
		log.Fatal(err)
	}

	text, err := data.OpenText(data.TextConfig{Paths: []string{dir}, Ext: []string{".txt"}, ValFraction: 0.1})
	if err != nil {
		log.Fatal(err)
	}
	defer text.Close()
	fmt.Println(text.Train().Len(), text.Val().Len(), text.SplitByPosition())
	// Output: 60 6 true
}

// Windows come shuffled; the state of a sampler is a few integers, and a restored one goes on where it was.
func ExampleNewWindows() {
	ctx := context.Background()
	text := data.NewStream([]byte("abcdefghijklmnopqrstuvwxyz"))
	w, err := data.NewWindows(text, 2, 4, 1)
	if err != nil {
		log.Fatal(err)
	}
	b, err := w.Next(ctx)
	if err != nil {
		log.Fatal(err)
	}
	state := w.State()
	fmt.Println(b.Shape, b.Targets[0] == b.Tokens[1], "position", state.Position)

	next, err := w.Next(ctx)
	if err != nil {
		log.Fatal(err)
	}
	if err := w.Restore(state); err != nil {
		log.Fatal(err)
	}
	again, err := w.Next(ctx)
	if err != nil {
		log.Fatal(err)
	}
	var tok data.Bytes
	fmt.Println(string(tok.Decode(next.Tokens)) == string(tok.Decode(again.Tokens)))
	// Output:
	// [2 4] true position 2
	// true
}

// Validation windows are the same each time, spread evenly.
func ExampleValWindows() {
	text := data.NewStream([]byte("abcdefghijklmnopqrstuvwxyz"))
	val, err := data.ValWindows(text, 2, 4, 3)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(val.Targets(), "bytes scored")
	for b, err := range val.Batches(context.Background()) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("%d %s -> %s\n", b.Shape, data.Bytes{}.Decode(b.Tokens), data.Bytes{}.Decode(b.Targets))
	}
	// Output:
	// 12 bytes scored
	// [2 4] abcdijkl -> bcdejklm
	// [1 4] qrst -> rstu
}

func ExampleBaseline() {
	train := data.NewStream([]byte("a rose is a rose is a rose is a rose"))
	val := data.NewStream([]byte("is a rose a rose"))
	bits, err := data.Baseline(context.Background(), train, val, 2)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%.2f\n", bits)
	// Output: [2.96 1.05 0.61]
}

func ExampleOpenIDX() {
	dir, err := os.MkdirTemp("", "images")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	// Two black and white images of 1x2, in both sets.
	images := []byte{0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 2, 0, 255, 255, 0}
	labels := []byte{0, 0, 8, 1, 0, 0, 0, 2, 0, 1}
	for _, set := range []string{"train", "t10k"} {
		for name, b := range map[string][]byte{"-images-idx3-ubyte": images, "-labels-idx1-ubyte": labels} {
			if err := os.WriteFile(filepath.Join(dir, set+name), b, 0o644); err != nil {
				log.Fatal(err)
			}
		}
	}

	set, err := data.OpenIDX(dir)
	if err != nil {
		log.Fatal(err)
	}
	test, err := set.Test.Eval(100, 0)
	if err != nil {
		log.Fatal(err)
	}
	for b, err := range test.Batches(context.Background()) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(b.Shape, b.Pixels, b.Targets, set.Classes)
	}
	// Output: [2 1 2 1] [-1 1 1 -1] [0 1] 2
}
