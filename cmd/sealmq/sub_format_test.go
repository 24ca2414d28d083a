package main

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/sealmq/sealmq/client"
)

var formatMessage = &client.Message{
	Topic: "a/b", Payload: []byte("hello"), QoS: 2, Retain: true, PacketID: 7,
	PayloadFormat: new(uint8(1)), MessageExpiry: new(uint32(60)), ContentType: "text/plain", ResponseTopic: "r/t",
	CorrelationData: []byte("abc"), SubscriptionIDs: []uint32{4, 5}, TopicAlias: 3,
	User: []client.UserProperty{{Key: "k", Value: "v"}, {Key: "k", Value: "w"}},
}

var formatTime = time.Date(2026, 1, 4, 9, 8, 7, 120_045_678, time.FixedZone("X", 3600)) // a Sunday

func TestFormat(t *testing.T) {
	for format, want := range map[string]string{
		`%t %p`:                      "a/b hello",
		`%q %r %l %m`:                "2 1 5 7",
		`%x %X`:                      "68656c6c6f 68656C6C6F",
		`%A|%C|%D|%E|%F|%R|%S|%P`:    "3|text/plain|abc|60|1|r/t|4 5|k:v k:w",
		`[%10t][%-10t][%.2t][%5.1t]`: "[       a/b][a/b       ][a/][    a]",
		`[%05m][%5m][%-5m][%-05m]`:   "[00007][    7][7    ][7    ]",
		`[%04l][%04q][%012x]`:        "[0005][   2][0068656c6c6f]",
		`%%@@\\\n\t\0\e\a\r\v`:       "%@\\\n\t\x00\x1b\a\r\v",
		`%I %U`:                      "2026-01-04T09:08:07+0100 1767514087.120045678",
		`@Y-@m-@dT@H:@M:@S@z @N`:     "2026-01-04T09:08:07+0100 120045678",
		`@a @A @b @B @C @y @j @e`:    "Sun Sunday Jan January 20 26 004  4",
		`@u @w @U @W @V @G @g @s`:    "7 0 01 00 01 2026 26 1767514087",
		`@I @l @k @p @D @F @T @R`:    "09  9  9 AM 01/04/26 2026-01-04 09:08:07 09:08",
		`%j`: `{"tst":"2026-01-04T09:08:07.120045+0100","topic":"a/b","qos":2,"retain":1,"payloadlen":5,"mid":7,` +
			`"properties":{"user-properties":{"k":"v","k":"w"},"content-type":"text/plain","response-topic":"r/t",` +
			`"correlation-data":"abc","payload-format-indicator":1,"message-expiry-interval":60,"topic-alias":3,` +
			`"subscription-identifier":[4,5]},"payload":"hello"}`,
	} {
		f, err := parseFormat(format)
		if err != nil {
			t.Errorf("%s: %v", format, err)
			continue
		}
		got, err := f.append(nil, formatMessage, formatTime, false)
		if err != nil || string(got) != want {
			t.Errorf("%s\n got %q\nwant %q %v", format, got, want, err)
		}
	}
	// A message without properties.
	f, _ := parseFormat("[%A%C%D%E%F%R%S%P%m]%j")
	got, _ := f.append(nil, &client.Message{Topic: "<t>", Payload: []byte{0xFF}}, formatTime, false)
	want := `[0]{"tst":"2026-01-04T09:08:07.120045+0100","topic":"<t>","qos":0,"retain":0,"payloadlen":1,"payload-base64":"/w=="}`
	if string(got) != want {
		t.Errorf("got %s", got)
	}
}

func TestFormatMistakes(t *testing.T) {
	for _, format := range []string{`%`, `%5`, `%-`, `%.`, `a\`, `a@`, `%z`, `\x`, `@?`, `%99999t`, `%.99999999999999999999t`} {
		if f, err := parseFormat(format); err == nil {
			t.Errorf("%s: accepted as %+v", format, f)
		}
	}
	f, _ := parseFormat("%J")
	if _, err := f.append(nil, formatMessage, formatTime, false); err == nil || !strings.Contains(err.Error(), "not valid JSON on topic a/b") {
		t.Errorf("%%J of a payload that is none: %v", err)
	}
	got, err := f.append(nil, &client.Message{Topic: "t", Payload: []byte(`{"x": [1, 2]}`)}, formatTime, true)
	if err != nil || !strings.Contains(string(got), "\t\"payload\": {\n\t\t\"x\": [\n") {
		t.Errorf("%s %v", got, err)
	}
}

func FuzzFormat(f *testing.F) {
	f.Add("%-010.5t@H\\n%j", "topic", []byte("payload"))
	f.Add("%J", "t", []byte(`{"a":1}`))
	f.Fuzz(func(t *testing.T, format, topic string, payload []byte) {
		compiled, err := parseFormat(format)
		if err != nil {
			return
		}
		m := &client.Message{Topic: topic, Payload: payload, QoS: 1}
		compiled.append(nil, m, formatTime, true)
		b, err := appendJSON(nil, m, formatTime, false, false)
		if err != nil || !json.Valid(b) {
			t.Fatalf("%s: %v", b, err)
		}
	})
}
