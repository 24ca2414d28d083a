package policy

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/sealmq/sealmq/auth"
)

const denyingText = `
bind client_id = ${device} or ${device}/*
group devices { kind = device }
policy devices {
  allow publish   ${device}/# size<=100
  allow publish   slow/# rate<=1/h
  allow subscribe all/#
  deny  receive   all/secret
}
`

func denying(t testing.TB) *Policy {
	t.Helper()
	f, err := Parse("p", []byte(denyingText))
	if err != nil {
		t.Fatal(err)
	}
	p, err := Compile(f)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func pump(name string) *Identity {
	return &Identity{Name: name, Method: "certificate", Kind: "device", ClientID: name, Proven: true}
}

func at(second int) time.Time { return time.Unix(1_700_000_000+int64(second), 0) }

// What is kept of a denial, and what it is explained by.
func TestDenials(t *testing.T) {
	p := denying(t)
	perms := p.For(*pump("pump-1"))
	var d Denials
	for i, r := range []Request{
		{Action: auth.Publish, Topic: "pump-2/x"},
		{Action: auth.Publish, Topic: "pump-1/x", Size: 101},
		{Action: auth.Receive, Topic: "all/secret"},
		{Action: auth.Publish, Topic: "slow/x"},
		{Action: auth.Publish, Topic: "slow/x"},
		{Action: auth.Publish, Topic: "pump-1/" + strings.Repeat("é", 600), Size: 101},
	} {
		if r.Time = at(i); !perms.Check(r).Allowed {
			perms.now.Load().cache.Store(nil)
			d.Note(perms.Identity(), r, Decision{Rule: perms.Check(r).Rule})
		}
	}
	other := pump("pump-1")
	other.ClientID = "pump-9"
	d.Note(other, Request{Time: at(9)}, Decision{})
	got := d.Last("pump-1", 99)
	want := []struct {
		reason, rule string
		allowed      bool
	}{
		{`client identifier "pump-9" is not one of "pump-1" (p:2)`, "", false},
		{"no rule allows it", "", false},
		{"p:6 allows it, but not so often", "p:6", false},
		{`p:8: deny receive all/secret denies to receive "all/secret"`, "p:8", false},
		{"not with 101 bytes", "", false},
		{`no rule allows to publish "pump-2/x"; the nearest is p:5`, "", false},
	}
	if len(got) != len(want) {
		t.Fatalf("%d denials: %+v", len(got), got)
	}
	for i, w := range want {
		e := got[i].Explain(p)
		if !strings.Contains(e.Reason, w.reason) || got[i].Rule != w.rule || e.Allowed != w.allowed || e.Fix == "" && !got[i].Cut {
			t.Errorf("%d: %q %v, fix %q, want %+v", i, got[i].Rule, e, e.Fix, w)
		}
	}
	if !got[1].Cut || len(got[1].Request.Topic) > maxDeniedTopic || !strings.HasSuffix(got[1].Request.Topic, "é") {
		t.Errorf("a long topic: %q", got[1].Request.Topic)
	}
	if l := d.Last("pump-9", 1); len(l) != 1 || l[0].Client != other {
		t.Errorf("by client identifier: %+v", l)
	}
	if l := d.Last("", 9); len(l) != 0 {
		t.Errorf("without a name: %+v", l)
	}
	wider, err := Parse("q", []byte("policy everybody { allow publish # }"))
	if err != nil {
		t.Fatal(err)
	}
	q, err := Compile(wider)
	if err != nil {
		t.Fatal(err)
	}
	if e := got[5].Explain(q); !e.Allowed {
		t.Errorf("by another policy: %v", e)
	}
	if e := got[0].Explain(q); !e.Allowed {
		t.Errorf("a client identifier by another policy: %v", e)
	}
}

// The same again is counted, not kept again; the topic's bytes may change after the call.
func TestDenialsRepeated(t *testing.T) {
	var d Denials
	id := pump("a")
	for i := range 100 {
		for _, topic := range []string{"x", "y", "z"} {
			d.Note(id, Request{Action: auth.Publish, Topic: topic, Time: at(i)}, Decision{})
		}
	}
	got := d.Last("a", 99)
	if len(got) != 3 || got[0].Times != 100 || !got[2].Request.Time.Equal(at(99)) {
		t.Errorf("%+v", got)
	}
	if got := d.Last("a", -1); len(got) != 0 {
		t.Errorf("fewer than none: %v", got)
	}
}

// A flood by one principal, or by those who publish what it may not receive, costs nobody else a denial, nor its own of
// another kind.
func TestDenialsFlood(t *testing.T) {
	d := Denials{rings: 100, bytes: 200_000}
	victim, flooder := pump("victim"), pump("flooder")
	for i := range 20 {
		d.Note(victim, Request{Action: auth.Publish, Topic: fmt.Sprint("v/", i), Time: at(i)}, Decision{})
	}
	for i := range 10_000 {
		d.Note(flooder, Request{Action: auth.Publish, Topic: fmt.Sprint("f/", i), Time: at(100 + i)}, Decision{})
		d.Note(victim, Request{Action: auth.Receive, Topic: fmt.Sprint("f/", i), Time: at(100 + i)}, Decision{})
	}
	own := 0
	for _, e := range d.Last("victim", 999) {
		if e.Request.Action == auth.Publish {
			own++
		}
	}
	if own != 20 {
		t.Errorf("%d of 20 are left", own)
	}
	if n := len(d.Last("flooder", 999)); n < 20 || n > MaxDenials {
		t.Errorf("%d of the flooder's", n)
	}
	if d.Last("flooder", 1)[0].Request.Topic != "f/9999" {
		t.Error("the newest is not there")
	}
	// Many principals: the newest stay.
	for i := range 1000 {
		d.Note(pump(fmt.Sprint("p", i)), Request{Action: auth.Publish, Topic: "t"}, Decision{})
	}
	if len(d.of) > 100 || len(d.Last("p999", 9)) != 1 || len(d.Last("p0", 9)) != 0 {
		t.Errorf("%d principals", len(d.of))
	}
}

// Whatever is noted, the sums are right and the bounds kept, and what was noted last is there.
func TestDenialsBounds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := Denials{rings: rapid.IntRange(1, 5).Draw(t, "rings"), bytes: rapid.IntRange(1, 20_000).Draw(t, "bytes")}
		ids := make([]*Identity, 8)
		for i := range ids {
			ids[i] = pump(fmt.Sprint(i % 7))
			ids[i].Claims = map[string][]string{"c": {strings.Repeat("x", 100*i)}}
		}
		for range rapid.IntRange(1, 200).Draw(t, "notes") {
			id := rapid.SampledFrom(ids).Draw(t, "id")
			r := Request{Action: auth.Action(rapid.IntRange(1, 3).Draw(t, "action")), Topic: strings.Repeat("t", rapid.IntRange(1, 12).Draw(t, "topic")*100)}
			d.Note(id, r, Decision{})
			sum, n := 0, 0
			for k := d.newest; k != nil; k = k.older {
				w := 0
				for i := range k.list {
					w += k.list[i].weight()
				}
				if w != k.weight || len(k.list) == 0 || d.of[k.whose] != k || k.older == nil && d.oldest != k {
					t.Fatalf("%+v: weight %d", k, w)
				}
				sum, n = sum+w, n+1
			}
			if sum != d.weight || n != len(d.of) || n > d.rings {
				t.Fatalf("weight %d of %d, %d principals of %d", d.weight, sum, n, len(d.of))
			}
			if sum > d.bytes && (n > 1 || len(d.newest.list) > 1) {
				t.Fatalf("%d bytes, more than %d", sum, d.bytes)
			}
			if l := d.Last(id.Name, 1); len(l) != 1 || l[0].Client != id || l[0].Request.Action != r.Action {
				t.Fatalf("the last one is missing: %+v", l)
			}
		}
	})
}

func TestDenialsTogether(t *testing.T) {
	var d Denials
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := range 500 {
				d.Note(pump(fmt.Sprint(g)), Request{Action: auth.Publish, Topic: fmt.Sprint(i)}, Decision{})
				if i%100 == 0 {
					d.Last(fmt.Sprint(g), 9)
				}
			}
		})
	}
	wg.Wait()
	for g := range 4 {
		if n := len(d.Last(fmt.Sprint(g), 999)); n != MaxDenials {
			t.Errorf("%d has %d", g, n)
		}
	}
}

func BenchmarkDenials(b *testing.B) {
	var topics [1000]string
	for i := range topics {
		topics[i] = fmt.Sprint("dt/pump-17/temperature/", i)
	}
	for _, kind := range []struct {
		name   string
		topics int
	}{{"repeated", 1}, {"other topics", 1000}} {
		b.Run(kind.name, func(b *testing.B) {
			var d Denials
			id := pump("pump-17")
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				d.Note(id, Request{Action: auth.Publish, Topic: topics[i%kind.topics]}, Decision{})
				i++
			}
		})
	}
}
