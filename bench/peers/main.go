// Peers times the pure Go libraries that also multiply matrices or train, beside setun's devices, in one process and
// turn by turn: gonum, gorgonia, and the Go backend of GoMLX. It prints a line of JSON a figure.
//
//	go run . [-threads N] [-run REGEXP]
//	go run . -table FILE...      a table of ratios of such lines
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"os"
	"regexp"
	"runtime"
	"runtime/debug"
	"slices"
	"time"

	"setun/device"
	"setun/device/auto"
)

// A peer is one library in one case. call does the work once.
type peer struct {
	name, unit string
	work       float64
	device     string
	setup      func() (call func())
}

func main() {
	log.SetFlags(0)
	pattern := flag.String("run", "", "run only the cases whose name matches this `regexp`")
	threads := flag.Int("threads", 0, "processor threads; 0: all")
	table := flag.Bool("table", false, "print a table of the figures in the files named as arguments")
	flag.Parse()
	if *table {
		if err := printTable(flag.Args()); err != nil {
			log.Fatal("peers: ", err)
		}
		return
	}
	re, err := regexp.Compile(*pattern)
	if err != nil {
		log.Fatalf("peers: -run is %q: %v", *pattern, err)
	}
	if *threads <= 0 {
		*threads = runtime.GOMAXPROCS(0)
	}
	runtime.GOMAXPROCS(*threads)
	devs := map[string]device.Device{}
	for _, name := range []string{"simd", "cpu"} {
		if devs[name], err = auto.Open(name, *threads); err != nil {
			log.Fatal("peers: ", err)
		}
	}
	var all []peer
	for _, family := range []func(map[string]device.Device, int) ([]peer, error){products, quantizers, perceptrons} {
		ps, err := family(devs, *threads)
		if err != nil {
			log.Fatal("peers: ", err)
		}
		all = append(all, ps...)
	}
	all = slices.DeleteFunc(all, func(p peer) bool { return !re.MatchString(p.name) })
	for len(all) > 0 { // peers of a case stand together
		n := slices.IndexFunc(all, func(p peer) bool { return p.name != all[0].name })
		if n < 0 {
			n = len(all)
		}
		measure(all[:n], *threads)
		all = all[n:]
	}
}

// measure lets the peers of a case take turns and prints their medians.
func measure(ps []peer, threads int) {
	debug.FreeOSMemory()
	calls, counts, times := make([]func(), len(ps)), make([]int, len(ps)), make([][]float64, len(ps))
	for i, p := range ps {
		calls[i] = p.setup()
		calls[i]() // warm
		counts[i] = max(1, int(0.02/timed(calls[i], 1)))
	}
	for range 7 {
		for i, call := range calls {
			times[i] = append(times[i], timed(call, counts[i]))
		}
	}
	for i, p := range ps {
		slices.Sort(times[i])
		b, err := json.Marshal(figure{p.name, p.device, threads, p.work / times[i][len(times[i])/2], p.unit, true})
		if err != nil {
			log.Fatal("peers: ", err)
		}
		fmt.Fprintf(os.Stdout, "%s\n", b)
	}
}

// timed is the seconds per call of n calls.
func timed(call func(), n int) float64 {
	start := time.Now()
	for range n {
		call()
	}
	return time.Since(start).Seconds() / float64(n)
}
