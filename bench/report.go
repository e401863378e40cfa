package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"

	"setun/device/cuda"
	"setun/device/simd"
	"setun/internal/atomicfile"
	"setun/internal/rss"
)

// A report prints figures as they come and keeps them for the files.
type report struct {
	w       io.Writer
	devs    []named
	threads int
	args    []string // of the command line
	lines   []line
}

type line struct {
	benchmark
	figures []figure // one a device
}

// record is one figure in the JSON file.
type record struct {
	Name           string  `json:"name"`
	Device         string  `json:"device"`
	Threads        int     `json:"threads"`
	Value          float64 `json:"value"`
	Unit           string  `json:"unit"`
	HigherIsBetter bool    `json:"higher_is_better"`
}

// start prints what was measured with, and on.
func (r *report) start(roof string) {
	tier := "no SIMD"
	if ts := simd.Tiers(); len(ts) > 1 {
		tier = "best tier " + ts[len(ts)-1].String()
	}
	if s := os.Getenv("SETUN_SIMD"); s != "" {
		tier += ", SETUN_SIMD=" + s
	}
	fmt.Fprintf(r.w, "%s, %s, %d threads, %s %s/%s\n", processor(), tier, r.threads, runtime.Version(), runtime.GOOS,
		runtime.GOARCH)
	for _, d := range r.devs {
		if gpu, ok := d.Device.(*cuda.Device); ok {
			fmt.Fprintf(r.w, "%s: %v\n", d.name, gpu.Info())
		}
	}
	fmt.Fprintf(r.w, "flags: %s\n%s\n\n", strings.Join(r.args, " "), roof)
	fmt.Fprintf(r.w, "%-42s %-9s", "", "")
	for _, d := range r.devs {
		fmt.Fprintf(r.w, " | %-32s", d.name)
	}
	fmt.Fprintf(r.w, "\n%-42s %-9s", "case", "unit")
	for range r.devs {
		fmt.Fprintf(r.w, " | %9s %8s %6s %6s", "value", "to cpu", "roof", "MiB")
	}
	fmt.Fprintln(r.w)
}

// add prints a line.
func (r *report) add(b benchmark, figures []figure) {
	l := line{b, figures}
	r.lines = append(r.lines, l)
	fmt.Fprintf(r.w, "%-42s %-9s", b.name, b.unit)
	for i, f := range figures {
		speedUp, share := "", ""
		if s := r.speedUp(l, i); s > 0 {
			speedUp = fmt.Sprintf("%.2fx", s)
		}
		if f.share > 0 {
			share = fmt.Sprintf("%.0f%%", 100*f.share)
		}
		fmt.Fprintf(r.w, " | %9s %8s %6s %6.0f", digits(f.value), speedUp, share, f.memory)
	}
	fmt.Fprintln(r.w)
}

// digits shows four of them.
func digits(v float64) string {
	if v >= 1000 {
		return fmt.Sprintf("%.0f", v)
	}
	return fmt.Sprintf("%.4g", v)
}

// speedUp is figure i over that of the pure Go device; 0 without one.
func (r *report) speedUp(l line, i int) float64 {
	cpu := slices.IndexFunc(r.devs, func(d named) bool { return d.name == "cpu" })
	if cpu < 0 {
		return 0
	}
	return l.figures[i].value / l.figures[cpu].value
}

func (r *report) end() {
	fmt.Fprintf(r.w, "\nvalue: median, devices take turns. MiB: resident memory of a process that does only this.\n"+
		"Peak memory of this process: %.0f MiB\n", mib(rss.Peak()))
}

// records are the figures, the memory of whole steps under "memory/NAME", and the process's as "memory/peak".
func (r *report) records() []record {
	var names []string
	for _, d := range r.devs {
		names = append(names, d.name)
	}
	rs := []record{{"memory/peak", strings.Join(names, "+"), r.threads, mib(rss.Peak()), "MiB", false}}
	for _, l := range r.lines {
		for i, f := range l.figures {
			rs = append(rs, record{l.name, names[i], r.threads, f.value, l.unit, true})
			if l.whole {
				rs = append(rs, record{"memory/" + l.name, names[i], r.threads, f.memory, "MiB", false})
			}
		}
	}
	return rs
}

func (r *report) writeJSON(path string) error {
	return atomicfile.Write(path, func(w io.Writer) error {
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		return e.Encode(r.records())
	})
}

// processor is the model name, where the system tells it.
func processor() string {
	info, _ := os.ReadFile("/proc/cpuinfo")
	for l := range bytes.Lines(info) {
		if k, v, ok := bytes.Cut(l, []byte(":")); ok && string(bytes.TrimSpace(k)) == "model name" {
			return string(bytes.TrimSpace(v))
		}
	}
	return "unknown processor"
}
