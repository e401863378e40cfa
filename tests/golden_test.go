package tests

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"math"
	"os"
	"runtime/debug"
	"slices"
	"testing"

	"setun/device"
	"setun/device/cpu"
	"setun/device/devicetest"
	"setun/llm"
)

var update = flag.Bool("update", false, "write the golden file anew")

const goldenFile = "testdata/golden.json"

// golden is what one tiny model does in 20 steps.
type golden struct {
	Losses  []float32 `json:"losses"`  // nats, each step
	Weights string    `json:"weights"` // checksum after the last step, see goldenBuild
}

// TestGolden trains the tiny models as ever: a change of any number on the way shows here. After a change that is
// meant, go test ./tests -run TestGolden -update writes the file anew; the difference belongs in the commit.
func TestGolden(t *testing.T) {
	got := map[string]golden{}
	for _, m := range tinies() {
		losses, sum := m.run(t, cpu.New(1), false)
		got[m.name] = golden{losses, sum}
	}
	if *update {
		text, err := json.MarshalIndent(got, "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(goldenFile, append(text, '\n'), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(goldenFile)
	if err != nil {
		t.Fatal(err)
	}
	var want map[string]golden
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&want); err != nil {
		t.Fatalf("%s: %v", goldenFile, err)
	}
	for _, m := range tinies() {
		g, w := got[m.name], want[m.name]
		if len(g.Losses) != len(w.Losses) {
			t.Errorf("%s: %d losses, want %d", m.name, len(g.Losses), len(w.Losses))
			continue
		}
		// Fused multiply-adds and the order of sums differ between builds. Where weights are quantized, a number that
		// falls just on the other side of a half is another code.
		tol := 1e-4
		if m.llm.Weights != llm.FP32Weights {
			tol = 2e-3
		}
		for i := range g.Losses {
			if diff := math.Abs(float64(g.Losses[i]-w.Losses[i])) / float64(w.Losses[i]); !(diff < tol) {
				t.Errorf("%s: loss at step %d is %v, want %v", m.name, i+1, g.Losses[i], w.Losses[i])
				break
			}
		}
		if goldenBuild() && g.Weights != w.Weights {
			t.Errorf("%s: the weights after the last step have other bits: %s, want %s", m.name, g.Weights, w.Weights)
		}
	}
}

// goldenBuild reports whether this build computes the bits of the golden file: amd64, with gonum's assembly and without
// fused multiply-adds.
func goldenBuild() bool {
	return buildSetting("GOARCH") == "amd64" && buildSetting("GOAMD64") == "v1" && buildSetting("-tags") == ""
}

// buildSetting is a setting of the go command that built this test: GOARCH, -tags, -race.
func buildSetting(key string) string {
	info, _ := debug.ReadBuildInfo()
	for _, s := range info.Settings {
		if s.Key == key {
			return s.Value
		}
	}
	return ""
}

// TestSameBits trains the tiny models in ways that must not change a bit.
func TestSameBits(t *testing.T) {
	for _, m := range tinies() {
		losses, sum := m.run(t, cpu.New(1), false)
		saving := m
		saving.llm.Checkpoint = true
		opaque := devicetest.Opaque(cpu.New(2))
		for _, way := range []struct {
			name   string
			m      tiny
			dev    device.Device
			poison bool
		}{
			{"2 threads", m, cpu.New(2), false},
			{"3 threads", m, cpu.New(3), false},
			{"poisoned pool", m, cpu.New(1), true},
			{"recomputed blocks", saving, cpu.New(1), true},
			{"opaque device", m, opaque, true},
		} {
			t.Run(fmt.Sprint(m.name, "/", way.name), func(t *testing.T) {
				l, s := way.m.run(t, way.dev, way.poison)
				if !slices.Equal(l, losses) {
					t.Errorf("losses\n%v, want\n%v", l, losses)
				}
				if s != sum {
					t.Error("the weights differ")
				}
			})
		}
	}
}
