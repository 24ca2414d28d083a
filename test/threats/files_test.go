package threats

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sealmq/sealmq/mqtt"
)

// tree lists all below a folder.
func tree(t *testing.T, dir string) (names []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(p string, _ fs.DirEntry, err error) error {
		if err == nil {
			names = append(names, strings.TrimPrefix(p, dir))
		}
		return nil // gone meanwhile
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// Names that come over the network never become names of files.
func TestPathTraversal(t *testing.T) {
	t.Parallel()
	b := startBroker(t, jsonLog+mutualTLS+plain)
	parent := filepath.Dir(b.dir)
	before := tree(t, parent)
	for _, name := range []string{
		"../traversed", "../../traversed", "../../../../../../../../tmp/traversed", "/tmp/traversed", "..\\..\\traversed", "%2e%2e/traversed",
		"./traversed/", "~/traversed", "traversed|id", "$(traversed)", "C:\\traversed", "\\\\host\\traversed", "traversed/.", "data/ca/traversed", "file:///tmp/traversed",
	} {
		c := b.connect(t, "plain", nil, lasting(name))
		c.subscribe(name, 1)
		c.subscribe("$share/"+strings.ReplaceAll(name, "/", "_")+"/"+name, 1)
		c.publish(name, 2, true, "x")
		c.Close()
	}
	b.connect(t, "tls", b.device(t, "pump-1"), lasting("pump-1/../../../../traversed")).disconnect()
	b.stop(t) // what was to be written is written
	for _, name := range tree(t, parent) {
		if strings.Contains(name, "traversed") {
			t.Errorf("the name of a client or topic became a file: %s", name)
		}
		if !slices.Contains(before, name) && !strings.Contains(name, "/data/") {
			t.Errorf("a file that was not there: %s", name)
		}
	}
	if _, err := os.Stat("/tmp/traversed"); err == nil {
		t.Error("/tmp/traversed is there")
	}
}

// Keys that others may read keep the broker from starting, and the line that
// helps is printed.
func TestOpenKeys(t *testing.T) {
	t.Parallel()
	h := newHome(t, jsonLog+mutualTLS)
	if out, err := h.run(t, "init"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	var keys []string
	for _, name := range tree(t, h.path("data")) {
		if strings.HasSuffix(name, ".key") || strings.HasSuffix(name, "key.pem") {
			keys = append(keys, h.path("data")+name)
		}
	}
	if len(keys) < 3 {
		t.Fatalf("keys in the data folder: %q", keys)
	}
	for _, key := range keys {
		if strings.Contains(key, "operator") || strings.HasSuffix(key, "root.key") {
			continue // the broker does not read those
		}
		if err := os.Chmod(key, 0o644); err != nil {
			t.Fatal(err)
		}
		out, err := h.run(t, "serve", "--config", "sealmq.toml")
		if err == nil || !strings.Contains(out, "chmod 600") || !strings.Contains(out, filepath.Base(key)) {
			t.Errorf("with %s readable by all: %v\n%s", key, err, out)
		}
		os.Chmod(key, 0o600)
	}
	h.start(t).stop(t)
	if err := os.Chmod(h.path("data", "store"), 0o755); err != nil {
		t.Fatal(err)
	}
	if out, err := h.run(t, "serve", "--config", "sealmq.toml"); err == nil || !strings.Contains(out, "chmod") {
		t.Errorf("with an open store: %v\n%s", err, out)
	}
}

// Mosquitto's store was readable by everybody on the machine.
func TestCVE_2017_9868(t *testing.T) {
	t.Parallel()
	b := startBroker(t, jsonLog+mutualTLS+plain)
	c := b.connect(t, "plain", nil, lasting("c"))
	c.subscribe("a", 1)
	if code := c.publish("a", 1, true, "x"); code != mqtt.Success {
		t.Error(code)
	}
	b.stop(t)
	filepath.WalkDir(b.path("data"), func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			t.Error(err)
			return nil
		}
		fi, err := d.Info()
		if err != nil {
			t.Error(err)
		} else if fi.Mode().Perm()&0o077 != 0 && !public(p) {
			t.Errorf("%s has mode %o", p, fi.Mode().Perm())
		}
		return nil
	})
}

// public files are meant for everybody: certificates, lists of revoked ones. The
// folder above lets nobody in all the same.
func public(p string) bool {
	return filepath.Base(p) == "crl" || slices.Contains([]string{".pem", ".crl"}, filepath.Ext(p)) && !strings.Contains(filepath.Base(p), "key")
}
