package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// disk is where the brokers keep their data.
type disk struct {
	device string
	kind   string        // of the file system; empty: not known
	sync   time.Duration // of a page that was written, the median; 0: not known
}

// syncs is how many are timed.
const syncs = 200

func readDisk(dir string) disk {
	var d disk
	if mounts, err := os.ReadFile("/proc/self/mounts"); err == nil {
		d.device, d.kind = mountOf(dir, string(mounts))
	}
	d.sync = timeSync(filepath.Join(dir, "sync"))
	return d
}

// mountOf finds the file system that a folder is on in the text of /proc/self/mounts.
func mountOf(dir, mounts string) (device, kind string) {
	best := -1
	for line := range strings.Lines(mounts) {
		f := strings.Fields(line)
		if len(f) < 3 {
			continue
		}
		// The later of two mounts in one place hides the earlier.
		at := strings.TrimSuffix(f[1], "/")
		if (dir == at || strings.HasPrefix(dir, at+"/")) && len(at) >= best {
			best, device, kind = len(at), f[0], f[2]
		}
	}
	return device, kind
}

// timeSync writes and syncs page after page.
func timeSync(file string) time.Duration {
	f, err := os.Create(file)
	if err != nil {
		return 0
	}
	defer os.Remove(file)
	defer f.Close()
	page := make([]byte, 4096)
	var took []time.Duration
	for range syncs {
		began := time.Now()
		if _, err := f.Write(page); err != nil {
			return 0
		}
		if err := f.Sync(); err != nil {
			return 0
		}
		took = append(took, time.Since(began))
	}
	slices.Sort(took)
	return took[len(took)/2]
}

// volatile tells whether nothing of it outlives a loss of power.
func (d disk) volatile() bool { return d.kind == "tmpfs" || d.kind == "ramfs" }

func (d disk) String() string {
	var s []string
	if d.kind != "" {
		s = append(s, d.kind+" on "+d.device)
	}
	if d.sync > 0 {
		s = append(s, fmt.Sprintf("a page is written and synced in %.3g ms", d.sync.Seconds()*1e3))
	}
	return strings.Join(s, ", ")
}
