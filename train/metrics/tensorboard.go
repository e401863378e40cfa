package metrics

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"setun/internal/atomicfile"
)

// TensorBoard writes scalars to an event file that TensorBoard reads.
//
// The file is a sequence of TFRecords: length (uint64), masked CRC of the length, data, masked CRC of the data, all
// little-endian. The data is the protocol buffer tensorboard.Event; these fields of it are written (event.proto,
// summary.proto):
//
//	Event { double wall_time = 1; int64 step = 2; oneof what {
//		string file_version = 3; Summary summary = 5; SessionLog session_log = 7; } }
//	Summary { repeated Value value = 1; }  Value { string tag = 1; float simple_value = 2; }
//	SessionLog { enum status = 1; }  // START = 1
type TensorBoard struct {
	path string
	mu   sync.Mutex
	f    *os.File
	err  error // the first failed write
}

// OpenTensorBoard starts a new event file in dir, and makes dir when there is none. A resumed run gets a new file too
// and calls [TensorBoard.Restart]; TensorBoard reads all files of a folder in the order of their names.
func OpenTensorBoard(dir string) (*TensorBoard, error) {
	return openTensorBoard(dir, time.Now())
}

func openTensorBoard(dir string, now time.Time) (*TensorBoard, error) {
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return nil, atomicfile.Explain("make folder", dir, err)
	}
	host, err := os.Hostname()
	if err != nil || host == "" {
		host = "localhost"
	}
	host = strings.Map(func(r rune) rune {
		if strings.ContainsRune(`/\:*?"<>|`, r) || r < ' ' {
			return '-'
		}
		return r
	}, host)
	base := filepath.Join(dir, fmt.Sprintf("events.out.tfevents.%010d.%s", now.Unix(), host))
	path := base
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	for i := 1; errors.Is(err, fs.ErrExist) && i < 1000; i++ { // a second run in the same second
		path = fmt.Sprintf("%s.%03d", base, i)
		f, err = os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	}
	if err != nil {
		return nil, atomicfile.Explain("create", path, err)
	}
	t := &TensorBoard{path: path, f: f}
	if err := t.write(event(now, 0, 3, []byte("brain.Event:2"))); err != nil {
		f.Close()
		return nil, err
	}
	return t, nil
}

// Scalar appends one point to the curve named tag. Slashes in tags group curves, as in "loss/train". The value is
// rounded to float32.
func (t *TensorBoard) Scalar(step int64, tag string, v float64, wall time.Time) error {
	return t.write(scalar(step, tag, v, wall))
}

func scalar(step int64, tag string, v float64, wall time.Time) []byte {
	value := appendBytes(nil, 1, []byte(strings.ToValidUTF8(tag, "\uFFFD")))
	value = append(value, 2<<3|wireFixed32)
	value = binary.LittleEndian.AppendUint32(value, math.Float32bits(float32(v)))
	return event(wall, step, 5, appendBytes(nil, 1, value))
}

// Restart tells TensorBoard to forget the points from step on: a run resumed from the checkpoint of step n passes n+1.
func (t *TensorBoard) Restart(step int64, wall time.Time) error {
	return t.write(event(wall, step, 7, []byte{1<<3 | wireVarint, 1})) // SessionLog.START
}

// Close flushes and closes the file. A second Close does nothing.
func (t *TensorBoard) Close() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.f == nil {
		return nil
	}
	err := errors.Join(t.f.Sync(), t.f.Close())
	t.f = nil
	if t.err != nil {
		return t.err
	}
	return atomicfile.Explain("close", t.path, err)
}

func (t *TensorBoard) write(data []byte) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.err != nil {
		return t.err
	}
	if t.f == nil {
		return fmt.Errorf("write %s: closed already", t.path)
	}
	_, err := t.f.Write(appendTFRecord(nil, data))
	t.err = atomicfile.Explain("write", t.path, err)
	return t.err
}

// Wire types of protocol buffers.
const (
	wireVarint  = 0
	wireFixed64 = 1
	wireBytes   = 2
	wireFixed32 = 5
)

// event encodes an Event whose field what (3, 5 or 7) holds body.
func event(wall time.Time, step int64, what byte, body []byte) []byte {
	seconds := float64(wall.Unix()) + float64(wall.Nanosecond())/1e9
	b := []byte{1<<3 | wireFixed64}
	b = binary.LittleEndian.AppendUint64(b, math.Float64bits(seconds))
	if step != 0 { // proto3 leaves out zeros
		b = append(b, 2<<3|wireVarint)
		b = binary.AppendUvarint(b, uint64(step))
	}
	return appendBytes(b, what, body)
}

func appendBytes(b []byte, field byte, body []byte) []byte {
	b = append(b, field<<3|wireBytes)
	b = binary.AppendUvarint(b, uint64(len(body)))
	return append(b, body...)
}

func appendTFRecord(b, data []byte) []byte {
	n := len(b)
	b = binary.LittleEndian.AppendUint64(b, uint64(len(data)))
	b = binary.LittleEndian.AppendUint32(b, maskedCRC(b[n:]))
	b = append(b, data...)
	return binary.LittleEndian.AppendUint32(b, maskedCRC(data))
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// maskedCRC is rotate(crc32c, 15 right) + 0xa282ead8, so that a CRC of data with a CRC inside is no special case.
func maskedCRC(b []byte) uint32 {
	c := crc32.Checksum(b, castagnoli)
	return (c>>15 | c<<17) + 0xa282ead8
}
