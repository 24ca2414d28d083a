package doctor

import (
	"crypto/tls"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/sealmq/sealmq/transport"
)

// groupsAsked are those that are tried one by one.
var groupsAsked = [...]tls.CurveID{tls.X25519MLKEM768, tls.X25519, tls.CurveP256}

// support is what hellos of ours found out.
type support struct {
	versions map[uint16]answer // of TLS 1.0 to 1.3
	groups   []tls.CurveID     // accepted, of groupsAsked
	old      answer            // to suites that nobody should accept
	oldAsked bool
	cut      bool // the broker stopped answering
}

func suites(list []*tls.CipherSuite, version uint16) []uint16 {
	var out []uint16
	for _, s := range list {
		if slices.Contains(s.SupportedVersions, version) {
			out = append(out, s.ID)
		}
	}
	return out
}

// oldSuites have no forward secrecy, or broken ciphers.
func oldSuites() []uint16 {
	return []uint16{
		0x009c, 0x009d, 0x003c, 0x003d, 0x002f, 0x0035, // RSA key exchange
		0x000a, 0xc012, 0xc008, // 3DES
		0x0005, 0xc011, 0xc007, // RC4
		0x0001, 0x0002, 0x003b, // no encryption
	}
}

// probe asks with at most eight hellos, each on a connection of its own.
func (e *exam) probe() support {
	s := support{versions: map[uint16]answer{}}
	name := strings.TrimSuffix(e.url.Host, ".")
	if _, err := netip.ParseAddr(name); err == nil {
		name = ""
	}
	all := []tls.CurveID{tls.X25519MLKEM768, tls.X25519, tls.CurveP256, tls.CurveP384, tls.CurveP521}
	ask := func(version uint16, suites []uint16, groups ...tls.CurveID) (answer, bool) {
		if s.cut || e.ctx.Err() != nil {
			return answer{}, false
		}
		conn, err := e.dial()
		if err != nil {
			s.cut = true
			return answer{}, false
		}
		defer conn.Close()
		h := hello{version: version, suites: suites, groups: groups, name: name}
		a := h.ask(conn)
		s.cut = isTimeout(a.err)
		return a, !s.cut
	}
	for _, v := range []uint16{tls.VersionTLS13, tls.VersionTLS12, tls.VersionTLS11, tls.VersionTLS10} {
		if a, ok := ask(v, modern(v), all...); ok {
			s.versions[v] = a
		}
	}
	best := uint16(tls.VersionTLS13)
	if !s.speaks(best) {
		best = tls.VersionTLS12
	}
	if !s.speaks(best) {
		return s
	}
	for _, g := range groupsAsked {
		if best == tls.VersionTLS12 && g == tls.X25519MLKEM768 {
			continue
		}
		first := s.versions[best]
		if first.group == g {
			s.groups = append(s.groups, g)
			continue
		}
		list := modern(best)
		if best == tls.VersionTLS12 {
			list = ecdhe()
		}
		if a, ok := ask(best, list, g); ok && a.agreed() {
			s.groups = append(s.groups, g)
		}
	}
	if s.speaks(tls.VersionTLS12) {
		s.old, s.oldAsked = ask(tls.VersionTLS12, oldSuites(), all...)
	}
	return s
}

// ecdhe are the suites of TLS 1.2 that use the groups.
func ecdhe() []uint16 {
	return slices.DeleteFunc(modern(tls.VersionTLS12), func(id uint16) bool {
		return !strings.HasPrefix(tls.CipherSuiteName(id), "TLS_ECDHE_")
	})
}

// modern are the suites to begin with, the good ones first.
func modern(version uint16) []uint16 {
	return append(suites(tls.CipherSuites(), version), suites(tls.InsecureCipherSuites(), version)...)
}

func (s *support) speaks(v uint16) bool {
	a, ok := s.versions[v]
	return ok && a.agreed() && a.version == v
}

// accepted are the versions, the newest first.
func (s *support) accepted() []string {
	var out []string
	for _, v := range []uint16{tls.VersionTLS13, tls.VersionTLS12, tls.VersionTLS11, tls.VersionTLS10} {
		if s.speaks(v) {
			out = append(out, tls.VersionName(v))
		}
	}
	return out
}

// judgeVersions judges what the broker accepts.
func judgeVersions(s *support) []Step {
	var out []Step
	v13, v12 := s.speaks(tls.VersionTLS13), s.speaks(tls.VersionTLS12)
	if !v13 && !v12 {
		if s.cut || len(s.accepted()) == 0 {
			return nil // what the handshake found says more
		}
		return []Step{fail(StepVersions, transport.CauseVersion, "", fmt.Sprintf("the broker speaks %s only, which is broken", list(s.accepted())),
			"update the broker: clients need TLS 1.2 or 1.3")}
	}
	for _, v := range []uint16{tls.VersionTLS11, tls.VersionTLS10} {
		if s.speaks(v) {
			out = append(out, warn(StepVersions, CauseOldTLS, "version", fmt.Sprintf("the broker also accepts %s, which is broken", tls.VersionName(v)),
				"set the broker's lowest TLS version to 1.2"))
			break
		}
	}
	if s.oldAsked && s.old.agreed() {
		out = append(out, warn(StepVersions, CauseOldTLS, "suite", fmt.Sprintf("the broker also accepts %s", tls.CipherSuiteName(s.old.suite)),
			"restrict the broker's suites to ECDHE with AES-GCM or ChaCha20-Poly1305"))
	}
	if _, asked := s.versions[tls.VersionTLS12]; asked && !v12 {
		out = append(out, warn(StepVersions, transport.CauseTLS12Excluded, "", "the broker speaks TLS 1.3 only; Mbed TLS 2 (ESP32) and BearSSL (ESP8266) cannot connect",
			"let the broker speak TLS 1.2 too if such devices are to connect"))
	}
	if !s.cut && !slices.Contains(s.groups, tls.CurveP256) {
		out = append(out, warn(StepVersions, CauseDevices, "p256", "the broker does not accept key exchange on P-256; chips that have nothing else cannot connect",
			"let the broker accept P-256 (secp256r1)"))
	}
	if len(out) == 0 {
		out = append(out, pass(StepVersions, "%s; %s; nothing older", list(s.accepted()), list(names(s.groups))))
	}
	return out
}

func names(groups []tls.CurveID) []string {
	var out []string
	for _, g := range groups {
		out = append(out, groupName(g))
	}
	return out
}

// groupName is the name that people know.
func groupName(g tls.CurveID) string {
	switch g {
	case tls.CurveP256:
		return "P-256"
	case tls.CurveP384:
		return "P-384"
	case tls.CurveP521:
		return "P-521"
	}
	return g.String()
}
