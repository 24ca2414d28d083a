package broker_test

import (
	"fmt"
	"slices"
	"strconv"
	"sync"

	"github.com/sealmq/sealmq/auth"
	"github.com/sealmq/sealmq/broker"
	"github.com/sealmq/sealmq/internal/testkit"
	"github.com/sealmq/sealmq/mqtt"
	"github.com/sealmq/sealmq/topic"
)

// authority gives clients the policy that a script has put in force, and keeps what the broker tells it.
type authority struct {
	mu        sync.Mutex
	denials   map[string]denials // by client identifier; "" for all others
	refused   map[string]bool    // client identifiers
	told      []broker.Denial
	withdrawn map[string][]string
}

func newAuthority() *authority {
	return &authority{denials: make(map[string]denials), refused: make(map[string]bool), withdrawn: make(map[string][]string)}
}

func (a *authority) authorize(clientID string, _ *auth.Peer, _ *auth.Principal) (auth.Policy, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.refused[clientID] {
		return nil, &auth.Refusal{Code: mqtt.ClientIDNotValid, Text: clientID + " is nobody's name"}
	}
	d, ok := a.denials[clientID]
	if !ok {
		d = a.denials[""]
	}
	return &d, nil
}

func (a *authority) denied(d broker.Denial) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.told = append(a.told, d)
}

func (a *authority) lost(clientID string, _ *auth.Principal, filters []string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.withdrawn[clientID] = append(a.withdrawn[clientID], filters...)
}

func (a *authority) command(b *broker.Broker, word string, options []testkit.Option) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch word {
	case "deny":
		var d denials
		to := ""
		for _, o := range options {
			if o.Key == "to" {
				to = o.Value
			} else if !d.set(o) {
				return fmt.Errorf("server deny: what is %q?", o.Key)
			}
		}
		a.denials[to] = d
	case "permit":
		clear(a.denials)
		clear(a.refused)
	case "forbid":
		a.refused[options[0].Key] = true
	case "dropped":
		if n := fmt.Sprint(b.Stats().DroppedDenied); n != options[0].Key {
			return fmt.Errorf("%s messages were denied", n)
		}
	case "told": // CLIENT ACTION TOPIC [UNTOLD]: the denial told last
		if len(a.told) == 0 {
			return fmt.Errorf("no denial was told")
		}
		d := a.told[len(a.told)-1]
		got := []string{d.ClientID, [...]string{"", "publish", "subscribe", "receive"}[d.Action], d.Topic, fmt.Sprint(d.Untold)}
		for i, o := range options {
			if got[i] != o.Key {
				return fmt.Errorf("told last was %q", got)
			}
		}
	case "tellings": // so many denials were told
		if n := fmt.Sprint(len(a.told)); n != options[0].Key {
			return fmt.Errorf("%s denials were told", n)
		}
	case "withdrawn": // CLIENT FILTER…: what it has lost since it was last asked
		var want []string
		for _, o := range options[1:] {
			want = append(want, o.Key)
		}
		got := a.withdrawn[options[0].Key]
		delete(a.withdrawn, options[0].Key)
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			return fmt.Errorf("%s has lost %q", options[0].Key, got)
		}
	}
	return nil
}

// denials forbids what matches one of its filters, and publications that are larger than size if that is not 0.
type denials struct {
	publish, subscribe, receive []string
	size                        int
	explain, limited            bool
}

// set adds what an option denies.
func (d *denials) set(o testkit.Option) bool {
	switch o.Key {
	case "publish":
		d.publish = append(d.publish, o.Value)
	case "subscribe":
		d.subscribe = append(d.subscribe, o.Value)
	case "receive":
		d.receive = append(d.receive, o.Value)
	case "size":
		d.size, _ = strconv.Atoi(o.Value)
	case "limited":
		d.limited = true
	case "explain":
		d.explain = true
	default:
		return false
	}
	return true
}

func (d *denials) May(a auth.Action, name string, _ uint8, _ bool) bool {
	list := d.publish
	switch a {
	case auth.Subscribe:
		for _, f := range d.subscribe {
			if topic.Contains(f, name) {
				return false
			}
		}
		return true
	case auth.Receive:
		list = d.receive
	}
	for _, f := range list {
		if topic.Match(f, name) {
			return false
		}
	}
	return true
}

// MayPublish implements auth.Measured.
func (d *denials) MayPublish(name string, qos uint8, retain bool, size int) (ok, limited bool) {
	return d.May(auth.Publish, name, qos, retain) && (d.size == 0 || size <= d.size) && !d.limited, d.limited
}

// Why implements auth.Explainer.
func (d *denials) Why(a auth.Action, name string, _ uint8, _ bool, size int) string {
	if !d.explain {
		return ""
	}
	return fmt.Sprintf("policy:%d denies %s of %d bytes", a, name, size)
}
