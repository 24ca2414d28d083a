package fsys

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// holdEnv makes the test program lock that folder, until its standard input ends.
const holdEnv = "FSYS_TEST_HOLD"

func hold(dir string) {
	l, err := Lock(dir)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer l.Close()
	fmt.Println("held")
	bufio.NewReader(os.Stdin).ReadByte()
}

func TestLockNamesTheHolder(t *testing.T) {
	dir := t.TempDir()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	other := exec.Command(exe)
	other.Env = append(os.Environ(), holdEnv+"="+dir)
	in, err := other.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := other.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	if line, _ := bufio.NewReader(out).ReadString('\n'); line != "held\n" {
		t.Fatalf("the other process said %q", line)
	}
	_, err = Lock(dir)
	if !errors.Is(err, ErrLocked) {
		t.Fatalf("%v, want ErrLocked", err)
	}
	want := fmt.Sprintf("open %s: folder is in use by process %d", dir, other.Process.Pid)
	if runtime.GOOS == "linux" {
		want += " (" + filepath.Base(exe) + ") since 20"
	}
	if !strings.HasPrefix(err.Error(), want) {
		t.Errorf("%v, want %s…", err, want)
	}
	if want := fmt.Sprintf("end process %d, or use another folder", other.Process.Pid); hintOf(err) != want {
		t.Errorf("hint %q, want %q", hintOf(err), want)
	}
	if err := Wrap(vfs.Default, Options{Dir: dir}).Start(); err == nil {
		t.Error("a store in use was opened")
	}

	// However its end comes, the lock goes with the process.
	other.Process.Kill()
	in.Close()
	other.Wait()
	l, err := Lock(dir)
	if err != nil {
		t.Fatal(err)
	}
	_, err = Lock(dir)
	if !errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), fmt.Sprintf("by this process (%d) since ", os.Getpid())) {
		t.Errorf("%v, want this process to be named", err)
	}
	l.Close()
	if l, err = Lock(dir); err != nil {
		t.Fatal(err)
	}
	l.Close()
}

func TestRefusal(t *testing.T) {
	host, _ := os.Hostname()
	for text, want := range map[string]string{
		"":                             "open d: folder is in use by another process",
		"\x00\x01\x02":                 "open d: folder is in use by another process",
		"-7\n\n\n":                     "open d: folder is in use by another process",
		"99999999999\nx\nh\n":          "open d: folder is in use by another process",
		"7\n2026-01-02T03:04:05Z\nh\n": "open d: folder is in use by process 7 on host h since 2026-01-02T03:04:05Z",
		"7\nsoon\nh\x1b[31m\n":         "open d: folder is in use by process 7 on host h?[31m",
		"2147483647\n\n" + host + "\n": "open d: folder is in use by process 2147483647",
	} {
		if got := refusal("d", readHolder(strings.NewReader(text))); got.Error() != want {
			t.Errorf("%q: %v, want %s", text, got, want)
		}
	}
}

func FuzzHolder(f *testing.F) {
	f.Add("7\n2026-01-02T03:04:05Z\nh\n")
	f.Fuzz(func(t *testing.T, text string) {
		h := readHolder(strings.NewReader(text))
		if err := refusal("d", h); h.pid < 0 || err == nil || strings.ContainsAny(err.Error(), "\n\x1b\x00") {
			t.Errorf("%v: %v", h, err)
		}
	})
}

// TestPebblesLock: Pebble is granted the lock that Start took, others are not.
func TestPebblesLock(t *testing.T) {
	dir := t.TempDir()
	os.Chmod(dir, 0o700)
	f := start(t, vfs.Default, Options{Dir: dir, MinFree: -1, Ballast: -1})
	l, err := f.Lock(filepath.Join(dir, lockName))
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	if _, err := Lock(dir); !errors.Is(err, ErrLocked) {
		t.Errorf("%v: closing what Pebble got released the lock", err)
	}
	if h := readHolder(mustOpen(t, filepath.Join(dir, lockName))); h.pid != os.Getpid() || time.Since(h.since) > time.Hour {
		t.Errorf("the file says %v", h)
	}
}

func mustOpen(t *testing.T, name string) *os.File {
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}
