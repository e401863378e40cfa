package ptx

import (
	"os"
	"strings"
	"testing"
)

func BenchmarkLoad(b *testing.B) {
	src, err := os.ReadFile("../kernels/attention.ptx")
	if err != nil {
		b.Skip(err)
	}
	b.SetBytes(int64(len(src)))
	for b.Loop() {
		compiled.Clear()
		if _, err := Open(Config{}).Load(string(src)); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkInstructions runs each instruction 16 times in a loop, in four warps of one block, that is on one
// processor, and counts lanes: how often a thread executes it in a second.
func BenchmarkInstructions(b *testing.B) {
	for _, body := range []string{
		"add.s32 %r3, %r3, %r4;", "mul.lo.s32 %r3, %r3, %r4;", "add.s64 %rd3, %rd3, %rd4;", "fma.rn.f32 %r3, %r5, %r4, %r3;",
		"add.rn.f32 %r3, %r5, %r4;", "fma.rn.f64 %rd5, %rd3, %rd4, %rd5;", "selp.b32 %r3, %r4, %r5, %p;",
		"setp.lt.s32 %p, %i, %r4;", "mul.wide.u32 %rd3, %r3, %r4;", "mov.b32 %r3, %r4;", "cvt.u64.u32 %rd3, %r4;",
		"@%q add.s32 %r3, %r3, %r4;", "ld.global.u32 %r3, [%rd1];", "ld.global.v4.u32 {%r6,%r7,%r8,%r9}, [%rd2];",
		"ld.shared.u32 %r3, [%r10];", "ld.shared.v4.u32 {%r6,%r7,%r8,%r9}, [%r11];", "st.shared.u32 [%r10], %r3;",
		"st.global.u32 [%rd1], %r3;", "dp4a.s32.s32 %r3, %r4, %r5, %r3;", "shfl.sync.bfly.b32 %r3, %r4, 1, 31, -1;",
		"ex2.approx.f32 %r3, %r4;", "bar.sync 0;", "cvt.rni.s32.f32 %r3, %r4;", "cvt.rn.bf16x2.f32 %r3, %r4, %r5;",
		"mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 " +
			"{%r6,%r7,%r8,%r9}, {%r3,%r3,%r3,%r3},{%r4,%r4},{%r6,%r7,%r8,%r9};",
		"mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%r6,%r7,%r8,%r9}, {%r3,%r3,%r3,%r3},{%r4,%r4},{%r6,%r7,%r8,%r9};",
		"ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%r6,%r7,%r8,%r9}, [%r11];",
	} {
		name, _, _ := strings.Cut(body, ";")
		name, _, _ = strings.Cut(name, " {")
		b.Run(strings.Join(strings.Fields(name), "_"), func(b *testing.B) {
			t := &testing.T{}
			r := newRig(t, Config{Steps: 1 << 40}, entry("\t.shared .align 16 .b8 t[2048];\n", `
	mov.u32 %r1, t;
	mad.lo.u32 %r10, %i, 4, %r1;
	mad.lo.u32 %r11, %i, 16, %r1;
	mad.wide.u32 %rd1, %i, 4, %o;
	mad.wide.u32 %rd2, %i, 16, %o;
	st.shared.v4.u32 [%r11], {%i, %i, %i, %i};
	bar.sync 0;
	mov.b32 %r3, 0f3F800000;
	mov.b32 %r4, 0f3F801234;
	mov.b32 %r5, 0f3E123456;
	mov.b32 %r6, 0; mov.b32 %r7, 0; mov.b32 %r8, 0; mov.b32 %r9, 0;
	mov.b64 %rd3, 0d3FF0000000000000;
	mov.b64 %rd4, 0d3FE1234567812345;
	mov.b64 %rd5, 0d3FE1234567812345;
	and.b32 %r12, %i, 1;
	setp.eq.u32 %q, %r12, 0;
	setp.eq.u32 %p, %r12, 0;
	mov.u64 %rd7, %s;
	setp.eq.u64 %p, %rd7, 0;
	@%p bra done;
again:
`+strings.Repeat("\t"+body+"\n", 16)+`
	sub.u64 %rd7, %rd7, 1;
	setp.ne.u64 %p, %rd7, 0;
	@%p bra again;
done:`))
			out := r.ints(make([]int32, 512)...)
			r.must(r.launch("k", dim(1), dim(128), 0, out, 1))
			b.ResetTimer()
			if err := r.launch("k", dim(1), dim(128), 0, out, uint64(b.N)); err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(16*128*float64(b.N)/1e6/b.Elapsed().Seconds(), "Mlanes/s")
		})
	}
}
