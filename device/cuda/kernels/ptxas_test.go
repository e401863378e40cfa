package kernels

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"
)

// mostSpilled is how many bytes a kernel may keep in memory for want of registers. Heads of 256 channels take more.
const mostSpilled = 256

// TestPtxas: NVIDIA's assembler takes every kernel, for the oldest and the newest GPU that all versions of it since CUDA 11.8
// know, and registers are enough. With -v it prints what each needs.
func TestPtxas(t *testing.T) {
	ptxas, err := exec.LookPath("ptxas")
	if err != nil {
		t.Skip("no ptxas on the PATH; Debian's package nvidia-cuda-toolkit (non-free) has one, which runs without a GPU")
	}
	used := regexp.MustCompile(`entry function '(\w+)' for .*\n.*\n +\d+ bytes stack frame, (\d+) bytes spill stores.*\n.*Used (\d+) registers(.*)`)
	for _, arch := range []string{"sm_80", "sm_90"} {
		for module, ptx := range PTX {
			path := filepath.Join(t.TempDir(), module+".ptx")
			if err := os.WriteFile(path, []byte(ptx), 0o666); err != nil {
				t.Fatal(err)
			}
			out, err := exec.Command(ptxas, "-v", "-arch="+arch, "-o", path+".cubin", path).CombinedOutput()
			if err != nil {
				t.Errorf("%s for %s: %v\n%s", module, arch, err, out)
				continue
			}
			kernels := used.FindAllStringSubmatch(string(out), -1)
			if want := len(regexp.MustCompile(`\.entry `).FindAllString(ptx, -1)); len(kernels) != want {
				t.Errorf("%s for %s: %d kernels, %d in the report", module, arch, want, len(kernels))
			}
			for _, k := range kernels {
				t.Logf("%s %s: %s registers, %s bytes spilled%s", arch, k[1], k[3], k[2], k[4])
				if bytes, _ := strconv.Atoi(k[2]); bytes > mostSpilled && k[1] != "attentionKV256x32" {
					t.Errorf("%s: %s spills %d bytes", arch, k[1], bytes)
				}
			}
		}
	}
}
