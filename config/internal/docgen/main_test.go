package main

import (
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/sealmq/sealmq/config"
)

const root = "../../.."

func TestFresh(t *testing.T) {
	files, err := generate(root)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range files {
		have, err := os.ReadFile(filepath.Join(root, name))
		if err != nil || string(have) != want {
			t.Errorf("%s is not what the comments say: run go generate ./config (%v)", name, err)
		}
	}
}

var commented = regexp.MustCompile(`(?m)^#([a-z_]+ = |\[)`)

// The example is the default as it stands, and also with every key in it uncommented.
func TestExample(t *testing.T) {
	path := filepath.Join(root, "sealmq.example.toml")
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	asIs, err := config.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	all, err := config.Parse("sealmq.example.toml", commented.ReplaceAll(data, []byte("$1")))
	if err != nil {
		t.Fatal(err)
	}
	if n := len(all.Listeners); n != 2 || !all.Listeners[1].Plain {
		t.Fatalf("%d listeners; the second should be the test bench", n)
	}
	if ws := all.Warnings(); len(ws) != 1 {
		t.Errorf("warnings: %q", ws)
	}
	all.Listeners = all.Listeners[:1]
	equal := []cmp.Option{cmpopts.IgnoreUnexported(config.Listener{}), cmpopts.EquateEmpty()}
	for name, c := range map[string]config.Config{"as it stands": asIs, "uncommented": all} {
		if diff := cmp.Diff(config.Default(), c, equal...); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}
