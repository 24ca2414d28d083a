package testkit

import (
	"fmt"
	"strconv"
)

// wireState holds what every server owes every client, whatever the conversation is about.
type wireState struct {
	connect      bool // was sent
	connack      bool // was received
	refused      bool
	disconnected bool
	maxPacket    int
	aliasMax     int
	receiveMax   int
	quiet        bool // Request Problem Information 0
	authMethod   string
	aliases      map[int]string
	inflight     map[int]bool // packet ids of PUBLISH not yet acknowledged
}

func (s *wireState) reset() {
	*s = wireState{maxPacket: 1 << 28, receiveMax: 65535, aliases: map[int]string{}, inflight: map[int]bool{}}
}

// sent notes what the client has told the server.
func (s *wireState) sent(e *encoded) {
	f := e.fields
	switch e.kind {
	case "CONNECT":
		if s.connect {
			return // a second one is an error that changes nothing
		}
		s.connect = true
		if v := f.Get("maximum_packet_size"); v != "" {
			n, _ := strconv.ParseInt(v, 0, 64)
			if n > 0 {
				s.maxPacket = int(n)
			}
		}
		s.aliasMax = f.Int("topic_alias_maximum")
		if f["receive_maximum"] != nil {
			s.receiveMax = f.Int("receive_maximum")
		}
		s.quiet = f.Get("request_problem_info") == "0"
		s.authMethod = f.Get("auth_method")
	case "PUBACK", "PUBCOMP":
		delete(s.inflight, f.Int("id"))
	case "PUBREC":
		if c, _ := strconv.ParseUint(f.Get("code"), 0, 8); c >= 0x80 {
			delete(s.inflight, f.Int("id"))
		}
	}
}

// received checks a packet against what was said before, and resolves its topic alias.
func (s *wireState) received(version int, p *Packet) error {
	f := p.Fields
	switch {
	case s.disconnected:
		return fmt.Errorf("%s after DISCONNECT [MQTT-3.14.4-1]", p.Kind)
	case s.refused:
		return fmt.Errorf("%s after a refusal [MQTT-3.2.2-7]", p.Kind)
	case !s.connack && p.Kind != "CONNACK" && p.Kind != "AUTH":
		return fmt.Errorf("%s before CONNACK [MQTT-3.2.0-1]", p.Kind)
	case s.connack && p.Kind == "CONNACK":
		return fmt.Errorf("a second CONNACK [MQTT-3.2.0-2]")
	case p.Size > s.maxPacket:
		return fmt.Errorf("%s of %d bytes, maximum packet size is %d [MQTT-3.1.2-24]", p.Kind, p.Size, s.maxPacket)
	}
	if s.quiet && p.Kind != "PUBLISH" && p.Kind != "CONNACK" && p.Kind != "DISCONNECT" && (f["reason"] != nil || f["user"] != nil) {
		return fmt.Errorf("%s with a reason, though Request Problem Information is 0 [MQTT-3.1.2-29]", p.Kind)
	}
	if version == 5 && s.authMethod == "" && (p.Kind == "AUTH" || f["auth_method"] != nil) {
		return fmt.Errorf("%s with authentication that was not asked for [MQTT-4.12.0-6]", p.Kind)
	}
	switch p.Kind {
	case "CONNACK":
		s.connack = true
		if s.refused = f.Get("code") != "0"; s.refused && f.Get("sp") != "0" {
			return fmt.Errorf("a refusal with session present [MQTT-3.2.2-6]")
		}
		if s.refused && version == 5 && f.Int("code") < 0x80 {
			return fmt.Errorf("CONNACK code %s [MQTT-3.2.2-8]", f.Get("code"))
		}
	case "DISCONNECT":
		s.disconnected = true
	case "PUBLISH":
		if a, ok := f["topic_alias"]; ok {
			n, _ := strconv.Atoi(a[0])
			if n == 0 || n > s.aliasMax {
				return fmt.Errorf("topic alias %d, maximum is %d [MQTT-3.1.2-26]", n, s.aliasMax)
			}
			if t := f.Get("topic"); t != "" {
				s.aliases[n] = t
			} else if t, ok := s.aliases[n]; ok {
				f["topic"][0] = t
			} else {
				return fmt.Errorf("topic alias %d was never set", n)
			}
		} else if f.Get("topic") == "" {
			return fmt.Errorf("empty topic without an alias [MQTT-4.7.3-1]")
		}
		if f.Get("q") != "0" {
			id := f.Int("id")
			if s.inflight[id] {
				return fmt.Errorf("packet id %d is in use [MQTT-2.2.1-4]", id)
			}
			s.inflight[id] = true
			if len(s.inflight) > s.receiveMax {
				return fmt.Errorf("%d unacknowledged publications, receive maximum is %d [MQTT-3.3.4-9]", len(s.inflight), s.receiveMax)
			}
		}
	}
	return nil
}
