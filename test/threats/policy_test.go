package threats

import (
	"slices"
	"testing"

	"github.com/sealmq/sealmq/mqtt"
)

// ruled is a broker with mutual TLS and a listener in the clear whose policy the
// test changes.
func ruled(t *testing.T, policy string) *broker {
	t.Helper()
	h := newHome(t, "policy = \"policy\"\n"+jsonLog+mutualTLS+plain)
	h.write(t, "policy", policy)
	return h.start(t)
}

// rule puts another policy in force.
func (b *broker) rule(t *testing.T, policy string) {
	t.Helper()
	b.write(t, "policy", policy)
	b.reload(t, "configuration reloaded")
}

// want fails the test unless a code is the one that is wanted.
func want(t *testing.T, what string, code, wanted mqtt.ReasonCode) {
	t.Helper()
	if code != wanted {
		t.Errorf("%s: %v, want %v", what, code, wanted)
	}
}

const (
	denied = mqtt.NotAuthorized
	nobody = mqtt.NoMatchingSubscribers
	qos1   = mqtt.GrantedQoS1
	qos2   = mqtt.GrantedQoS2
)

// open allows two devices everything, and one what it is about.
const open = `
group pumps { device = [pump-1, pump-2] }
policy pumps { allow publish, subscribe # }
`

// Mosquitto delivered retained messages to who could not read them any more, and
// kept what had been retained by who could not write any more as theirs to
// change.
func TestCVE_2018_12546(t *testing.T) {
	t.Parallel()
	b := ruled(t, open)
	writer := b.connect(t, "tls", b.device(t, "pump-1"), hello("pump-1"))
	reader := b.connect(t, "tls", b.device(t, "pump-2"), hello("pump-2"))
	want(t, "retain", writer.publish("a/secret", 1, true, "first"), nobody)
	reader.subscribe("a/#", 1)
	if got := reader.until("first"); len(got) > 0 {
		t.Errorf("%q came before the retained message", got)
	}
	b.rule(t, open+"policy pumps { deny receive, publish a/secret }\n")
	want(t, "retain what is denied", writer.publish("a/secret", 1, true, "second"), denied)
	want(t, "clear what is denied", writer.publish("a/secret", 1, true, ""), denied)
	reader.subscribe("a/#", 1)
	reader.subscribe("a/secret", 1)
	writer.publish("a/end", 1, false, "end")
	if got := reader.until("end"); len(got) > 0 {
		t.Errorf("%q came after the permission had ended", got)
	}
	b.rule(t, open)
	reader.subscribe("a/secret", 1)
	if got := reader.until("first"); len(got) > 0 {
		t.Errorf("%q came, and what was retained should be as it was", got)
	}
}

// Mosquitto forgot the rules on a listener without a name, and on others with
// one.
func TestCVE_2018_20145(t *testing.T) {
	t.Parallel()
	for key, text := range map[string]string{
		"policy":   "group all { method = [anonymous, certificate] }\npolicy all { allow publish, subscribe open/# }\n",
		"acl_file": "topic readwrite open/#\nuser pump-1\ntopic readwrite open/#\n",
	} {
		h := newHome(t, key+" = \"rules\"\n"+jsonLog+mutualTLS+
			"[[listener]]\naddress = \"127.0.0.1:0\"\ntls = false\nanonymous = true\n"+plain+
			"[[listener]]\nname = \"other\"\naddress = \"127.0.0.1:0\"\n")
		h.write(t, "rules", text)
		b := h.start(t)
		who := b.device(t, "pump-1")
		for listener := range b.address {
			var c *client
			if listener == "tls" || listener == "other" {
				c = b.connect(t, listener, who, hello("pump-1"))
			} else {
				c = b.dialPlain(t, listener)
				c.open(hello("x"))
			}
			c.subscribe("open/x", 1)
			want(t, key+" on "+listener+": what is allowed", c.publish("open/x", 1, false, "x"), mqtt.Success)
			want(t, key+" on "+listener+": what is not", c.publish("shut/x", 1, false, "x"), denied)
			c.until("x")
			c.disconnect()
		}
	}
}

// Mosquitto took an empty file with rules for permission to do everything.
func TestCVE_2018_12550(t *testing.T) {
	t.Parallel()
	for _, key := range []string{"policy", "acl_file"} {
		h := newHome(t, key+" = \"rules\"\n"+jsonLog+mutualTLS+plain)
		h.write(t, "rules", "")
		if out, err := h.run(t, "serve", "--config", "sealmq.toml"); err == nil {
			t.Errorf("%s: a broker with an empty file starts:\n%s", key, out)
		}
		h.write(t, "rules", "# nothing\n")
		b := h.start(t)
		for listener, who := range map[string]identity{"tls": b.device(t, "pump-1"), "plain": nil} {
			c := b.connect(t, listener, who, hello("pump-1"))
			want(t, key+": publish", c.publish("pump-1/x", 1, false, "x"), denied)
			if key == "policy" { // of Mosquitto's files every subscription is granted, and brings nothing
				want(t, key+": subscribe", c.subscribe("pump-1/x", 1), denied)
			}
			c.disconnect()
		}
		// Emptied, gone or broken later: what was in force stays in force.
		rules := map[string]string{"policy": open, "acl_file": "user pump-1\ntopic readwrite a/#\n"}[key]
		h.write(t, "rules", rules)
		b.reload(t, "configuration reloaded")
		c := b.connect(t, "tls", b.device(t, "pump-1"), hello("pump-1"))
		c.subscribe("a/x", 1)
		for _, broken := range []string{"", "\x00\xff", "allow everything\n"} {
			h.write(t, "rules", broken)
			b.reload(t, "the old configuration stays in force")
			want(t, key+": publish", c.publish("a/x", 1, false, "x"), mqtt.Success)
			other := b.connect(t, "tls", b.device(t, "pump-3"), hello("pump-3"))
			want(t, key+": publish as another", other.publish("a/x", 1, false, "y"), denied)
			other.disconnect()
		}
	}
}

// Mosquitto kept a subscription after its client had lost the access, for a
// durable client that came back, and for one that was there.
func TestCVE_2021_34434(t *testing.T) {
	t.Parallel()
	b := ruled(t, open)
	one, two := b.device(t, "pump-1"), b.device(t, "pump-2")
	away := b.connect(t, "tls", two, lasting("pump-2"))
	want(t, "subscribe", away.subscribe("a/#", 2), qos2)
	away.Close()
	b.awaitLog(t, 0, "connection lost", "pump-2")
	here := b.connect(t, "tls", two, lasting("pump-2/here"))
	want(t, "subscribe", here.subscribe("a/#", 1), qos1)
	want(t, "subscribe", here.subscribe("$share/g/a/#", 1), qos1)
	writer := b.connect(t, "tls", one, hello("pump-1"))
	want(t, "publish", writer.publish("a/before", 1, false, "before"), mqtt.Success)
	here.until("before")

	b.rule(t, "group one { device = pump-1 }\npolicy one { allow publish, subscribe # }\n"+
		"group two { device = pump-2 }\npolicy two { allow subscribe b/# }\n")
	b.awaitLog(t, 0, "subscriptions withdrawn", "pump-2/here")
	want(t, "publish", writer.publish("a/after", 1, false, "after"), nobody)
	c := b.dial(t, "tls", two)
	if ack := c.open(lasting("pump-2")); !ack.SessionPresent {
		t.Error("the session of who was away has ended")
	}
	for _, c := range []*client{c, here} {
		c.subscribe("b/end", 1)
	}
	want(t, "publish", writer.publish("b/end", 1, false, "end"), mqtt.Success)
	for i, c := range []*client{c, here} {
		for _, topic := range c.until("end") {
			if topic != "a/before" || i == 0 {
				t.Errorf("%s came after the permission had ended", topic)
			}
		}
	}
}

// Mosquitto before 2.0.12 did not ask about QoS 2 messages under way when a
// client came back.
func TestMosquitto_2_0_12_QoS2(t *testing.T) {
	t.Parallel()
	b := ruled(t, open)
	one, two := b.device(t, "pump-1"), b.device(t, "pump-2")
	reader := b.connect(t, "tls", two, lasting("pump-2"))
	want(t, "subscribe", reader.subscribe("a/#", 2), qos2)
	writer := b.connect(t, "tls", one, hello("pump-1"))
	want(t, "publish", writer.publish("a/secret", 2, false, "secret"), mqtt.Success)
	if h, _ := reader.next(); h.Type != mqtt.PUBLISH || h.Flags&6 != 4 {
		t.Fatalf("packet type %d with flags %x instead of a QoS 2 message", h.Type, h.Flags)
	}
	reader.Close() // without PUBREC
	b.awaitLog(t, 0, "connection lost", "pump-2")
	b.rule(t, open+"policy pumps { deny receive a/secret }\n")
	again := b.dial(t, "tls", two)
	if ack := again.open(lasting("pump-2")); !ack.SessionPresent {
		t.Fatal("the session has ended")
	}
	want(t, "publish", writer.publish("a/end", 1, false, "end"), mqtt.Success)
	if got := again.until("end"); len(got) > 0 {
		t.Errorf("%q came after the permission had ended", got)
	}
}

// Mosquitto before 2.0.16 published wills to its control topics, and others that
// their client may not publish to.
func TestMosquitto_2_0_16_Will(t *testing.T) {
	t.Parallel()
	b := ruled(t, open+"group three { device = pump-3 }\npolicy three { allow publish, subscribe pump-3/# }\n")
	who := b.device(t, "pump-3")
	for _, topic := range []string{"$CONTROL/dynamic-security/v1", "$SYS/broker/version", "$pki/renew/x", "pump-1/x"} {
		p := hello("pump-3")
		p.HasWill, p.Will.Topic, p.Will.Payload = true, []byte(topic), []byte("x")
		want(t, "a will to "+topic, b.refused(t, "tls", who, p), denied)
	}
	// A will is asked about again when it is due.
	watcher := b.connect(t, "tls", b.device(t, "pump-1"), hello("pump-1"))
	watcher.subscribe("#", 1)
	p := hello("pump-3")
	p.HasWill, p.Will.Topic, p.Will.Payload = true, []byte("pump-3/will"), []byte("x")
	c := b.connect(t, "tls", who, p)
	b.rule(t, open+"group three { device = pump-3 }\npolicy three { deny publish # }\n")
	c.Close()
	b.awaitLog(t, 0, "will refused", "pump-3/will")
	watcher.publish("a/end", 1, false, "end")
	if got := watcher.until("end"); len(got) > 0 {
		t.Errorf("the will was published to %q", got)
	}
}

// The NATS server did not ask about denials when it sent retained messages, nor
// those that had waited.
func TestGHSA_7qmq_8cc4_hxwg(t *testing.T) {
	t.Parallel()
	b := ruled(t, open+"policy pumps { deny subscribe a/secret/# }\n")
	one, two := b.device(t, "pump-1"), b.device(t, "pump-2")
	writer := b.connect(t, "tls", one, hello("pump-1"))
	reader := b.connect(t, "tls", two, lasting("pump-2"))
	want(t, "retain", writer.publish("a/secret/x", 2, true, "retained"), mqtt.Success)
	want(t, "subscribe", reader.subscribe("a/#", 2), qos2)
	want(t, "subscribe to what is denied", reader.subscribe("a/secret/x", 2), denied)
	want(t, "subscribe to what is denied", reader.subscribe("a/secret/#", 2), denied)
	for qos := range uint8(3) {
		writer.publish("a/secret/live", qos, false, "live")
	}
	writer.publish("a/open", 1, false, "end")
	if got := reader.until("end"); len(got) > 0 {
		t.Errorf("%q came", got)
	}
	reader.Close()
	b.awaitLog(t, 0, "connection lost", "pump-2")
	writer.publish("a/secret/queued", 1, false, "queued")
	writer.publish("a/open", 1, false, "end")
	again := b.dial(t, "tls", two)
	again.open(lasting("pump-2"))
	if got := again.until("end"); len(got) > 0 {
		t.Errorf("%q came from the queue", got)
	}
}

// The NATS server had topics of its own that no permission covered. Here a
// wildcard in front covers none of them either.
func TestCVE_2026_33217(t *testing.T) {
	t.Parallel()
	b := ruled(t, open)
	c := b.connect(t, "tls", b.device(t, "pump-1"), hello("pump-1"))
	for _, filter := range []string{"$SYS/#", "$SYS/broker/version", "$pki/#", "$share/g/$SYS/#", "$MQTT/#", "$CONTROL/#", "$aws/#", "$queue/x", "$/#"} {
		want(t, "subscribe "+filter, c.subscribe(filter, 1), denied)
	}
	want(t, "subscribe", c.subscribe("#", 1), qos1)
	want(t, "subscribe", c.subscribe("+/#", 1), qos1)
	for _, topic := range []string{"$SYS/x", "$SYS/broker/version", "$pki/renew/request", "$MQTT/x", "$CONTROL/dynamic-security/v1", "$x"} {
		want(t, "publish to "+topic, c.publish(topic, 1, false, "x"), denied)
	}
	c.publish("a/end", 1, false, "end")
	for _, topic := range c.until("end") {
		if topic != "a/end" { // of the other subscription
			t.Errorf("%s came", topic)
		}
	}
}

// Who is nobody learns nothing of the broker.
func TestBrokersOwnTopics(t *testing.T) {
	t.Parallel()
	b := startBroker(t, jsonLog+mutualTLS+plain) // the policy of a first start
	stranger := b.connect(t, "plain", nil, hello("x"))
	operator := b.connect(t, "tls", b.operator(t, "alice"), hello("alice"))
	want(t, "an operator", operator.subscribe("$SYS/#", 1), qos1)
	for _, filter := range []string{"$SYS/#", "$SYS/broker/uptime", "$share/g/$SYS/#", "$pki/#", "$pki/renew/accepted"} {
		want(t, "anonymous: "+filter, stranger.subscribe(filter, 1), denied)
	}
	want(t, "anonymous", stranger.subscribe("#", 0), mqtt.GrantedQoS0)
	h, body := operator.next() // the broker has published
	for h.Type != mqtt.PUBLISH {
		h, body = operator.next()
	}
	operator.take(h, body)
	operator.publish("end", 1, false, "end")
	if got := stranger.until("end"); len(got) > 0 {
		t.Errorf("a stranger receives %q", got)
	}
}

// The NATS server let a queue subscription receive what was denied to plain
// ones.
func TestGHSA_jx8g_9g95_6322(t *testing.T) {
	t.Parallel()
	b := ruled(t, open+"policy pumps { deny subscribe secret/# }\n")
	c := b.connect(t, "tls", b.device(t, "pump-1"), hello("pump-1"))
	for _, filter := range []string{"secret/x", "secret/#", "$share/g/secret/x", "$share/g/secret/#", "$share/g/secret/+", "$share/secret/secret/x"} {
		want(t, "subscribe "+filter, c.subscribe(filter, 1), denied)
	}
	want(t, "subscribe", c.subscribe("$share/g/#", 1), qos1)
	want(t, "publish", c.publish("secret/x", 1, false, "x"), nobody)
	want(t, "publish", c.publish("end", 1, false, "end"), mqtt.Success)
	if got := c.until("end"); len(got) > 0 {
		t.Errorf("%q came", got)
	}
}

// Mosquitto published to any topic with a dollar sign but $SYS, and ended.
func TestCVE_2018_12543(t *testing.T) {
	t.Parallel()
	b := ruled(t, open+"policy pumps { allow publish, subscribe $other/#\n allow publish $x\n allow publish $/# }\n")
	c := b.connect(t, "tls", b.device(t, "pump-1"), hello("pump-1"))
	want(t, "subscribe", c.subscribe("$other/#", 1), qos1)
	for _, topic := range []string{"$other/x", "$other", "$x", "$/", "$", "$share", "$share/g/x", "$SYS", "$SYS/", "$CONTROL", "$queue/x"} {
		for qos := range uint8(3) {
			c.publish(topic, qos, true, "x")
		}
	}
	c.publish("$other/end", 1, false, "end")
	if got := c.until("end"); slices.ContainsFunc(got, func(s string) bool { return s != "$other" && s != "$other/x" }) {
		t.Errorf("%q came", got)
	}
	b.connect(t, "tls", b.device(t, "pump-2"), hello("pump-2")).alive()
}

// The NATS server gave a session to who came with its client identifier.
func TestNATS_SessionRestore(t *testing.T) {
	t.Parallel()
	b := ruled(t, open+"policy everybody { allow publish, subscribe # }\n")
	owner := b.connect(t, "tls", b.operator(t, "alice"), lasting("shared-id"))
	owner.subscribe("a/#", 1)
	for _, p := range []*mqtt.Connect{lasting("shared-id"), hello("shared-id")} { // to resume, to clear
		if code := b.refused(t, "tls", b.operator(t, "bob"), p); code != mqtt.ClientIDNotValid && code != denied {
			t.Errorf("another operator: %v", code)
		}
		if code := b.refused(t, "tls", b.device(t, "pump-1"), p); code != mqtt.ClientIDNotValid && code != denied {
			t.Errorf("a device: %v", code)
		}
		if code := b.refused(t, "plain", nil, p); code != mqtt.ClientIDNotValid && code != denied {
			t.Errorf("nobody: %v", code)
		}
	}
	owner.alive()
	owner.Close()
	b.awaitLog(t, 0, "connection lost", "shared-id")
	b.refused(t, "plain", nil, lasting("shared-id"))
	b.refused(t, "tls", b.operator(t, "bob"), hello("shared-id"))
	again := b.dial(t, "tls", b.operator(t, "alice"))
	if ack := again.open(lasting("shared-id")); ack.Code != mqtt.Success || !ack.SessionPresent {
		t.Errorf("the owner does not find the session: %v", ack.Code)
	}
}
