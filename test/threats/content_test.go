package threats

import (
	"bytes"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sealmq/sealmq/mqtt"
	"github.com/sealmq/sealmq/test/internal/built"
)

// within fails if an attack takes others more than a moment. It is long, since
// machines are slow: what these attacks did to others took minutes, or all of the
// stack.
func within(t *testing.T, what string, attack func()) {
	t.Helper()
	begin := time.Now()
	attack()
	if took := time.Since(begin); took > 20*time.Second {
		t.Errorf("%s takes %v", what, took)
	}
}

// Topics and filters as deep as they can be cost no stack and little time, alone
// and against each other (CVE-2019-11779).
func TestDeepTopics(t *testing.T) {
	t.Parallel()
	b := startBroker(t, jsonLog+plain)
	c := b.connect(t, "plain", nil, hello("c"))
	slashes := strings.Repeat("/", 65_535)
	pluses := strings.Repeat("+/", 32_767) + "+"
	if built.Race { // a stack is as deep, and everything else ten times as slow
		slashes, pluses = slashes[:30_000], strings.Repeat("+/", 29_999)+"+"
	}
	within(t, "the deepest topic", func() {
		want(t, "retain", c.publish(slashes, 1, true, "x"), nobody)
		for _, filter := range []string{slashes, pluses, "#", "+/#", slashes[:30_000] + "#", strings.Repeat("/+", 20_000), "$share/g/" + pluses[:40_001]} {
			if code := c.subscribe(filter, 1); code.IsError() {
				t.Errorf("a filter of %d bytes: %v", len(filter), code)
			}
		}
		for _, topic := range []string{slashes, strings.Repeat("a/", 20_000), strings.Repeat("/", 32_766)} {
			if code := c.publish(topic, 1, false, "end"); code.IsError() {
				t.Errorf("a topic of %d bytes: %v", len(topic), code)
			}
			c.until("end")
		}
		b.connect(t, "plain", nil, hello("other")).alive()
	})
	c.disconnect()
	h := newHome(t, jsonLog+plain+"[limits]\nmax_topic_levels = 32\n")
	c = h.start(t).connect(t, "plain", nil, hello("c"))
	want(t, "33 levels", c.subscribe(strings.Repeat("/", 32), 1), mqtt.TopicFilterInvalid)
	want(t, "32 levels", c.subscribe(strings.Repeat("/", 31), 1), qos1)
}

// Thousands of user properties are read in no more than the time that their bytes
// take, and go to nobody who did not subscribe.
func TestManyUserProperties(t *testing.T) {
	t.Parallel()
	b := startBroker(t, jsonLog+plain)
	many := make([]mqtt.UserProperty, 10_000)
	for i := range many {
		many[i] = mqtt.UserProperty{Key: []byte("k"), Value: []byte(fmt.Sprint(i))}
	}
	within(t, "10,000 user properties", func() {
		p := hello("c")
		p.Props.User = many
		c := b.connect(t, "plain", nil, p)
		c.subscribe("a", 1)
		m := mqtt.Publish{Topic: []byte("a"), QoS: 1, PacketID: 7, Payload: []byte("end")}
		m.Props.User = many
		for range 20 {
			c.send(m.Append(nil, mqtt.V5))
			flags, body := c.await(mqtt.PUBACK)
			a := mqtt.Ack{Type: mqtt.PUBACK}
			c.parse(a.Parse(c.v, flags, body))
			want(t, "publish", a.Code, mqtt.Success)
			c.until("end")
		}
		s := mqtt.Subscribe{PacketID: 8, Filters: []mqtt.Subscription{{Filter: []byte("b")}}}
		s.Props.User = many
		c.send(s.Append(nil, mqtt.V5))
		c.await(mqtt.SUBACK)
		d := mqtt.Disconnect{}
		d.Props.User = many
		c.send(d.Append(nil, mqtt.V5))
		c.ended()
		b.connect(t, "plain", nil, hello("other")).alive()
	})
}

// One SUBSCRIBE may have as many filters as a packet holds, and no session more
// subscriptions than max_subscriptions.
func TestManyFilters(t *testing.T) {
	t.Parallel()
	b := startBroker(t, jsonLog+plain+"[limits]\nmax_subscriptions = 1000\n")
	c := b.connect(t, "plain", nil, hello("c"))
	s := mqtt.Subscribe{PacketID: 7}
	for i := range 10_000 {
		s.Filters = append(s.Filters, mqtt.Subscription{Filter: []byte(fmt.Sprintf("+/%d/#", i))})
	}
	c.send(s.Append(nil, mqtt.V5))
	var ack mqtt.Suback
	flags, body := c.await(mqtt.SUBACK)
	c.parse(ack.Parse(c.v, flags, body))
	granted := 0
	for _, code := range ack.Codes {
		if !code.IsError() {
			granted++
		} else if code != mqtt.QuotaExceeded {
			t.Fatalf("refused by %v", code)
		}
	}
	if granted != 1000 {
		t.Errorf("%d of 10,000 are granted, want 1000", granted)
	}
}

// Connections that throw each other out while they subscribe and unsubscribe leave
// one session that works (CVE-2026-22040, CVE-2024-8376, CVE-2025-59946). With the
// race detector in the tests the broker has it too.
func TestTakeoverStorm(t *testing.T) {
	t.Parallel()
	b := startBroker(t, jsonLog+plain)
	rounds := 60
	if *long {
		rounds = 2000
	}
	stop := make(chan struct{})
	publisher := b.connect(t, "plain", nil, hello("publisher"))
	var flow, storm sync.WaitGroup
	flow.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
				publisher.publish(fmt.Sprintf("a/%d", i%4), uint8(i%3), i%7 == 0, "x")
			}
		}
	})
	for i := range 8 {
		storm.Go(func() {
			for k := range rounds {
				nc := b.dialPlain(t, "plain")
				p := hello("same")
				if p.CleanStart = (i+k)%3 == 0; (i+k)%2 == 0 {
					p = lasting("same")
				}
				var out []byte
				out = p.Append(out, mqtt.V5)
				for j := range 1 + (i*7+k)%6 {
					f := []string{"a/+", "a/#", "$share/g/a/+", "a/1"}[(i+j+k)%4]
					id := uint16(j + 1)
					if (i+j)%2 == 0 {
						out = (&mqtt.Subscribe{PacketID: id, Filters: []mqtt.Subscription{{Filter: []byte(f), QoS: uint8(j % 3)}}}).Append(out, mqtt.V5)
					} else {
						out = (&mqtt.Unsubscribe{PacketID: id, Filters: [][]byte{[]byte(f)}}).Append(out, mqtt.V5)
					}
				}
				nc.send(out)
				if k%3 > 0 {
					nc.in.Peek(1 + k%5)
				}
				nc.Close()
			}
		})
	}
	storm.Wait()
	close(stop)
	flow.Wait()
	publisher.alive()
	last := b.connect(t, "plain", nil, hello("same"))
	want(t, "subscribe", last.subscribe("b", 1), qos1)
	want(t, "publish", publisher.publish("b", 1, false, "end"), mqtt.Success)
	if got := last.until("end"); len(got) > 0 {
		t.Errorf("a session that began anew has subscriptions of before: it receives %q", got)
	}
}

// What one client sends ends no other's connection, however malformed
// (CVE-2017-7653, CVE-2026-30867): it is refused where it comes in.
func TestOthersAreNotHit(t *testing.T) {
	t.Parallel()
	b := startBroker(t, jsonLog+plain)
	others := map[mqtt.Version]*client{}
	for _, v := range []mqtt.Version{mqtt.V31, mqtt.V311, mqtt.V5} {
		p := hello(fmt.Sprintf("other-%d", v))
		p.Version = v
		c := b.dialPlain(t, "plain")
		c.open(p)
		c.subscribe("#", 2)
		others[v] = c
	}
	utf8 := [][]byte{{0xff}, {0xed, 0xa0, 0x80}, {0xc0, 0x80}, {0}, []byte("a\x00b"), {0xf4, 0x90, 0x80, 0x80}}
	for _, bad := range utf8 {
		for _, p := range []mqtt.Publish{
			{Topic: bad, Retain: true, Payload: []byte("x")},
			{Topic: append([]byte("a/"), bad...), QoS: 2, PacketID: 1, Retain: true, Payload: []byte("x")},
			func() (p mqtt.Publish) {
				p.Topic, p.Retain = []byte("a"), true
				p.Props.User = []mqtt.UserProperty{{Key: bad, Value: bad}}
				return p
			}(),
			func() (p mqtt.Publish) {
				p.Topic, p.Retain, p.Props.ContentType = []byte("a"), true, bad
				p.Props.Set(mqtt.PropContentType)
				return p
			}(),
		} {
			c := b.connect(t, "plain", nil, hello("bad"))
			c.send(p.Append(nil, mqtt.V5))
			if reason := c.ended(); !reason.IsError() {
				t.Errorf("% x is taken", bad)
			}
		}
	}
	good := b.connect(t, "plain", nil, hello("good"))
	good.publish("\ufeffa/\u202e\n", 2, true, strings.Repeat("\xff\x00", 1000)) // a payload is anything
	good.publish("end", 1, false, "end")
	for v, c := range others {
		for _, topic := range c.until("end") {
			if bytes.ContainsAny([]byte(topic), "\x00\xff") {
				t.Errorf("version %d receives %q", v, topic)
			}
		}
	}
}
