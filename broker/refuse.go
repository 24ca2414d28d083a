package broker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/sealmq/sealmq/mqtt"
)

// refuseRead ends a connection whose CONNECT could not be read.
func (c *Conn) refuseRead(err error) error {
	var e *mqtt.Error
	if errors.As(err, &e) {
		return c.refuse(e.Code, e.Text)
	}
	c.gone = true
	var refused interface{ Refused() (cause, hint string) } // TLS on a listener without it
	if errors.As(err, &refused) {
		cause, hint := refused.Refused()
		c.warnRefused("tls handshake refused", "tls handshake", "cause", cause, "hint", hint)
		c.link.Close(true)
		return fmt.Errorf("read CONNECT: %w", err)
	}
	if len(c.partial) == 0 { // a port scan or a health check
		c.b.log.Debug("connection ended before CONNECT", c.attrs("error", err)...)
	} else {
		c.logRefused(slog.LevelInfo, "connection ended before CONNECT", "cut short", "bytes", len(c.partial), "error", err)
	}
	c.link.Close(true)
	return fmt.Errorf("read CONNECT: %w", err)
}

// refuse answers a CONNECT with a reason and ends the connection [MQTT-3.2.2-7]. A peer that does not speak MQTT, or
// speaks it wrongly in version 3, gets no CONNACK [MQTT311 MQTT-3.1.4-1].
func (c *Conn) refuse(code mqtt.ReasonCode, text string) error {
	c.gone = true
	c.warnRefused("connection refused", code.String(), "reason", code.String(), "text", text)
	silent := c.version == 0
	if c.version == mqtt.V31 || c.version == mqtt.V311 {
		switch code {
		case mqtt.MalformedPacket, mqtt.ProtocolError, mqtt.TopicNameInvalid, mqtt.PacketTooLarge:
			silent = true
		}
	}
	if !silent {
		p := mqtt.Connack{Code: code}
		if text != "" && c.version == mqtt.V5 {
			p.Props.ReasonString = []byte(text)
			p.Props.Set(mqtt.PropReasonString)
			if int64(p.Size(c.version)) > c.maxSend { // [MQTT-3.2.2-19]
				p.Props.Reset()
			}
		}
		if int64(p.Size(c.version)) <= c.maxSend {
			c.link.Write(p.Append(nil, c.version))
		}
	}
	c.link.Close(true)
	return &mqtt.Error{Code: code, Text: text}
}

// warnRefused is logRefused for what somebody should look at.
func (c *Conn) warnRefused(text, kind string, more ...any) {
	c.logRefused(slog.LevelWarn, text, kind, more...)
}

// logRefused logs that a client was not let in, unless one from its address was refused in the same way a moment ago.
func (c *Conn) logRefused(level slog.Level, text, kind string, more ...any) {
	omitted, ok := c.b.hush.allow(c.b.now(), "CONNECT: "+kind, host(c.peer.Addr))
	if !ok {
		return
	}
	attrs := c.attrs(more...)
	if omitted > 0 {
		attrs = append(attrs, "not_logged_before", omitted)
	}
	c.b.log.Log(context.Background(), level, text, attrs...)
}

func (c *Conn) refuseStored(err error) error {
	c.logRefused(slog.LevelError, "store session", "not stored", "error", err)
	return c.refuse(mqtt.ServerUnavailable, "the session cannot be stored")
}
