package metrics

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

// tbEvent is a decoded Event.
type tbEvent struct {
	wall    float64
	step    int64
	version string
	start   bool // SessionLog.START
	tags    []string
	values  []float32
}

// crc32c is the CRC bit by bit (polynomial 0x1edc6f41 reflected), no table and no package of the writer's.
func crc32c(b []byte) uint32 {
	c := ^uint32(0)
	for _, v := range b {
		c ^= uint32(v)
		for range 8 {
			c = c>>1 ^ 0x82f63b78*(c&1)
		}
	}
	return ^c
}

func unmask(m uint32) uint32 {
	r := m - 0xa282ead8
	return r>>17 | r<<15
}

func decodeFile(b []byte) ([]tbEvent, error) {
	var out []tbEvent
	for len(b) > 0 {
		if len(b) < 12 {
			return out, errors.New("short header")
		}
		if unmask(binary.LittleEndian.Uint32(b[8:])) != crc32c(b[:8]) {
			return out, errors.New("CRC of the length")
		}
		n := binary.LittleEndian.Uint64(b)
		if n > uint64(len(b)-12) || len(b)-12-int(n) < 4 {
			return out, errors.New("short record")
		}
		data := b[12 : 12+n]
		if unmask(binary.LittleEndian.Uint32(b[12+n:])) != crc32c(data) {
			return out, errors.New("CRC of the data")
		}
		b = b[16+n:]
		var e tbEvent
		err := fields(data, func(field int, num uint64, body []byte) error {
			switch field {
			case 1:
				e.wall = math.Float64frombits(num)
			case 2:
				e.step = int64(num)
			case 3:
				e.version = string(body)
			case 5:
				return fields(body, func(field int, _ uint64, value []byte) error {
					if field != 1 {
						return fmt.Errorf("summary field %d", field)
					}
					return fields(value, func(field int, num uint64, body []byte) error {
						switch field {
						case 1:
							if !utf8.Valid(body) {
								return errors.New("tag is not UTF-8")
							}
							e.tags = append(e.tags, string(body))
						case 2:
							e.values = append(e.values, math.Float32frombits(uint32(num)))
						default:
							return fmt.Errorf("value field %d", field)
						}
						return nil
					})
				})
			case 7:
				return fields(body, func(field int, num uint64, _ []byte) error {
					e.start = field == 1 && num == 1
					return nil
				})
			default:
				return fmt.Errorf("event field %d", field)
			}
			return nil
		})
		if err != nil {
			return out, err
		}
		out = append(out, e)
	}
	return out, nil
}

// fields calls f for each field of a message, with a number or with bytes.
func fields(b []byte, f func(field int, num uint64, body []byte) error) error {
	for len(b) > 0 {
		key, n := binary.Uvarint(b)
		if n <= 0 {
			return errors.New("bad key")
		}
		b = b[n:]
		var num uint64
		var body []byte
		switch key & 7 {
		case 0:
			if num, n = binary.Uvarint(b); n <= 0 {
				return errors.New("bad varint")
			}
		case 1, 5:
			if n = 8; key&7 == 5 {
				n = 4
			}
			if len(b) < n {
				return errors.New("short number")
			}
			for i := range n {
				num |= uint64(b[i]) << (8 * i)
			}
		case 2:
			l, m := binary.Uvarint(b)
			if m <= 0 || l > uint64(len(b)-m) {
				return errors.New("bad length")
			}
			body, n = b[m:m+int(l)], m+int(l)
		default:
			return fmt.Errorf("wire type %d", key&7)
		}
		if err := f(int(key>>3), num, body); err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}

func TestMaskedCRC(t *testing.T) {
	// CRC-32C check values of RFC 3720, B.4.
	ascending := make([]byte, 32)
	for i := range ascending {
		ascending[i] = byte(i)
	}
	for _, c := range []struct {
		data []byte
		crc  uint32
	}{
		{make([]byte, 32), 0x8a9136aa},
		{bytes.Repeat([]byte{0xff}, 32), 0x62a8ab43},
		{ascending, 0x46dd794e},
		{[]byte("123456789"), 0xe3069283},
	} {
		if got := unmask(maskedCRC(c.data)); got != c.crc {
			t.Errorf("CRC of %x: %08x, want %08x", c.data, got, c.crc)
		}
		if got := crc32c(c.data); got != c.crc {
			t.Errorf("the test's CRC of %x: %08x, want %08x", c.data, got, c.crc)
		}
	}
}

func TestTensorBoardBytes(t *testing.T) {
	wall := time.Unix(1_000_000_000, 500_000_000)
	dir := filepath.Join(t.TempDir(), "logs", "run")
	tb, err := openTensorBoard(dir, wall)
	if err != nil {
		t.Fatal(err)
	}
	if err := tb.Scalar(300, "a", 1, wall); err != nil {
		t.Fatal(err)
	}
	if err := tb.Restart(5, wall); err != nil {
		t.Fatal(err)
	}
	if err := tb.Close(); err != nil {
		t.Fatal(err)
	}
	got := content(t, tb.path)
	// Every event file begins with 18000000 00000000 a37f4b22: a record of 24 bytes, and the CRC of that length.
	for _, want := range []string{
		"1800000000000000a37f4b22" + "09 0000400065cdcd41" + "1a0d" + hex.EncodeToString([]byte("brain.Event:2")),
		"1800000000000000" + "????????" + "09 0000400065cdcd41" + "10ac02" + "2a0a" + "0a08" + "0a0161" + "150000803f",
		"0f00000000000000" + "????????" + "09 0000400065cdcd41" + "1005" + "3a02" + "0801",
	} {
		want = strings.ReplaceAll(want, " ", "")
		n := len(want)/2 + 4
		if len(got) < n {
			t.Fatalf("the file ends at %x, want %s", got, want)
		}
		line := hex.EncodeToString(got[:n-4])
		if i := strings.Index(want, "?"); i >= 0 {
			line = line[:i] + "????????" + line[i+8:]
		}
		if line != want {
			t.Errorf("record\n%s, want\n%s", line, want)
		}
		got = got[n:]
	}
	if len(got) > 0 {
		t.Errorf("%d bytes too many", len(got))
	}
}

func TestTensorBoardRoundTrip(t *testing.T) {
	wall := time.Unix(1_800_000_000, 123_456_789)
	tb, err := openTensorBoard(t.TempDir(), wall)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		step int64
		tag  string
		v    float64
	}{
		{0, "loss/train", 2.5},
		{1, "loss/train", math.NaN()},
		{127, "x", math.Inf(-1)},
		{128, "", 1e300}, // +Inf in float32
		{math.MaxInt64, strings.Repeat("long ", 100), -1. / 3},
		{-1, "bad \xff utf8", 0},
	} {
		if err := tb.Scalar(c.step, c.tag, c.v, wall); err != nil {
			t.Fatal(err)
		}
		events, err := decodeFile(content(t, tb.path)) // each event is in the file at once
		if err != nil {
			t.Fatal(err)
		}
		e := events[len(events)-1]
		if e.step != c.step || len(e.tags) != 1 || e.tags[0] != strings.ToValidUTF8(c.tag, "\uFFFD") ||
			math.Abs(e.wall-1_800_000_000.123456789) > 1e-6 {
			t.Errorf("%v came back as %+v", c, e)
		}
		if v := float32(c.v); e.values[0] != v && !(v != v && e.values[0] != e.values[0]) {
			t.Errorf("value %v came back as %v", v, e.values[0])
		}
		if events[0].version != "brain.Event:2" || events[0].wall != e.wall {
			t.Errorf("first event %+v", events[0])
		}
	}
	if err := tb.Restart(17, wall); err != nil {
		t.Fatal(err)
	}
	if err := tb.Close(); err != nil {
		t.Fatal(err)
	}
	events, err := decodeFile(content(t, tb.path))
	if e := events[len(events)-1]; err != nil || !e.start || e.step != 17 {
		t.Errorf("Restart came back as %+v, %v", e, err)
	}
	// The decoder is worth something: no flipped bit passes.
	b := content(t, tb.path)
	for i := range b {
		b[i] ^= 0x10
		if _, err := decodeFile(b); err == nil {
			t.Fatalf("byte %d was flipped and nobody saw", i)
		}
		b[i] ^= 0x10
	}
}

func TestTensorBoardFiles(t *testing.T) {
	dir := t.TempDir()
	now := time.Unix(1_700_000_000, 0)
	for range 3 { // resumed within the same second
		tb, err := openTensorBoard(dir, now)
		if err != nil {
			t.Fatal(err)
		}
		if err := tb.Close(); err != nil {
			t.Fatal(err)
		}
		if err := tb.Close(); err != nil {
			t.Errorf("second Close: %v", err)
		}
		if err := tb.Scalar(1, "a", 1, now); err == nil || !strings.Contains(err.Error(), "closed") {
			t.Errorf("Scalar after Close: %v", err)
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 3 {
		t.Fatalf("%v, %v", entries, err)
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), "events.out.tfevents.1700000000.") {
			t.Errorf("file name %s", e.Name())
		}
	}
	file := filepath.Join(dir, entries[0].Name())
	if _, err := OpenTensorBoard(filepath.Join(file, "x")); err == nil || !strings.HasPrefix(err.Error(), "make folder ") {
		t.Errorf("a file in place of the folder: %v", err)
	}
}

func FuzzScalar(f *testing.F) {
	f.Add(int64(1), "loss", 2.5, int64(1_700_000_000))
	f.Add(int64(-1), "\xff\x00", math.Inf(1), int64(-5))
	f.Fuzz(func(t *testing.T, step int64, tag string, v float64, unix int64) {
		unix %= 1 << 40
		rec := appendTFRecord(nil, scalar(step, tag, v, time.Unix(unix, 0)))
		events, err := decodeFile(rec)
		if err != nil || len(events) != 1 || events[0].step != step || events[0].wall != float64(unix) {
			t.Fatalf("%+v, %v", events, err)
		}
		got, want := events[0].values[0], float32(v)
		if events[0].tags[0] != strings.ToValidUTF8(tag, "\uFFFD") || got != want && !(got != got && want != want) {
			t.Fatalf("%+v of %q, %v", events, tag, v)
		}
	})
}
