package main

import (
	"path/filepath"
	"testing"
)

func TestMountOf(t *testing.T) {
	const mounts = "/dev/root / ext4 rw 0 0\nnone /tmp tmpfs rw 0 0\n/dev/b /tmp/data xfs rw 0 0\n/dev/c /tmp/data btrfs rw 0 0\nbroken\n"
	for dir, want := range map[string]string{"/": "ext4", "/var/x": "ext4", "/tmp/a": "tmpfs", "/tmp/data/x": "btrfs", "/tmp/database": "tmpfs"} {
		if _, kind := mountOf(dir, mounts); kind != want {
			t.Errorf("%s: %s, want %s", dir, kind, want)
		}
	}
}

func TestReadDisk(t *testing.T) {
	dir := t.TempDir()
	if d := readDisk(dir); d.sync <= 0 {
		t.Errorf("%+v", d)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "*")); len(left) > 0 {
		t.Errorf("%v are left", left)
	}
	if took := timeSync(filepath.Join(dir, "none", "x")); took != 0 {
		t.Errorf("%v where nothing can be written", took)
	}
}
