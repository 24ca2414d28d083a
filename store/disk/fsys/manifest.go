package fsys

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// manifestCategory is what Pebble calls its list of files.
const manifestCategory = "pebble-manifest"

// Each list of files has a file beside it that says how much of the list was synced, and what its checksum is. Without it
// damage near the end looks like a record that a crash cut short: Pebble would leave it out and go on without tables whose
// log is gone already.
const (
	manifestPrefix = "MANIFEST-"
	sumPrefix      = "SUM-" // a name that Pebble does not know and leaves alone
	sumSlot        = 16     // size, checksum, checksum of both
	sumStride      = 4096   // of the two slots, which are written in turn, so that a crash spoils one only
)

// sumName returns the name of the file that tells of a list of files.
func (f *FS) sumName(name string) (string, bool) {
	number, ok := strings.CutPrefix(f.PathBase(name), manifestPrefix)
	return f.PathJoin(f.opts.Dir, sumPrefix+number), ok && f.PathDir(name) == f.opts.Dir
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// manifest is a list of files that is being written. Pebble works at it with one goroutine at a time.
type manifest struct {
	file
	name string // of the file that tells of it
	sums vfs.File
	size uint64
	crc  uint32
	turn int64

	broken bool // a write has failed, after which Pebble ends
}

func (m *manifest) Write(p []byte) (int, error) {
	crc := crc32.Update(m.crc, castagnoli, p) // a file system for tests changes p, which is allowed
	n, err := m.file.Write(p)
	if err != nil {
		m.broken = true
		return n, err
	}
	m.size += uint64(n)
	m.crc = crc
	return n, nil
}

func (m *manifest) Sync() error {
	if err := m.file.Sync(); err != nil {
		return err
	}
	return m.tell()
}

func (m *manifest) SyncData() error {
	if err := m.file.SyncData(); err != nil {
		return err
	}
	return m.tell()
}

// tell writes down what was synced, before Pebble removes what the list makes obsolete.
func (m *manifest) tell() (err error) {
	if m.broken {
		return nil
	}
	if m.sums == nil {
		if m.sums, err = m.fs.Create(m.name, vfs.WriteCategoryUnspecified); err != nil {
			return err
		}
	}
	b := binary.BigEndian.AppendUint64(make([]byte, 0, sumSlot), m.size)
	b = binary.BigEndian.AppendUint32(b, m.crc)
	b = binary.BigEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
	if _, err := m.sums.WriteAt(b, m.turn*sumStride); err != nil {
		return err
	}
	m.turn = 1 - m.turn
	return m.sums.SyncData()
}

func (m *manifest) Close() error {
	err := m.file.Close()
	if m.sums != nil {
		if err2 := m.sums.Close(); err == nil {
			err = err2
		}
	}
	return err
}

// CheckManifest returns an error when the list of files with that name is not what was synced. Lists of which nothing is
// known, a backup's or one of another program, are taken as they are.
func (f *FS) CheckManifest(name string) error {
	sumName, ok := f.sumName(name)
	if !ok {
		return nil
	}
	size, crc, err := f.synced(sumName)
	if err != nil || size < 0 {
		return err
	}
	x, err := f.Open(name)
	if err != nil {
		return err
	}
	defer x.Close()
	h := crc32.New(castagnoli)
	n, err := io.Copy(h, io.LimitReader(x, size))
	switch {
	case err != nil:
		return fmt.Errorf("read %s: %w", f.PathBase(name), err)
	case n < size:
		return fmt.Errorf("read %s: it is damaged: %d bytes were written, %d are left", f.PathBase(name), size, n)
	case h.Sum32() != crc:
		return fmt.Errorf("read %s: it is damaged: its first %d bytes are not those that were written", f.PathBase(name), size)
	}
	return nil
}

// synced reads how much of a list of files was synced, and its checksum; -1 when that is not known.
func (f *FS) synced(sumName string) (size int64, crc uint32, err error) {
	x, err := f.Open(sumName)
	if errors.Is(err, fs.ErrNotExist) {
		return -1, 0, nil
	}
	if err != nil {
		return -1, 0, err
	}
	defer x.Close()
	size = -1
	for turn := range int64(2) {
		var b [sumSlot]byte
		if n, err := x.ReadAt(b[:], turn*sumStride); n < sumSlot {
			if err != nil && !errors.Is(err, io.EOF) {
				return -1, 0, fmt.Errorf("read %s: %w", f.PathBase(sumName), err)
			}
			continue
		}
		n := binary.BigEndian.Uint64(b[:])
		if crc32.Checksum(b[:12], castagnoli) == binary.BigEndian.Uint32(b[12:]) && n < 1<<62 && int64(n) > size {
			size, crc = int64(n), binary.BigEndian.Uint32(b[8:])
		}
	}
	return size, crc, nil
}
