package auto

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"setun/device"
)

func Example() {
	dev, err := Open("auto", 0)
	fmt.Println(dev != nil, err)
	_, err = Open("abacus", 0)
	fmt.Println(err)
	// Output:
	// true <nil>
	// device: unknown device "abacus"; use auto or one of cuda, simd, cpu
}

func TestOpen(t *testing.T) {
	for _, name := range Names {
		dev, err := Open(name, 1)
		if name == "cuda" && errors.Is(err, ErrNone) {
			continue
		}
		if err != nil || dev.Name() != name {
			t.Errorf("Open(%q) = %v, %v", name, dev, err)
		}
	}
	if _, err := Open("cpu", -1); err == nil {
		t.Error("negative threads accepted")
	}
}

// TestCUDA: auto falls back where there is no GPU, and says so where there is one that does not open.
func TestCUDA(t *testing.T) {
	saved := openCUDA
	defer func() { openCUDA = saved }()
	host, err := Host(1)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		err         error
		auto, exact string // "": the host's device
	}{
		{fmt.Errorf("%w: libcuda.so.1 is not here", ErrNone), "", "device cuda: no CUDA GPU: libcuda.so.1 is not here"},
		{errors.New("GPU in use"), "device cuda: GPU in use; -device simd", "device cuda: GPU in use"},
	} {
		openCUDA = func() (device.Device, error) { return nil, c.err }
		for _, name := range []string{"auto", ""} {
			dev, err := Open(name, 1)
			if c.auto == "" && (err != nil || dev.Name() != host.Name()) ||
				c.auto != "" && (err == nil || !strings.HasPrefix(err.Error(), c.auto)) {
				t.Errorf("Open(%q) with %q: %v, %v", name, c.err, dev, err)
			}
		}
		if dev, err := Open("cuda", 1); dev != nil || err == nil || err.Error() != c.exact {
			t.Errorf("Open(cuda) with %q: %v, %v", c.err, dev, err)
		}
	}
	openCUDA = func() (device.Device, error) { return device.NewNull(), nil }
	for _, name := range []string{"auto", "", "cuda"} {
		if dev, err := Open(name, 1); err != nil || dev.Name() != "null" {
			t.Errorf("Open(%q) with a GPU: %v, %v", name, dev, err)
		}
	}
}
