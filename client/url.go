package client

import (
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
)

// URL names a broker and, as users of MQTT write it, what to do there:
// mqtts://[user[:password]@]host[:port][/topic], or for WebSocket
// wss://[user[:password]@]host[:port][/path].
type URL struct {
	TLS         bool   // mqtts, ssl, tls, wss; false for mqtt, tcp, ws
	WebSocket   bool   // wss, ws
	Host        string // without brackets
	Port        uint16 // 8883 or 1883, for WebSocket 443 or 80, unless given
	User        string
	Password    string
	HasUser     bool
	HasPassword bool
	// Path is what WebSocket asks for, with its query: all from the first slash,
	// or /mqtt.
	Path string
	// Topic is all that follows the first slash, taken literally: '#', '+', '?'
	// and '%' are topic characters here. WebSocket URLs have none.
	Topic string
}

// DefaultPath is what a WebSocket URL without a path asks for.
const DefaultPath = "/mqtt"

// Address is host:port as package net wants it.
func (u *URL) Address() string {
	return net.JoinHostPort(u.Host, strconv.Itoa(int(u.Port)))
}

// String never shows the password.
func (u *URL) String() string {
	s := "mqtt"
	if u.WebSocket {
		s = "ws"
	}
	if u.TLS {
		s += "s"
	}
	s += "://"
	if u.HasUser {
		s += url.PathEscape(u.User) + "@"
	}
	s += u.Address()
	if u.WebSocket {
		s += u.Path
	} else if u.Topic != "" {
		s += "/" + u.Topic
	}
	return s
}

// ParseURL reads a broker URL. User and password may be percent-encoded.
func ParseURL(s string) (*URL, error) {
	scheme, rest, ok := strings.Cut(s, "://")
	if !ok {
		return nil, fmt.Errorf("parse URL %q: no mqtts:// in front", redact(s))
	}
	u := &URL{}
	switch strings.ToLower(scheme) {
	case "mqtts", "ssl", "tls":
		u.TLS, u.Port = true, 8883
	case "mqtt", "tcp":
		u.Port = 1883
	case "wss":
		u.TLS, u.WebSocket, u.Port = true, true, 443
	case "ws":
		u.WebSocket, u.Port = true, 80
	default:
		return nil, fmt.Errorf("parse URL %q: scheme %q is none of mqtts, mqtt, wss, ws", redact(s), scheme)
	}
	authority, rest, slash := strings.Cut(rest, "/")
	switch {
	case !u.WebSocket:
		u.Topic = rest
	case slash:
		u.Path = "/" + rest
	default:
		u.Path = DefaultPath
	}
	if at := strings.LastIndexByte(authority, '@'); at >= 0 {
		user, password, hasPassword := strings.Cut(authority[:at], ":")
		var err error
		if u.User, err = url.PathUnescape(user); err != nil {
			return nil, fmt.Errorf("parse URL %q: user: %w", redact(s), err)
		}
		if u.Password, err = url.PathUnescape(password); err != nil {
			return nil, fmt.Errorf("parse URL %q: password is not percent-encoded correctly", redact(s))
		}
		u.HasUser, u.HasPassword = true, hasPassword
		authority = authority[at+1:]
	}
	host, port := authority, ""
	if strings.HasPrefix(authority, "[") {
		end := strings.IndexByte(authority, ']')
		if end < 0 {
			return nil, fmt.Errorf("parse URL %q: '[' without ']'", redact(s))
		}
		host, port = authority[1:end], authority[end+1:]
		if port != "" && port[0] != ':' {
			return nil, fmt.Errorf("parse URL %q: %q after the address", redact(s), port)
		}
		port = strings.TrimPrefix(port, ":")
	} else if strings.Count(authority, ":") > 1 {
		return nil, fmt.Errorf("parse URL %q: an IPv6 address is written in brackets", redact(s))
	} else {
		host, port, _ = strings.Cut(authority, ":")
	}
	if host == "" {
		return nil, fmt.Errorf("parse URL %q: no host", redact(s))
	}
	if strings.ContainsAny(host, " \t\r\n[]\x00") {
		return nil, fmt.Errorf("parse URL %q: host %q cannot be one", redact(s), host)
	}
	u.Host = host
	if port != "" {
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil || n == 0 {
			return nil, fmt.Errorf("parse URL %q: port %q is not 1 to 65535", redact(s), port)
		}
		u.Port = uint16(n)
	}
	return u, nil
}

// redact takes user and password out of a URL that is to be shown.
func redact(s string) string {
	scheme, rest, ok := strings.Cut(s, "://")
	if !ok {
		scheme, rest = "", s
	} else {
		scheme += "://"
	}
	authority, tail, slash := strings.Cut(rest, "/")
	if at := strings.LastIndexByte(authority, '@'); at >= 0 {
		authority = "…" + authority[at:]
	}
	if slash {
		tail = "/" + tail
	}
	return scheme + authority + tail
}
