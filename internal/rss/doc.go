// Package rss tells how much physical memory this process uses.
//
// Linux and Windows report both numbers exactly. Darwin and the BSDs report the peak; elsewhere, and for [Now] there, the
// memory the Go runtime holds stands in for it: too low by the binary and by what was mapped past the runtime.
package rss

import "runtime/metrics"

// Peak is the largest resident size of this process so far, in bytes.
func Peak() int64 {
	if _, peak := read(); peak > 0 {
		return peak
	}
	return held("/memory/classes/total:bytes")
}

// Now is the current resident size of this process, in bytes.
func Now() int64 {
	if now, _ := read(); now > 0 {
		return now
	}
	return held("/memory/classes/total:bytes") - held("/memory/classes/heap/released:bytes")
}

// held reads one counter of the runtime, without stopping the world as runtime.ReadMemStats does.
func held(name string) int64 {
	s := []metrics.Sample{{Name: name}}
	metrics.Read(s)
	if s[0].Value.Kind() != metrics.KindUint64 {
		return 0
	}
	return int64(s[0].Value.Uint64())
}
