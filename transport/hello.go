package transport

import "slices"

// hello is what a ClientHello says that matters here.
type hello struct {
	serverName  string
	versions    []uint16 // offered, in the client's order
	ciphers     []uint16
	groups      []uint16
	alpn        []string
	maxFragment int  // max_fragment_length [RFC 6066, 4]; 0: not given
	recordLimit int  // record_size_limit [RFC 8449]; 0: not given
	resumes     bool // offers a session ticket or a PSK
}

// TLS extension numbers.
const (
	extServerName        = 0
	extMaxFragmentLength = 1
	extSupportedGroups   = 10
	extALPN              = 16
	extRecordSizeLimit   = 28
	extSessionTicket     = 35
	extPreSharedKey      = 41
	extSupportedVersions = 43
)

// cursor reads a byte string; after a read beyond its end it is empty and bad.
type cursor struct {
	b   []byte
	bad bool
}

func (c *cursor) take(n int) []byte {
	if n > len(c.b) {
		c.b, c.bad = nil, true
		return nil
	}
	p := c.b[:n]
	c.b = c.b[n:]
	return p
}

func (c *cursor) uint(size int) int {
	v := 0
	for _, x := range c.take(size) {
		v = v<<8 | int(x)
	}
	return v
}

// vector reads a length of size bytes and as many bytes.
func (c *cursor) vector(size int) cursor { return cursor{b: c.take(c.uint(size))} }

func (c *cursor) uint16s() []uint16 {
	var v []uint16
	for len(c.b) >= 2 {
		v = append(v, uint16(c.uint(2)))
	}
	return v
}

// parseHello reads a handshake message. What it cannot read it leaves out: it
// informs a diagnosis, crypto/tls decides.
func parseHello(msg []byte) (h hello, ok bool) {
	m := cursor{b: msg}
	if m.uint(1) != 1 {
		return h, false
	}
	body := m.vector(3)
	legacy := uint16(body.uint(2))
	body.take(32) // random
	body.vector(1)
	suites := body.vector(2)
	body.vector(1) // compression methods
	if m.bad || body.bad {
		return h, false
	}
	h.versions = []uint16{legacy}
	h.ciphers = suites.uint16s()
	exts := body.vector(2)
	for len(exts.b) > 0 {
		id := exts.uint(2)
		e := exts.vector(2)
		switch id {
		case extServerName:
			list := e.vector(2)
			for len(list.b) > 0 {
				kind := list.uint(1)
				name := list.vector(2)
				if kind == 0 && !list.bad && h.serverName == "" {
					h.serverName = string(name.b)
				}
			}
		case extMaxFragmentLength:
			if code := e.uint(1); code >= 1 && code <= 4 {
				h.maxFragment = 256 << code
			}
		case extSupportedGroups:
			list := e.vector(2)
			h.groups = list.uint16s()
		case extALPN:
			list := e.vector(2)
			for len(list.b) > 0 {
				p := list.vector(1)
				if !list.bad {
					h.alpn = append(h.alpn, string(p.b))
				}
			}
		case extRecordSizeLimit:
			if n := e.uint(2); n >= 64 {
				h.recordLimit = n
			}
		case extSessionTicket:
			h.resumes = h.resumes || len(e.b) > 0
		case extPreSharedKey:
			h.resumes = true
		case extSupportedVersions:
			list := e.vector(1)
			if v := list.uint16s(); len(v) > 0 {
				h.versions = v
			}
		}
	}
	// GREASE [RFC 8701]
	grease := func(v uint16) bool { return v&0x0f0f == 0x0a0a && v>>8 == v&0xff }
	h.versions = slices.DeleteFunc(h.versions, grease)
	h.ciphers = slices.DeleteFunc(h.ciphers, grease)
	h.groups = slices.DeleteFunc(h.groups, grease)
	return h, true
}

// recordCap is the largest record payload to send to the client, at most max.
func (h *hello) recordCap(max int) int {
	if h.maxFragment > 0 {
		max = min(max, h.maxFragment)
	}
	if h.recordLimit > 0 {
		max = min(max, h.recordLimit-1) // TLS 1.3 counts the content type
	}
	return max
}
