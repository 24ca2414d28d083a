package password

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// least is the smallest cost that files take.
var least = Cost{Memory: 64, Passes: 1, Iterations: 4096}

// Lines as other programs write them: mosquitto_passwd 2.0 (sha512, pbkdf2), argon2 of the reference implementation.
const foreign = `# users of the old broker

alice:$6$kXSbhWg951gKna1C$TUVysOl3c5nhKOkeE7pJN1yi+l5fXP12jZSKj0PCfWXwG4dHgQ2WrbrO7WuxEx5REEVmykmEidmn0sKHW/TNvQ==
bob:$7$101$I9I73bZXS0o3j2zI$VUGXC4sPVjL4iomxi11zrnME2n/W15mTUxQa7A12dsIGhHHca7gs7Ogk/pyJW3EWLpKYROJAUvRG4AjqmGKeLQ==
eve:$7$500$yHb/q5jHUy6xT7Hq$nNM11diGvk0CTGbpKaY9vLSuK8a6gqrkki6PnRcRKyh7mzgRlYe/msu+tnasOd9wpYddDV5TvBRtBpcyr+aTjQ==
carol:$argon2id$v=19$m=1024,t=1,p=1$c2FsdHNhbHRzYWx0$GMv1V/a9uBNqF+93SqBH3JLZiqfe1V1xP9SfOSAqqRE
`

func parse(t testing.TB, text string) *File {
	t.Helper()
	f, err := Parse("users", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestFilesOfOthers(t *testing.T) {
	f := parse(t, foreign)
	for user, password := range map[string]string{"alice": "secret", "bob": "hunter2", "eve": "p", "carol": "secret"} {
		h, ok := f.lookup(user)
		if !ok || !h.matches([]byte(password)) {
			t.Errorf("%s is not known by the password", user)
		}
		for _, wrong := range []string{"", password + "x", strings.ToUpper(password)} {
			if h.matches([]byte(wrong)) {
				t.Errorf("%s is known by %q", user, wrong)
			}
		}
	}
	if string(f.Text()) != foreign {
		t.Errorf("written otherwise than read:\n%s", f.Text())
	}
	padded := parse(t, strings.Replace(foreign, "qqRE", "qqRE=", 1)) // as by Mosquitto 2.1 with base64 of OpenSSL
	if h, _ := padded.lookup("carol"); !h.matches([]byte("secret")) {
		t.Error("padding changes the hash")
	}
	if f := parse(t, strings.ReplaceAll(foreign, "\n", "\r\n")); len(f.Users()) != 4 {
		t.Errorf("lines of other systems: %v", f.Users())
	}
}

// A bad line is a bad file: all of them are told, by line, and nothing of a hash or password is shown.
func TestBadLines(t *testing.T) {
	const a2 = "$argon2id$v=19$m=1024,t=1,p=1$c2FsdHNhbHRzYWx0$GMv1V/a9uBNqF+93SqBH3JLZiqfe1V1xP9SfOSAqqRE"
	sum := strings.Repeat("A", 86)
	key := strings.Repeat("A", 43)
	for _, test := range []struct{ line, want string }{
		{"alice", "no colon"},
		{":" + a2, "no user name"},
		{"alice:", "in the clear"},
		{"alice:secretpassword", "in the clear"},
		{"alice:x$6$secretpassword", "in the clear"},
		{"alice:$2y$10$secretpassword", "unknown kind"},
		{"alice:$6$secretpassword", "other parts"},
		{"alice:$6$AAAA$" + sum + "$secretpassword", "other parts"},
		{"alice:$6$$" + sum, "of 0 bytes"},
		{"alice:$6$AAAA$AAAA", "of 3 bytes"},
		{"alice:$6$AA*A$" + sum, "not base64"},
		{"alice:$6$AAAA$" + sum[:85] + "B", "not base64"}, // bits behind the end
		{"alice:$7$0$AAAA$" + sum, "iterations: 0"},
		{"alice:$7$2000001$AAAA$" + sum, "iterations: 2000001"},
		{"alice:$7$99999999999$AAAA$" + sum, "iterations"},
		{"alice:$7$-1$AAAA$" + sum, "not a number"},
		{"alice:$7$+1$AAAA$" + sum, "not a number"},
		{"alice:$7$01$AAAA$" + sum, "not a number"},
		{"alice:" + strings.Replace(a2, "v=19", "v=16", 1), "version"},
		{"alice:" + strings.Replace(a2, "m=1024", "m=999999", 1), "m: 999999"},
		{"alice:" + strings.Replace(a2, "m=1024", "m=7", 1), "m: 7"},
		{"alice:" + strings.Replace(a2, "t=1", "t=0", 1), "t: 0"},
		{"alice:" + strings.Replace(a2, "p=1", "p=99", 1), "p: 99"},
		{"alice:" + strings.Replace(a2, "m=1024,t=1", "t=1,m=1024", 1), "wants m="},
		{"alice:" + strings.Replace(a2, "c2FsdHNhbHRzYWx0", "c2Fs", 1), "of 3 bytes"},
		{"alice:$argon2i" + a2[9:], "unknown kind"},
		{"alice:$scram-sha-256$i=4095$AAAAAAAAAAA$" + key + "$" + key, "iterations: 4095"},
		{"alice:$scram-sha-256$4096$AAAAAAAAAAA$" + key + "$" + key, "other parts"},
		{"alice:$scram-sha-256$i=4096$AAAAAAAAAAA$" + key + "$AAAA", "of 3 bytes"},
		{"al\x00ice:" + a2, "control"},
		{" alice:" + a2, "spaces"},
		{"al\xffice:" + a2, "UTF-8"},
		{strings.Repeat("a", 300) + ":" + a2, "256 bytes"},
		{"alice:" + strings.Repeat("x", 2000), "1024 bytes"},
		{"bob:" + a2, "in line 1 already"},
	} {
		_, err := Parse("users", []byte("bob:"+a2+"\n"+test.line+"\n"))
		if err == nil || !strings.HasPrefix(err.Error(), "users:2: ") || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%.60q: %v, want %q", test.line, err, test.want)
		} else if strings.Contains(err.Error(), "secretpassword") {
			t.Errorf("%v shows the password", err)
		}
	}
	_, err := Parse("users", []byte(strings.Repeat("alice\n", 30)))
	if err == nil || strings.Count(err.Error(), "\n") != 20 || !strings.HasSuffix(err.Error(), "users: 10 more bad lines") {
		t.Errorf("many bad lines: %v", err)
	}
}

func TestSetRemove(t *testing.T) {
	f := parse(t, foreign)
	if err := f.Set("bob", "new", Argon2id, least); err != nil {
		t.Fatal(err)
	}
	if err := f.Set("dave", "ü", SCRAM, least); err != nil {
		t.Fatal(err)
	}
	if !f.Has("eve") || !f.Remove("eve") || f.Remove("eve") || f.Has("eve") {
		t.Error("eve was not removed once")
	}
	back := parse(t, string(f.Text()))
	want := []User{{"alice", SHA512}, {"bob", Argon2id}, {"carol", Argon2id}, {"dave", SCRAM}}
	got := back.Users()
	if len(got) != len(want) {
		t.Fatalf("got %v, want %v", got, want)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("got %v, want %v", got[i], want[i])
		}
	}
	for user, password := range map[string]string{"alice": "secret", "bob": "new", "dave": "u\u0308"} { // composed before hashing
		if h, ok := back.lookup(user); !ok || !h.matches([]byte(password)) {
			t.Errorf("%s is not known by the password", user)
		}
	}
	if v, ok := back.Verifier("dave"); !ok || v.Iterations != 4096 || back.Iterations() != 4096 {
		t.Errorf("verifier %+v, %v", v, ok)
	}
	if _, ok := back.Verifier("bob"); ok {
		t.Error("a verifier without SCRAM")
	}
	for _, bad := range []struct {
		user, password string
		scheme         Scheme
		cost           Cost
	}{
		{"", "x", Argon2id, least}, {"a:b", "x", Argon2id, least}, {"#a", "x", Argon2id, least}, {"a\nb", "x", Argon2id, least},
		{"a", "", Argon2id, least}, {"a", strings.Repeat("x", 1025), Argon2id, least}, {"a", "x", SHA512, least}, {"a", "x", "md5", least},
		{"a", "x", SCRAM, Cost{Iterations: 1}},
	} {
		before := string(f.Text())
		if err := f.Set(bad.user, bad.password, bad.scheme, bad.cost); err == nil {
			t.Errorf("%+v is taken", bad)
		}
		if string(f.Text()) != before {
			t.Errorf("%+v has changed the file", bad)
		}
	}
}

// Write and Load: whole, private, through links; and files that others may read.
func TestWriteLoad(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "users")
	link := filepath.Join(dir, "link")
	if err := os.Symlink("users", link); err != nil {
		t.Skip(err)
	}
	f := parse(t, foreign)
	if err := f.Write(path); err != nil {
		t.Fatal(err)
	}
	f.Remove("bob")
	if err := f.Write(link); err != nil {
		t.Fatal(err)
	}
	back, err := Load(path)
	if err != nil || len(back.Users()) != 3 {
		t.Fatalf("%v, %v", back, err)
	}
	if fi, err := os.Lstat(link); err != nil || fi.Mode()&os.ModeSymlink == 0 {
		t.Error("the link was replaced")
	}
	if left, _ := filepath.Glob(filepath.Join(dir, ".*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	for _, mode := range []os.FileMode{0o640, 0o604, 0o644, 0o620} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		_, err := Load(path)
		var h interface{ Hint() string }
		if err == nil || !errors.As(err, &h) || h.Hint() != "chmod 600 "+path {
			t.Errorf("mode %o: %v", mode, err)
		}
	}
	if _, err := Load(dir); err == nil {
		t.Error("a folder is loaded")
	}
	if _, err := Load(filepath.Join(dir, "none")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a missing file: %v", err)
	}
	if err := f.Write(filepath.Join(dir, "none", "users")); err == nil {
		t.Error("written to a missing folder")
	}
}

// Any sequence of changes is as good after being written and read.
func TestEditsSurvive(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := New()
		want := map[string]string{}
		for range rapid.IntRange(0, 6).Draw(t, "changes") {
			user := rapid.SampledFrom([]string{"a", "b", "c d", "é"}).Draw(t, "user")
			if rapid.Bool().Draw(t, "remove") {
				_, there := want[user]
				if f.Remove(user) != there {
					t.Fatal("Remove and the model differ")
				}
				delete(want, user)
				continue
			}
			password := rapid.StringN(1, 20, 60).Draw(t, "password")
			if err := f.Set(user, password, Argon2id, Cost{Memory: 8, Passes: 1}); err != nil {
				t.Fatal(err)
			}
			want[user] = password
		}
		back, err := Parse("users", f.Text())
		if err != nil || len(back.Users()) != len(want) {
			t.Fatalf("%v: %v", back, err)
		}
		for user, password := range want {
			if h, ok := back.lookup(user); !ok || !h.matches([]byte(password)) {
				t.Fatalf("%s is lost", user)
			}
		}
	})
}

// What is read is written so that it reads the same.
func FuzzParse(f *testing.F) {
	f.Add([]byte(foreign))
	f.Add([]byte("a:$scram-sha-256$i=4096$AAAAAAAAAAA$" + strings.Repeat("A", 43) + "$" + strings.Repeat("A", 43)))
	f.Add([]byte("a:b\n#\n:\n\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		one, err := Parse("users", text)
		if err != nil {
			return
		}
		two, err := Parse("users", one.Text())
		if err != nil || string(one.Text()) != string(two.Text()) {
			t.Fatalf("%v\n%q\n%q", err, one.Text(), two.Text())
		}
		for _, u := range one.Users() {
			if usable(u.Name) != "" {
				t.Fatalf("user %q", u.Name)
			}
		}
	})
}
