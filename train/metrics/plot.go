package metrics

import (
	"fmt"
	"image/color"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"

	"gonum.org/v1/gonum/stat"
	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgimg"

	"setun/internal/atomicfile"
)

// Curve is one line of a plot. Points with a NaN or an infinity are skipped.
type Curve struct {
	Name   string
	X, Y   []float64
	Smooth float64 // beta in [0, 1) of s = beta*s + (1-beta)*y, drawn over the pale raw line; 0: the raw line alone
	Dots   bool    // mark each point: for sparse curves such as a validation loss
}

// Size of the plot in pixels.
const plotWidth, plotHeight = 900, 540

// The colours of Okabe and Ito, told apart with any kind of colour vision; black and yellow are left out.
var palette = []color.RGBA{
	{0x00, 0x72, 0xb2, 0xff}, // blue
	{0xd5, 0x5e, 0x00, 0xff}, // vermilion
	{0x00, 0x9e, 0x73, 0xff}, // green
	{0xcc, 0x79, 0xa7, 0xff}, // purple
	{0xe6, 0x9f, 0x00, 0xff}, // orange
	{0x56, 0xb4, 0xe9, 0xff}, // sky
}

// WriteLossPNG draws curves against steps into a PNG file of 900 by 540 pixels, replaced in one go. The y axis covers
// the bulk of each curve: a steep start or a spike may leave the picture, but cannot squash the rest.
func WriteLossPNG(path string, curves []Curve, title, xlabel, ylabel string) error {
	for _, c := range curves {
		if len(c.X) != len(c.Y) {
			return fmt.Errorf("plot %s: curve %q has %d x and %d y: give as many of each", path, c.Name, len(c.X), len(c.Y))
		}
		if !(c.Smooth >= 0 && c.Smooth < 1) {
			return fmt.Errorf("plot %s: curve %q has Smooth %v: choose one in [0, 1)", path, c.Name, c.Smooth)
		}
	}
	p := newPlot(title, xlabel, ylabel)
	xs, ys := empty, empty
	whole := true
	var ends []float64 // the last y of each curve
	for i, c := range curves {
		pts := finite(c.X, c.Y)
		if len(pts) == 0 {
			continue
		}
		r := bulk(pts)
		for _, pt := range pts {
			xs = xs.add(pt.X)
			whole = whole && pt.X == math.Trunc(pt.X)
		}
		hue := palette[i%len(palette)]
		main := pts
		if c.Smooth > 0 {
			main = ema(pts, c.Smooth, span{r.lo - (r.hi - r.lo), r.hi + (r.hi - r.lo)})
			p.Add(line(thin(pts), pale(hue), 0.75))
		}
		ys = ys.union(r)
		width := vg.Length(1.5)
		if c.Smooth == 0 && !c.Dots && len(pts) > plotWidth {
			width = 0.75
		}
		l := line(thin(main), hue, width)
		if i >= len(palette) {
			l.Dashes = []vg.Length{5, 3}
		}
		entry := []plot.Thumbnailer{l}
		p.Add(l)
		if c.Dots || len(pts) == 1 {
			s := &plotter.Scatter{XYs: thin(main), GlyphStyle: draw.GlyphStyle{
				Color: hue, Radius: 2.5, Shape: draw.CircleGlyph{}}}
			p.Add(s)
			entry = append(entry, s)
		}
		p.Legend.Add(clean(c.Name), entry...)
		ends = append(ends, main[len(main)-1].Y)
	}
	nodata := xs == empty
	if nodata {
		xs, ys = span{0, 1}, span{0, 1}
	}
	xs, ys = xs.widen(0), ys.widen(0.04)
	p.X.Min, p.X.Max, p.Y.Min, p.Y.Max = xs.lo, xs.hi, ys.lo, ys.hi
	p.X.Tick.Marker = ticks{about: 9, whole: whole && !nodata}
	p.Y.Tick.Marker = ticks{about: 7}
	if nodata {
		p.Add(note("no data"))
	}
	if len(ends) > 0 {
		if stat.Mean(ends, nil) > (ys.lo+ys.hi)/2 { // rising curves end where the legend would stand
			p.Legend.Top, p.Legend.YOffs = false, -p.Legend.YOffs
		}
		p.Add(backdrop{})
	}
	return atomicfile.Write(path, func(w io.Writer) error {
		const dpi = 96
		c := vgimg.PngCanvas{Canvas: vgimg.NewWith(vgimg.UseDPI(dpi),
			vgimg.UseWH(plotWidth*vg.Inch/dpi, plotHeight*vg.Inch/dpi))}
		p.Draw(draw.Crop(draw.New(c), 10, -16, 10, -10))
		_, err := c.WriteTo(w)
		return err
	})
}

func newPlot(title, xlabel, ylabel string) *plot.Plot {
	p := plot.New()
	sans := func(size font.Length) font.Font {
		return font.Font{Typeface: "Liberation", Variant: "Sans", Size: size}
	}
	ink, soft := color.Gray{0x30}, color.Gray{0x80}
	p.Title.Text, p.X.Label.Text, p.Y.Label.Text = clean(title), clean(xlabel), clean(ylabel)
	p.Title.TextStyle.Font, p.Title.TextStyle.Color, p.Title.Padding = sans(13), ink, 8
	p.Legend.TextStyle.Font, p.Legend.TextStyle.Color = sans(10), ink
	p.Legend.Top, p.Legend.XOffs, p.Legend.YOffs, p.Legend.Padding = true, -8, -6, 3
	p.Legend.YPosition = draw.PosCenter
	for _, a := range []*plot.Axis{&p.X, &p.Y} {
		a.Label.TextStyle.Font, a.Label.TextStyle.Color, a.Label.Padding = sans(11), ink, 6
		a.Tick.Label.Font, a.Tick.Label.Color = sans(10), ink
		a.LineStyle.Color, a.Tick.LineStyle.Color = soft, soft
		a.Tick.Length, a.Padding = 4, 0
	}
	grid := draw.LineStyle{Color: color.Gray{0xe4}, Width: 0.6}
	p.Add(&plotter.Grid{Vertical: grid, Horizontal: grid})
	return p
}

func line(pts plotter.XYs, c color.Color, width vg.Length) *plotter.Line {
	return &plotter.Line{XYs: pts, LineStyle: draw.LineStyle{Color: c, Width: width}}
}

// pale mixes c with white, 2 to 3.
func pale(c color.RGBA) color.RGBA {
	f := func(v uint8) uint8 { return uint8((2*int(v) + 3*255) / 5) }
	return color.RGBA{f(c.R), f(c.G), f(c.B), 0xff}
}

// clean keeps text on one line.
func clean(s string) string {
	return strings.Join(strings.Fields(strings.ToValidUTF8(s, "\uFFFD")), " ")
}

// backdrop whitens what lies under the legend.
type backdrop struct{}

func (backdrop) Plot(c draw.Canvas, p *plot.Plot) {
	size := p.Legend.Rectangle(c).Size()
	hi := vg.Point{X: c.Max.X + p.Legend.XOffs + 5, Y: c.Max.Y + p.Legend.YOffs + 2}
	if !p.Legend.Top {
		hi.Y = c.Min.Y + p.Legend.YOffs + size.Y + 6
	}
	lo := vg.Point{X: hi.X - size.X - 18, Y: hi.Y - size.Y - 8}
	c.SetColor(color.NRGBA{0xff, 0xff, 0xff, 0xd8})
	c.Fill(vg.Rectangle{Min: lo, Max: hi}.Path())
}

// note is text in the middle of the plot.
type note string

func (n note) Plot(c draw.Canvas, p *plot.Plot) {
	sty := p.Title.TextStyle
	sty.YAlign = draw.YCenter
	c.FillText(sty, c.Center(), string(n))
}

// finite is the points that can be drawn; beyond 1e30 differences of values lose meaning on a picture.
func finite(x, y []float64) plotter.XYs {
	const limit = 1e30
	var out plotter.XYs
	for i := range x {
		if math.Abs(x[i]) <= limit && math.Abs(y[i]) <= limit { // false for NaN
			out = append(out, plotter.XY{X: x[i], Y: y[i]})
		}
	}
	return out
}

// ema is s[i] = beta*s[i-1] + (1-beta)*y[i] from 0, over 1-beta^i so that the start is not biased. y is held within
// the limit, or one spike would lift the line for 1/(1-beta) points.
func ema(pts plotter.XYs, beta float64, limit span) plotter.XYs {
	out := make(plotter.XYs, len(pts))
	s, w := 0.0, 0.0
	for i, p := range pts {
		s = beta*s + (1-beta)*min(max(p.Y, limit.lo), limit.hi)
		w = beta*w + (1 - beta)
		out[i] = plotter.XY{X: p.X, Y: s / w}
	}
	return out
}

// thin keeps of many points the lowest and the highest of each bucket, in their order: what is seen stays the same.
func thin(pts plotter.XYs) plotter.XYs {
	const buckets = 2 * plotWidth
	if len(pts) <= 4*buckets {
		return pts
	}
	out := plotter.XYs{pts[0]}
	for b := range buckets {
		part := pts[b*len(pts)/buckets : (b+1)*len(pts)/buckets]
		lo, hi := 0, 0
		for i, p := range part {
			if p.Y < part[lo].Y {
				lo = i
			}
			if p.Y > part[hi].Y {
				hi = i
			}
		}
		out = append(out, part[min(lo, hi)])
		if lo != hi {
			out = append(out, part[max(lo, hi)])
		}
	}
	return append(out, pts[len(pts)-1])
}

// span is a range of values.
type span struct{ lo, hi float64 }

var empty = span{math.Inf(1), math.Inf(-1)}

func (s span) add(v float64) span { return span{min(s.lo, v), max(s.hi, v)} }
func (s span) union(t span) span  { return span{min(s.lo, t.lo), max(s.hi, t.hi)} }
func (s span) widen(f float64) span { // by the fraction f on each side, and to more than one value
	d := f * (s.hi - s.lo)
	if small := 1e-6 * max(math.Abs(s.lo), math.Abs(s.hi)); s.hi-s.lo <= small {
		d = max(0.05*math.Abs(s.hi), 1e-3)
	}
	return span{s.lo - d, s.hi + d}
}

// bulk is the range of y, cut at half of the distance between the 5th and the 95th percentile above the latter, and at
// twice that distance below the former: a loss starts high, and its lowest values are what people look for.
func bulk(pts plotter.XYs) span {
	y := make([]float64, len(pts))
	for i, p := range pts {
		y[i] = p.Y
	}
	slices.Sort(y)
	n := len(y)
	k := n * 5 / 100
	if k == 0 && n >= 5 {
		k = 1 // one spike among few points
	}
	a, b := y[k], y[n-1-k]
	if a == b {
		return span{y[0], y[n-1]}
	}
	return span{max(y[0], a-2*(b-a)), min(y[n-1], b+(b-a)/2)}
}

// ticks marks multiples of 1, 2 or 5 times a power of ten, or only whole ones.
type ticks struct {
	about int // how many
	whole bool
}

func (t ticks) Ticks(lo, hi float64) []plot.Tick {
	raw := (hi - lo) / float64(t.about)
	if t.whole {
		raw = max(raw, 1)
	}
	power := math.Pow(10, math.Floor(math.Log10(raw)))
	step := 10 * power
	for _, m := range []float64{1, 2, 5} {
		if m*power >= raw*0.999 {
			step = m * power
			break
		}
	}
	var out []plot.Tick
	for i := math.Ceil(lo/step - 1e-6); i*step <= hi+step*1e-6 && len(out) < 4*t.about; i++ {
		out = append(out, plot.Tick{Value: i * step, Label: tickLabel(i*step, step)})
	}
	return out
}

// tickLabel writes v with the digits that a distance of step needs: 0.25, 12, 2.5k, 3M, 1e-07.
func tickLabel(v, step float64) string {
	if math.Abs(v) < step/2 {
		return "0"
	}
	unit, scale := "", 1.0
	switch a := math.Abs(v) * (1 + 1e-9); {
	case a >= 1e12 || step < 1e-6:
		digits := int(math.Floor(math.Log10(a)) - math.Floor(math.Log10(step)+1e-9))
		return strconv.FormatFloat(v, 'e', max(0, min(digits, 9)), 64)
	case a >= 1e9:
		unit, scale = "G", 1e9
	case a >= 1e6:
		unit, scale = "M", 1e6
	case a >= 1e3 && step >= 100:
		unit, scale = "k", 1e3
	}
	digits := max(0, min(9, int(math.Ceil(-math.Log10(step/scale)-1e-9))))
	s := strconv.FormatFloat(v/scale, 'f', digits, 64)
	if unit != "" && strings.Contains(s, ".") {
		s = strings.TrimSuffix(strings.TrimRight(s, "0"), ".")
	}
	return s + unit
}
