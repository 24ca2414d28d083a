package transport

import (
	"cmp"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"
)

// Via says how a cause is known.
type Via string

const (
	ViaAlert   Via = "alert"   // the client said so
	ViaCheck   Via = "check"   // the broker has seen it itself
	ViaSilence Via = "silence" // the client left, or said nothing
)

// HandshakeError says why a connection never came to be. Its Cause is one of
// the above, or what VerifyConnection of the Certificates named. What comes
// from the client has been decoded, but is neither bounded nor quoted; Record
// does both.
type HandshakeError struct {
	Cause       Cause
	Via         Via
	Listener    string            // Config.Name
	Addr        string            // peer, host:port
	ServerName  string            // asked for by the client, empty if it did not say
	Versions    []uint16          // TLS versions offered; once the handshake is over, the one agreed to
	Groups      []uint16          // groups offered for the key exchange; the same
	ALPN        []string          // protocols offered; the same
	Ciphers     []uint16          // TLS 1.2 and 1.3 suites offered
	MaxFragment int               // max_fragment_length announced, in bytes; 0: none
	RecordLimit int               // record_size_limit announced, in bytes; 0: none
	Certificate *x509.Certificate // that the client showed; nil: none. Nothing about it is certain
	Alert       int               // alert received from the client, -1 if none
	Received    int               // bytes that came
	Upgrade     bool              // TLS, if any, was over: WebSocket failed
	Hint        string            // what to do about it, if more is known than the cause
	Err         error
}

func (e *HandshakeError) Error() string {
	var b strings.Builder
	what := "tls handshake"
	if e.Upgrade {
		what = "websocket upgrade"
	}
	fmt.Fprintf(&b, "%s with %s: %s", what, e.Addr, e.Cause)
	if e.ServerName != "" {
		fmt.Fprintf(&b, " (server name %q)", bounded(e.ServerName))
	}
	if len(e.Versions) > 0 {
		fmt.Fprintf(&b, " (offers %s)", strings.Join(names(e.Versions, maxVersions, tls.VersionName), ", "))
	}
	fmt.Fprintf(&b, ": %v", e.Err)
	return b.String()
}

func (e *HandshakeError) Unwrap() error { return e.Err }

// Refused returns the cause and what to do about it.
func (e *HandshakeError) Refused() (cause, hint string) {
	return string(e.Cause), cmp.Or(e.Hint, hintOf(e.Cause))
}

// Code returns E-TLS-nnn, or nothing for a cause that is not this package's.
func (e *HandshakeError) Code() string {
	x, _ := Explain(e.Cause)
	return x.Code
}

// plainName is what may stand in a command to be copied.
var plainName = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9.:-]{0,252}$`)

// exactHint puts into the fix what is known of this case; empty if nothing is.
func (e *HandshakeError) exactHint(local netip.Addr) string {
	switch e.Cause {
	case CauseName:
		if plainName.MatchString(e.ServerName) {
			return "add the host name to the certificate: sealmq init --host " + e.ServerName + ", then SIGHUP; or let the client use a name that it has"
		}
	case CauseIP, CauseIPAsName:
		name := e.ServerName
		if name == "" {
			name = local.String()
		}
		if (e.ServerName != "" || local.IsValid()) && plainName.MatchString(name) {
			return "add the address to the certificate, as an address and as a name: sealmq init --host " + name + ", then SIGHUP"
		}
	}
	return ""
}

// Failure is a HandshakeError as it is shown: names instead of numbers, all
// text valid UTF-8 and bounded, at most 5 KiB in all.
type Failure struct {
	Time        time.Time    `json:"time"`
	Code        string       `json:"code,omitempty"`
	Cause       Cause        `json:"cause"`
	Via         Via          `json:"via,omitempty"`
	What        string       `json:"what,omitempty"`
	Fix         string       `json:"fix,omitempty"`
	Listener    string       `json:"listener"`
	Peer        string       `json:"peer"`
	ServerName  string       `json:"sni,omitempty"`
	Versions    []string     `json:"versions,omitempty"`
	Groups      []string     `json:"groups,omitempty"`
	Ciphers     []string     `json:"ciphers,omitempty"`
	ALPN        []string     `json:"alpn,omitempty"`
	MaxFragment int          `json:"max_fragment_length,omitempty"`
	RecordLimit int          `json:"record_size_limit,omitempty"`
	Certificate *Certificate `json:"certificate,omitempty"`
	Alert       int          `json:"alert"` // -1: none
	Received    int          `json:"received"`
	Upgrade     bool         `json:"websocket,omitempty"`
	Error       string       `json:"error"`
}

// Certificate is what there is to say of one that a client showed.
type Certificate struct {
	Subject  string    `json:"subject"`
	Issuer   string    `json:"issuer"`
	Serial   string    `json:"serial"` // hexadecimal
	SHA256   string    `json:"sha256"` // of its DER, hexadecimal
	NotAfter time.Time `json:"not_after"`
}

const (
	maxText     = 256 // bytes of one text from the client
	maxVersions = 8
	maxGroups   = 16
	maxCiphers  = 40
	maxALPN     = 8
	maxProtocol = 64 // bytes of one
)

// Record returns what is shown of e, as of now.
func (e *HandshakeError) Record(now time.Time) Failure {
	x, _ := Explain(e.Cause)
	f := Failure{
		Time: now, Code: x.Code, Cause: Cause(bounded(string(e.Cause))), Via: e.Via, What: x.What, Fix: bounded(cmp.Or(e.Hint, x.Fix)),
		Listener: e.Listener, Peer: bounded(e.Addr), ServerName: bounded(e.ServerName),
		Versions: names(e.Versions, maxVersions, tls.VersionName),
		Groups:   names(e.Groups, maxGroups, groupName),
		Ciphers:  names(e.Ciphers, maxCiphers, cipherName),
		ALPN:     names(e.ALPN, maxALPN, func(p string) string { return cut(p, maxProtocol) }), MaxFragment: e.MaxFragment, RecordLimit: e.RecordLimit,
		Alert: e.Alert, Received: e.Received, Upgrade: e.Upgrade,
	}
	if e.Err != nil {
		f.Error = bounded(e.Err.Error())
	}
	if c := e.Certificate; c != nil {
		sum := sha256.Sum256(c.Raw)
		f.Certificate = &Certificate{bounded(c.Subject.String()), bounded(c.Issuer.String()), serial(c), hex.EncodeToString(sum[:]), c.NotAfter}
	}
	return f
}

// Attrs are the attributes of a log line, without the listener's name.
func (f *Failure) Attrs() []any {
	a := []any{"peer", f.Peer, "cause", string(f.Cause)}
	add := func(key string, v any, there bool) {
		if there {
			a = append(a, key, v)
		}
	}
	add("code", f.Code, f.Code != "")
	add("via", string(f.Via), f.Via != "")
	add("hint", f.Fix, f.Fix != "")
	add("sni", f.ServerName, f.ServerName != "")
	add("versions", f.Versions, len(f.Versions) > 0)
	// What was offered is of interest where it did not suffice.
	offer := f.Cause == CauseCipher || f.Cause == CauseKeyUnsupported || f.Cause == CauseFIPS
	add("groups", f.Groups, offer && len(f.Groups) > 0)
	add("ciphers", f.Ciphers, offer && len(f.Ciphers) > 0)
	add("alpn", f.ALPN, f.Cause == CauseALPN)
	add("max_fragment_length", f.MaxFragment, f.MaxFragment > 0)
	add("record_size_limit", f.RecordLimit, f.RecordLimit > 0)
	if c := f.Certificate; c != nil {
		a = append(a, "subject", c.Subject, "issuer", c.Issuer, "serial", c.Serial, "sha256", c.SHA256)
	}
	add("alert", f.Alert, f.Alert >= 0)
	return append(a, "error", f.Error)
}

// bounded cuts a text to a length that a log line or a page takes.
func bounded(s string) string { return cut(s, maxText) }

func cut(s string, most int) string {
	if len(s) > most {
		s = s[:most-3] + "..."
	}
	return strings.ToValidUTF8(s, "?")
}

// serial is hexadecimal; a hostile one may be as long as the certificate.
func serial(c *x509.Certificate) string {
	if c.SerialNumber.BitLen() > 4*maxText {
		return "over " + fmt.Sprint(maxText) + " digits"
	}
	return c.SerialNumber.Text(16)
}

func names[T any](v []T, most int, name func(T) string) []string {
	var s []string
	for _, x := range v[:min(most, len(v))] {
		s = append(s, name(x))
	}
	return s
}

func groupName(v uint16) string { return tls.CurveID(v).String() }

// cipherNames has the signalling values, too. crypto/tls makes its list anew
// each time it is asked.
var cipherNames = sync.OnceValue(func() map[uint16]string {
	m := map[uint16]string{0x00ff: "TLS_EMPTY_RENEGOTIATION_INFO_SCSV", 0x5600: "TLS_FALLBACK_SCSV"}
	for _, c := range slices.Concat(tls.CipherSuites(), tls.InsecureCipherSuites()) {
		m[c.ID] = c.Name
	}
	return m
})

func cipherName(v uint16) string {
	if name, ok := cipherNames()[v]; ok {
		return name
	}
	return fmt.Sprintf("0x%04X", v)
}
