package rss

import "testing"

func TestField(t *testing.T) {
	for _, c := range []struct {
		status, name string
		want         int64
	}{
		{"Name:\tgo\nVmHWM:\t    2048 kB\nVmRSS:\t     3 kB\n", "VmRSS:", 3 << 10},
		{"Name:\tgo\nVmHWM:\t    2048 kB\nVmRSS:\t     3 kB\n", "VmHWM:", 2 << 20},
		{"VmRSS:\t 3 kB", "VmRSS:", 3 << 10},
		{"VmRSS:\t 3 MB\n", "VmRSS:", 0},
		{"VmRSS:\t -3 kB\n", "VmRSS:", 0},
		{"VmRSS:\t 99999999999999999999 kB\n", "VmRSS:", 0},
		{"VmRSS:\n", "VmRSS:", 0},
		{"", "VmRSS:", 0},
	} {
		if got := field([]byte(c.status), c.name); got != c.want {
			t.Errorf("field(%q, %q) = %d, want %d", c.status, c.name, got, c.want)
		}
	}
}
