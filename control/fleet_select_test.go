//go:build unix

package control

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/sealmq/sealmq/registry"
)

// What no client of ours sends is answered in words, and changes nothing.
func TestBadFleetRequests(t *testing.T) {
	bothWays(t, func(t *testing.T, b *bench) {
		b.add("pump-17")
		long := strings.Repeat("x", 3000)
		many := `{"ids":[` + strings.Repeat(`"a",`, MaxSelected) + `"a"]}`
		for _, c := range []struct {
			method, path, body string
			status             int
			text               string
		}{
			{"GET", "/v1/devices?colour=red", "", 400, `unknown field "colour"`},
			{"GET", "/v1/devices?" + long, "", 400, "unknown field"},
			{"GET", "/v1/devices?group=a&group=b", "", 400, "group comes 2 times"},
			{"GET", "/v1/devices?group=%zz", "", 400, "invalid URL escape"},
			{"GET", "/v1/devices?a;b", "", 400, "semicolon"},
			{"GET", "/v1/devices?state=odd", "", 400, "odd"},
			{"GET", "/v1/devices?state=" + long, "", 400, "state"},
			{"GET", "/v1/devices?id=[", "", 400, "syntax error in pattern"},
			{"GET", "/v1/devices?expiring_before=soon", "", 400, "2026-01-31T12:00:00Z"},
			{"GET", "/v1/devices?expiring_before=9999-12-31T23:59:59-12:00", "", 400, "year 10000"},
			{"GET", "/v1/devices/export?format=csv&state=odd", "", 400, "odd"},
			{"GET", "/v1/devices/export", "", 422, "csv or jsonl wanted"},
			{"GET", "/v1/device?id=" + long, "", 404, "no such device"},
			{"GET", "/v1/device", "", 404, "no such device"},
			{"POST", "/v1/devices", "{}", 405, "takes GET"},
			{"GET", "/v1/devices/revoke", "", 405, "takes POST"},
			{"POST", "/v1/devices/disable", "", 400, "no JSON"},
			{"POST", "/v1/devices/disable", "{}", 400, "one of ids, query and all"},
			{"POST", "/v1/devices/disable", `{"ids":["pump-17"],"all":true}`, 400, "one of ids, query and all"},
			{"POST", "/v1/devices/disable", `{"query":{}}`, 400, "the query is empty"},
			{"POST", "/v1/devices/disable", `{"query":{"state":"odd"}}`, 400, "odd"},
			{"POST", "/v1/devices/disable", `{"query":{"id":"["}}`, 400, "syntax error in pattern"},
			{"POST", "/v1/devices/disable", `{"all":true,"force":true}`, 400, `unknown field "force"`},
			{"POST", "/v1/devices/disable", `{"all":true}{}`, 400, "more than one JSON value"},
			{"POST", "/v1/devices/disable", `{"ids":"pump-17"}`, 400, "cannot unmarshal"},
			{"POST", "/v1/devices/disable", many, 400, "at most 200000"},
			{"POST", "/v1/devices/purge", `{"ids":["` + strings.Repeat("x", maxSelection) + `"]}`, 413, "more than 16777216 bytes"},
			{"POST", "/v1/devices/revoke", `{"all":true,"serial":"01"}`, 400, "serial stands alone"},
			{"POST", "/v1/devices/revoke", `{"all":true,"reason":"spite"}`, 400, "spite"},
			{"POST", "/v1/devices/revoke", `{"all":true,"reason":"certificate-hold"}`, 400, "disable the device instead"},
			{"POST", "/v1/devices/revoke", `{"serial":"xyz"}`, 422, "xyz"},
			{"POST", "/v1/devices/revoke", `{"serial":"` + long + `"}`, 422, "serial"},
			{"POST", "/v1/devices/revoke", `{"serial":"0102"}`, 422, "no device has it"},
			{"POST", "/v1/devices/add", `{"id":"a b"}`, 422, "a b"},
			{"POST", "/v1/devices/add", `{"id":"` + long + `"}`, 422, "id"},
			{"POST", "/v1/devices/add", `{"id":"x","state":"odd"}`, 422, "odd"},
			{"POST", "/v1/devices/add", `{"id":"x","life_seconds":60}`, 400, "without csr"},
			{"POST", "/v1/devices/add", `{"id":"x","csr":"` + strings.Repeat("x", maxBody) + `"}`, 413, "more than 65536 bytes"},
			{"POST", "/v1/devices/sign", `{"id":"x"}`, 400, "csr is missing"},
			{"POST", "/v1/devices/sign", `{"id":"x","csr":"x","life_seconds":-1}`, 400, "life_seconds -1"},
			{"POST", "/v1/devices/sign", `{"id":"x","csr":"x","life_seconds":9223372036854775807}`, 400, "life_seconds"},
			{"POST", "/v1/devices/sign", `{"id":"x","csr":"x","life_seconds":1e999}`, 400, "cannot unmarshal"},
			{"POST", "/v1/operators/issue", `{"id":"../x","csr":"x"}`, 422, ""},
			{"POST", "/v1/claims/create", `{"uses":-1}`, 422, ""},
			{"POST", "/v1/claims/create", `{"pattern":"["}`, 422, ""},
			{"POST", "/v1/claims/revoke", `{"name":"` + long + `"}`, 404, "no such claim"},
			{"POST", "/v1/factories/remove", `{}`, 404, "no such factory CA"},
			{"POST", "/v1/ca/switch", `{"force":1}`, 400, "cannot unmarshal"},
			{"POST", "/v1/ca/withdraw", `{"force":true}`, 400, "unknown field"},
			{"POST", "/v1/ca/csr", `{"name":"root"}`, 400, "broker or device wanted"},
		} {
			status, e := b.ask(c.method, c.path, c.body)
			if status != c.status || !strings.Contains(e.Text, c.text) || status == 400 && e.Code != CodeRequest {
				t.Errorf("%s %.60s %.60s: %d %+v, want %d %s", c.method, c.path, c.body, status, e, c.status, c.text)
			}
		}
		if b.state("pump-17") != registry.Active || b.f.Registry.Len() != 1 {
			t.Error("something has changed")
		}
	})
}

// A broker without a fleet says so, and a fleet without a broker.
func TestPartsThatAreMissing(t *testing.T) {
	_, c, _ := serve(t, &parts{})
	alone := Local(&Fleet{})
	defer alone.Close()
	if !c.Running() || alone.Running() {
		t.Error("who asks a broker?")
	}
	for _, w := range []struct {
		c     *Client
		paths []string
	}{
		{c, []string{
			"GET devices", "GET device?id=x", "GET operators", "GET devices/export?format=csv", "POST devices/add", "POST devices/sign", "POST devices/disable",
			"POST devices/purge", "POST devices/revoke", "POST devices/import?format=csv", "POST operators/issue", "POST operators/revoke", "GET claims",
			"POST claims/create", "POST claims/revoke", "GET factories", "POST factories/challenge", "POST factories/add", "POST factories/remove",
			"GET ca", "POST ca/renew", "POST ca/csr", "POST ca/accept", "POST ca/announce", "POST ca/switch", "POST ca/withdraw", "GET crl",
			"GET certificates", "POST certificates/renew", "GET audit"}},
		{alone, []string{"GET health", "GET stats", "POST backup", "POST reload", "GET certificates", "GET devices", "GET ca"}},
	} {
		b := &bench{t: t}
		b.raw.Transport = w.c.http.Transport
		for _, p := range w.paths {
			method, path, _ := strings.Cut(p, " ")
			if status, e := b.ask(method, "/v1/"+path, "{}"); status != http.StatusNotFound || e.Code != CodeUnsupported || e.Advice == "" {
				t.Errorf("%s: %d %+v", p, status, e)
			}
		}
	}
}

// A fleet may come with a configuration that is read again.
func TestFleetThatComesLater(t *testing.T) {
	f, _ := newFleet(t, nil)
	p := &parts{}
	s, err := Serve(Options{Data: f.Data, Broker: testBroker{p}, Store: testStore{p}})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	c, err := Dial(f.Data)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Operators(t.Context()); err == nil {
		t.Error("there is a fleet")
	}
	s.SetFleet(f)
	if _, err := c.Operators(t.Context()); err != nil {
		t.Error(err)
	}
	s.SetFleet(nil)
	if _, err := c.Operators(t.Context()); err == nil {
		t.Error("there is a fleet")
	}
}

func FuzzQuery(f *testing.F) {
	f.Add("group=a&state=active&id=pump-*&expiring_before=2026-01-31T12%3A00%3A00Z")
	f.Add("expiring_before=0000-01-01T00:00:00.5%2B23:59")
	f.Add("id=%00&group=%ff")
	f.Add("&&=;")
	f.Fuzz(func(t *testing.T, raw string) {
		v, err := once(raw, queryNames()...)
		if err != nil {
			return
		}
		q, err := queryOf(v)
		if err != nil {
			return
		}
		v, err = once(q.values().Encode(), queryNames()...)
		if err != nil {
			t.Fatal(err)
		}
		again, err := queryOf(v)
		if err != nil || !again.ExpiringBefore.Equal(q.ExpiringBefore) {
			t.Fatalf("%+v became %+v: %v", q, again, err)
		}
		again.ExpiringBefore, q.ExpiringBefore = time.Time{}, time.Time{}
		if again != q {
			t.Fatalf("%+v became %+v", q, again)
		}
		_ = fmt.Sprint(Selection{Query: &q})
	})
}
