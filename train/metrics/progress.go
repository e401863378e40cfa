package metrics

import (
	"fmt"
	"io"
	"math"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"

	"setun/internal/rss"
)

// Field is a measured value in a line of progress.
type Field struct {
	Name  string // before the value; may be empty
	Value float64
	Unit  string // after the value; with a unit, large values are shortened with k, M, G, T
}

// Loss, BitsPerByte and TokensPerSec are the fields of most runs.
func Loss(v float64) Field         { return Field{Name: "loss", Value: v} }
func BitsPerByte(v float64) Field  { return Field{Name: "bpb", Value: v} }
func TokensPerSec(v float64) Field { return Field{Value: v, Unit: "tok/s"} }

// Progress shows how far a run is: step and total, percentage, the caller's fields, resident memory, the time spent and
// the time left (eta). On a terminal it is a bar that redraws itself, elsewhere plain lines without control characters.
// It writes best effort: a writer that fails stops no training.
type Progress struct {
	// Every is the least time between two redraws of the bar or two plain lines; 0 means 100 ms and 10 s. The first and
	// the last step always show. Set both before the first Step.
	Every time.Duration
	// EverySteps, if not 0, also writes a plain line at each multiple of it.
	EverySteps int

	mu           sync.Mutex
	w            io.Writer
	now          func() time.Time
	memory       func() int64
	width        func() int // columns of the terminal
	total, start int
	begin        time.Time

	step   int
	fields []Field
	last   time.Time // of the last redraw or line
	seen   bool      // a step arrived
	shown  bool      // the step stands on the screen
	drawn  int       // columns of the bar that stands in the current line
	done   bool
}

// progressMode is how a Progress sees the world; tests replace parts of it.
type progressMode struct {
	now    func() time.Time
	memory func() int64
	width  func(io.Writer) (columns int, terminal bool)
}

var systemMode = progressMode{now: time.Now, memory: rss.Now, width: terminalWidth}

// terminalWidth finds no terminal in one without cursor movement.
func terminalWidth(w io.Writer) (int, bool) {
	f, ok := w.(interface{ Fd() uintptr })
	if !ok || !term.IsTerminal(int(f.Fd())) || os.Getenv("TERM") == "dumb" {
		return 0, false
	}
	columns, _, err := term.GetSize(int(f.Fd()))
	if err != nil || columns <= 0 {
		columns = 80
	}
	return columns, true
}

// NewProgress starts the clock of a run of total steps that has done start of them. A total of 0 is unknown: no bar, no
// percentage, no time left. A nil w shows nothing.
func NewProgress(w io.Writer, total, start int) *Progress {
	return newProgress(w, total, start, systemMode)
}

func newProgress(w io.Writer, total, start int, m progressMode) *Progress {
	if w == nil {
		w = io.Discard
	}
	total = max(total, 0)
	p := &Progress{w: w, now: m.now, memory: m.memory, total: total, start: start, step: start, begin: m.now()}
	if _, terminal := m.width(w); terminal {
		p.width = func() int { columns, _ := m.width(w); return columns }
	}
	return p
}

// Step tells that step is done. Most calls write nothing, see Every.
func (p *Progress) Step(step int, fields ...Field) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.done {
		return
	}
	now := p.now()
	p.step, p.fields = step, append(p.fields[:0], fields...)
	first := !p.seen
	p.seen, p.shown = true, false
	every := p.Every
	if every == 0 {
		every = 10 * time.Second
		if p.width != nil {
			every = 100 * time.Millisecond
		}
	}
	if first || now.Sub(p.last) >= every || step == p.total ||
		p.width == nil && p.EverySteps > 0 && step%p.EverySteps == 0 {
		p.show(now)
	}
}

// Log writes a line, above the bar if there is one.
func (p *Progress) Log(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := strings.TrimSuffix(fmt.Sprintf(format, args...), "\n") + "\n"
	if p.drawn == 0 {
		io.WriteString(p.w, s)
		return
	}
	bar := p.line(p.now())
	io.WriteString(p.w, p.erase()+s+bar)
	p.drawn = utf8.RuneCountInString(bar)
}

// Done shows the last step, if it does not stand there yet, and ends the bar's line. A second Done does nothing.
func (p *Progress) Done() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.done {
		return
	}
	p.done = true
	if p.seen && !p.shown {
		p.show(p.now())
	}
	if p.drawn > 0 {
		io.WriteString(p.w, "\n")
		p.drawn = 0
	}
}

func (p *Progress) show(now time.Time) {
	s := p.line(now)
	if p.width == nil {
		io.WriteString(p.w, s+"\n")
	} else {
		io.WriteString(p.w, p.erase()+s)
		p.drawn = utf8.RuneCountInString(s)
	}
	p.last, p.shown = now, true
}

// erase blanks the bar's line. Spaces do on every terminal what escape codes do on most.
func (p *Progress) erase() string {
	if p.drawn == 0 {
		return ""
	}
	return "\r" + strings.Repeat(" ", min(p.drawn, p.width()-1)) + "\r"
}

// line is the current state, on a terminal at most as long as its width less one: a full last column wraps on some.
func (p *Progress) line(now time.Time) string {
	var parts []string
	for _, f := range p.fields {
		parts = append(parts, f.text())
	}
	parts = append(parts, memoryText(p.memory()), p.times(now))
	if p.width == nil {
		return p.head() + "  " + strings.Join(parts, "  ")
	}
	room := p.width() - 1
	for { // drop the parts before the times, last first, until a bar of minBar columns fits
		s, ok := p.fit(strings.Join(parts, "  "), room)
		if ok || len(parts) == 0 {
			return s
		}
		if n := len(parts); n > 1 {
			parts = append(parts[:n-2], parts[n-1])
		} else {
			parts = nil
		}
	}
}

// head is "step 10/200  5%".
func (p *Progress) head() string {
	if p.total == 0 {
		return "step " + strconv.Itoa(p.step)
	}
	percent := min(100*float64(p.step)/float64(p.total), 100)
	return fmt.Sprintf("step %d/%d  %d%%", p.step, p.total, int(percent))
}

// fit draws bar and text in room columns. It reports false when they need more.
func (p *Progress) fit(text string, room int) (string, bool) {
	const minBar, maxBar = 8, 30
	if p.total == 0 {
		s := p.head() + "  " + text
		return cut(s, room), len(s) <= room
	}
	// The bar only draws; when, and by which clock, is decided here. A finished bar draws no more, so each is new.
	draw := func(width int) string {
		bar := progressbar.NewOptions(p.total,
			progressbar.OptionSetWriter(io.Discard),
			progressbar.OptionSetWidth(width),
			progressbar.OptionSetPredictTime(false),
			progressbar.OptionShowCount(),
			progressbar.OptionSetDescription(text),
			progressbar.OptionShowDescriptionAtLineEnd())
		bar.Set(max(0, min(p.step, p.total)))
		return strings.TrimRight(strings.TrimPrefix(bar.String(), "\r "), " ")
	}
	s := draw(minBar)
	spare := room - utf8.RuneCountInString(s)
	if spare < 0 {
		return cut(s, room), false
	}
	return draw(minBar + min(spare, maxBar-minBar)), true
}

func cut(s string, room int) string {
	if r := []rune(s); len(r) > room {
		return string(r[:max(room, 0)])
	}
	return s
}

// times is the time since NewProgress and, from the mean of this run's steps, the time left.
func (p *Progress) times(now time.Time) string {
	spent := now.Sub(p.begin)
	steps := p.step - p.start
	if steps <= 0 || p.step >= p.total {
		return duration(spent)
	}
	left := time.Duration(float64(spent) / float64(steps) * float64(p.total-p.step))
	return duration(spent) + " eta " + duration(left)
}

// duration is "0:07", "12:34", "5:06:07" or "3d 4h".
func duration(d time.Duration) string {
	s := int64(d.Round(time.Second) / time.Second)
	switch {
	case s < 0:
		return "0:00"
	case s < 3600:
		return fmt.Sprintf("%d:%02d", s/60, s%60)
	case s < 48*3600:
		return fmt.Sprintf("%d:%02d:%02d", s/3600, s/60%60, s%60)
	}
	return fmt.Sprintf("%dd %dh", s/86400, s/3600%24)
}

func (f Field) text() string {
	s := number(f.Value)
	if f.Unit != "" {
		s = short(f.Value, 1000, []string{" ", "k ", "M ", "G ", "T "}) + f.Unit
	}
	if f.Name == "" {
		return s
	}
	return f.Name + " " + s
}

// number keeps four places, or three digits of small and large values.
func number(v float64) string {
	switch a := math.Abs(v); {
	case v == 0 || a >= 0.01 && a < 10000, math.IsNaN(v), math.IsInf(v, 0):
		return strconv.FormatFloat(v, 'f', 4, 64)
	}
	return strconv.FormatFloat(v, 'e', 2, 64)
}

func memoryText(bytes int64) string {
	return short(float64(bytes), 1024, []string{" B", " KiB", " MiB", " GiB", " TiB"})
}

// short is v in three digits with one of the units, each base times the one before.
func short(v float64, base float64, units []string) string {
	i := 0
	for math.Abs(v) >= 999.5 && i < len(units)-1 && !math.IsInf(v, 0) {
		v /= base
		i++
	}
	digits := 0
	switch a := math.Abs(v); {
	case i == 0 && v == math.Trunc(v):
	case a < 9.995:
		digits = 2
	case a < 99.95:
		digits = 1
	}
	return strconv.FormatFloat(v, 'f', digits, 64) + units[i]
}
