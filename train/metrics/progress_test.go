package metrics

import (
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"
)

// world is a clock, a memory and a terminal (if it has columns).
type world struct {
	time    time.Time
	columns int
}

func (w *world) mode() progressMode {
	return progressMode{
		now:    func() time.Time { return w.time },
		memory: func() int64 { return 1536 << 20 },
		width:  func(io.Writer) (int, bool) { return w.columns, w.columns > 0 },
	}
}

func (w *world) wait(d time.Duration) { w.time = w.time.Add(d) }

// screen does with what is written what a terminal does; a character in the last column would wrap.
type screen struct {
	t       *testing.T
	columns int
	lines   [][]rune
	row     int
	col     int
	writes  int
}

func (s *screen) Write(b []byte) (int, error) {
	s.writes++
	for _, r := range string(b) {
		if s.row >= len(s.lines) {
			s.lines = append(s.lines, nil)
		}
		switch {
		case r == '\n':
			s.row, s.col = s.row+1, 0
		case r == '\r':
			s.col = 0
		case r < ' ' || r == utf8.RuneError:
			s.t.Errorf("control character %q", r)
		default:
			line := s.lines[s.row]
			if s.col == len(line) {
				line = append(line, ' ')
			}
			line[s.col] = r
			s.lines[s.row] = line
			if s.col++; s.col >= s.columns {
				s.t.Errorf("line %q fills %d columns", string(line), s.columns)
			}
		}
	}
	return len(b), nil
}

func (s *screen) String() string {
	var b strings.Builder
	for _, l := range s.lines {
		b.WriteString(strings.TrimRight(string(l), " ") + "\n")
	}
	return b.String()
}

func TestPlain(t *testing.T) {
	var out strings.Builder
	w := &world{time: time.Unix(0, 0)}
	p := newProgress(&out, 1000, 0, w.mode())
	for step := 1; step <= 1000; step++ {
		w.wait(250 * time.Millisecond)
		p.Step(step, Loss(10/float64(step)), BitsPerByte(2), TokensPerSec(12345))
		if step == 100 {
			p.Log("eval at step %d: loss %.2f", step, 0.5)
		}
		if step == 130 {
			p.Every = 100 * time.Second
		}
	}
	p.Done()
	p.Done()
	const want = `step 1/1000  0%  loss 10.0000  bpb 2.0000  12.3k tok/s  1.50 GiB  0:00 eta 4:10
step 41/1000  4%  loss 0.2439  bpb 2.0000  12.3k tok/s  1.50 GiB  0:10 eta 4:00
step 81/1000  8%  loss 0.1235  bpb 2.0000  12.3k tok/s  1.50 GiB  0:20 eta 3:50
eval at step 100: loss 0.50
step 121/1000  12%  loss 0.0826  bpb 2.0000  12.3k tok/s  1.50 GiB  0:30 eta 3:40
step 521/1000  52%  loss 0.0192  bpb 2.0000  12.3k tok/s  1.50 GiB  2:10 eta 2:00
step 921/1000  92%  loss 0.0109  bpb 2.0000  12.3k tok/s  1.50 GiB  3:50 eta 0:20
step 1000/1000  100%  loss 0.0100  bpb 2.0000  12.3k tok/s  1.50 GiB  4:10
`
	if got := out.String(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestPlainVariants(t *testing.T) {
	for _, c := range []struct {
		name         string
		total, start int
		everySteps   int
		steps        []int
		want         string
	}{
		{"every steps", 50, 0, 10, []int{1, 9, 10, 11, 20, 21}, `step 1/50  2%  1.50 GiB  0:01 eta 0:49
step 10/50  20%  1.50 GiB  0:03 eta 0:12
step 20/50  40%  1.50 GiB  0:05 eta 0:08
step 21/50  42%  1.50 GiB  0:06 eta 0:08
`},
		{"resumed", 100, 80, 0, []int{81, 82, 83}, `step 81/100  81%  1.50 GiB  0:01 eta 0:19
step 83/100  83%  1.50 GiB  0:03 eta 0:17
`},
		{"unknown total", 0, 0, 0, []int{1, 2}, "step 1  1.50 GiB  0:01\nstep 2  1.50 GiB  0:02\n"},
		{"negative total", -1, 0, 0, []int{1}, "step 1  1.50 GiB  0:01\n"},
		{"beyond the end", 2, 0, 0, []int{1, 2, 3}, `step 1/2  50%  1.50 GiB  0:01 eta 0:01
step 2/2  100%  1.50 GiB  0:02
step 3/2  100%  1.50 GiB  0:03
`},
		{"step 0", 10, 0, 0, []int{0}, "step 0/10  0%  1.50 GiB  0:01\n"},
		{"no step", 10, 0, 0, nil, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			var out strings.Builder
			w := &world{time: time.Unix(0, 0)}
			p := newProgress(&out, c.total, c.start, w.mode())
			p.EverySteps = c.everySteps
			for _, s := range c.steps {
				w.wait(time.Second)
				p.Step(s)
			}
			p.Done()
			p.Step(99)
			if got := out.String(); got != c.want {
				t.Errorf("got\n%s\nwant\n%s", got, c.want)
			}
		})
	}
}

func TestBar(t *testing.T) {
	w := &world{time: time.Unix(0, 0), columns: 100}
	s := &screen{t: t, columns: 100}
	p := newProgress(s, 200, 0, w.mode())
	p.Log("before the bar")
	check := func(want string) {
		t.Helper()
		if got := s.String(); got != want {
			t.Errorf("screen\n%swant\n%s", got, want)
		}
	}
	for step := 1; step <= 100; step++ {
		w.wait(time.Second)
		p.Step(step, Loss(1e-9+float64(100000/step)), TokensPerSec(950))
		if step == 1 { // a wide line that narrower ones must erase
			check("before the bar\n" +
				"  0% |                              | (1/200) loss 1.00e+05  950 tok/s  1.50 GiB  0:01 eta 3:19\n")
		}
	}
	half := " 50% |███████████████               | (100/200) loss 1000.0000  950 tok/s  1.50 GiB  1:40 eta 1:40\n"
	check("before the bar\n" + half)

	p.Log("a line that is longer than the bar was: %s", strings.Repeat("-", 20))
	p.Log("short")
	p.Log("two\nlines\n")
	logged := "before the bar\na line that is longer than the bar was: --------------------\nshort\ntwo\nlines\n"
	check(logged + half)

	writes := s.writes
	for range 50 {
		w.wait(time.Millisecond)
		p.Step(150, Loss(2))
	}
	if s.writes != writes {
		t.Errorf("%d redraws in 50 ms", s.writes-writes)
	}
	check(logged + half)

	w.wait(100 * time.Second)
	p.Step(200, Loss(2))
	p.Log("the end")
	p.Done()
	p.Done()
	p.Log("after")
	check(logged + "the end\n100% |██████████████████████████████| (200/200) loss 2.0000  1.50 GiB  3:20\nafter\n")
}

// Done shows a step that came too soon after the one before.
func TestBarDone(t *testing.T) {
	w := &world{time: time.Unix(0, 0), columns: 60}
	s := &screen{t: t, columns: 60}
	p := newProgress(s, 200, 0, w.mode())
	p.Step(1)
	p.Step(50)
	p.Done()
	const want = " 25% |████ "
	if got := s.String(); !strings.HasPrefix(got, want) || strings.Count(got, "\n") != 1 || s.row != 1 {
		t.Errorf("screen %q at row %d, want one line %q...", got, s.row, want)
	}
}

// At every width the line fits, and keeps what matters most: the bar, the first fields and the times.
func TestBarWidths(t *testing.T) {
	w := &world{time: time.Unix(0, 0)}
	for columns := 1; columns <= 200; columns++ {
		for _, total := range []int{1000, 0} {
			w.columns = columns
			s := &screen{t: t, columns: columns}
			p := newProgress(s, total, 0, w.mode())
			w.wait(time.Minute)
			p.Step(500, Loss(1.25), BitsPerByte(2.5), Field{Name: "memory bandwidth", Value: 1e11, Unit: "B/s"})
			p.Done()
			line := strings.TrimSuffix(s.String(), "\n")
			for _, c := range []struct {
				columns int
				text    string
			}{{70, "loss 1.2500"}, {75, "bpb 2.5000"}, {110, "memory bandwidth 100G B/s  1.50 GiB"}} {
				if columns >= c.columns && !strings.Contains(line, c.text) {
					t.Errorf("%d columns: %q lacks %q", columns, line, c.text)
				}
			}
			if columns >= 60 && !strings.Contains(line, "1:00") {
				t.Errorf("%d columns: %q lacks the time", columns, line)
			}
		}
	}
}

// A terminal that shrinks and grows.
func TestBarResize(t *testing.T) {
	w := &world{time: time.Unix(0, 0), columns: 120}
	s := &screen{t: t, columns: 120}
	p := newProgress(s, 100, 0, w.mode())
	for i, columns := range []int{120, 40, 100, 20} {
		w.columns, s.columns = columns, columns
		for row, line := range s.lines {
			s.lines[row] = line[:min(len(line), columns)]
		}
		w.wait(time.Second)
		p.Step(10*i, Loss(1))
		if n := len(strings.TrimSuffix(s.String(), "\n")); n == 0 {
			t.Error("nothing is shown")
		}
	}
	p.Done()
	if strings.Count(s.String(), "%") != 1 {
		t.Errorf("more than one bar:\n%s", s)
	}
}

func TestFieldText(t *testing.T) {
	for _, c := range []struct {
		f    Field
		want string
	}{
		{Loss(2.34567), "loss 2.3457"},
		{Loss(0), "loss 0.0000"},
		{Loss(math.NaN()), "loss NaN"},
		{Loss(math.Inf(1)), "loss +Inf"},
		{Loss(123456), "loss 1.23e+05"},
		{Field{Name: "lr", Value: 3e-4}, "lr 3.00e-04"},
		{Field{Name: "lr", Value: -0.02}, "lr -0.0200"},
		{TokensPerSec(0), "0 tok/s"},
		{TokensPerSec(9.5), "9.50 tok/s"},
		{TokensPerSec(999), "999 tok/s"},
		{TokensPerSec(999.7), "1.00k tok/s"},
		{TokensPerSec(1234567), "1.23M tok/s"},
		{TokensPerSec(45.678e9), "45.7G tok/s"},
		{TokensPerSec(4.2e18), "4200000T tok/s"},
		{TokensPerSec(math.Inf(1)), "+Inf tok/s"},
		{TokensPerSec(math.NaN()), "NaN tok/s"},
	} {
		if got := c.f.text(); got != c.want {
			t.Errorf("%v: %q, want %q", c.f, got, c.want)
		}
	}
	for _, c := range []struct {
		n    int64
		want string
	}{
		{0, "0 B"},
		{1000, "0.98 KiB"},
		{1 << 20, "1.00 MiB"},
		{15 << 20, "15.0 MiB"},
		{640 << 20, "640 MiB"},
		{3 << 40, "3.00 TiB"},
	} {
		if got := memoryText(c.n); got != c.want {
			t.Errorf("%d bytes: %q, want %q", c.n, got, c.want)
		}
	}
}

func TestDuration(t *testing.T) {
	for _, c := range []struct {
		d    time.Duration
		want string
	}{
		{-time.Hour, "0:00"},
		{0, "0:00"},
		{59499 * time.Millisecond, "0:59"},
		{59500 * time.Millisecond, "1:00"},
		{59*time.Minute + 59*time.Second, "59:59"},
		{time.Hour, "1:00:00"},
		{47*time.Hour + 5*time.Minute + 6*time.Second, "47:05:06"},
		{100 * time.Hour, "4d 4h"},
	} {
		if got := duration(c.d); got != c.want {
			t.Errorf("%v: %q, want %q", c.d, got, c.want)
		}
	}
}

type broken struct{}

func (broken) Write([]byte) (int, error) { return 0, errors.New("broken pipe") }

func TestProgressWriters(t *testing.T) {
	for _, w := range []io.Writer{nil, broken{}, io.Discard} {
		p := NewProgress(w, 10, 0)
		p.Step(1, Loss(1))
		p.Log("x")
		p.Done()
	}
	// A file is no terminal: plain lines, and real memory in them.
	f, err := os.Create(t.TempDir() + "/log")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	p := NewProgress(f, 10, 0)
	p.Step(1, Loss(1))
	p.Done()
	if got := string(content(t, f.Name())); !strings.HasPrefix(got, "step 1/10  10%  loss 1.0000  ") ||
		!strings.Contains(got, " MiB  0:00") || strings.ContainsAny(got, "\r\x1b") {
		t.Errorf("a file got %q", got)
	}
}

func TestProgressConcurrent(t *testing.T) {
	var out strings.Builder
	w := &world{time: time.Unix(0, 0), columns: 80}
	p := newProgress(&out, 400, 0, w.mode())
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := range 100 {
				p.Step(100*g+i, Loss(1))
				if i%10 == 0 {
					p.Log("%s", fmt.Sprint(g, i))
				}
			}
		})
	}
	wg.Wait()
	p.Done()
	if n := strings.Count(out.String(), "\n"); n != 41 {
		t.Errorf("%d lines, want 40 and the bar", n)
	}
}
