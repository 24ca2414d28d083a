package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"filippo.io/age/armor"
	"pgregory.net/rapid"
)

// lowCost is a work factor for tests.
const lowCost = 2

func given(phrase string) Passphrase {
	return func(string) ([]byte, error) { return []byte(phrase), nil }
}

func writeFile(t testing.TB, path string, b []byte, mode os.FileMode) string {
	t.Helper()
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
	return path
}

func plainKey(t testing.TB) (*ecdsa.PrivateKey, []byte) {
	t.Helper()
	key, err := newKey()
	if err != nil {
		t.Fatal(err)
	}
	b, err := encodeKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return key, b
}

// mustSign signs with the key and checks it by its public part.
func mustSign(t testing.TB, key crypto.Signer) {
	t.Helper()
	digest := sha256.Sum256([]byte("x"))
	sig, err := key.Sign(rand.Reader, digest[:], crypto.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	if pub, ok := key.Public().(*ecdsa.PublicKey); !ok || !ecdsa.VerifyASN1(pub, digest[:], sig) {
		t.Fatal("the signature is not by the key")
	}
}

func wantError(t testing.TB, err error, want string) {
	t.Helper()
	if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
		t.Errorf("got %v, want %q", err, want)
	}
}

func TestOpenKey(t *testing.T) {
	key, plain := plainKey(t)
	sealed, err := sealCost(plain, []byte("correct horse"), lowCost)
	if err != nil {
		t.Fatal(err)
	}
	costly, err := sealCost(plain, []byte("x"), lowCost)
	if err != nil {
		t.Fatal(err)
	}
	costly = []byte(strings.Replace(string(costly), "\n", "\n\n", 1))
	for _, test := range []struct {
		name string
		file []byte
		mode os.FileMode
		ask  Passphrase
		want string
	}{
		{"plain", plain, 0o600, nil, ""},
		{"read-only", plain, 0o400, nil, ""},
		{"group may read", plain, 0o640, nil, "open to others (mode 0640)"},
		{"others may read", plain, 0o604, nil, "open to others (mode 0604)"},
		{"encrypted", sealed, 0o600, given("correct horse"), ""},
		{"encrypted, group may read", sealed, 0o640, given("correct horse"), "open to others"},
		{"wrong passphrase", sealed, 0o600, given("battery staple"), "wrong passphrase"},
		{"empty passphrase", sealed, 0o600, given(""), "passphrase is empty"},
		{"long passphrase", sealed, 0o600, given(strings.Repeat("x", maxPassphrase+1)), "longer than"},
		{"nobody to ask", sealed, 0o600, nil, ErrLocked.Error()},
		{"no answer", sealed, 0o600, PassphraseFromEnv("SEALMQ_NO_SUCH_VARIABLE"), "not set"},
		{"damaged", costly, 0o600, given("x"), "decrypt"},
		{"cut off", sealed[:len(sealed)/2], 0o600, given("correct horse"), "decrypt"},
		{"a reference to a relative program", []byte("exec: sign"), 0o600, nil, "absolute path"},
		{"a reference to no token", []byte("pkcs11:token=x"), 0o600, nil, "object or id"},
		{"no key", []byte("x"), 0o600, nil, "no PRIVATE KEY block"},
	} {
		t.Run(test.name, func(t *testing.T) {
			path := writeFile(t, filepath.Join(t.TempDir(), "k"), test.file, test.mode)
			for _, ref := range []string{path, "file:" + path} {
				got, err := OpenKey(ref, KeyOptions{Passphrase: test.ask})
				wantError(t, err, test.want)
				if err == nil && !key.PublicKey.Equal(got.Public()) {
					t.Error("another key came back")
				}
			}
		})
	}
}

// A key file is encrypted and decrypted in place, by nobody without the passphrase.
func TestSealKeyFile(t *testing.T) {
	key, plain := plainKey(t)
	path := writeFile(t, filepath.Join(t.TempDir(), "k"), plain, 0o600)
	phrase := []byte("correct horse")
	if err := unsealKeyFile(path, phrase); err == nil {
		t.Error("a plain file was decrypted")
	}
	if err := sealKeyFile(path, phrase, minSealWork); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil || !isSealed(b) || strings.Contains(string(b), "PRIVATE KEY") {
		t.Fatalf("not encrypted: %v", err)
	}
	if fi, err := os.Stat(path); err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("mode %v %v", fi.Mode(), err)
	}
	if err := sealKeyFile(path, phrase, minSealWork); err == nil {
		t.Error("it was encrypted twice")
	}
	got, err := OpenKey(path, KeyOptions{Passphrase: given(string(phrase))})
	if err != nil || !key.PublicKey.Equal(got.Public()) {
		t.Fatal(err)
	}
	if err := unsealKeyFile(path, []byte("x")); err == nil {
		t.Error("a wrong passphrase decrypted it")
	}
	if err := unsealKeyFile(path, phrase); err != nil {
		t.Fatal(err)
	}
	if b, _ := os.ReadFile(path); string(b) != string(plain) {
		t.Error("it is not as before")
	}
}

// The cost is the one asked for, and without that the one that the handbook names.
func TestSealWork(t *testing.T) {
	_, plain := plainKey(t)
	path := writeFile(t, filepath.Join(t.TempDir(), "k"), plain, 0o600)
	if err := sealKeyFile(path, []byte("correct horse"), 11); err != nil {
		t.Fatal(err)
	}
	text, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer text.Close()
	head := make([]byte, 100)
	if _, err := io.ReadFull(armor.NewReader(text), head); err != nil || !regexp.MustCompile(`\n-> scrypt \S+ 11\n`).Match(head) {
		t.Errorf("%q %v", head, err)
	}
	for work, want := range map[int]int{0: 17, 1: 10, 12: 12, 99: 20} {
		if got := (KeyOptions{Work: work}).withDefaults().Work; got != want {
			t.Errorf("%d became %d", work, got)
		}
	}
}

// All key files of a folder are encrypted at once, those that are encrypted or elsewhere are left alone.
func TestEncryptKeys(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "ca")
	if _, err := Create(dir, Config{}); err != nil {
		t.Fatal(err)
	}
	if err := Announce(dir, Announcement{}, Config{}); err != nil {
		t.Fatal(err)
	}
	program := []byte("exec: /bin/sign\n")
	if err := os.WriteFile(filepath.Join(dir, "root.key"), program, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := sealKeyFile(filepath.Join(dir, "broker.key"), []byte("other"), minSealWork); err != nil {
		t.Fatal(err)
	}
	_, err := EncryptKeys(dir, Config{})
	wantError(t, err, "no passphrase")
	cfg := Config{Keys: KeyOptions{Passphrase: given("correct horse"), Work: minSealWork}}
	for _, want := range []int{4, 0} {
		if done, err := EncryptKeys(dir, cfg); err != nil || len(done) != want {
			t.Errorf("%q %v", done, err)
		}
	}
	done, err := DecryptKeys(dir, cfg)
	wantError(t, err, "wrong passphrase")
	if len(done) != 0 {
		t.Error(done)
	}
	if err := unsealKeyFile(filepath.Join(dir, "broker.key"), []byte("other")); err != nil {
		t.Fatal(err)
	}
	if done, err = DecryptKeys(dir, cfg); err != nil || len(done) != 4 {
		t.Errorf("%q %v", done, err)
	}
	if b, err := os.ReadFile(filepath.Join(dir, "root.key")); err != nil || string(b) != string(program) {
		t.Errorf("%q %v", b, err)
	}
}

// The keys of a next root are encrypted as those are whose place they take.
func TestAnnounceEncrypted(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "ca")
	if _, err := Create(dir, Config{}); err != nil {
		t.Fatal(err)
	}
	cfg := Config{Keys: KeyOptions{Passphrase: given("correct horse"), Work: minSealWork}}
	if done, err := EncryptKeys(dir, cfg); err != nil || len(done) != 3 {
		t.Errorf("%q %v", done, err)
	}
	if err := Announce(dir, Announcement{}, cfg); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"root", "broker", "device"} {
		if b, err := os.ReadFile(filepath.Join(dir, "next", name+".key")); err != nil || !isSealed(b) {
			t.Errorf("%s.key is not encrypted: %v", name, err)
		}
	}
}

func TestPassphraseSources(t *testing.T) {
	t.Setenv("SEALMQ_TEST_PASSPHRASE", "from env")
	dir := t.TempDir()
	good := writeFile(t, dir+"/good", []byte("first line\r\nsecond"), 0o600)
	open := writeFile(t, dir+"/open", []byte("x"), 0o644)
	empty := writeFile(t, dir+"/empty", []byte("\nx"), 0o600)
	for _, test := range []struct {
		ask        Passphrase
		want, fail string
	}{
		{PassphraseFromEnv("SEALMQ_TEST_PASSPHRASE"), "from env", ""},
		{PassphraseFromEnv("SEALMQ_TEST_NONE"), "", "not set"},
		{PassphraseFromFile(good), "first line", ""},
		{PassphraseFromFile(open), "", "open to others"},
		{PassphraseFromFile(empty), "", "empty"},
		{PassphraseFromFile(dir + "/none"), "", "no such file"},
	} {
		got, err := test.ask("key")
		wantError(t, err, test.fail)
		if string(got) != test.want {
			t.Errorf("got %q, want %q", got, test.want)
		}
	}
}

// A whole CA with encrypted keys: made, opened, used; without the passphrase it does not sign.
func TestSealedAuthority(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "ca")
	cfg := Config{Seal: true, Keys: KeyOptions{Passphrase: given("correct horse"), Work: minSealWork}}
	if _, err := Create(dir, Config{Seal: true}); !errors.Is(err, ErrLocked) {
		t.Errorf("no passphrase: %v", err)
	}
	a, err := Create(dir, cfg)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"root", "broker", "device"} {
		b, err := os.ReadFile(filepath.Join(dir, name+".key"))
		if err != nil || !isSealed(b) {
			t.Errorf("%s.key is not encrypted: %v", name, err)
		}
	}
	if _, err := a.IssueClient(Device, "pump-17", ""); err != nil {
		t.Error(err)
	}
	if a, err = Open(dir, Config{}); err != nil {
		t.Fatal(err)
	}
	if err := a.OpenKeys(); !errors.Is(err, ErrLocked) {
		t.Errorf("without passphrase: %v", err)
	}
}

func TestSealRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.SliceOfN(rapid.Byte(), 0, 2000).Draw(t, "text")
		phrase := rapid.SliceOfN(rapid.Byte(), 1, 40).Draw(t, "phrase")
		sealed, err := sealCost(text, phrase, lowCost)
		if err != nil {
			t.Fatal(err)
		}
		got, err := unseal(sealed, phrase)
		if err != nil || string(got) != string(text) {
			t.Fatalf("%v", err)
		}
		if _, err := unseal(sealed, append(phrase, 'x')); err == nil {
			t.Fatal("another passphrase decrypts it")
		}
	})
}

func FuzzUnseal(f *testing.F) {
	_, plain := plainKey(f)
	sealed, err := sealCost(plain, []byte("x"), lowCost)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(sealed)
	f.Add([]byte(ageIntro + "-> scrypt AAAA 2\nAAAA\n--- AAAA\n"))
	f.Add([]byte("-----BEGIN AGE ENCRYPTED FILE-----\n-----END AGE ENCRYPTED FILE-----\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if out, err := unsealCost(b, []byte("x"), 4); err == nil && len(out) > len(b) {
			t.Fatal("more came out than went in")
		}
	})
}

func FuzzKeyRef(f *testing.F) {
	f.Add([]byte("exec: /bin/sign --key 'device ca'\n"))
	f.Add([]byte("pkcs11:token=a;object=b?module-path=/x"))
	f.Fuzz(func(t *testing.T, b []byte) {
		ref, ok := keyRef(b)
		if ok && (strings.ContainsAny(ref, "\r\n") || len(ref) > maxKeyRef) {
			t.Fatalf("%q", ref)
		}
	})
}

func TestSplitWords(t *testing.T) {
	for _, test := range []struct {
		in, want, fail string
	}{
		{"", "", ""},
		{"  /a  b\tc ", "/a|b|c", ""},
		{`/a 'b c' "d e" f\ g`, "/a|b c|d e|f g", ""},
		{`/a '' "\"" '\'`, `/a||"|\`, ""},
		{`a"b"'c'd`, "abcd", ""},
		{`$HOME *`, "$HOME|*", ""},
		{`'a`, "", "' is not closed"},
		{`a\`, "", "at the end"},
		{"a\nb", "", "line break"},
		{"a\x00b", "", "NUL"},
		{"\"\\\x00\"", "", "NUL"},
	} {
		got, err := splitWords(test.in)
		wantError(t, err, test.fail)
		if err == nil && strings.Join(got, "|") != test.want {
			t.Errorf("%q: got %q, want %q", test.in, got, test.want)
		}
	}
}

func FuzzSplitWords(f *testing.F) {
	f.Add(`/a 'b c' "d\"e" f\ g`)
	f.Fuzz(func(t *testing.T, s string) {
		words, err := splitWords(s)
		if err != nil {
			return
		}
		var quoted []string
		for _, w := range words {
			quoted = append(quoted, "'"+strings.ReplaceAll(w, "'", `'\''`)+"'")
		}
		again, err := splitWords(strings.Join(quoted, " "))
		if err != nil || fmt.Sprint(again) != fmt.Sprint(words) || len(again) != len(words) {
			t.Fatalf("%q became %q: %v", words, again, err)
		}
	})
}
