package llm

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"setun/device"
	"setun/format/safetensors"
	"setun/internal/half"
	"setun/internal/trit"
	"setun/ternary"
)

// A packed file is a safetensors file for deployment: no latent weights, nothing of training. A layer of the blocks is a
// U8 tensor: its scales (1, or one a row) as float32, then the base-3 (five-level: base-5) bytes of its codes,
// entropy-coded. Column scales are the bytes of ternary.PackColumns. Embedding and head are float32 or half precision, all
// else is float32. The metadata hold the Config and a checksum of the data.
const (
	packedFormat   = "setun-packed"
	packedVersion  = "1"
	packedVersion2 = "2" // with column clusters
	packedVersion3 = "3" // with tables in half precision, and maybe column clusters
)

// Size counts the bytes of a packed file.
type Size struct {
	Ternary    int64 // codes of the layers of the blocks, entropy-coded, with their tables and scales
	TernaryF32 int64 // the same weights as float32
	File       int64 // the whole file
	FileF32    int64 // all weights as float32
}

// BitsPerWeight is what a weight of the blocks takes in the file.
func (s Size) BitsPerWeight() float64 { return 32 * float64(s.Ternary) / float64(s.TernaryF32) }

// TernaryRatio is how much smaller than float32 the quantized weights are.
func (s Size) TernaryRatio() float64 { return float64(s.TernaryF32) / float64(s.Ternary) }

// FileRatio is how much smaller than all weights in float32 the file is, embeddings and all included.
func (s Size) FileRatio() float64 { return float64(s.FileF32) / float64(s.File) }

// WritePacked writes the model as it is now to a packed file, which ReadPacked turns into a frozen model with the same
// output to the bit. With halves, embedding and head are rounded to half precision: generation, which reads the head so
// anyway, then reads the embedding so too, and a small model's file is much smaller.
func (m *Model) WritePacked(w io.Writer, halves bool) (Size, error) {
	var size Size
	var tensors []safetensors.Tensor
	inside := map[string]bool{}
	for name, l := range m.Linears() {
		p, err := l.Pack()
		if err != nil {
			return size, err
		}
		f, err := trit.ByName(p.Format)
		if err != nil {
			return size, err
		}
		data, err := binary.Append(nil, binary.LittleEndian, p.Scales)
		if err != nil {
			return size, err
		}
		scales := len(data)
		if data = f.Compress(data, p.Data); tooFew(len(data), p.Rows, p.Cols) {
			data = f.Raw(data[:scales], p.Data)
		}
		tensors = append(tensors, safetensors.New(name, []int{len(data)}, data))
		size.Ternary += int64(len(data))
		size.TernaryF32 += 4 * int64(p.Rows) * int64(p.Cols)
		inside[name+".weight"], inside[name+".scale"] = true, true
		if p.Columns != nil {
			data := ternary.PackColumns(p.Columns)
			tensors = append(tensors, safetensors.New(name+".columns", []int{len(data)}, data))
			size.Ternary += int64(len(data))
			inside[name+".columns"] = true
		}
	}
	if len(tensors) == 0 {
		return size, fmt.Errorf("llm: %s weights cannot be packed; write them as safetensors or GGUF", m.cfg.Weights)
	}
	version := packedVersion
	if m.cfg.Quant.Columns > 1 {
		version = packedVersion2
	}
	size.FileF32 = size.TernaryF32
	for name, v := range m.Params() {
		if inside[name] {
			continue
		}
		size.FileF32 += 4 * int64(v.T.Len())
		if v.T.Type() == device.F16 || halves && isTable(name) {
			version = packedVersion3
			var data []byte
			for _, x := range v.T.Floats() {
				data = binary.LittleEndian.AppendUint16(data, half.F16(x))
			}
			tensors = append(tensors, safetensors.Tensor{Name: name, DType: safetensors.F16, Shape: v.T.Shape(), Data: data})
			continue
		}
		tensors = append(tensors, safetensors.New(name, v.T.Shape(), v.T.Floats()))
	}
	if err := m.Device().Sync(); err != nil {
		return size, err
	}
	config, err := json.Marshal(m.cfg)
	if err != nil {
		return size, err
	}
	c := counter{w: w}
	err = safetensors.Write(&c, tensors, map[string]string{"format": packedFormat, "version": version,
		"config": string(config), "sha256": checksum(tensors)})
	size.File = c.n
	return size, err
}

// isTable reports whether a parameter is embedding or head, by its name.
func isTable(name string) bool { return name == "embed.weight" || name == "head.weight" }

// checksum is the SHA-256 of the data of tensors in the order of their names.
func checksum(tensors []safetensors.Tensor) string {
	byName := map[string][]byte{}
	for _, t := range tensors {
		byName[t.Name] = t.Data
	}
	h := sha256.New()
	for _, name := range slices.Sorted(maps.Keys(byName)) {
		h.Write(byName[name])
	}
	return hex.EncodeToString(h.Sum(nil))
}

type counter struct {
	w io.Writer
	n int64
}

func (c *counter) Write(b []byte) (int, error) {
	n, err := c.w.Write(b)
	c.n += int64(n)
	return n, err
}

// ReadPacked reads a packed file into a frozen model on dev; or, with as, into one whose layers are floats of the packed
// values, to train on. Layers with norms of their own (ternary.Config.SubNorm) have no form in fp32.
func ReadPacked(dev device.Device, path string, as Weights) (*Model, error) {
	f, err := safetensors.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	m, err := readPacked(dev, f, as)
	return m, named(path, err)
}

func readPacked(dev device.Device, f *safetensors.File, as Weights) (*Model, error) {
	meta := f.Meta()
	switch {
	case meta["format"] != packedFormat:
		return nil, errors.New("this is no packed model of setun; make one with: gopher export -packed FILE")
	case !slices.Contains([]string{packedVersion, packedVersion2, packedVersion3}, meta["version"]):
		return nil, fmt.Errorf("this packed model has version %q, this program reads 1 to %s; use a newer program",
			meta["version"], packedVersion3)
	}
	var c Config
	if err := json.Unmarshal([]byte(meta["config"]), &c); err != nil {
		return nil, fmt.Errorf("its config is damaged: %w", err)
	}
	if err := c.Validate(); err != nil {
		return nil, err
	}
	switch {
	case c.Weights == FP32Weights:
		return nil, errors.New("its config names fp32 weights, which are never packed")
	case as == FP32Weights && c.Quant.SubNorm:
		return nil, errSubNorm
	}
	src := &packedSource{f: f, codebook: c.codebook(), perRow: c.Quant.PerRow, columns: c.Quant.Columns > 1, thaw: as != "",
		keep: as == c.Weights && c.Quant.Columns <= 1, used: map[string]bool{}}
	if as != "" {
		c.Weights = as
	}
	sum, err := src.checksum()
	if err != nil {
		return nil, err
	}
	if sum != meta["sha256"] {
		return nil, errors.New("its checksum is not that of its data: the file was damaged or changed; copy it again")
	}
	m, err := load(dev, c, src)
	if err != nil {
		return nil, err
	}
	for _, in := range f.Tensors() {
		if !src.used[in.Name] {
			return nil, fmt.Errorf("its config names no tensor %q: its output would be wrong", in.Name)
		}
	}
	return m, nil
}

var errSubNorm = errors.New("its layers have norms of their own, which fp32 layers have not; read it as quantized weights")

type packedSource struct {
	f        *safetensors.File
	codebook ternary.Codebook
	perRow   bool
	columns  bool // there are column scales
	thaw     bool // layers are floats
	keep     bool // their scales may stay as they are
	used     map[string]bool
}

// checksum is that of the package's function.
func (s *packedSource) checksum() (string, error) {
	var names []string
	for _, in := range s.f.Tensors() {
		names = append(names, in.Name)
	}
	slices.Sort(names)
	h := sha256.New()
	for _, name := range names {
		if err := s.f.View(name, func(t safetensors.Tensor) error {
			h.Write(t.Data)
			return nil
		}); err != nil {
			return "", err
		}
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

func (s *packedSource) size() (tensors int, bytes int64) {
	all := s.f.Tensors()
	for _, in := range all {
		bytes += in.Bytes()
	}
	return len(all), bytes
}

func (s *packedSource) check(name string, shape ...int) error {
	if layer, ok := strings.CutSuffix(name, ".weight"); ok {
		if in, ok := s.f.Info(layer); ok && in.DType == safetensors.U8 && len(shape) == 2 {
			if tooFew(int(in.Bytes()), shape[0], shape[1]) {
				return fmt.Errorf("%q has %d bytes, too few for %v codes", layer, in.Bytes(), shape)
			}
			return nil
		}
	}
	in, ok := s.f.Info(name)
	if !ok {
		return fmt.Errorf("it has no tensor %q", name)
	}
	if strings.HasSuffix(name, ".columns") && in.DType == safetensors.U8 {
		return nil // floats checks it
	}
	if !slices.Equal(in.Shape, shape) || in.DType != safetensors.F32 && !(in.DType == safetensors.F16 && isTable(name)) {
		return fmt.Errorf("%q is %s of shape %v; the model needs F32 of %v", name, in.DType, in.Shape, shape)
	}
	return nil
}

// tooFew reports whether n bytes are too few for the codes of a layer: a small file shall not take much memory. Codes are
// five or three a byte, which the entropy coder shrinks further; no trained layer comes near this.
func tooFew(n, rows, cols int) bool { return int64(n) < int64(rows)*int64(cols)/400 }

func (s *packedSource) floats(name string, shape ...int) (x []float32, err error) {
	in, ok := s.f.Info(name)
	if !ok {
		return nil, fmt.Errorf("it has no tensor %q", name)
	}
	s.used[name] = true
	if !strings.HasSuffix(name, ".columns") || in.DType != safetensors.U8 {
		return s.f.ReadF32(name)
	}
	err = s.f.View(name, func(t safetensors.Tensor) error {
		x, err = ternary.UnpackColumns(t.Data, shape[0])
		return named(name, err)
	})
	return x, err
}

func (s *packedSource) frozen() bool { return !s.thaw }

func (s *packedSource) half(name string) (x []uint16, ok bool, err error) {
	if in, ok := s.f.Info(name); !ok || in.DType != safetensors.F16 {
		return nil, false, nil
	}
	s.used[name] = true
	err = s.f.View(name, func(t safetensors.Tensor) error {
		x = halves(t.Data)
		return nil
	})
	return x, err == nil, err
}

func (s *packedSource) linear(name string, out, in int) (v values, err error) {
	info, ok := s.f.Info(name)
	if !ok || info.DType != safetensors.U8 {
		return v, fmt.Errorf("it has no packed codes %q", name)
	}
	s.used[name] = true
	err = s.f.View(name, func(t safetensors.Tensor) error {
		v, err = s.decode(t, out, in)
		return err
	})
	return v, err
}

func (s *packedSource) decode(t safetensors.Tensor, out, in int) (v values, err error) {
	name := t.Name
	p := &ternary.Packed{Format: "base3", Rows: out, Cols: in}
	if s.codebook == ternary.Five {
		p.Format = "base5"
	}
	f, err := trit.ByName(p.Format)
	if err != nil {
		return v, err
	}
	n := 1
	if s.perRow {
		n = out
	}
	p.Scales, p.Data = make([]float32, n), make([]byte, f.Bytes(out*in))
	if _, err := binary.Decode(t.Data, binary.LittleEndian, p.Scales); err != nil {
		return v, fmt.Errorf("%q has no room for %d scales", name, n)
	}
	if err := f.Expand(p.Data, t.Data[4*n:]); err != nil {
		return v, fmt.Errorf("%s: %w", name, err)
	}
	codes, err := p.Unpack()
	if err != nil {
		return v, fmt.Errorf("%s: %w", name, err)
	}
	if s.thaw {
		v.floats = dequantize(codes, p.Scales)
		if s.keep {
			v.scales = p.Scales
		}
		if s.columns {
			c, err := s.floats(name+".columns", in)
			if err != nil {
				return v, err
			}
			for i := range v.floats {
				v.floats[i] *= c[i%in]
			}
		}
		return v, nil
	}
	return values{codes: codes, scales: p.Scales}, nil
}
