package ptx

import (
	"bytes"
	"errors"
	"os"
	"strings"
	"testing"

	"setun/device/cuda/driver"
)

func TestQueue(t *testing.T) {
	g := Open(Config{})
	p, _ := g.Alloc(8)
	h, _ := g.HostAlloc(8)
	if !bytes.Equal(h, []byte{255, 255, 255, 255, 255, 255, 255, 255}) {
		t.Error("fresh host memory is not poisoned")
	}
	copy(h, "12345678")
	g.Upload(p, h)
	first, _ := g.Record()
	h2, _ := g.HostAlloc(8)
	g.Download(h2, p)
	second, _ := g.Record()
	if _, err := g.Elapsed(first, second); err == nil {
		t.Error("Elapsed before the events have passed")
	}
	if h2[0] != 0xff {
		t.Error("a download is done before anybody waits")
	}
	if err := g.Wait(first); err != nil {
		t.Fatal(err)
	}
	copy(h, "abcdefgh") // the upload is done, the download is not
	if h2[0] != 0xff {
		t.Error("Wait goes beyond its event")
	}
	if err := g.Wait(second); err != nil || string(h2) != "12345678" {
		t.Errorf("%q %v", h2, err)
	}
	if ms, err := g.Elapsed(first, second); ms <= 0 || err != nil {
		t.Error(ms, err)
	}
	q, _ := g.Alloc(8)
	g.Copy(q, p+4, 4)
	g.Copy(q+4, p, 4)
	g.Free(p) // in the order of the queue
	g.Download(h2, q)
	if err := g.Sync(); err != nil || string(h2) != "56781234" {
		t.Errorf("%q %v", h2, err)
	}
	if err := g.Forget(first); err != nil {
		t.Error(err)
	}
	if n := g.Live(); n != 1 {
		t.Error(n, "allocations live")
	}
	if err := g.Close(); err != nil {
		t.Error(err)
	}
	if _, err := g.Alloc(4); err == nil {
		t.Error("Alloc after Close")
	}
}

func TestMemory(t *testing.T) {
	g := Open(Config{Memory: 1000})
	p, err := g.Alloc(600)
	if err != nil {
		t.Fatal(err)
	}
	if p%256 != 0 {
		t.Errorf("%#x is not aligned", uint64(p))
	}
	if _, err := g.Alloc(500); !errors.Is(err, driver.ErrMemory) {
		t.Error(err)
	}
	if free, total, err := g.Memory(); free != 400 || total != 1000 || err != nil {
		t.Error(free, total, err)
	}
	g.Free(p)
	if _, err := g.Alloc(1000); err != nil { // the queue is done first
		t.Error(err)
	}
	if err := g.Sync(); err != nil { // running out does not stick
		t.Error(err)
	}
}

// TestMistakes: each is an error, at once or of the next Sync.
func TestMistakes(t *testing.T) {
	for name, f := range map[string]func(g *GPU, p driver.Ptr, h []byte) error{
		"upload from Go memory":   func(g *GPU, p driver.Ptr, h []byte) error { return g.Upload(p, make([]byte, 4)) },
		"download into Go memory": func(g *GPU, p driver.Ptr, h []byte) error { return g.Download(make([]byte, 4), p) },
		"download too much":       func(g *GPU, p driver.Ptr, h []byte) error { g.Download(h[:20], p); return g.Sync() },
		"upload beyond the end":   func(g *GPU, p driver.Ptr, h []byte) error { g.Upload(p+1, h[:16]); return g.Sync() },
		"copy from nowhere":       func(g *GPU, p driver.Ptr, h []byte) error { g.Copy(p, 5, 4); return g.Sync() },
		"free twice":              func(g *GPU, p driver.Ptr, h []byte) error { g.Free(p); return g.Free(p) },
		"free inside":             func(g *GPU, p driver.Ptr, h []byte) error { return g.Free(p + 4) },
		"use after free": func(g *GPU, p driver.Ptr, h []byte) error {
			g.Free(p)
			g.Upload(p,
				h[:4])
			return g.Sync()
		},
		"no bytes":                  func(g *GPU, p driver.Ptr, h []byte) error { _, err := g.Alloc(0); return err },
		"free of other host memory": func(g *GPU, p driver.Ptr, h []byte) error { return g.HostFree(h[4:]) },
		"use of freed host memory": func(g *GPU, p driver.Ptr, h []byte) error {
			g.HostFree(h)
			return g.Upload(p,
				h[:4])
		},
		"an event that is not": func(g *GPU, p driver.Ptr, h []byte) error { return g.Wait(7) },
		"a module that is not": func(g *GPU, p driver.Ptr, h []byte) error {
			_, err := g.Function(7, "k",
				0)
			return err
		},
		"a function that is not": func(g *GPU, p driver.Ptr, h []byte) error {
			return g.Launch(7, dim(1), dim(1), 0,
				nil)
		},
		"an unload of what is not": func(g *GPU, p driver.Ptr, h []byte) error { return g.Unload(7) },
		"PTX that is none":         func(g *GPU, p driver.Ptr, h []byte) error { _, err := g.Load("hello"); return err },
		"shared memory for a function": func(g *GPU, p driver.Ptr, h []byte) error {
			_, err := g.Function(mod(g), "k",
				1<<20)
			return err
		},
		"a kernel that is not": func(g *GPU, p driver.Ptr, h []byte) error {
			_, err := g.Function(mod(g), "j",
				0)
			return err
		},
		"a function after Unload": func(g *GPU, p driver.Ptr, h []byte) error {
			m := mod(g)
			f, _ := g.Function(m, "k", 0)
			g.Unload(m)
			return g.Launch(f, dim(1), dim(1), 0, []uint64{0, 0})
		},
		"an empty grid": func(g *GPU, p driver.Ptr, h []byte) error {
			f, _ := g.Function(mod(g), "k", 0)
			return g.Launch(f, dim(0), dim(1), 0, []uint64{0, 0})
		},
	} {
		g := Open(Config{})
		p, _ := g.Alloc(16)
		h, _ := g.HostAlloc(64)
		err := f(g, p, h)
		var e *driver.Error
		if !errors.As(err, &e) || e.Code == 0 || e.Name == "" || e.Call == "" {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func mod(g *GPU) driver.Module {
	m, _ := g.Load(entry("", ""))
	return m
}

func TestCapability(t *testing.T) {
	src := entry("", "")
	for range 2 {
		if _, err := Open(Config{Major: 7, Minor: 5}).Load(src); err == nil || !strings.Contains(err.Error(), "sm_80") {
			t.Error(err)
		}
		if _, err := Open(Config{Major: 9, Minor: 0}).Load(src); err != nil {
			t.Error(err)
		}
	}
}

// TestRejected: what Load does not take it says, with the line.
func TestRejected(t *testing.T) {
	for body, want := range map[string]string{
		"frobnicate.u32 %r1, %r2;":                      "unknown instruction frobnicate.u32",
		"add.rz.f32 %r1, %r2, %r3;":                     "modifier .rz",
		"add.u32 %r1, %rd2, %r3;":                       "%rd2 is not of 4 bytes",
		"add.u32 %r1, %r2;":                             "2 operands",
		"add.u32 %r1, %r2, %nowhere;":                   "%nowhere is not declared",
		"bra nowhere;":                                  "unknown label nowhere",
		"ld.global.u32 %r1, [nothing];":                 "unknown name nothing",
		"ld.global.u32 %r1, %rd1;":                      "expected an address",
		"ld.global.v4.u64 {%rd1,%rd2,%rd3,%rd4}, [%o];": "more than 16 bytes",
		"cvt.f32.s32 %r1, %r2;":                         "rounding mode",
		"cvt.s32.f32 %r1, %r2;":                         "rounding mode",
		"cvt.f16.f32 %r1, %r2;":                         "rounding mode",
		"mma.sync.aligned.m16n8k16.row.row.f32.bf16.bf16.f32 {%r1}, {%r1}, {%r1}, {%r1};": "unknown instruction",
		"wmma.load.a.sync %r1;":                "unknown instruction",
		"tex.2d.v4.f32.f32 {%r1}, [%o];":       "unknown instruction",
		"call foo;":                            "no device function foo",
		"setp.lo.s32 %p, %r1, %r2;":            "unknown instruction",
		"shfl.down.b32 %r1, %r2, 1, 31;":       "unknown instruction",
		"mov.u32 %r1, 0d3FF0000000000000;":     "double constant",
		"add.f32 %r1, %r2, 1;":                 "integer constant",
		"st.const.u32 [%o], %r1;":              ".const",
		"bar.arrive 1, 64;":                    "unknown instruction",
		"setp.lt.bf16 %p, %r1, %r2;":           "sm_90",
		"cvt.rn.bf16.f64 %r1, %rd1;":           "sm_90",
		"bar.sync;":                            "0 operands",
		"add.u32 %tid, %r1, %r2;":              "not declared",
		".local .b8 huge[2000000];":            "too much local memory",
		".reg .v4 %v;":                         "not supported",
		"@%r1 add.u32 %r1, %r1, %r1;":          "not a predicate",
		"label: label: add.u32 %r1, %r1, %r1;": "defined twice",
		"add.u32 %r1, %r1, %r1":                "expected",
		"\"text\";":                            "expected",
	} {
		_, err := Open(Config{}).Load(entry("", body))
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "line 1") {
			t.Errorf("%s: %v", body, err)
		}
	}
	for src, want := range map[string]string{
		".version 9.9":         "version",
		".target sm_80, debug": "target",
		".address_size 32":     "64-bit",
		".entry k() { ret; ":   "expected",
		".visible .entry k(.param .b8 a[5000]) { ret; }":         "parameters",
		".func f() { call f; ret; } .entry k() { call f; ret; }": "recursive",
		".global .b8 x[4] = {1,2,3,4,5};":                        "more values",
		"/* no end":                                              "comment",
	} {
		if _, err := Open(Config{}).Load(src); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", src, err)
		}
	}
}

// FuzzLoad: hostile PTX gives errors, never a panic, and what loads may run.
func FuzzLoad(f *testing.F) {
	f.Add(entry("", "add.u32 %r1, %r2, %r3;"))
	f.Add(".version 7.1\n.target sm_80\n.address_size 64\n" +
		".global .align 8 .u64 x[2] = {y+4, 1};\n.const .f32 y = 0f3F800000;")
	f.Add(entry("\t.shared .align 16 .b8 t[64];\n",
		"brx.idx %r1, l;\nl: .branchtargets a, b;\na: bar.sync 0;\nb: @%p ret;"))
	f.Add(entry("", "{ .reg .pred %x; setp.lt.and.f32 %x|%p, %r1, 0f00000000, %q; @!%x bra l; l: }"))
	f.Add(entry("",
		"mov.b64 {%r1, %r2}, %rd1; cvt.rn.bf16x2.f32 %r3, %r1, %r2; shfl.sync.bfly.b32 %r1|%p, %r2, 1, 31, -1;"))
	f.Add(entry("",
		"mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%r1,%r2,%r3,%r4}, "+
			"{%r1,%r2,%r3,%r4}, {%r1,%r2}, {%r1,%r2,%r3,%r4};"))
	f.Add(entry("",
		"cp.async.cg.shared.global.L2::128B [%r1], [%o], 16, %r2; cp.async.wait_group 1;"+
			" atom.shared.cas.b32 %r1, [%r2], 1, 2;"))
	if src, err := os.ReadFile("testdata/kernels.ptx"); err == nil {
		for _, k := range strings.Split(string(src), "// -- End function\n}") {
			f.Add(".version 7.1\n.target sm_80\n.address_size 64\n" + k + "\n}")
		}
	}
	f.Fuzz(func(t *testing.T, src string) {
		// Blocks of such a kernel race for the same memory: CheckBlocks runs them one by one.
		g := Open(Config{Steps: 1000, Memory: 1 << 20, CheckBlocks: true})
		m, err := g.Load(src)
		compiled.Clear()
		if err != nil {
			return
		}
		for name, k := range g.modules[m].kernels {
			fn, err := g.Function(m, name, 0)
			if err != nil {
				continue
			}
			p, err := g.Alloc(256)
			if err != nil {
				return
			}
			args := make([]uint64, len(k.params))
			for i := range args {
				args[i] = uint64(p)
			}
			g.Launch(fn, dim(2), dim(40), 64, args)
			g.Sync()
		}
	})
}
