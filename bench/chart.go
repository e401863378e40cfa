package main

import (
	"fmt"
	"image/color"
	"io"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgimg"

	"setun/internal/atomicfile"
)

// The colours of Okabe and Ito, told apart with any kind of colour vision.
var palette = []color.RGBA{
	{0x00, 0x72, 0xb2, 0xff}, {0xd5, 0x5e, 0x00, 0xff}, {0x00, 0x9e, 0x73, 0xff}, {0xcc, 0x79, 0xa7, 0xff},
	{0xe6, 0x9f, 0x00, 0xff}, {0x56, 0xb4, 0xe9, 0xff},
}

// writePNG draws a row of bars a case, a bar a device: the speed over that of the first device in the list or, if it is
// there, of the pure Go device.
func (r *report) writePNG(path string) error {
	p := plot.New()
	base := len(r.devs) - 1
	for i, d := range r.devs {
		if d.name == "cpu" {
			base = i
		}
	}
	p.Title.Text = fmt.Sprintf("%s, %d threads", processor(), r.threads)
	p.X.Label.Text = "times the speed of " + r.devs[base].name
	p.X.Min = 0
	for _, s := range []*text.Style{&p.Title.TextStyle, &p.X.Label.TextStyle, &p.X.Tick.Label, &p.Y.Tick.Label,
		&p.Legend.TextStyle} {
		s.Font.Variant = "Sans"
	}
	p.Legend.Top = true
	const height = 14 // points a case
	bar := vg.Points(height * 0.8 / float64(len(r.devs)))
	names := make([]string, len(r.lines))
	for i, d := range r.devs {
		vs := make(plotter.Values, len(r.lines))
		for j := range r.lines {
			l := r.lines[len(r.lines)-1-j] // the first on top
			vs[j], names[j] = l.figures[i].value/l.figures[base].value, l.name
		}
		b, err := plotter.NewBarChart(vs, bar)
		if err != nil {
			return fmt.Errorf("chart: %w", err)
		}
		b.Horizontal, b.LineStyle.Width, b.Color = true, 0, palette[i%len(palette)]
		b.Offset = bar * (vg.Length(len(r.devs)-1)/2 - vg.Length(i))
		p.Add(b)
		p.Legend.Add(d.name, b)
	}
	p.NominalY(names...)
	p.X.Max *= 1.15 // the legend's place
	p.Y.Tick.Label.Font.Size, p.Legend.TextStyle.Font.Size = 9, 9
	c := vgimg.PngCanvas{Canvas: vgimg.NewWith(vgimg.UseDPI(96), vgimg.UseWH(9*vg.Inch,
		vg.Points(height*float64(len(r.lines))+90)))}
	p.Draw(draw.Crop(draw.New(c), 10, -16, 10, -10))
	return atomicfile.Write(path, func(w io.Writer) error {
		_, err := c.WriteTo(w)
		return err
	})
}
