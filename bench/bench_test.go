package main

import (
	"encoding/json"
	"errors"
	"image/png"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"setun/device/auto"
)

// decode reads a file of figures.
func decode(t *testing.T, path string) (rs []record) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	d := json.NewDecoder(strings.NewReader(string(b)))
	d.DisallowUnknownFields()
	if err := d.Decode(&rs); err != nil {
		t.Fatal(err)
	}
	return rs
}

func TestFiles(t *testing.T) {
	dir := t.TempDir()
	figures, chart := filepath.Join(dir, "f.json"), filepath.Join(dir, "f.png")
	if err := run(t.Context(), []string{"-quick", "-devices", "simd-none,cpu", "-threads", "1", "-json", figures,
		"-png", chart, "-run", "^(linear|rope|quantize/absmean|train/mlp)/"}); err != nil {
		t.Fatal(err)
	}
	want := map[string]string{ // name to unit
		"memory/peak":                           "MiB",
		"linear/f32/m=256,n=192,k=64":           "GFLOP/s",
		"linear/bf16/m=256,n=192,k=64":          "GFLOP/s",
		"linear/int8/m=256,n=192,k=64":          "GFLOP/s",
		"rope/rows=256,heads=4,dim=64":          "GB/s",
		"quantize/absmean/n=65536":              "Mvalue/s",
		"train/mlp/fp32/784-32-32-10":           "steps/s",
		"train/mlp/ternary/784-32-32-10":        "steps/s",
		"memory/train/mlp/fp32/784-32-32-10":    "MiB",
		"memory/train/mlp/ternary/784-32-32-10": "MiB",
	}
	devices := map[string]int{}
	for _, r := range decode(t, figures) {
		devices[r.Device]++
		if want[r.Name] != r.Unit || !(r.Value > 0) || r.Threads != 1 || r.HigherIsBetter != (r.Unit != "MiB") {
			t.Errorf("%+v, want unit %q", r, want[r.Name])
		}
	}
	if n := len(want) - 1; devices["simd-none"] != n || devices["cpu"] != n || devices["simd-none+cpu"] != 1 {
		t.Errorf("figures by device: %v", devices)
	}
	f, err := os.Open(chart)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := png.Decode(f); err != nil {
		t.Error(err)
	}
}

func TestFlags(t *testing.T) {
	for _, c := range []struct{ args, want string }{
		{"-quik", "-quik"},
		{"extra", `unexpected argument "extra"`},
		{"-run (", "-run is \"(\""},
		{"-run nothing", "matches no case; -list shows"},
		{"-threads -1", "-threads is -1"},
		{"-devices gpu", `unknown device "gpu"; use some of cuda, simd, cpu`},
		{"-devices auto", `unknown device "auto"`},
		{"-devices cpu,cpu", `"cpu" twice`},
		{"-devices simd-mmx", `no tier "mmx"; it has none`},
		{"-quick -run ^rope -devices cpu -json /nowhere/f.json", "/nowhere/f.json"},
	} {
		if err := run(t.Context(), strings.Fields(c.args)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want %q", c.args, err, c.want)
		}
	}
}

// TestDevices: without a list, a machine without a GPU has the devices it always had; with one, it says what is missing.
func TestDevices(t *testing.T) {
	_, err := open("simd,cuda", 1)
	if err == nil {
		t.Skip("there is a GPU")
	}
	if !errors.Is(err, auto.ErrNone) || !strings.HasPrefix(err.Error(), "-devices: device cuda: no CUDA GPU: ") {
		t.Errorf("-devices cuda: %v", err)
	}
	devs, err := open("", 1)
	if err != nil || len(devs) != 2 || devs[0].name != "simd" || devs[1].name != "cpu" {
		t.Errorf("all devices: %v, %v", devs, err)
	}
}

// Names are what figures of different days are compared by.
func TestNames(t *testing.T) {
	form := regexp.MustCompile(`^[a-z]+[a-z0-9/-]*/([a-z]+=\d+(,[a-z]+=\d+)*|784(-\d+)+)$`)
	for _, quick := range []bool{false, true} {
		seen := map[string]bool{}
		for _, b := range cases(quick) {
			if !form.MatchString(b.name) || seen[b.name] {
				t.Errorf("quick %t: the name %q is odd or there twice", quick, b.name)
			}
			seen[b.name] = true
		}
		if quick {
			continue
		}
		for _, name := range []string{"gemm/f32/m=1024,n=1024,k=1024", "gemm/f32/nt/m=2048,n=1152,k=384",
			"linear/int8/m=2048,n=1152,k=384", "train/gopher/fp32/d=256,l=4", "train/gopher/ternary/d=384,l=6",
			"train/mlp/ternary/784-512-512-10", "generate/gopher/ternary/d=256,l=4", "quantize/absmean/n=16777216"} {
			if !seen[name] {
				t.Errorf("no case %q", name)
			}
		}
	}
}
