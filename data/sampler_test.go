package data

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
)

// ramp is a text in which any two bytes tell their place: byte i is i mod 251.
func ramp(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i % 251)
	}
	return b
}

func mustWindows(t *testing.T, s *Stream, batch, context int, seed uint64) *Sampler {
	t.Helper()
	w, err := NewWindows(s, batch, context, seed)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func mustNext(t *testing.T, s *Sampler) Batch {
	t.Helper()
	b, err := s.Next(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestWindowsEpochs(t *testing.T) {
	tests := []struct{ length, context, items int }{
		{2, 1, 1}, {9, 8, 1}, {10, 8, 1}, {16, 8, 1}, {17, 8, 1}, {25, 8, 2}, {251, 8, 30}, {250, 3, 82}, {200, 1, 198},
	}
	for _, tt := range tests {
		t.Run(fmt.Sprint(tt.length, "/", tt.context), func(t *testing.T) {
			w := mustWindows(t, NewStream(ramp(tt.length)), 1, tt.context, 42)
			if w.Len() != int64(tt.items) {
				t.Fatalf("%d windows, want %d", w.Len(), tt.items)
			}
			covered := make([]bool, tt.length)
			orders := map[string]bool{}
			for epoch := range 200 {
				starts := map[int]bool{}
				phase, order := -1, ""
				for range tt.items {
					b := mustNext(t, w)
					start := int(b.Tokens[0])
					for j := range b.Tokens {
						if b.Tokens[j] != int32(start+j) || b.Targets[j] != int32(start+j+1) {
							t.Fatalf("epoch %d: tokens %v targets %v", epoch, b.Tokens, b.Targets)
						}
						covered[start+j], covered[start+j+1] = true, true
					}
					if phase < 0 {
						phase = start % tt.context
					}
					if start%tt.context != phase {
						t.Fatalf("epoch %d: start %d off the grid %d mod %d", epoch, start, phase, tt.context)
					}
					starts[start] = true
					order += fmt.Sprint(start, " ")
				}
				if len(starts) != tt.items {
					t.Fatalf("epoch %d: %d different windows of %d", epoch, len(starts), tt.items)
				}
				orders[order] = true
			}
			for i, c := range covered {
				if !c {
					t.Errorf("byte %d never came in 200 epochs", i)
				}
			}
			if tt.items > 20 && len(orders) < 200 {
				t.Errorf("%d different orders in 200 epochs", len(orders))
			}
		})
	}
}

// TestStrataWindows: every window of an epoch comes once, row i's from part i, and a restored sampler goes on.
func TestStrataWindows(t *testing.T) {
	const length, context, batch = 251, 8, 4 // 30 windows, 7 in a part
	make := func() *Sampler {
		w, err := NewStrataWindows(NewStream(ramp(length)), batch, context, 42)
		if err != nil {
			t.Fatal(err)
		}
		return w
	}
	w := make()
	orders, first := map[string]bool{}, map[int]int{}
	for epoch := range 100 {
		starts, phase, order := map[int]bool{}, -1, ""
		for step := range 7 {
			if epoch == 3 && step == 2 { // stop and go on
				again := make()
				if err := again.Restore(w.State()); err != nil {
					t.Fatal(err)
				}
				w = again
			}
			b := mustNext(t, w)
			for row := range batch {
				part := b.Rows(row, row+1)
				start := int(part.Tokens[0])
				if phase < 0 {
					phase = start % context
					first[start]++
				}
				if offset := start - phase; offset%context != 0 {
					t.Fatalf("epoch %d: start %d off the grid %d", epoch, start, phase)
				}
				starts[start] = true
				order += fmt.Sprint(start, " ")
				if at := start / context; at < 7*row || at > 7*row+7+1 { // windows begin up to two later
					t.Fatalf("epoch %d: row %d begins at %d", epoch, row, start)
				}
			}
		}
		if len(starts) != 28 {
			t.Fatalf("epoch %d: %d different windows of 28", epoch, len(starts))
		}
		orders[order] = true
	}
	if len(orders) < 95 || len(first) < 20 {
		t.Errorf("%d different orders in 100 epochs, %d different first windows", len(orders), len(first))
	}
	plain := mustWindows(t, NewStream(ramp(length)), batch, context, 42)
	if err := plain.Restore(w.State()); err == nil {
		t.Error("shuffled windows went on from the state of strata")
	}
	if _, err := NewStrataWindows(NewStream(ramp(20)), 8, 8, 1); err == nil || !strings.Contains(err.Error(), "too few for 8 parts") {
		t.Errorf("little text: %v", err)
	}
}

// Parts are equal thirds of the text: a batch has a window of each.
func TestStrataWindowsParts(t *testing.T) {
	text := make([]byte, 3001)
	for i := range text {
		text[i] = byte(i / 1000)
	}
	w, err := NewStrataWindows(NewStream(text), 3, 10, 7)
	if err != nil {
		t.Fatal(err)
	}
	for range 300 {
		b := mustNext(t, w)
		for row := range 3 {
			if got := b.Rows(row, row+1).Tokens[5]; got != int32(row) && got != int32(row)+1 && got != int32(row)-1 {
				t.Fatalf("row %d begins in part %d", row, got)
			}
		}
	}
}

func TestWindowsBatchAcrossEpochs(t *testing.T) {
	s := NewStream(ramp(100))
	one, four := mustWindows(t, s, 1, 8, 3), mustWindows(t, s, 4, 8, 3)
	for step := range 40 {
		b := mustNext(t, four)
		if !reflect.DeepEqual(b.Shape, []int{4, 8}) {
			t.Fatalf("shape %v", b.Shape)
		}
		for i := range 4 {
			if row, want := b.Rows(i, i+1), mustNext(t, one); !reflect.DeepEqual(row, want) {
				t.Fatalf("step %d row %d: %v, want %v", step, i, row, want)
			}
		}
	}
	if e := four.Epoch(); e != 160./11 {
		t.Errorf("epoch %v, want 160/11", e)
	}
}

func TestWindowsRestore(t *testing.T) {
	s := NewStream(ramp(3000))
	a := mustWindows(t, s, 3, 16, 9)
	for range 70 {
		mustNext(t, a)
	}
	text, err := json.Marshal(a.State())
	if err != nil {
		t.Fatal(err)
	}
	b := mustWindows(t, s, 3, 16, 1234)
	mustNext(t, b)
	var st State
	if err := json.Unmarshal(text, &st); err != nil {
		t.Fatal(err)
	}
	if err := b.Restore(st); err != nil {
		t.Fatal(err)
	}
	for step := range 300 {
		if x, y := mustNext(t, a), mustNext(t, b); !reflect.DeepEqual(x, y) {
			t.Fatalf("step %d after restore: %v, want %v", step, y, x)
		}
	}
	if a.State() != b.State() {
		t.Errorf("states %+v and %+v", a.State(), b.State())
	}
}

func TestWindowsSeeds(t *testing.T) {
	s := NewStream(ramp(250))
	if a, b := mustNext(t, mustWindows(t, s, 8, 4, 1)), mustNext(t, mustWindows(t, s, 8, 4, 1)); !reflect.DeepEqual(a, b) {
		t.Error("same seed, other batch")
	}
	if a, b := mustNext(t, mustWindows(t, s, 8, 4, 1)), mustNext(t, mustWindows(t, s, 8, 4, 2)); reflect.DeepEqual(a, b) {
		t.Error("other seed, same batch")
	}
}

func TestNextCancelled(t *testing.T) {
	s := NewStream(ramp(250))
	w, want := mustWindows(t, s, 2, 4, 1), mustWindows(t, s, 2, 4, 1)
	mustNext(t, w)
	mustNext(t, want)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	st := w.State()
	if _, err := w.Next(ctx); err != context.Canceled {
		t.Fatalf("error %v", err)
	}
	if w.State() != st {
		t.Fatal("a cancelled Next moved the state")
	}
	if a, b := mustNext(t, w), mustNext(t, want); !reflect.DeepEqual(a, b) {
		t.Error("a cancelled Next lost a batch")
	}
}

func TestSamplerErrors(t *testing.T) {
	s := NewStream(ramp(9))
	tests := []struct {
		name           string
		batch, context int
		want           string
	}{
		{"short", 1, 9, "9 bytes of text are too few for a context of 9"},
		{"batch", 0, 4, "batch of 0"},
		{"context", 1, 0, "context of 0"},
		{"huge", 1 << 30, 2, "make them smaller"},
		{"huge context", 1, math.MaxInt32, "make them smaller"},
	}
	for _, tt := range tests {
		for kind, f := range map[string]func() error{
			"windows": func() error { _, err := NewWindows(s, tt.batch, tt.context, 0); return err },
			"val":     func() error { _, err := ValWindows(s, tt.batch, tt.context, 0); return err },
		} {
			if err := f(); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%s %s: error %v, want %q", tt.name, kind, err, tt.want)
			}
		}
	}
	if _, err := ValWindows(s, 1, 4, -1); err == nil {
		t.Error("negative limit accepted")
	}
	w := mustWindows(t, s, 1, 4, 1)
	good := w.State()
	for _, tt := range []struct {
		edit func(*State)
		want string
	}{
		{func(s *State) { s.Digest = "x" }, "other data"},
		{func(s *State) { s.Context++ }, "context 5, here 4"},
		{func(s *State) { s.Position = -1 }, "damaged"},
	} {
		st := good
		tt.edit(&st)
		if err := w.Restore(st); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("restore %+v: error %v, want %q", st, err, tt.want)
		}
		if w.State() != good {
			t.Errorf("a refused restore changed the state to %+v", w.State())
		}
	}
}

func TestValWindows(t *testing.T) {
	tests := []struct{ length, batch, context, limit, items int }{
		{9, 4, 8, 0, 1}, {16, 4, 8, 0, 1}, {17, 4, 8, 0, 2}, {250, 4, 8, 0, 31}, {250, 4, 8, 10, 10}, {250, 4, 8, 31, 31},
		{250, 7, 3, 82, 82}, {250, 7, 3, 1000, 83},
	}
	for _, tt := range tests {
		e, err := ValWindows(NewStream(ramp(tt.length)), tt.batch, tt.context, tt.limit)
		if err != nil {
			t.Fatal(err)
		}
		if e.Len() != tt.items || e.Targets() != tt.items*tt.context {
			t.Errorf("%+v: %d windows, %d targets", tt, e.Len(), e.Targets())
		}
		var starts []int
		scored := map[int32]bool{}
		for b, err := range e.Batches(t.Context()) {
			if err != nil {
				t.Fatal(err)
			}
			if want := min(tt.batch, tt.items-len(starts)); b.Size() != want {
				t.Fatalf("%+v: batch of %d, want %d", tt, b.Size(), want)
			}
			for i := range b.Size() {
				starts = append(starts, int(b.Rows(i, i+1).Tokens[0]))
			}
			for _, y := range b.Targets {
				if scored[y] {
					t.Fatalf("%+v: byte %d scored twice", tt, y)
				}
				scored[y] = true
			}
		}
		if len(starts) != tt.items || len(scored) != e.Targets() {
			t.Errorf("%+v: %d windows, %d bytes", tt, len(starts), len(scored))
		}
		lo, hi := 1<<30, 0
		for i := 1; i < len(starts); i++ {
			lo, hi = min(lo, starts[i]-starts[i-1]), max(hi, starts[i]-starts[i-1])
		}
		if len(starts) > 1 && (lo < tt.context || hi-lo > tt.context) {
			t.Errorf("%+v: steps of %d to %d: not even", tt, lo, hi)
		}
	}
}

func TestEvalCancelled(t *testing.T) {
	e, err := ValWindows(NewStream(ramp(250)), 1, 8, 0)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	n := 0
	var last error
	for _, err := range e.Batches(ctx) {
		n++
		last = err
		cancel()
	}
	if n != 2 || last != context.Canceled {
		t.Errorf("%d batches, then %v", n, last)
	}
}

func TestBatchRows(t *testing.T) {
	b := Batch{Shape: []int{4, 2}, Tokens: []int32{0, 1, 2, 3, 4, 5, 6, 7}, Targets: []int32{0, 1, 2, 3}}
	want := Batch{Shape: []int{2, 2}, Tokens: []int32{2, 3, 4, 5}, Targets: []int32{1, 2}}
	if got := b.Rows(1, 3); !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if got := b.Rows(2, 2); got.Size() != 0 || len(got.Tokens) != 0 {
		t.Errorf("no rows: %+v", got)
	}
	if b.Size() != 4 || (Batch{}).Size() != 0 {
		t.Errorf("sizes %d and %d", b.Size(), (Batch{}).Size())
	}
}

func TestBytes(t *testing.T) {
	var tok Tokenizer = Bytes{}
	text := make([]byte, 1000)
	rng := rand.NewChaCha8([32]byte{1})
	rng.Read(text)
	ids := tok.Encode(text)
	for _, id := range ids {
		if id < 0 || int(id) >= tok.Vocab() {
			t.Fatalf("token %d", id)
		}
	}
	if got := tok.Decode(ids); !bytes.Equal(got, text) {
		t.Error("Decode(Encode(text)) != text")
	}
	if got := tok.Decode([]int32{'a', -1, 256, 'b'}); string(got) != "ab" {
		t.Errorf("ids out of range: %q", got)
	}
}
