package main

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/sealmq/sealmq/client"
)

// appendJSON writes m as one JSON object, with the member names of
// mosquitto_sub. raw puts a payload that is JSON itself in as it is; without,
// it is a string, and one that is not UTF-8 comes as payload-base64.
func appendJSON(dst []byte, m *client.Message, at time.Time, raw, pretty bool) ([]byte, error) {
	var b []byte
	b = append(b, `{"tst":"`...)
	b = at.AppendFormat(b, "2006-01-02T15:04:05.000000-0700")
	b = append(b, `","topic":`...)
	b = appendString(b, m.Topic)
	b = fmt.Appendf(b, `,"qos":%d,"retain":%d,"payloadlen":%d`, m.QoS, bit(m.Retain), len(m.Payload))
	if m.QoS > 0 {
		b = fmt.Appendf(b, `,"mid":%d`, m.PacketID)
	}
	if p := jsonProperties(m); len(p) > 0 {
		b = append(b, `,"properties":{`...)
		b = append(b, bytes.Join(p, []byte(","))...)
		b = append(b, '}')
	}
	switch {
	case raw:
		var compact bytes.Buffer
		if err := json.Compact(&compact, m.Payload); err != nil {
			return dst, fmt.Errorf("message payload is not valid JSON on topic %s", m.Topic)
		}
		b = append(append(b, `,"payload":`...), compact.Bytes()...)
	case utf8.Valid(m.Payload):
		b = appendString(append(b, `,"payload":`...), string(m.Payload))
	default:
		b = append(b, `,"payload-base64":"`...)
		b = base64.StdEncoding.AppendEncode(b, m.Payload)
		b = append(b, '"')
	}
	b = append(b, '}')
	if pretty {
		var out bytes.Buffer
		if err := json.Indent(&out, b, "", "\t"); err != nil {
			return dst, fmt.Errorf("message on topic %s: %w", m.Topic, err)
		}
		b = out.Bytes()
	}
	return append(dst, b...), nil
}

func jsonProperties(m *client.Message) (p [][]byte) {
	add := func(name string, value []byte) {
		p = append(p, append([]byte(`"`+name+`":`), value...))
	}
	number := func(n uint64) []byte { return strconv.AppendUint(nil, n, 10) }
	if len(m.User) > 0 {
		// An object whose names may repeat: order and repetition mean something.
		b := []byte{'{'}
		for i, u := range m.User {
			if i > 0 {
				b = append(b, ',')
			}
			b = appendString(append(appendString(b, u.Key), ':'), u.Value)
		}
		add("user-properties", append(b, '}'))
	}
	if m.ContentType != "" {
		add("content-type", appendString(nil, m.ContentType))
	}
	if m.ResponseTopic != "" {
		add("response-topic", appendString(nil, m.ResponseTopic))
	}
	if m.CorrelationData != nil {
		if utf8.Valid(m.CorrelationData) {
			add("correlation-data", appendString(nil, string(m.CorrelationData)))
		} else {
			add("correlation-data-base64", appendString(nil, base64.StdEncoding.EncodeToString(m.CorrelationData)))
		}
	}
	if m.PayloadFormat != nil {
		add("payload-format-indicator", number(uint64(*m.PayloadFormat)))
	}
	if m.MessageExpiry != nil {
		add("message-expiry-interval", number(uint64(*m.MessageExpiry)))
	}
	if m.TopicAlias != 0 {
		add("topic-alias", number(uint64(m.TopicAlias)))
	}
	if ids := m.SubscriptionIDs; len(ids) == 1 {
		add("subscription-identifier", number(uint64(ids[0])))
	} else if len(ids) > 1 {
		list, _ := json.Marshal(ids)
		add("subscription-identifier", list)
	}
	return p
}

// appendString is s as a JSON string, without escapes that only HTML needs.
func appendString(dst []byte, s string) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if e.Encode(s) != nil {
		return append(dst, `""`...)
	}
	return append(dst, bytes.TrimRight(b.Bytes(), "\n")...)
}

func bit(b bool) int {
	if b {
		return 1
	}
	return 0
}
