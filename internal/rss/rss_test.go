package rss

import (
	"fmt"
	"runtime"
	"testing"
)

func TestGrows(t *testing.T) {
	const size = 128 << 20
	before := Now()
	if before <= 0 || before > 16<<30 {
		t.Fatalf("Now() = %d bytes before anything was done", before)
	}
	block := make([]byte, size)
	for i := 0; i < size; i += 1024 {
		block[i] = 1 // touch each page
	}
	now, peak := Now(), Peak()
	runtime.KeepAlive(block)
	// The runtime may reuse pages it held, so ask for most of the block only. The upper bound guards the unit;
	// the race detector has some four bytes of its own for each.
	if d := now - before; d < size*3/4 || d > 8*size {
		t.Errorf("Now() grew by %d bytes after touching %d", d, size)
	}
	if peak < now-size/8 {
		t.Errorf("Peak() = %d, below Now() = %d", peak, now)
	}

	block = nil
	runtime.GC()
	if p := Peak(); p < peak {
		t.Errorf("Peak() fell from %d to %d", peak, p)
	}
}

func TestHeld(t *testing.T) {
	if got := held("/memory/classes/total:bytes"); got <= 0 {
		t.Errorf("total = %d", got)
	}
	if got := held("/no/such:bytes"); got != 0 {
		t.Errorf("an unknown counter = %d, want 0", got)
	}
}

func Example() {
	fmt.Println(Now() > 0, Peak() > 0)
	// Output: true true
}
