package data

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"io"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"testing"
)

func idx(dims []uint32, data []byte) []byte {
	b := binary.BigEndian.AppendUint32(nil, 0x800+uint32(len(dims)))
	for _, d := range dims {
		b = binary.BigEndian.AppendUint32(b, d)
	}
	return append(b, data...)
}

func zip(b []byte) []byte {
	var buf bytes.Buffer
	w := gzip.NewWriter(&buf)
	w.Write(b)
	w.Close()
	return buf.Bytes()
}

// idxFiles is a sound small data set: 5 + 3 images of 2x3, 3 classes; half of the files are zipped.
func idxFiles() map[string][]byte {
	return map[string][]byte{
		"train-images-idx3-ubyte.gz": zip(idx([]uint32{5, 2, 3}, ramp(30))),
		"train-labels-idx1-ubyte":    idx([]uint32{5}, []byte{0, 1, 2, 1, 0}),
		"t10k-images-idx3-ubyte":     idx([]uint32{3, 2, 3}, ramp(18)),
		"t10k-labels-idx1-ubyte.gz":  zip(idx([]uint32{3}, []byte{2, 1, 0})),
	}
}

func writeIDX(t *testing.T, files map[string][]byte) string {
	t.Helper()
	m := map[string]string{}
	for name, b := range files {
		m[name] = string(b)
	}
	return tree(t, m)
}

func TestOpenIDX(t *testing.T) {
	d, err := OpenIDX(writeIDX(t, idxFiles()))
	if err != nil {
		t.Fatal(err)
	}
	if d.Classes != 3 || d.Train.N != 5 || d.Train.H != 2 || d.Train.W != 3 || d.Test.N != 3 {
		t.Errorf("%d classes, train %d of %dx%d, test %d", d.Classes, d.Train.N, d.Train.H, d.Train.W, d.Test.N)
	}
	if !bytes.Equal(d.Train.Pixels, ramp(30)) || !bytes.Equal(d.Test.Labels, []byte{2, 1, 0}) {
		t.Errorf("pixels %v labels %v", d.Train.Pixels, d.Test.Labels)
	}
	e, err := d.Train.Eval(2, 0)
	if err != nil {
		t.Fatal(err)
	}
	var x []float64
	var y []int32
	var sizes []int
	for b, err := range e.Batches(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(b.Shape[1:], []int{2, 3, 1}) {
			t.Errorf("shape %v", b.Shape)
		}
		for _, p := range b.Pixels {
			x = append(x, float64(p))
		}
		y, sizes = append(y, b.Targets...), append(sizes, b.Size())
	}
	if !reflect.DeepEqual(y, []int32{0, 1, 2, 1, 0}) || !reflect.DeepEqual(sizes, []int{2, 2, 1}) {
		t.Errorf("targets %v, batches of %v", y, sizes)
	}
	var sum, sq float64
	for _, v := range x {
		sum, sq = sum+v, sq+v*v
	}
	if n := float64(len(x)); math.Abs(sum/n) > 1e-6 || math.Abs(sq/n-1) > 1e-6 {
		t.Errorf("mean %v, variance %v", sum/n, sq/n)
	}
	if e, err := d.Test.Eval(2, 1); err != nil || e.Len() != 1 || e.Targets() != 1 {
		t.Errorf("one image: %+v, %v", e, err)
	}
}

func TestOpenIDXErrors(t *testing.T) {
	const (
		ti, tl = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"
		vi, vl = "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"
	)
	good := idx([]uint32{5, 2, 3}, ramp(30))
	spoiled := zip(good)
	spoiled[len(spoiled)-5]++ // in the checksum
	tests := []struct {
		name, file string
		data       []byte // nil removes the file
		want       []string
	}{
		{"missing", vi, nil, []string{"no " + vi + "[.gz]", "github.com/"}},
		{"missing labels", tl, nil, []string{"no " + tl}},
		{"magic", tl, idx([]uint32{5, 1, 1}, make([]byte, 5)), []string{tl, "magic number 0x803, want 0x801"}},
		{"little endian", vi, []byte{3, 8, 0, 0, 3, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0}, []string{"magic number 0x3080000"}},
		{"empty", vi, []byte{}, []string{vi, "no complete header"}},
		{"short header", vi, idx([]uint32{3, 2}, nil), []string{"no complete header"}},
		{"short", vi, idx([]uint32{3, 2, 3}, ramp(17)), []string{vi, "ends after 17 of the 18 bytes", "download"}},
		{"long", vi, idx([]uint32{3, 2, 3}, ramp(19)), []string{vi, "more than the 18 bytes"}},
		{"forged", vi, idx([]uint32{1 << 31, 28, 28}, ramp(18)), []string{"dimension 0 is 2147483648"}},
		{"forged product", vi, idx([]uint32{9, 9, 9}, ramp(18)), []string{"dimension 1 is 9"}},
		{"none", vi, idx([]uint32{0, 2, 3}, nil), []string{"dimension 0 is 0"}},
		{"other size", vi, idx([]uint32{3, 3, 2}, ramp(18)), []string{"2x3", "3x2"}},
		{"label count", tl, idx([]uint32{4}, make([]byte, 4)), []string{"5 train images but 4 labels"}},
		{"label range", vl, idx([]uint32{3}, []byte{0, 3, 1}), []string{"t10k label 3 of image 1", "end at 2"}},
		{"not gzip", ti + ".gz", good, []string{ti + ".gz", "not a gzip file"}},
		{"empty gzip", ti + ".gz", []byte{}, []string{"not a gzip file"}},
		{"truncated gzip", ti + ".gz", zip(good)[:40], []string{ti + ".gz", "ends after", "of the 30 bytes"}},
		{"no gzip trailer", ti + ".gz", zip(good)[:len(zip(good))-4], []string{"damaged"}},
		{"checksum", ti + ".gz", spoiled, []string{"damaged (gzip: invalid checksum)"}},
		{"forged gzip", ti + ".gz", zip(idx([]uint32{60000, 28, 28}, ramp(30))), []string{"cannot hold"}},
		{"forged gzip, small", ti + ".gz", zip(idx([]uint32{100, 28, 2}, ramp(30))), []string{"ends after 30 of the 5600"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			files := idxFiles()
			delete(files, tt.file)
			delete(files, strings.TrimSuffix(tt.file, ".gz"))
			delete(files, tt.file+".gz")
			if tt.data != nil {
				files[tt.file] = tt.data
			}
			_, err := OpenIDX(writeIDX(t, files))
			if err == nil {
				t.Fatal("no error")
			}
			for _, want := range tt.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error %q does not say %q", err, want)
				}
			}
		})
	}
}

func FuzzIDX(f *testing.F) {
	good := idx([]uint32{5, 2, 3}, ramp(30))
	f.Add(good, false, true)
	f.Add(good[:30], false, true)
	f.Add(zip(good), true, true)
	f.Add(zip(good)[:40], true, true)
	f.Add(idx([]uint32{5}, ramp(5)), false, false)
	f.Add(idx([]uint32{math.MaxUint32, math.MaxUint32, math.MaxUint32}, nil), false, true)
	f.Add(zip(idx([]uint32{1, 1 << 16, 1}, make([]byte, 1<<16))), true, true)
	f.Fuzz(func(t *testing.T, b []byte, zipped, images bool) {
		dims := 1
		if images {
			dims = 3
		}
		shape, data, err := readIDX(bytes.NewReader(b), int64(len(b)), zipped, dims)
		if err != nil {
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("more than one line: %q", err)
			}
			return
		}
		n := 1
		for _, d := range shape {
			n *= d
		}
		if len(shape) != dims || n != len(data) || n == 0 {
			t.Fatalf("shape %v, %d bytes", shape, len(data))
		}
		if !zipped {
			var head []uint32
			for _, d := range shape {
				head = append(head, uint32(d))
			}
			if !bytes.Equal(idx(head, data), b) {
				t.Fatal("encoding it again gives another file")
			}
		}
	})
}

// A forged header must not reserve memory.
func TestIDXMemory(t *testing.T) {
	b := zip(append(idx([]uint32{1 << 20, 1 << 5, 1}, nil), make([]byte, 1<<16)...))
	b = append(b, make([]byte, 1<<16)...) // a size that makes the header's claim possible
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if _, _, err := readIDX(bytes.NewReader(b), int64(len(b)), true, 3); err == nil {
		t.Fatal("no error")
	}
	runtime.ReadMemStats(&after)
	if got, limit := after.TotalAlloc-before.TotalAlloc, uint64(16*len(b)); got > limit {
		t.Errorf("allocated %d bytes for a file of %d", got, len(b))
	}
}

func TestShuffled(t *testing.T) {
	d, err := OpenIDX(writeIDX(t, idxFiles()))
	if err != nil {
		t.Fatal(err)
	}
	s, err := d.Train.Shuffled(2, 5)
	if err != nil {
		t.Fatal(err)
	}
	// The first pixel tells the image.
	id := func(b Batch, i int) int {
		return int(math.Round((float64(b.Pixels[i*6])*d.Train.Std + d.Train.Mean) * 255 / 6))
	}
	var ids []int
	var saved State
	for step := range 50 {
		if step == 13 {
			saved = s.State()
		}
		b := mustNext(t, s)
		for i := range 2 {
			k := id(b, i)
			if b.Targets[i] != int32(d.Train.Labels[k]) {
				t.Fatalf("image %d has target %d", k, b.Targets[i])
			}
			ids = append(ids, k)
		}
	}
	for e := 0; e < len(ids); e += 5 {
		seen := map[int]bool{}
		for _, k := range ids[e : e+5] {
			seen[k] = true
		}
		if len(seen) != 5 {
			t.Fatalf("epoch of %v", ids[e:e+5])
		}
	}
	again, err := d.Train.Shuffled(2, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := again.Restore(saved); err != nil {
		t.Fatal(err)
	}
	for step := 13; step < 50; step++ {
		b := mustNext(t, again)
		if id(b, 0) != ids[2*step] || id(b, 1) != ids[2*step+1] {
			t.Fatalf("step %d after restore: images %d %d, want %v", step, id(b, 0), id(b, 1), ids[2*step:2*step+2])
		}
	}
	other, err := d.Test.Shuffled(2, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := other.Restore(saved); err == nil {
		t.Error("the state of the training set fits the test set")
	}
}

func TestSplitErrors(t *testing.T) {
	ok := Split{N: 2, H: 1, W: 1, Pixels: []byte{0, 255}, Labels: []byte{0, 1}}
	for _, tt := range []struct {
		name  string
		split Split
		batch int
		want  string
	}{
		{"zero", Split{}, 1, "split of 0"},
		{"labels", Split{N: 2, H: 1, W: 1, Pixels: []byte{0, 1}}, 1, "0 labels"},
		{"batch", ok, 0, "batch of 0"},
	} {
		_, err := tt.split.Shuffled(tt.batch, 0)
		_, err2 := tt.split.Eval(tt.batch, 0)
		for _, err := range []error{err, err2} {
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%s: error %v, want %q", tt.name, err, tt.want)
			}
		}
	}
	if _, err := ok.Eval(1, -1); err == nil {
		t.Error("negative limit accepted")
	}
	s, err := ok.Shuffled(2, 0)
	if err != nil {
		t.Fatal(err)
	}
	if b := mustNext(t, s); b.Pixels[0]+b.Pixels[1] != 1 {
		t.Errorf("without Mean and Std: pixels %v, want 0 and 1", b.Pixels)
	}
}

// sharedData is the folder of a real data set: under $SETUN_DATA, or shared/data in a folder above.
func sharedData(t *testing.T, name string) string {
	t.Helper()
	if dir := os.Getenv("SETUN_DATA"); dir != "" {
		return filepath.Join(dir, name)
	}
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		if p := filepath.Join(dir, "shared", "data", name); exists(p) {
			return p
		}
		up := filepath.Dir(dir)
		if up == dir {
			t.Skipf("no shared/data/%s above the package; set SETUN_DATA to the folder that has %[1]s", name)
		}
		dir = up
	}
}

func exists(p string) bool {
	_, err := os.Stat(p)
	return err == nil
}

func TestRealIDX(t *testing.T) {
	tests := []struct {
		name             string
		mean, std        float64
		train, testSum   string // sha256 of the pixels' files, unzipped
		count            int    // images of each class in the test set, if they are alike
		trainMin, trainM int    // fewest and most training images of a class
	}{
		{"fashion-mnist", 0.2860, 0.3530, "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
			"5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b", 1000, 6000, 6000},
		{"mnist", 0.1307, 0.3081, "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
			"0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7", 0, 5421, 6742},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d, err := OpenIDX(sharedData(t, tt.name))
			if err != nil {
				t.Fatal(err)
			}
			if d.Classes != 10 || d.Train.N != 60000 || d.Test.N != 10000 || d.Train.H != 28 || d.Train.W != 28 {
				t.Fatalf("%d classes, %d and %d images of %dx%d", d.Classes, d.Train.N, d.Test.N, d.Train.H, d.Train.W)
			}
			if math.Abs(d.Train.Mean-tt.mean) > 5e-5 || math.Abs(d.Train.Std-tt.std) > 5e-5 {
				t.Errorf("mean %.5f, deviation %.5f; want %v, %v", d.Train.Mean, d.Train.Std, tt.mean, tt.std)
			}
			for _, s := range []struct {
				split *Split
				want  string
			}{{&d.Train, tt.train}, {&d.Test, tt.testSum}} {
				h := sha256.New()
				h.Write(idx([]uint32{uint32(s.split.N), 28, 28}, nil))
				h.Write(s.split.Pixels)
				if got := hex.EncodeToString(h.Sum(nil)); got != s.want {
					t.Errorf("sha256 %s, want %s", got, s.want)
				}
			}
			var train, test [10]int
			for _, l := range d.Train.Labels {
				train[l]++
			}
			for _, l := range d.Test.Labels {
				test[l]++
			}
			for c := range 10 {
				if train[c] < tt.trainMin || train[c] > tt.trainM || tt.count > 0 && test[c] != tt.count {
					t.Errorf("class %d: %d training and %d test images", c, train[c], test[c])
				}
			}
		})
	}
}

func TestRealText(t *testing.T) {
	dir := sharedData(t, "tinyshakespeare")
	x := open(t, TextConfig{Paths: []string{dir}})
	if x.Train().Len() != 1115394-55769 || x.Val().Len() != 55769 {
		t.Errorf("train %d, val %d bytes", x.Train().Len(), x.Val().Len())
	}
	bpb, err := Baseline(t.Context(), x.Train(), x.Val(), 4)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("bits per byte of orders 0 to 4: %.3f", bpb)
	for n, b := range bpb[1:] {
		if b >= bpb[n] {
			t.Errorf("order %d is no better than order %d: %.3f", n+1, n, bpb)
		}
	}
	text, err := io.ReadAll(io.NewSectionReader(x.Train(), 0, 13))
	if err != nil || string(text) != "First Citizen" {
		t.Errorf("begins with %q, %v", text, err)
	}
}
