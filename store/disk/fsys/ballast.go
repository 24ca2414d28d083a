package fsys

import (
	"math/rand/v2"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// ballastName is a name that Pebble does not know and leaves alone.
const ballastName = "BALLAST"

// ballast is a file that takes up space until somebody needs it. Its methods are called one at a time, and never wait for
// space.
type ballast struct {
	fs   *FS
	name string
	size int64 // 0: there is none
	held bool
}

// adopt looks whether there is one already. One of another size, perhaps cut short by a crash, is removed.
func (b *ballast) adopt() {
	fi, err := b.fs.Stat(b.name)
	if err != nil {
		return
	}
	b.held = true
	if fi.Size() != b.size || b.size == 0 {
		b.release()
	}
}

// make writes the file, if it is not there. It is filled with what no file system can compress or leave out.
func (b *ballast) make() error {
	if b.held || b.size == 0 {
		return nil
	}
	err := b.write()
	if err != nil {
		b.fs.base.Remove(b.name)
	}
	b.held = err == nil
	return err
}

func (b *ballast) write() error {
	f, err := b.fs.create(b.name, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	r := rand.NewChaCha8([32]byte{})
	var chunk [64 << 10]byte
	for left := b.size; left > 0 && err == nil; left -= int64(len(chunk)) {
		p := chunk[:min(left, int64(len(chunk)))]
		r.Read(p)
		_, err = f.Write(p)
	}
	if err == nil {
		err = f.Sync()
	}
	if err2 := f.Close(); err == nil {
		err = err2
	}
	return err
}

// release gives the space back.
func (b *ballast) release() {
	if b.held {
		b.held = b.fs.base.Remove(b.name) != nil
	}
}
