package rss

import (
	"bytes"
	"os"
	"strconv"
	"syscall"
)

// read takes VmRSS and VmHWM (the high-water mark) from /proc, or the peak from getrusage without /proc; 0 is unknown.
func read() (now, peak int64) {
	status, _ := os.ReadFile("/proc/self/status")
	now, peak = field(status, "VmRSS:"), field(status, "VmHWM:")
	if peak == 0 {
		var u syscall.Rusage
		if syscall.Getrusage(syscall.RUSAGE_SELF, &u) == nil {
			peak = int64(u.Maxrss) * 1024
		}
	}
	return now, peak
}

// field reads a line such as "VmRSS:	    1234 kB"; 0 when it is missing or malformed.
func field(status []byte, name string) int64 {
	for line := range bytes.Lines(status) {
		rest, ok := bytes.CutPrefix(line, []byte(name))
		if !ok {
			continue
		}
		f := bytes.Fields(rest)
		if len(f) != 2 || string(f[1]) != "kB" {
			return 0
		}
		kb, err := strconv.ParseInt(string(f[0]), 10, 53)
		if err != nil || kb < 0 {
			return 0
		}
		return kb * 1024
	}
	return 0
}
