package data

import (
	"compress/gzip"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
)

// Images is a data set of grey images with one class each, such as MNIST or Fashion-MNIST.
type Images struct {
	Train, Test Split
	Classes     int // 1 + the largest training label
}

// A Split is one half of Images: N images of H by W pixels. In a Batch a pixel is (pixel/255 - Mean) / Std.
type Split struct {
	N, H, W   int
	Pixels    []uint8 // (N H W)
	Labels    []uint8 // (N)
	Mean, Std float64 // of pixel/255 in the training set; a Std of 0 counts as 1
}

// OpenIDX reads the four files of a data set of the MNIST family from dir: train-images-idx3-ubyte,
// train-labels-idx1-ubyte, t10k-images-idx3-ubyte and t10k-labels-idx1-ubyte, plain or with .gz. The format is
// a big-endian header (0x803, N, H, W or 0x801, N) and one byte a pixel or label.
func OpenIDX(dir string) (*Images, error) {
	d := new(Images)
	if err := d.Train.open(dir, "train"); err != nil {
		return nil, err
	}
	if err := d.Test.open(dir, "t10k"); err != nil {
		return nil, err
	}
	if d.Train.H != d.Test.H || d.Train.W != d.Test.W {
		return nil, fmt.Errorf("data: %s: training images are %dx%d but t10k images %dx%d; take all files from one set",
			dir, d.Train.H, d.Train.W, d.Test.H, d.Test.W)
	}
	d.Classes = int(slices.Max(d.Train.Labels)) + 1
	if i := slices.IndexFunc(d.Test.Labels, func(l uint8) bool { return int(l) >= d.Classes }); i >= 0 {
		return nil, fmt.Errorf("data: %s: t10k label %d of image %d, but training labels end at %d; "+
			"take all files from one set", dir, d.Test.Labels[i], i, d.Classes-1)
	}
	var hist [256]float64
	for _, p := range d.Train.Pixels {
		hist[p]++
	}
	var sum, sq float64
	for v, n := range hist {
		x := float64(v) / 255
		sum, sq = sum+n*x, sq+n*x*x
	}
	n := float64(len(d.Train.Pixels))
	mean := sum / n
	std := math.Sqrt(max(0, sq/n-mean*mean))
	d.Train.Mean, d.Train.Std = mean, std
	d.Test.Mean, d.Test.Std = mean, std
	return d, nil
}

func (s *Split) open(dir, set string) error {
	dims, pixels, err := openIDX(dir, set, "images", 3)
	if err != nil {
		return err
	}
	_, labels, err := openIDX(dir, set, "labels", 1)
	if err != nil {
		return err
	}
	if dims[0] != len(labels) {
		return fmt.Errorf("data: %s: %d %s images but %d labels; take both files from one set",
			dir, dims[0], set, len(labels))
	}
	*s = Split{N: dims[0], H: dims[1], W: dims[2], Pixels: pixels, Labels: labels}
	return nil
}

const where = "get the four files of Fashion-MNIST (github.com/zalandoresearch/fashion-mnist, data/fashion), or those of MNIST"

func openIDX(dir, set, what string, dims int) ([]int, []byte, error) {
	name := fmt.Sprintf("%s-%s-idx%d-ubyte", set, what, dims)
	for _, n := range []string{name, name + ".gz"} {
		path := filepath.Join(dir, n)
		f, err := os.Open(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, nil, unreadable(err)
		}
		defer f.Close()
		info, err := f.Stat()
		if err != nil {
			return nil, nil, unreadable(err)
		}
		shape, data, err := readIDX(f, info.Size(), filepath.Ext(n) == ".gz", dims)
		if err != nil {
			return nil, nil, fmt.Errorf("data: %s: %w; download it again", path, err)
		}
		return shape, data, nil
	}
	return nil, nil, fmt.Errorf("data: %s: no %s[.gz]; %s", dir, name, where)
}

// readIDX decodes a file of size bytes. What it allocates is bounded by size, whatever the header says.
func readIDX(r io.Reader, size int64, zipped bool, dims int) ([]int, []byte, error) {
	limit := size
	if zipped {
		z, err := gzip.NewReader(r)
		if err != nil {
			return nil, nil, fmt.Errorf("not a gzip file (%v)", err)
		}
		r = z
		limit = size * 1032 // the most that DEFLATE compresses
	}
	head := make([]byte, 4+4*dims)
	if _, err := io.ReadFull(r, head); err != nil {
		return nil, nil, fmt.Errorf("no complete header (%v)", err)
	}
	if magic, want := binary.BigEndian.Uint32(head), uint32(0x800+dims); magic != want {
		return nil, nil, fmt.Errorf("magic number %#x, want %#x", magic, want)
	}
	shape, total := make([]int, dims), int64(1)
	for i := range shape {
		v := int64(binary.BigEndian.Uint32(head[4+4*i:]))
		if v == 0 || v > limit/total {
			return nil, nil, fmt.Errorf("the header says dimension %d is %d, which %s cannot hold",
				i, v, count(size, "byte"))
		}
		shape[i], total = int(v), total*v
	}
	data := make([]byte, min(total, 8*size))
	n, err := io.ReadFull(r, data)
	for err == nil && int64(n) < total {
		m := min(total, 2*int64(n))
		data = append(make([]byte, 0, m), data...)[:m]
		var k int
		k, err = io.ReadFull(r, data[n:])
		n += k
	}
	if err == nil {
		// The read past the end checks the gzip checksum.
		switch _, err = io.ReadFull(r, head[:1]); err {
		case io.EOF:
			return shape, data, nil
		case nil:
			return nil, nil, fmt.Errorf("more than the %s its header says", count(total, "byte"))
		}
	}
	if int64(n) < total && (err == io.EOF || err == io.ErrUnexpectedEOF) {
		return nil, nil, fmt.Errorf("ends after %d of the %s its header says", n, count(total, "byte"))
	}
	return nil, nil, fmt.Errorf("damaged (%v)", err)
}

// gather makes a Batch of n images, (n H W 1), from the ones index names.
func (s *Split) gather(n int, index func(i int) int) Batch {
	var norm [256]float32
	std := s.Std
	if std == 0 {
		std = 1
	}
	for v := range norm {
		norm[v] = float32((float64(v)/255 - s.Mean) / std)
	}
	w := s.H * s.W
	b := Batch{Shape: []int{n, s.H, s.W, 1}, Pixels: make([]float32, n*w), Targets: make([]int32, n)}
	for i := range n {
		k := index(i)
		b.Targets[i] = int32(s.Labels[k])
		dst := b.Pixels[i*w : (i+1)*w]
		for j, p := range s.Pixels[k*w : (k+1)*w] {
			dst[j] = norm[p]
		}
	}
	return b
}

func (s *Split) check(batch int) error {
	if s.N < 1 || s.H < 1 || s.W < 1 || len(s.Labels) != s.N || len(s.Pixels) != s.N*s.H*s.W {
		return fmt.Errorf("data: split of %d %dx%d images with %d pixels and %d labels; take one of OpenIDX",
			s.N, s.H, s.W, len(s.Pixels), len(s.Labels))
	}
	return checkBatch(batch, s.H*s.W)
}

// Shuffled deals shuffled batches of images.
func (s *Split) Shuffled(batch int, seed uint64) (*Sampler, error) {
	if err := s.check(batch); err != nil {
		return nil, err
	}
	h := fnv.New64a()
	fmt.Fprintln(h, s.N, s.H, s.W)
	h.Write(s.Labels)
	h.Write(s.Pixels)
	return &Sampler{
		items: uint64(s.N),
		batch: batch,
		state: State{Seed: seed, Digest: hex.EncodeToString(h.Sum(nil))},
		fill: func(o order) (Batch, error) {
			return s.gather(batch, func(int) int { k, _ := o.next(); return int(k) }), nil
		},
	}, nil
}

// Eval gives the first limit images (0: all) in the order of the file.
func (s *Split) Eval(batch, limit int) (*Eval, error) {
	if err := s.check(batch); err != nil {
		return nil, err
	}
	if limit < 0 {
		return nil, fmt.Errorf("data: at most %d images; give a positive number, or 0 for all", limit)
	}
	n := s.N
	if limit > 0 {
		n = min(n, limit)
	}
	return &Eval{n, batch, n, func(lo, hi int) (Batch, error) {
		return s.gather(hi-lo, func(i int) int { return lo + i }), nil
	}}, nil
}
