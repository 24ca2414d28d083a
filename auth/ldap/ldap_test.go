package ldap

import (
	"errors"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	goldap "github.com/go-ldap/ldap/v3"
	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/sealmq/sealmq/auth"
	"github.com/sealmq/sealmq/mqtt"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func with(user, password string) *auth.Credentials {
	return &auth.Credentials{Peer: auth.Peer{Secure: true}, HasUsername: true, Username: user, HasPassword: true, Password: []byte(password)}
}

// outcome is "name: groups", "wrong", "undecided", "busy" or "error".
func outcome(p *auth.Principal, err error) string {
	var no *auth.Refusal
	switch {
	case p != nil && err == nil:
		return p.Name + ": " + strings.Join(p.Groups, ";")
	case p != nil || err == nil:
		return "neither or both"
	case errors.Is(err, auth.ErrUndecided):
		return "undecided"
	case errors.As(err, &no) && no.Code == mqtt.BadUserNameOrPassword:
		return "wrong"
	case errors.As(err, &no) && no.Code == mqtt.ServerBusy:
		return "busy"
	}
	return "error"
}

func open(t testing.TB, c Config) *Authenticator {
	t.Helper()
	if c.Timeout == 0 {
		c.Timeout = time.Minute // however slow the machine
	}
	a, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.Close)
	return a
}

// A real directory: who gets in by which way, and what it makes of what clients say.
func TestDirectory(t *testing.T) {
	d := start(t)
	const people = "ou=people,dc=example,dc=org"
	const weird = `we,ird=+"\<>;#`
	search := Config{URL: d.tls, CAFile: d.ca, BindDN: "cn=reader,dc=example,dc=org", PasswordFile: d.password, Base: "dc=example,dc=org"}
	direct := Config{URL: d.tls, CAFile: d.ca, UserDN: "uid=${user}," + people}
	both := direct
	both.Base = people
	grouped := search
	grouped.GroupBase, grouped.GroupAttribute = "ou=groups,dc=example,dc=org", "none"
	startTLS := search
	startTLS.URL = d.plain
	plain := search
	plain.URL, plain.CAFile, plain.Plaintext = d.plain, "", true
	private := direct
	private.UserDN = "uid=${user},ou=private,dc=example,dc=org"
	stranger := search
	stranger.CAFile = ""
	wrongAccount := search
	wrongAccount.BindDN = "cn=nobody,dc=example,dc=org"
	anonymous := search
	anonymous.BindDN, anonymous.PasswordFile = "", ""
	for _, test := range []struct {
		name           string
		cfg            Config
		user, password string
		want           string
	}{
		{"search", search, "alice", "wonderland", "alice: ops;plant, north"},
		{"search, other case", search, "ALICE", "wonderland", "alice: ops;plant, north"},
		{"search, wrong", search, "alice", "Wonderland", "wrong"},
		{"search, empty password", search, "alice", "", "wrong"},
		{"search, unknown", search, "carol", "x", "undecided"},
		{"search, wildcard", search, "al*", "wonderland", "undecided"},
		{"search, all", search, "*", "wonderland", "undecided"},
		{"search, injected", search, "x)(|(uid=alice", "wonderland", "undecided"},
		{"search, injected end", search, "alice)(uid=*))(|(uid=*", "wonderland", "undecided"},
		{"search, special characters", search, "st*r)(uid=alice", "star", "st*r)(uid=alice: "},
		{"search, more of them", search, weird, "strange", weird + ": "},
		{"search, NUL", search, "alice\x00", "wonderland", "wrong"},
		{"search, spaces", search, " alice", "wonderland", "wrong"},
		{"search, two entries", search, "twin", "x", "error"},
		{"search, one of two names", search, "two", "twice", "also: "},
		{"search, the other name", search, "also", "twice", "also: "},
		{"search, StartTLS", startTLS, "alice", "wonderland", "alice: ops;plant, north"},
		{"search, without TLS", plain, "bob", "builder", "bob: ops"},
		{"search, groups", grouped, "alice", "wonderland", "alice: ops;plant, north"},
		{"search, as nobody", anonymous, "alice", "wonderland", "undecided"},
		{"search, wrong account", wrongAccount, "alice", "wonderland", "error"},
		{"unknown CA", stranger, "alice", "wonderland", "error"},
		{"direct", direct, "alice", "wonderland", "alice: ops;plant, north"},
		{"direct, other case", direct, "Alice", "wonderland", "alice: ops;plant, north"},
		{"direct, wrong", direct, "alice", "x", "wrong"},
		{"direct, empty password", direct, "alice", "", "wrong"},
		{"direct, unknown", direct, "carol", "x", "wrong"},
		{"direct, special characters", direct, weird, "strange", weird + ": "},
		{"direct, injected", direct, "alice,ou=people", "wonderland", "wrong"},
		{"direct, injected account", direct, "bob," + people + "??", "builder", "wrong"},
		{"direct, two values", direct, "alice+sn=Alice", "wonderland", "wrong"},
		{"direct and search", both, "alice", "wonderland", "alice: ops;plant, north"},
		{"direct, entry not to be read", private, "Hidden", "secret", "hidden: "},
	} {
		t.Run(test.name, func(t *testing.T) {
			a := open(t, test.cfg)
			for range 2 { // the second time on the connection of the first
				p, err := a.Authenticate(t.Context(), with(test.user, test.password))
				if got := outcome(p, err); got != test.want {
					t.Errorf("got %s, %v; want %s", got, err, test.want)
				}
				if p != nil && p.Method != "ldap" {
					t.Errorf("method %s", p.Method)
				}
			}
		})
	}

	t.Run("many at once", func(t *testing.T) {
		c := search
		c.Conns = 2
		a := open(t, c)
		var done sync.WaitGroup
		for range 4 {
			done.Go(func() {
				for _, test := range [][3]string{{"alice", "wonderland", "alice: ops;plant, north"}, {"bob", "x", "wrong"}, {"bob", "builder", "bob: ops"}, {"carol", "x", "undecided"}} {
					if got := outcome(a.Authenticate(t.Context(), with(test[0], test[1]))); got != test[2] {
						t.Errorf("%s: %s", test[0], got)
					}
				}
			})
		}
		done.Wait()
		if n := len(a.idle); n == 0 || n > 2 {
			t.Errorf("%d connections are kept", n)
		}
		for range 2 { // the directory closes what it has
			select {
			case d := <-a.idle:
				d.raw.Conn.Close()
				a.idle <- d
			default:
			}
		}
		if got := outcome(a.Authenticate(t.Context(), with("bob", "builder"))); got != "bob: ops" {
			t.Errorf("after the connections broke: %s", got)
		}
		a.Close()
		if got := outcome(a.Authenticate(t.Context(), with("bob", "builder"))); got != "bob: ops" || len(a.idle) != 0 {
			t.Errorf("after Close: %s, %d kept", got, len(a.idle))
		}
	})
}

// impostor answers every connection with the same bytes.
func impostor(t *testing.T, answer []byte) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var done sync.WaitGroup
	done.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			done.Go(func() {
				defer c.Close()
				b := make([]byte, 512)
				c.Read(b)
				c.Write(answer)
				for {
					if _, err := c.Read(b); err != nil {
						return
					}
				}
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		done.Wait()
	})
	return "ldap://" + l.Addr().String()
}

// What is no answer of a directory is an error: it lets nobody in, and holds up nobody for long.
func TestHostileDirectory(t *testing.T) {
	endless := append([]byte{0x30, 0x84, 0x7f, 0xff, 0xff, 0xff, 0x04, 0x84, 0x7f, 0xff, 0xff, 0xf0}, make([]byte, 2<<20)...)
	for name, answer := range map[string][]byte{
		"silence":             nil,
		"HTTP":                []byte("HTTP/1.1 400 Bad Request\r\n\r\n"),
		"more than 1 MiB":     endless,
		"no result":           {0x30, 0x05, 0x02, 0x01, 0x01, 0x61, 0x00},
		"no operation":        {0x30, 0x03, 0x02, 0x01, 0x01},
		"empty":               {0x30, 0x00},
		"of another kind":     {0x30, 0x0c, 0x02, 0x01, 0x01, 0x65, 0x07, 0x0a, 0x01, 0x00, 0x04, 0x00, 0x04, 0x00},
		"a result of a text":  {0x30, 0x0c, 0x02, 0x01, 0x01, 0x61, 0x07, 0x04, 0x01, 0x00, 0x04, 0x00, 0x04, 0x00},
		"success for another": {0x30, 0x0c, 0x02, 0x01, 0x63, 0x61, 0x07, 0x0a, 0x01, 0x00, 0x04, 0x00, 0x04, 0x00},
	} {
		for way, c := range map[string]Config{"plain": {Plaintext: true}, "StartTLS": {}} {
			t.Run(name+" "+way, func(t *testing.T) {
				c.URL, c.UserDN, c.Timeout = impostor(t, answer), "uid=${user},dc=x", 300*time.Millisecond
				a := open(t, c)
				if p, err := a.Authenticate(t.Context(), with("alice", "x")); p != nil || outcome(p, err) != "error" {
					t.Errorf("%+v, %v", p, err)
				}
			})
		}
	}
	a := open(t, Config{URL: "ldap://" + free(t), UserDN: "uid=${user},dc=x"})
	if p, err := a.Authenticate(t.Context(), with("alice", "x")); outcome(p, err) != "error" {
		t.Errorf("nobody there: %+v, %v", p, err)
	}
}

// About whom a directory is not asked.
func TestNotAsked(t *testing.T) {
	a := open(t, Config{URL: "ldaps://127.0.0.1:1", UserDN: "${user}@example.org", Conns: 1})
	clear := with("alice", "x")
	clear.Peer.Secure = false
	alone := with("alice", "")
	alone.HasPassword = false
	token := with("", "x")
	token.HasUsername = false
	for name, test := range map[string]struct {
		c    *auth.Credentials
		want string
	}{
		"in the clear": {clear, "wrong"}, "no password": {alone, "undecided"}, "no name": {token, "undecided"},
		"long password": {with("alice", strings.Repeat("x", 1025)), "undecided"}, "empty name": {with("", "x"), "wrong"},
		"empty password": {with("alice", ""), "wrong"}, "long name": {with(strings.Repeat("a", 257), "x"), "wrong"},
		"not UTF-8": {with("\xff", "x"), "wrong"}, "a line": {with("a\nb", "x"), "wrong"},
	} {
		if got := outcome(a.Authenticate(t.Context(), test.c)); got != test.want {
			t.Errorf("%s: %s", name, got)
		}
	}
	a.turns = auth.NewTurns(1, 0)
	if err := a.turns.Take(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := outcome(a.Authenticate(t.Context(), with("alice", "x"))); got != "busy" {
		t.Errorf("a full queue: %s", got)
	}
	a.turns.Leave()
}

func TestNames(t *testing.T) {
	for _, bad := range []string{"alice@evil", "EXAMPLE\\alice", "a,b", "ä", "a b"} {
		if name, ok := bindName("${user}@example.org", bad); ok {
			t.Errorf("%q is bound as %q", bad, name)
		}
	}
	if name, ok := bindName("${user}@example.org", "alice.b-1"); !ok || name != "alice.b-1@example.org" {
		t.Errorf("%q, %v", name, ok)
	}
	for in, want := range map[string]string{"cn=ops,dc=x": "ops", `cn=a\, b+ou=c,dc=x`: "a, b", "ops": "ops", "": ""} {
		if got := groupName(in); got != want {
			t.Errorf("%q: %q", in, got)
		}
	}
	if _, err := groups([]string{"a", ""}); err == nil {
		t.Error("a group without a name")
	}
	if _, err := groups(strings.Fields(strings.Repeat("a b c d ", 100))); err != nil {
		t.Error(err)
	}
	var many []string
	for i := range maxGroups + 1 {
		many = append(many, string(rune('a'+i%26))+strings.Repeat("x", i))
	}
	if _, err := groups(many); err == nil {
		t.Error("too many groups")
	}
	for user, want := range map[string]string{"Alice": "alice", "a b": "", "ä": ""} {
		if got, ok := nameOf(nil, "uid", user); ok != (want != "") || ok && got != want {
			t.Errorf("%q: %q, %v", user, got, ok)
		}
	}
	if got, ok := nameOf(goldap.NewEntry("cn=x", map[string][]string{"UID": {"b", "a"}}), "uid", "B"); !ok || got != "a" {
		t.Errorf("%q, %v", got, ok)
	}
}

// Whatever a client says stays one value of a name, and one of a filter.
func FuzzEscaping(f *testing.F) {
	for _, s := range []string{"alice", `a,b=c+d"\<>;#`, " x ", "#", "*)(uid=*", "\\2a", "ä\u00a0"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, user string) {
		if !plausible(user) {
			return
		}
		name, _ := bindName("uid=${user},dc=x", user)
		dn, err := goldap.ParseDN(name)
		if err != nil || len(dn.RDNs) != 2 || len(dn.RDNs[0].Attributes) != 1 || dn.RDNs[0].Attributes[0].Value != user {
			t.Fatalf("%q became the name %q: %v", user, name, err)
		}
		packet, err := goldap.CompileFilter(filter("(&(objectClass=person)(uid=${user}))", user, ""))
		if err != nil {
			t.Fatal(err)
		}
		text, err := goldap.DecompileFilter(packet)
		if err != nil || !cmp.Equal(packet.Children[1].Children[1].Data.String(), user) || len(packet.Children) != 2 {
			t.Fatalf("%q became the filter %s: %v", user, text, err)
		}
	})
}

func TestConfig(t *testing.T) {
	good := Config{URL: "ldaps://ldap.example", UserDN: "uid=${user},dc=x"}
	search := Config{URL: "ldap://ldap.example:1389", Base: "dc=x", BindDN: "cn=r", PasswordFile: "p", GroupBase: "dc=g"}
	for _, c := range []Config{good, search} {
		if err := c.Validate(); err != nil {
			t.Error(err)
		}
	}
	for want, change := range map[string]func(*Config){
		"url: ": func(c *Config) { c.URL = "https://x" }, "url: want a host": func(c *Config) { c.URL = "ldaps://x/dc=y" },
		"url: the URL has no host": func(c *Config) { c.URL = "ldaps://:636" }, "url: this is no URL": func(c *Config) { c.URL = "ldaps://\x7f" },
		"allow_plaintext: ": func(c *Config) { c.Plaintext, c.URL = true, "ldaps://x" }, "user_dn: want": func(c *Config) { c.Base = "" },
		"user_dn: no ${user}": func(c *Config) { c.UserDN, c.BindDN, c.PasswordFile = "cn=all", "", "" }, "bind_dn: ": func(c *Config) { c.UserDN = "uid=${user}" },
		"password_file: ": func(c *Config) { c.PasswordFile = "" }, "search_filter: no": func(c *Config) { c.Filter = "(uid=alice)" },
		"search_filter: this": func(c *Config) { c.Filter = "uid=${user}" }, "group_filter: no": func(c *Config) { c.GroupFilter = "(cn=*)" },
		"timeout: ": func(c *Config) { c.Timeout = time.Hour }, "connections: ": func(c *Config) { c.Conns = 101 },
	} {
		c := search
		change(&c)
		if err := c.Validate(); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
		if _, err := New(c); err == nil {
			t.Errorf("%s: made", want)
		}
	}
	for raw, want := range map[string]string{"ldaps://h": "h:636", "ldap://h/": "h:389", "ldap://[::1]": "[::1]:389"} {
		if s, err := parseURL(raw); err != nil || s.addr != want {
			t.Errorf("%s: %+v, %v", raw, s, err)
		}
	}
	for _, c := range []Config{search, {URL: good.URL, UserDN: good.UserDN, CAFile: filepath.Join(t.TempDir(), "none")}} {
		if _, err := New(c); err == nil {
			t.Error("a missing file")
		}
	}
}
