package differential

import (
	"bytes"
	"slices"
	"unicode"
	"unicode/utf8"

	"github.com/sealmq/sealmq/mqtt"
)

// diagnosis is what a strict reader says of the step's packets: "" if nothing,
// else it is in brackets.
func (s step) diagnosis() string {
	packet, rest := complete(slices.Clone(s.packet))
	why := diagnose(packet, s.version)
	if why == "" && rest != nil {
		why = "it is not whole"
	}
	if why != "" {
		why = " (" + why + ")"
	}
	return why
}

func diagnose(packet []byte, version byte) string {
	for len(packet) > 0 {
		h, err := mqtt.ParseHeader(packet)
		if err != nil {
			return err.Error()
		}
		if why := judge(h, packet[h.Size:h.Size+h.Length], mqtt.Version(version)); why != "" {
			return why
		}
		packet = packet[h.Size+h.Length:]
	}
	return ""
}

// judge judges the body of one packet.
func judge(h mqtt.Header, body []byte, v mqtt.Version) string {
	var err error
	var texts [][]byte
	switch h.Type {
	case mqtt.CONNECT:
		var p mqtt.Connect
		err = p.Parse(v, h.Flags, body)
		texts = append(texts, p.ClientID, p.Will.Topic)
		texts = append(texts, stringsOf(&p.Props)...)
		texts = append(texts, stringsOf(&p.Will.Props)...)
	case mqtt.PUBLISH:
		var p mqtt.Publish
		err = p.Parse(v, h.Flags, body)
		texts = append(stringsOf(&p.Props), p.Topic)
		if err == nil && len(p.Props.SubscriptionIDs) > 0 {
			return "a client's PUBLISH with Subscription Identifier"
		}
	case mqtt.PUBACK, mqtt.PUBREC, mqtt.PUBREL, mqtt.PUBCOMP:
		err = (&mqtt.Ack{Type: h.Type}).Parse(v, h.Flags, body)
	case mqtt.SUBSCRIBE:
		var p mqtt.Subscribe
		err = p.Parse(v, h.Flags, body)
		texts = stringsOf(&p.Props)
		for _, s := range p.Filters {
			texts = append(texts, s.Filter)
		}
	case mqtt.UNSUBSCRIBE:
		var p mqtt.Unsubscribe
		err = p.Parse(v, h.Flags, body)
		texts = append(stringsOf(&p.Props), p.Filters...)
	case mqtt.DISCONNECT:
		var p mqtt.Disconnect
		err = p.Parse(v, h.Flags, body)
		texts = stringsOf(&p.Props)
	case mqtt.AUTH:
		err = new(mqtt.Auth).Parse(v, h.Flags, body)
	case mqtt.CONNACK, mqtt.SUBACK, mqtt.UNSUBACK, mqtt.PINGRESP:
		return "only a server sends " + packetName(byte(h.Type))
	}
	if err != nil {
		return err.Error()
	}
	for _, t := range texts {
		if bytes.ContainsFunc(t, inadvisable) {
			return "control or non-characters"
		}
	}
	return ""
}

func stringsOf(p *mqtt.Properties) [][]byte {
	all := [][]byte{p.ResponseTopic, p.ContentType, p.ReasonString, p.AuthMethod}
	for _, u := range p.User {
		all = append(all, u.Key, u.Value)
	}
	return all
}

// inadvisable tells characters that a string should not have (section 1.5.4).
func inadvisable(r rune) bool {
	return r != utf8.RuneError && (unicode.IsControl(r) || r&0xfffe == 0xfffe || r >= 0xfdd0 && r <= 0xfdef)
}
