// Bench measures the devices of this machine side by side: kernels, linear layers, training steps, generation.
//
//	go run ./bench                         everything, some minutes
//	go run ./bench -quick                  small sizes, under half a minute
//	go run ./bench -run '^train/' -devices simd,simd-avx2 -threads 1
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"regexp"
	"runtime"
	"slices"
	"strings"

	"setun/device"
	"setun/device/auto"
	"setun/device/simd"
	"setun/internal/cli"
	"setun/internal/rss"
)

func main() { cli.Main(run) }

func run(ctx context.Context, args []string) error {
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	pattern := f.String("run", "", "run only the cases whose name matches this `regexp`")
	names := f.String("devices", "", "`list` of devices, with commas; also tiers: simd-avx2; all if empty")
	threads := f.Int("threads", 0, "processor threads; 0: all")
	quick := f.Bool("quick", false, "small sizes and short times")
	list := f.Bool("list", false, "print the names of the cases and stop")
	jsonPath := f.String("json", "", "write the figures to this `file`")
	pngPath := f.String("png", "", "draw the figures to this `file`")
	if err := cli.Parse(f, args); err != nil {
		return err
	}
	re, err := regexp.Compile(*pattern)
	if err != nil {
		return fmt.Errorf("-run is %q: %w", *pattern, err)
	}
	if *threads < 0 {
		return fmt.Errorf("-threads is %d; it must be 0 (all processors) or more", *threads)
	}
	selected := slices.DeleteFunc(cases(*quick), func(b benchmark) bool { return !re.MatchString(b.name) })
	if len(selected) == 0 {
		return fmt.Errorf("-run is %q, which matches no case; -list shows their names", *pattern)
	}
	if *list {
		for _, b := range selected {
			fmt.Println(b.name)
		}
		return nil
	}
	devs, err := open(*names, *threads)
	if err != nil {
		return err
	}
	runtime.GOMAXPROCS(cmp.Or(*threads, runtime.GOMAXPROCS(0)))

	r := report{w: os.Stdout, devs: devs, threads: runtime.GOMAXPROCS(0), args: args}
	m := meter{devs: devs, quick: *quick, base: mib(rss.Now())}
	roof, err := m.roofs(ctx)
	if err != nil {
		return err
	}
	r.start(roof)
	for _, b := range selected {
		figures, err := m.measure(ctx, b)
		if err != nil {
			return fmt.Errorf("%s: %w", b.name, err)
		}
		r.add(b, figures)
	}
	r.end()
	if *jsonPath != "" {
		if err := r.writeJSON(*jsonPath); err != nil {
			return err
		}
	}
	if *pngPath != "" {
		return r.writePNG(*pngPath)
	}
	return nil
}

// named is a device under the name that the user gave.
type named struct {
	name string
	device.Device
}

// open opens a list of devices: those of package auto, and "simd-TIER". An empty list is all that this machine has.
func open(list string, threads int) ([]named, error) {
	var devs []named
	if list == "" {
		for _, name := range auto.Names {
			dev, err := auto.Open(name, threads)
			if errors.Is(err, auto.ErrNone) {
				continue
			}
			if err != nil {
				return nil, err
			}
			devs = append(devs, named{name, dev})
		}
		return devs, nil
	}
	for name := range strings.SplitSeq(list, ",") {
		if slices.ContainsFunc(devs, func(d named) bool { return d.name == name }) {
			return nil, fmt.Errorf("-devices has %q twice", name)
		}
		dev, err := openOne(name, threads)
		if err != nil {
			return nil, fmt.Errorf("-devices: %w", err)
		}
		devs = append(devs, named{name, dev})
	}
	return devs, nil
}

func openOne(name string, threads int) (device.Device, error) {
	tier, ok := strings.CutPrefix(name, "simd-")
	if !ok {
		if !slices.Contains(auto.Names, name) { // auto itself would hide which device it is
			return nil, fmt.Errorf("unknown device %q; use some of %s, or simd-TIER", name, strings.Join(auto.Names, ", "))
		}
		return auto.Open(name, threads)
	}
	tiers := simd.Tiers()
	i := slices.IndexFunc(tiers, func(t simd.Tier) bool { return t.String() == tier })
	if i < 0 {
		return nil, fmt.Errorf("this processor has no tier %q; it has %s", tier, strings.Trim(fmt.Sprint(tiers), "[]"))
	}
	return simd.NewTier(threads, tiers[i]), nil
}
