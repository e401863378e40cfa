package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
)

// A figure is what bench -json and the scripts write.
type figure struct {
	Name           string  `json:"name"`
	Device         string  `json:"device"`
	Threads        int     `json:"threads"`
	Value          float64 `json:"value"`
	Unit           string  `json:"unit"`
	HigherIsBetter bool    `json:"higher_is_better"`
}

// printTable prints a line a case: the median of each device and, for peers, how many times as good setun's best is.
func printTable(paths []string) error {
	type key struct{ name, device string }
	values, units := map[key][]float64{}, map[string]figure{}
	var names []string
	var devices []string
	for _, path := range paths {
		fs, err := read(path)
		if err != nil {
			return err
		}
		for _, f := range fs {
			if _, ok := units[f.Name]; !ok {
				names = append(names, f.Name)
			}
			units[f.Name] = f
			if !slices.Contains(devices, f.Device) {
				devices = append(devices, f.Device)
			}
			values[key{f.Name, f.Device}] = append(values[key{f.Name, f.Device}], f.Value)
		}
	}
	for _, name := range names {
		unit := units[name]
		best := 0.0
		for _, d := range devices {
			if v := median(values[key{name, d}]); ours(d) && v > 0 && (best == 0 || v > best == unit.HigherIsBetter) {
				best = v
			}
		}
		fmt.Printf("%-42s %-9s", name, unit.Unit)
		for _, d := range devices {
			v := median(values[key{name, d}])
			if v == 0 {
				continue
			}
			fmt.Printf("  %s %.4g", d, v)
			if !ours(d) && best > 0 {
				ratio := best / v
				if !unit.HigherIsBetter {
					ratio = v / best
				}
				fmt.Printf(" (%.2fx)", ratio)
			}
		}
		fmt.Println()
	}
	fmt.Println("\nmedians of the rounds; in brackets: how many times as good the best device of setun is")
	return nil
}

// ours reports whether a device is setun's.
func ours(device string) bool { return device == "cpu" || strings.HasPrefix(device, "simd") }

func median(x []float64) float64 {
	if len(x) == 0 {
		return 0
	}
	slices.Sort(x)
	return (x[(len(x)-1)/2] + x[len(x)/2]) / 2
}

// read reads an array of figures or a line each. What a script says of its memory becomes a figure of its own.
func read(path string) (fs []figure, err error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	if bytes.HasPrefix(b, []byte("[")) {
		if err := json.Unmarshal(b, &fs); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		return slices.DeleteFunc(fs, func(f figure) bool { return f.Name == "memory/peak" }), nil
	}
	for s := bufio.NewScanner(bytes.NewReader(b)); s.Scan(); {
		if !bytes.HasPrefix(s.Bytes(), []byte("{")) {
			continue // what a library has to say
		}
		var f struct {
			figure
			Peak float64 `json:"peak_mib"`
		}
		if err := json.Unmarshal(s.Bytes(), &f); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		fs = append(fs, f.figure)
		if f.Peak > 0 && strings.HasPrefix(f.Name, "train/") {
			fs = append(fs, figure{"memory/" + f.Name, f.Device, f.Threads, f.Peak, "MiB", false})
		}
	}
	return fs, nil
}
