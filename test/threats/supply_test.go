package threats

import (
	"bytes"
	"crypto/sha256"
	"debug/buildinfo"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Whoever builds the same source with the same Go gets the same bytes, wherever
// they do it, and with nothing from before.
func TestReproducibleBuild(t *testing.T) {
	if !*long {
		t.Skip("skipped: two builds from nothing take minutes; run it with -long")
	}
	var sums [][32]byte
	from := root
	for range 2 {
		dir := t.TempDir()
		copySource(t, from, filepath.Join(dir, "source"))
		from = filepath.Join(dir, "source") // what is worked on may change meanwhile
		cmd := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-o", filepath.Join(dir, "sealmq"), "./cmd/sealmq")
		cmd.Dir = filepath.Join(dir, "source")
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOCACHE="+filepath.Join(dir, "cache"))
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		b, err := os.ReadFile(filepath.Join(dir, "sealmq"))
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(b, []byte(dir)) {
			t.Error("the program says where it was built")
		}
		sums = append(sums, sha256.Sum256(b))
	}
	if sums[0] != sums[1] {
		t.Errorf("two builds differ: %x and %x", sums[0], sums[1])
	}
}

// copySource copies what the program is built from.
func copySource(t *testing.T, from, to string) {
	t.Helper()
	err := filepath.WalkDir(from, func(p string, d fs.DirEntry, err error) error {
		rel, _ := filepath.Rel(from, p)
		switch {
		case err != nil:
			return err
		case d.IsDir() && (rel == ".git" || rel == "bin" || rel == "test" || rel == "docs"):
			return fs.SkipDir
		case d.IsDir():
			return os.MkdirAll(filepath.Join(to, rel), 0o700)
		case !d.Type().IsRegular() || strings.HasSuffix(p, "_test.go") || rel == ".git":
			return nil
		}
		b, err := os.ReadFile(p)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(to, rel), b, 0o600)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// The program says of what it is made, and every module of it is pinned by its
// hash.
func TestProgramNamesItsParts(t *testing.T) {
	t.Parallel()
	info, err := buildinfo.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	sums, err := os.ReadFile(filepath.Join(root, "go.sum"))
	if err != nil {
		t.Fatal(err)
	}
	if len(info.Deps) == 0 {
		t.Error("the program names no modules")
	}
	for _, m := range info.Deps {
		if m.Replace != nil {
			t.Errorf("%s is replaced by %s", m.Path, m.Replace.Path)
		}
		if line := m.Path + " " + m.Version + " " + m.Sum; m.Sum == "" || !strings.Contains(string(sums), line+"\n") {
			t.Errorf("%s %s is not in go.sum", m.Path, m.Version)
		}
	}
}

// No part has a vulnerability that is known and that the program can reach.
func TestKnownVulnerabilities(t *testing.T) {
	if !*long {
		t.Skip("skipped: it asks the network; run it with -long")
	}
	path, err := exec.LookPath("govulncheck")
	if err != nil {
		t.Skip("skipped: govulncheck is not installed: go install golang.org/x/vuln/cmd/govulncheck@latest")
	}
	cmd := exec.Command(path, "./cmd/sealmq")
	cmd.Dir = root
	out, err := cmd.CombinedOutput()
	if err != nil && strings.Contains(string(out), "dial tcp") || strings.Contains(string(out), "fetching vulnerabilities") {
		t.Skipf("skipped: the list of vulnerabilities cannot be had:\n%s", out)
	}
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
