package differential

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestExplanations(t *testing.T) {
	list, err := readExplanations("differences.txt")
	if err != nil {
		t.Fatal(err)
	}
	known := &difference{text: "send v5 PUBREL of nothing | actor: ours [PUBCOMP 0x92] mosquitto [PUBCOMP 0x00]"}
	if list.find(known) == nil {
		t.Errorf("nothing explains %s", known.text)
	}
	for _, text := range []string{
		"send v5 PUBLISH q1 | actor: ours [] mosquitto [PUBACK 0x00]",
		"send v5 PUBLISH q1 | peer: ours [] mosquitto [PUBLISH q1]",
		"open v4 CONNECT | actor: ours [SILENT] mosquitto [CONNACK 0x00]",
	} {
		if e := list.find(&difference{text: text}); e != nil {
			t.Errorf("%s is explained by %q", text, e.title)
		}
	}
}

func TestExplanationsThatAreNone(t *testing.T) {
	for text, want := range map[string]string{
		"match: x\n": "no title",
		"title: a\nmatch: (\nright: both\nwhy: b\n":     "missing closing",
		"title: a\nmatch: x\nright: nobody\nwhy: b\n":   "wants match, why and right",
		"title: a\nmatch: x\nright: both\n":             "wants match, why and right",
		"title: a\nmatch: x\nright: both\nbecause: b\n": "no such key",
	} {
		name := filepath.Join(t.TempDir(), "list")
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := readExplanations(name); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %q", text, err, want)
		}
	}
}
