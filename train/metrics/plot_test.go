package metrics

import (
	"bytes"
	"fmt"
	"image"
	"image/color"
	"image/draw"
	"image/png"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gonum.org/v1/plot/plotter"
)

// painted draws the curves and gives back the rows and columns in which a pixel has the colour.
func painted(t *testing.T, c color.Color, curves ...Curve) (rows, cols map[int]bool) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "loss.png")
	if err := WriteLossPNG(path, curves, "title", "step", "loss"); err != nil {
		t.Fatal(err)
	}
	img, err := png.Decode(bytes.NewReader(content(t, path)))
	if err != nil {
		t.Fatal(err)
	}
	b := img.Bounds()
	if b.Dx() != 900 || b.Dy() != 540 {
		t.Errorf("size %v", b)
	}
	pix := image.NewRGBA(b)
	draw.Draw(pix, b, img, b.Min, draw.Src)
	want := color.RGBAModel.Convert(c).(color.RGBA)
	rows, cols = map[int]bool{}, map[int]bool{}
	for i := 0; i < len(pix.Pix); i += 4 {
		if p := pix.Pix[i : i+3]; p[0] == want.R && p[1] == want.G && p[2] == want.B {
			rows[i/pix.Stride], cols[i%pix.Stride/4] = true, true
		}
	}
	return rows, cols
}

func noisy(n int) Curve {
	r := rand.New(rand.NewPCG(1, 2))
	c := Curve{Name: "train", Smooth: 0.98}
	for i := range n {
		c.X = append(c.X, float64(i))
		c.Y = append(c.Y, 2+3*math.Exp(-float64(i)/float64(n)*4)+0.1*r.NormFloat64())
	}
	return c
}

func TestWriteLossPNG(t *testing.T) {
	blue, vermilion := palette[0], palette[1]
	train := noisy(2000)
	spiked := noisy(2000)
	copy(spiked.Y, []float64{4000, 2000, 1000, 500})
	spiked.Y[1500], spiked.Y[1600], spiked.Y[1700] = 1e9, math.NaN(), math.Inf(-1)
	eval := Curve{Name: "validation", X: []float64{500, 1000, 1500}, Y: []float64{3.2, 2.6, 2.3}, Dots: true}
	flat := Curve{Name: "flat", X: []float64{0, 1, 2}, Y: []float64{7, 7, 7}}
	for _, c := range []struct {
		name       string
		color      color.Color
		curves     []Curve
		rows, cols int // at least
	}{
		{"train", blue, []Curve{train}, 300, 600},
		{"raw is pale", pale(blue), []Curve{train}, 300, 600},
		{"validation", vermilion, []Curve{train, eval}, 60, 350},
		{"spikes do not squash", blue, []Curve{spiked}, 200, 600},
		{"one point is a dot", blue, []Curve{{Name: "one", X: []float64{5}, Y: []float64{3}}}, 4, 4},
		{"flat", blue, []Curve{flat}, 1, 700},
		{"long", blue, []Curve{noisy(200_000)}, 300, 600},
	} {
		t.Run(c.name, func(t *testing.T) {
			rows, cols := painted(t, c.color, c.curves...)
			if len(rows) < c.rows || len(cols) < c.cols {
				t.Errorf("%d rows and %d columns have the colour, want %d and %d", len(rows), len(cols), c.rows, c.cols)
			}
		})
	}
}

// The seventh curve has the colour of the first, and dashes.
func TestSeventhCurve(t *testing.T) {
	flat := Curve{X: []float64{0, 1}, Y: []float64{7, 7}}
	_, whole := painted(t, palette[0], flat)
	_, dashed := painted(t, palette[0], Curve{}, Curve{}, Curve{}, Curve{}, Curve{}, Curve{}, flat)
	if n, m := len(whole), len(dashed); m < n/2 || m > n*3/4 {
		t.Errorf("%d columns of %d are painted", m, n)
	}
}

func TestWiden(t *testing.T) {
	for _, c := range []struct {
		s    span
		f    float64
		want span
	}{
		{span{1, 3}, 0, span{1, 3}},
		{span{1, 3}, 0.25, span{0.5, 3.5}},
		{span{100, 100}, 0, span{95, 105}},
		{span{-100, -100}, 0.04, span{-105, -95}},
		{span{0, 0}, 0.04, span{-1e-3, 1e-3}},
		{span{100, 100.00001}, 0.04, span{95, 105}},
	} {
		got := c.s.widen(c.f)
		if math.Abs(got.lo-c.want.lo) > 2e-5 || math.Abs(got.hi-c.want.hi) > 2e-5 {
			t.Errorf("%v by %v: %v, want %v", c.s, c.f, got, c.want)
		}
	}
}

func TestWriteLossPNGOddInput(t *testing.T) {
	nan, inf := math.NaN(), math.Inf(1)
	for _, c := range []Curve{
		{},
		{X: []float64{nan, inf, 1}, Y: []float64{1, 1, nan}, Smooth: 0.5},
		{X: []float64{1}, Y: []float64{0}, Dots: true},
		{X: []float64{0, 0}, Y: []float64{1, 2}},
		{X: []float64{2, 1, 3}, Y: []float64{-1e30, 1e30, 1e-300}, Smooth: 0.99},
		{X: []float64{1, 2}, Y: []float64{1e300, -1e300}},
		{X: []float64{1, 2}, Y: []float64{5e-324, 0}},
		{X: []float64{1e15, 1e15 + 1}, Y: []float64{1, 1 + 1e-15}},
		{Name: "two\nlines \xff", X: []float64{1, 2}, Y: []float64{1, 2}},
	} {
		path := filepath.Join(t.TempDir(), "p.png")
		if err := WriteLossPNG(path, []Curve{c}, "a\nb", "\xff", ""); err != nil {
			t.Errorf("%v: %v", c, err)
		}
		if _, err := png.Decode(bytes.NewReader(content(t, path))); err != nil {
			t.Errorf("%v: %v", c, err)
		}
	}
}

func TestWriteLossPNGErrors(t *testing.T) {
	path := filepath.Join(t.TempDir(), "p.png")
	for _, c := range []struct {
		path  string
		curve Curve
		want  string
	}{
		{path, Curve{Name: "a", X: []float64{1}}, `curve "a" has 1 x and 0 y`},
		{path, Curve{Name: "a", Smooth: 1}, "choose one in [0, 1)"},
		{path, Curve{Name: "a", Smooth: math.NaN()}, "choose one in [0, 1)"},
		{filepath.Join(path, "none", "p.png"), Curve{}, "none"},
	} {
		if err := WriteLossPNG(c.path, []Curve{c.curve}, "", "", ""); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("error %v, want one with %q", err, c.want)
		}
	}
	if _, err := os.Stat(path); err == nil {
		t.Error("a failed plot left a file")
	}
}

func TestPlotIsDeterministic(t *testing.T) {
	var files [2][]byte
	for i := range files {
		path := filepath.Join(t.TempDir(), "p.png")
		if err := WriteLossPNG(path, []Curve{noisy(300)}, "t", "x", "y"); err != nil {
			t.Fatal(err)
		}
		files[i] = content(t, path)
	}
	if !bytes.Equal(files[0], files[1]) {
		t.Error("two plots of the same data differ")
	}
}

func points(y ...float64) plotter.XYs {
	out := make(plotter.XYs, len(y))
	for i, v := range y {
		out[i] = plotter.XY{X: float64(i), Y: v}
	}
	return out
}

func TestBulk(t *testing.T) {
	ramp := make([]float64, 100)
	for i := range ramp {
		ramp[i] = float64(i)
	}
	high, low := append([]float64{1000}, ramp...), append([]float64{-1000}, ramp...)
	for _, c := range []struct {
		name string
		y    []float64
		want span
	}{
		{"one", []float64{3}, span{3, 3}},
		{"few", []float64{9, 1, 5, 2}, span{1, 9}},
		{"one spike of few", []float64{900, 3, 2.5, 2, 1}, span{1, 3.5}},
		{"ramp", ramp, span{0, 99}},
		{"spike", high, span{0, 95 + 45}},
		{"dip", low, span{4 - 180, 99}},
		{"mostly constant", []float64{1, 1, 1, 1, 1, 1, 1, 8}, span{1, 8}},
	} {
		if got := bulk(points(c.y...)); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

func TestEMA(t *testing.T) {
	got := ema(points(4, 800, -9), 0.5, span{0, 8})
	// of 4, 8, 0: s = 2, 5, 2.5 over 1-beta^i = 1/2, 3/4, 7/8
	for i, want := range []float64{4, 20. / 3, 20. / 7} {
		if math.Abs(got[i].Y-want) > 1e-12 || got[i].X != float64(i) {
			t.Errorf("point %d: %v, want %v", i, got[i], want)
		}
	}
}

func TestThin(t *testing.T) {
	y := make([]float64, 100_000)
	for i := range y {
		y[i] = math.Sin(float64(i) / 5000)
	}
	y[31_415], y[27_182] = 50, -50
	got := thin(points(y...))
	if len(got) > 5*plotWidth || len(got) < 2*plotWidth {
		t.Errorf("%d points", len(got))
	}
	seen := map[float64]bool{}
	for i, p := range got {
		if i > 0 && p.X < got[i-1].X {
			t.Fatalf("out of order at %d", i)
		}
		if p.Y != y[int(p.X)] {
			t.Fatalf("point %v is not of the curve", p)
		}
		seen[p.Y] = true
	}
	if !seen[50] || !seen[-50] || got[len(got)-1].X != 99_999 {
		t.Error("the spikes or the end are gone")
	}
}

func TestTicks(t *testing.T) {
	for _, c := range []struct {
		lo, hi float64
		t      ticks
		want   string
	}{
		{0, 10, ticks{about: 5}, "0 2 4 6 8 10"},
		{1.9, 3.1, ticks{about: 6}, "2.0 2.2 2.4 2.6 2.8 3.0"},
		{-0.2, 0.2, ticks{about: 4}, "-0.2 -0.1 0 0.1 0.2"},
		{0, 5000, ticks{about: 10}, "0 500 1k 1.5k 2k 2.5k 3k 3.5k 4k 4.5k 5k"},
		{0, 2.5e6, ticks{about: 5}, "0 500k 1M 1.5M 2M 2.5M"},
		{0, 3e9, ticks{about: 3}, "0 1G 2G 3G"},
		{1000, 1040, ticks{about: 4}, "1000 1010 1020 1030 1040"},
		{0, 4e-8, ticks{about: 4}, "0 1e-08 2e-08 3e-08 4e-08"},
		{1e13, 1.4e13, ticks{about: 4}, "1.0e+13 1.1e+13 1.2e+13 1.3e+13 1.4e+13"},
		{1, 3, ticks{about: 9, whole: true}, "1 2 3"},
		{11.4, 12.6, ticks{about: 9, whole: true}, "12"},
		{0.001, 0.0031, ticks{about: 4}, "0.001 0.002 0.003"},
	} {
		var labels []string
		for _, k := range c.t.Ticks(c.lo, c.hi) {
			labels = append(labels, k.Label)
		}
		if got := strings.Join(labels, " "); got != c.want {
			t.Errorf("%v to %v: %s\nwant %s", c.lo, c.hi, got, c.want)
		}
	}
}

// Over many ranges the labels are few, in order and all different.
func TestTicksAnyRange(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for range 20_000 {
		lo := r.NormFloat64() * math.Pow(10, float64(r.IntN(30)-10))
		s := span{lo, lo + math.Pow(10, float64(r.IntN(30)-10))*r.Float64()}.widen(0.04)
		got := ticks{about: 7}.Ticks(s.lo, s.hi)
		seen := map[string]bool{}
		slack := 1e-5 * (s.hi - s.lo)
		for i, k := range got {
			seen[k.Label] = true
			if k.Value < s.lo-slack || k.Value > s.hi+slack || i > 0 && k.Value <= got[i-1].Value {
				t.Fatalf("tick %v of %v", k.Value, s)
			}
		}
		if len(got) < 2 || len(got) > 15 || len(seen) != len(got) {
			t.Fatalf("%v: %s", s, fmt.Sprint(got))
		}
	}
}
