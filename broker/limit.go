package broker

import (
	"net"

	"github.com/sealmq/sealmq/mqtt"
)

// limited counts and logs that a limit of the configuration, named by its key, has refused or cut something.
func (c *Conn) limited(k counter, limit string, more ...any) {
	w := c.w
	if w == nil { // before CONNECT is accepted
		w = c.b.worker()
		defer c.b.release(w)
	}
	w.count(k, 1)
	if omitted, ok := c.b.hush.allow(c.b.now(), limit, c.who()); ok {
		c.b.warnLimit(limit, omitted, c.attrs(more...))
	}
}

// warnLimit logs that a client has met a limit. The caller has asked hush.
func (b *Broker) warnLimit(limit string, omitted uint64, attrs []any) {
	attrs = append(attrs, "limit", limit)
	if omitted > 0 {
		attrs = append(attrs, "not_logged_before", omitted)
	}
	b.log.Warn("limit reached", attrs...)
}

// who tells clients apart in the log: by their identifier, before that is accepted by their address.
func (c *Conn) who() string {
	if c.sess != nil {
		return c.sess.id
	}
	return host(c.peer.Addr)
}

// clip is the beginning of a text for the log.
func clip(b []byte) string { return string(b[:min(len(b), 256)]) }

// host is an address without its port.
func host(addr string) string {
	if h, _, err := net.SplitHostPort(addr); err == nil {
		return h
	}
	return addr
}

// tooMany reports whether a packet has more user properties than it may.
func (c *Conn) tooMany(p *mqtt.Properties) bool {
	if len(p.User) == 0 {
		return false
	}
	size := int64(0)
	for i := range p.User {
		size += int64(len(p.User[i].Key) + len(p.User[i].Value))
	}
	switch {
	case len(p.User) > c.lim.MaxUserProperties:
		c.limited(limitedUserProperties, "max_user_properties", "properties", len(p.User))
	case size > c.lim.MaxUserPropertyBytes:
		c.limited(limitedUserProperties, "max_user_property_bytes", "bytes", size)
	default:
		return false
	}
	return true
}

// failMany ends the connection for the user properties of a packet that has no answer of its own for that.
func (c *Conn) failMany() error {
	return c.fail(violation(mqtt.QuotaExceeded, "more user properties than max_user_properties or max_user_property_bytes allow"))
}

const manyProperties = "more user properties than are allowed here"
