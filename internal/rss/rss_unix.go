//go:build darwin || dragonfly || freebsd || netbsd || openbsd

package rss

import (
	"runtime"
	"syscall"
)

// read takes the peak from getrusage, in bytes on Darwin and KiB on the BSDs. The current size needs cgo there: unknown.
func read() (now, peak int64) {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0, 0
	}
	peak = int64(u.Maxrss)
	if runtime.GOOS != "darwin" && runtime.GOOS != "ios" {
		peak *= 1024
	}
	return 0, peak
}
