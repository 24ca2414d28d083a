package client

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sealmq/sealmq/mqtt"
)

var background = context.Background()

// clauses: MQTT5 [MQTT-3.1.2-23] [MQTT-3.1.3-3]
func TestConnectSaysEverything(t *testing.T) {
	bubble(t, func(t *testing.T) {
		dial, s := pair(t, mqtt.V5)
		var got mqtt.Connect
		go func() {
			s.want(mqtt.CONNECT, &got)
			ack := mqtt.Connack{SessionPresent: true}
			ack.Props.AssignedClientID = []byte("auto-1")
			ack.Props.ServerKeepAlive = 7
			ack.Props.ReceiveMaximum = 3
			ack.Props.MaximumQoS = 1
			ack.Props.Set(mqtt.PropAssignedClientID, mqtt.PropServerKeepAlive, mqtt.PropReceiveMaximum, mqtt.PropMaximumQoS)
			s.send(&ack)
			s.want(mqtt.DISCONNECT, new(mqtt.Disconnect))
			s.conn.Close()
		}()
		c, err := Connect(background, Config{
			Dial: dial, KeepAlive: 30, SessionExpiry: 60, Username: "u", Password: []byte("p"),
			Will: &Message{Topic: "w", Payload: []byte("x"), QoS: 1, Retain: true, WillDelay: 5, ContentType: "text"},
			User: []UserProperty{{"k", "v"}},
		})
		if err != nil {
			t.Fatal(err)
		}
		if s := c.Server(); s.ClientID != "auto-1" || s.KeepAlive != 7 || s.ReceiveMaximum != 3 || s.MaximumQoS != 1 || !s.SessionPresent || s.SessionExpiry != 60 {
			t.Errorf("server: %+v", s)
		}
		if err := c.Disconnect(mqtt.Success); err != nil {
			t.Error(err)
		}
		if string(got.Username) != "u" || string(got.Password) != "p" || got.KeepAlive != 30 || got.CleanStart ||
			string(got.Will.Topic) != "w" || got.Will.Props.WillDelay != 5 || string(got.Will.Props.ContentType) != "text" ||
			got.Props.SessionExpiry != 60 || len(got.Props.User) != 1 {
			t.Errorf("CONNECT: %+v", got)
		}
	})
}

func TestConnectRefused(t *testing.T) {
	bubble(t, func(t *testing.T) {
		for _, v := range []mqtt.Version{mqtt.V31, mqtt.V311, mqtt.V5} {
			dial, s := pair(t, v)
			go func() {
				s.want(mqtt.CONNECT, new(mqtt.Connect))
				ack := mqtt.Connack{Code: mqtt.NotAuthorized}
				if v == mqtt.V5 {
					ack.Props.ReasonString = []byte("not you")
					ack.Props.Set(mqtt.PropReasonString)
				}
				s.send(&ack)
			}()
			_, err := Connect(background, Config{Dial: dial, Version: v, ClientID: "a", CleanStart: true})
			var refused *ServerError
			if !errors.Is(err, mqtt.NotAuthorized) || !errors.As(err, &refused) || refused.Packet != mqtt.CONNACK {
				t.Errorf("version %v: %v", v, err)
			}
			if v == mqtt.V5 && !strings.Contains(err.Error(), "not you") {
				t.Errorf("the reason string is missing: %v", err)
			}
		}
	})
}

func TestConnectTimesOut(t *testing.T) {
	bubble(t, func(t *testing.T) {
		dial, s := pair(t, mqtt.V5)
		go func() { s.want(mqtt.CONNECT, nil) }()
		began := time.Now()
		_, err := Connect(background, Config{Dial: dial, CleanStart: true})
		if !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != 20*time.Second {
			t.Errorf("%v after %v", err, time.Since(began))
		}
	})
}

// clauses: MQTT5 [MQTT-3.2.2-4]
func TestSessionPresentAfterCleanStart(t *testing.T) {
	bubble(t, func(t *testing.T) {
		dial, s := pair(t, mqtt.V5)
		go func() {
			s.want(mqtt.CONNECT, nil)
			s.send(&mqtt.Connack{SessionPresent: true})
			s.wantEnd()
		}()
		if _, err := Connect(background, Config{Dial: dial, CleanStart: true}); err == nil {
			t.Error("accepted")
		}
		synctest.Wait()
	})
}

// clauses: MQTT5 [MQTT-4.3.1-1] [MQTT-4.3.2-1] [MQTT-4.3.3-1] [MQTT-4.3.3-4]
func TestPublish(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c, s := connect(t, Config{CleanStart: true}, mqtt.Connack{})
		go func() {
			var p mqtt.Publish
			s.want(mqtt.PUBLISH, &p)
			if p.QoS != 0 || string(p.Payload) != "zero" {
				t.Errorf("%+v", p)
			}
			s.want(mqtt.PUBLISH, &p)
			s.send(&mqtt.Ack{Type: mqtt.PUBACK, PacketID: p.PacketID, Code: mqtt.NoMatchingSubscribers})
			s.want(mqtt.PUBLISH, &p)
			s.send(&mqtt.Ack{Type: mqtt.PUBACK, PacketID: p.PacketID, Code: mqtt.NotAuthorized})
			s.want(mqtt.PUBLISH, &p)
			s.send(&mqtt.Ack{Type: mqtt.PUBREC, PacketID: p.PacketID})
			var rel mqtt.Ack
			s.want(mqtt.PUBREL, &rel)
			if rel.PacketID != p.PacketID {
				t.Errorf("PUBREL %d for %d", rel.PacketID, p.PacketID)
			}
			s.send(&mqtt.Ack{Type: mqtt.PUBCOMP, PacketID: p.PacketID})
			s.want(mqtt.PUBLISH, &p)
			s.send(&mqtt.Ack{Type: mqtt.PUBREC, PacketID: p.PacketID, Code: mqtt.QuotaExceeded})
		}()
		for _, step := range []struct {
			payload string
			qos     uint8
			code    mqtt.ReasonCode
		}{
			{"zero", 0, mqtt.Success},
			{"one", 1, mqtt.NoMatchingSubscribers},
			{"refused", 1, mqtt.NotAuthorized},
			{"two", 2, mqtt.Success},
			{"refused", 2, mqtt.QuotaExceeded},
		} {
			code, err := c.Publish(background, &Message{Topic: "t", Payload: []byte(step.payload), QoS: step.qos})
			if code != step.code || (err != nil) != code.IsError() || err != nil && !errors.Is(err, code) {
				t.Errorf("%s: %v, %v", step.payload, code, err)
			}
		}
		if n := c.s.Pending(); n != 0 {
			t.Errorf("%d messages left over", n)
		}
		c.Close()
	})
}

// clauses: MQTT5 [MQTT-3.2.2-11] [MQTT-3.2.2-14] [MQTT-3.2.2-15] [MQTT-3.3.2-9] [MQTT-3.8.3-4]
func TestServerLimitsAreKept(t *testing.T) {
	bubble(t, func(t *testing.T) {
		ack := mqtt.Connack{}
		p := &ack.Props
		p.MaximumQoS, p.MaximumPacketSize, p.TopicAliasMaximum = 1, 40, 2
		p.Set(mqtt.PropMaximumQoS, mqtt.PropRetainAvailable, mqtt.PropMaximumPacketSize, mqtt.PropTopicAliasMaximum,
			mqtt.PropWildcardAvailable, mqtt.PropSharedAvailable, mqtt.PropSubscriptionIDAvailable)
		c, s := connect(t, Config{CleanStart: true}, ack)
		for code, m := range map[mqtt.ReasonCode]*Message{
			mqtt.QoSNotSupported:    {Topic: "t", QoS: 2},
			mqtt.RetainNotSupported: {Topic: "t", Retain: true},
			mqtt.PacketTooLarge:     {Topic: "t", Payload: make([]byte, 40)},
			mqtt.TopicAliasInvalid:  {Topic: "t", TopicAlias: 3},
			mqtt.TopicNameInvalid:   {Topic: "t/#"},
		} {
			if _, err := c.Publish(background, m); !errors.Is(err, code) {
				t.Errorf("%v: %v", code, err)
			}
		}
		for code, sub := range map[mqtt.ReasonCode]Subscription{
			mqtt.WildcardSubscriptionsNotSupported: {Filter: "a/+"},
			mqtt.SharedSubscriptionsNotSupported:   {Filter: "$share/g/a"},
			mqtt.ProtocolError:                     {Filter: "$share/g/a", NoLocal: true},
			mqtt.TopicFilterInvalid:                {Filter: "a#"},
		} {
			if _, err := c.Subscribe(background, sub); !errors.Is(err, code) {
				t.Errorf("%v: %v", code, err)
			}
		}
		if _, err := c.SubscribeWith(background, SubscribeOptions{ID: 1}, Subscription{Filter: "a"}); !errors.Is(err, mqtt.SubscriptionIDsNotSupported) {
			t.Error(err)
		}
		s.quiet()
		c.Close()
	})
}

// clauses: MQTT5 [MQTT-3.3.4-9] [MQTT-4.9.0-1] [MQTT-4.9.0-2]
func TestReceiveMaximumOfTheServer(t *testing.T) {
	bubble(t, func(t *testing.T) {
		ack := mqtt.Connack{}
		ack.Props.ReceiveMaximum = 2
		ack.Props.Set(mqtt.PropReceiveMaximum)
		c, s := connect(t, Config{CleanStart: true}, ack)
		go func() {
			for range 3 {
				c.PublishAsync(background, &Message{Topic: "t", QoS: 1}, nil)
			}
		}()
		var one, two, three mqtt.Publish
		s.want(mqtt.PUBLISH, &one)
		s.want(mqtt.PUBLISH, &two)
		s.quiet()
		s.send(&mqtt.Ack{Type: mqtt.PUBACK, PacketID: one.PacketID})
		s.want(mqtt.PUBLISH, &three)
		ctx, cancel := context.WithTimeout(background, time.Second)
		defer cancel()
		if err := c.PublishAsync(ctx, &Message{Topic: "t", QoS: 1}, nil); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("over the receive maximum: %v", err)
		}
		c.Close()
	})
}

// clauses: MQTT5 [MQTT-4.3.2-4] [MQTT-4.3.3-8] [MQTT-4.3.3-10] [MQTT-4.3.3-11] [MQTT-4.6.0-2]
func TestReceive(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var got []string
		c, s := connect(t, Config{CleanStart: true, OnMessage: func(m *Message) { got = append(got, string(m.Payload)) }}, mqtt.Connack{})
		publish := func(qos uint8, id uint16, dup bool, payload string) {
			s.send(&mqtt.Publish{Topic: []byte("t"), QoS: qos, PacketID: id, Dup: dup, Payload: []byte(payload)})
		}
		var a mqtt.Ack
		publish(0, 0, false, "a")
		publish(1, 9, false, "b")
		s.want(mqtt.PUBACK, &a)
		publish(2, 9, false, "c")
		s.want(mqtt.PUBREC, &a)
		publish(2, 9, true, "c")
		s.want(mqtt.PUBREC, &a)
		s.send(&mqtt.Ack{Type: mqtt.PUBREL, PacketID: 9})
		s.want(mqtt.PUBCOMP, &a)
		if a.Code != mqtt.Success {
			t.Errorf("PUBCOMP %v", a.Code)
		}
		s.send(&mqtt.Ack{Type: mqtt.PUBREL, PacketID: 9})
		s.want(mqtt.PUBCOMP, &a)
		if a.Code != mqtt.PacketIDNotFound {
			t.Errorf("second PUBCOMP %v", a.Code)
		}
		publish(2, 9, false, "d")
		s.want(mqtt.PUBREC, &a)
		if s := strings.Join(got, ""); s != "abcd" {
			t.Errorf("received %s", s)
		}
		c.Close()
	})
}

// clauses: MQTT5 [MQTT-4.4.0-1] [MQTT-3.3.1-1] [MQTT-4.6.0-1] [MQTT-3.2.2-5]
func TestSessionResumes(t *testing.T) {
	bubble(t, func(t *testing.T) {
		session := new(Session)
		cfg := Config{ClientID: "a", SessionExpiry: 100, Session: session}
		c, s := connect(t, cfg, mqtt.Connack{})
		var ends []string
		for i, qos := range []uint8{1, 2, 1} {
			name := string(rune('a' + i))
			err := c.PublishAsync(background, &Message{Topic: name, QoS: qos}, func(code mqtt.ReasonCode, err error) {
				if err != nil {
					name += ":" + err.Error()
				}
				ends = append(ends, name)
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		var p mqtt.Publish
		ids := map[string]uint16{}
		for range 3 {
			s.want(mqtt.PUBLISH, &p)
			ids[string(p.Topic)] = p.PacketID
		}
		s.send(&mqtt.Ack{Type: mqtt.PUBREC, PacketID: ids["b"]})
		s.want(mqtt.PUBREL, nil)
		s.conn.Close()
		c.Wait()
		if err := c.Err(); !errors.Is(err, ErrConnectionLost) {
			t.Error(err)
		}
		if session.Pending() != 3 || len(ends) != 0 {
			t.Fatalf("%d pending, ended: %v", session.Pending(), ends)
		}

		ack := mqtt.Connack{SessionPresent: true}
		ack.Props.ReceiveMaximum = 2
		ack.Props.Set(mqtt.PropReceiveMaximum)
		c, s = connect(t, cfg, ack)
		s.want(mqtt.PUBLISH, &p)
		if !p.Dup || string(p.Topic) != "a" || p.PacketID != ids["a"] {
			t.Errorf("first again: %+v", p)
		}
		var rel mqtt.Ack
		s.want(mqtt.PUBREL, &rel)
		if rel.PacketID != ids["b"] {
			t.Errorf("PUBREL %d", rel.PacketID)
		}
		s.quiet() // the third waits for the smaller receive maximum
		s.send(&mqtt.Ack{Type: mqtt.PUBCOMP, PacketID: ids["b"], Code: mqtt.PacketIDNotFound})
		s.want(mqtt.PUBLISH, &p)
		if string(p.Topic) != "c" {
			t.Errorf("third: %+v", p)
		}
		s.conn.Close()
		c.Wait()

		c, s = connect(t, cfg, mqtt.Connack{}) // the server has forgotten
		s.quiet()
		if got := strings.Join(ends, " "); got != "b a:"+ErrSessionLost.Error()+" c:"+ErrSessionLost.Error() {
			t.Errorf("ended: %s", got)
		}
		c.Close()
	})
}

// clauses: MQTT5 [MQTT-3.3.2-8] [MQTT-3.3.2-10] [MQTT-3.3.2-12] [MQTT-4.13.1-1]
func TestTopicAliases(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var got []string
		c, s := connect(t, Config{CleanStart: true, TopicAliasMaximum: 2, OnMessage: func(m *Message) { got = append(got, m.Topic) }}, mqtt.Connack{})
		send := func(topic string, alias uint16) {
			p := mqtt.Publish{Topic: []byte(topic)}
			p.Props.TopicAlias = alias
			p.Props.Set(mqtt.PropTopicAlias)
			s.send(&p)
		}
		send("x", 2)
		send("", 2)
		send("y", 2)
		send("", 2)
		synctest.Wait()
		if s := strings.Join(got, " "); s != "x x y y" {
			t.Errorf("topics %s", s)
		}
		send("z", 3)
		var d mqtt.Disconnect
		s.want(mqtt.DISCONNECT, &d)
		if d.Code != mqtt.TopicAliasInvalid {
			t.Errorf("DISCONNECT %v", d.Code)
		}
		s.conn.Close()
		c.Wait()
		var me *mqtt.Error
		if err := c.Err(); !errors.As(err, &me) {
			t.Error(err)
		}
	})
}

// clauses: MQTT5 [MQTT-3.1.2-20] [MQTT-3.1.2-21]
func TestKeepAlive(t *testing.T) {
	bubble(t, func(t *testing.T) {
		ack := mqtt.Connack{}
		ack.Props.ServerKeepAlive = 40
		ack.Props.Set(mqtt.PropServerKeepAlive)
		c, s := connect(t, Config{CleanStart: true, KeepAlive: 1000}, ack)
		began := time.Now()
		for range 3 {
			s.want(mqtt.PINGREQ, nil)
			s.conn.Write(mqtt.AppendPingresp(nil))
		}
		if d := time.Since(began); d < 90*time.Second || d > 120*time.Second {
			t.Errorf("three pings took %v", d)
		}
		s.want(mqtt.PINGREQ, nil)
		s.wantEnd()
		c.Wait()
		if err := c.Err(); !errors.Is(err, ErrTimeout) {
			t.Error(err)
		}
	})
}

func TestSubscribe(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c, s := connect(t, Config{CleanStart: true}, mqtt.Connack{})
		go func() {
			var p mqtt.Subscribe
			s.want(mqtt.SUBSCRIBE, &p)
			s.send(&mqtt.Suback{PacketID: p.PacketID, Codes: []mqtt.ReasonCode{1, mqtt.NotAuthorized}})
			var u mqtt.Unsubscribe
			s.want(mqtt.UNSUBSCRIBE, &u)
			s.send(&mqtt.Unsuback{PacketID: u.PacketID, Codes: []mqtt.ReasonCode{mqtt.NoSubscriptionExisted}})
			s.want(mqtt.SUBSCRIBE, &p)
			s.send(&mqtt.Suback{PacketID: p.PacketID, Codes: []mqtt.ReasonCode{1, 1}})
			s.want(mqtt.DISCONNECT, nil)
			s.conn.Close()
		}()
		codes, err := c.Subscribe(background, Subscription{Filter: "a", QoS: 1}, Subscription{Filter: "b"})
		if !errors.Is(err, mqtt.NotAuthorized) || len(codes) != 2 || codes[0] != mqtt.GrantedQoS1 {
			t.Error(codes, err)
		}
		if codes, err := c.Unsubscribe(background, "a"); err != nil || codes[0] != mqtt.NoSubscriptionExisted {
			t.Error(codes, err)
		}
		var me *mqtt.Error
		if _, err := c.Subscribe(background, Subscription{Filter: "a"}); !errors.As(err, &me) {
			t.Errorf("two codes for one filter: %v", err)
		}
		c.Wait()
	})
}

func TestServerDisconnects(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var last error
		c, s := connect(t, Config{CleanStart: true, OnDisconnect: func(err error) { last = err }}, mqtt.Connack{})
		failed := make(chan error)
		go func() {
			_, err := c.Publish(background, &Message{Topic: "t", QoS: 1})
			failed <- err
		}()
		s.want(mqtt.PUBLISH, nil)
		s.send(&mqtt.Disconnect{Code: mqtt.SessionTakenOver})
		if err := <-failed; !errors.Is(err, mqtt.SessionTakenOver) {
			t.Errorf("pending publish: %v", err)
		}
		c.Wait()
		var se *ServerError
		if !errors.As(last, &se) || se.Packet != mqtt.DISCONNECT {
			t.Error(last)
		}
		if _, err := c.Publish(background, &Message{Topic: "t"}); !errors.Is(err, mqtt.SessionTakenOver) {
			t.Errorf("publish afterwards: %v", err)
		}
	})
}

// Leave acknowledges the message at hand to the end and no other.
func TestLeave(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var c *Client
		got := 0
		ready := make(chan struct{})
		c, s := connect(t, Config{CleanStart: true, OnMessage: func(*Message) {
			<-ready
			got++
			c.Leave(mqtt.Success)
		}}, mqtt.Connack{})
		close(ready)
		s.send(&mqtt.Publish{Topic: []byte("t"), QoS: 2, PacketID: 1})
		s.want(mqtt.PUBREC, nil)
		s.send(&mqtt.Publish{Topic: []byte("t"), QoS: 1, PacketID: 2})
		s.send(&mqtt.Ack{Type: mqtt.PUBREL, PacketID: 1})
		s.want(mqtt.PUBCOMP, nil)
		s.want(mqtt.DISCONNECT, nil)
		s.conn.Close()
		c.Wait()
		if got != 1 || c.Err() != ErrClosed {
			t.Errorf("%d messages, %v", got, c.Err())
		}
	})
}

// clauses: MQTT5 [MQTT-4.12.0-3] [MQTT-4.12.0-5] [MQTT-4.12.1-1]
func TestEnhancedAuthentication(t *testing.T) {
	bubble(t, func(t *testing.T) {
		dial, s := pair(t, mqtt.V5)
		auth := func(code mqtt.ReasonCode, data string) *mqtt.Auth {
			p := &mqtt.Auth{Code: code}
			p.Props.AuthMethod, p.Props.AuthData = []byte("M"), []byte(data)
			p.Props.Set(mqtt.PropAuthMethod, mqtt.PropAuthData)
			return p
		}
		go func() {
			s.want(mqtt.CONNECT, nil)
			s.send(auth(mqtt.ContinueAuthentication, "2+2"))
			var a mqtt.Auth
			s.want(mqtt.AUTH, &a)
			if string(a.Props.AuthData) != "answer to 2+2" {
				t.Errorf("AUTH %q", a.Props.AuthData)
			}
			s.send(&mqtt.Connack{})
			s.want(mqtt.AUTH, &a)
			if a.Code != mqtt.ReAuthenticate {
				t.Errorf("AUTH %v", a.Code)
			}
			s.send(auth(mqtt.Success, ""))
		}()
		c, err := Connect(background, Config{Dial: dial, CleanStart: true, AuthMethod: "M",
			OnAuth: func(q []byte) ([]byte, error) { return append([]byte("answer to "), q...), nil }})
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Reauthenticate(background, []byte("again")); err != nil {
			t.Error(err)
		}
		c.Close()
	})
}

// A stalled server: PublishAsync waits at the mark, the reader never does.
func TestBacklogIsBounded(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c, _ := connect(t, Config{CleanStart: true, AckTimeout: time.Hour}, mqtt.Connack{})
		ctx, cancel := context.WithTimeout(background, time.Minute)
		defer cancel()
		sent := 0
		for {
			if err := c.PublishAsync(ctx, &Message{Topic: "t", Payload: make([]byte, 16<<10)}, nil); err != nil {
				if !errors.Is(err, context.DeadlineExceeded) {
					t.Error(err)
				}
				break
			}
			sent++
		}
		if sent < 16 || sent > 40 {
			t.Errorf("%d messages of 16 KiB were taken", sent)
		}
		c.Close()
	})
}

// A header promises 200 MB and nothing follows: no memory is taken for it.
func TestReaderTrustsNoLength(t *testing.T) {
	var r reader
	r.init(bytes.NewReader([]byte{0x30, 0xFF, 0xFF, 0xFF, 0x5F, 0, 1, 'a'}), 0)
	if _, _, err := r.next(); err == nil {
		t.Fatal("a packet")
	}
	if len(r.buf) > readBuffer {
		t.Errorf("%d bytes of buffer", len(r.buf))
	}
	r = reader{}
	r.init(bytes.NewReader([]byte{0x30, 0x7F, 0, 1, 'a'}), 100)
	if _, _, err := r.next(); !strings.Contains(err.Error(), "too large") {
		t.Error(err)
	}
}

func FuzzReceive(f *testing.F) {
	f.Add([]byte{0x30, 4, 0, 1, 'a', 0}, uint8(5))
	f.Add([]byte{0x32, 6, 0, 1, 'a', 0, 1, 0, 0x62, 2, 0, 1, 0x90, 4, 0, 1, 0, 0}, uint8(5))
	f.Add([]byte{0xE0, 0, 0xF0, 2, 0x18, 0}, uint8(4))
	f.Fuzz(func(t *testing.T, b []byte, v uint8) {
		synctest.Test(t, func(t *testing.T) {
			version := mqtt.Version(3 + v%3)
			c, s := connect(t, Config{ClientID: "a", CleanStart: true, Version: version, OnMessage: func(*Message) {}}, mqtt.Connack{})
			go func() {
				for {
					if _, _, err := s.in.next(); err != nil {
						return
					}
				}
			}()
			s.conn.Write(b)
			s.conn.Close()
			c.Wait()
		})
	})
}
