package gate

import (
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"
)

// What the tags say, from which the configuration file is read, is what the code does.
func TestTags(t *testing.T) {
	tags := map[string]reflect.StructTag{}
	ty := reflect.TypeFor[Config]()
	for i := range ty.NumField() {
		tags[ty.Field(i).Tag.Get("toml")] = ty.Field(i).Tag
	}
	var c Config
	number := func(s string) int { n, _ := strconv.Atoi(s); return n }
	for _, b := range c.bounds() {
		tag := tags[b.key]
		if number(tag.Get("default")) != b.base || number(tag.Get("min")) != b.min || number(tag.Get("max")) != b.to {
			t.Errorf("%s: tag %s, code %d, %d to %d", b.key, tag, b.base, b.min, b.to)
		}
		if (tag.Get("none") == "-1") != (b.min == 0 && b.base != 0) {
			t.Errorf("%s: none tag %q", b.key, tag.Get("none"))
		}
		delete(tags, b.key)
	}
	span := func(s string) time.Duration { d, _ := time.ParseDuration(s); return d }
	for _, s := range c.spans() {
		tag := tags[s.key]
		if span(tag.Get("default")) != s.base || span(tag.Get("min")) != s.min || span(tag.Get("max")) != s.to {
			t.Errorf("%s: tag %s, code %v, %v to %v", s.key, tag, s.base, s.min, s.to)
		}
		delete(tags, s.key)
	}
	if len(tags) != 3 { // exempt, proxies, memory_limit
		t.Errorf("not checked: %v", tags)
	}
}

func TestValidate(t *testing.T) {
	if err := (Config{}).Validate(); err != nil {
		t.Fatal(err)
	}
	off := Config{
		AddressRate: -1, AddressConnections: -1, AddressHandshakes: -1, AddressConnects: -1, NetworkRate: -1, NetworkConnections: -1,
		NetworkHandshakes: -1, NetworkConnects: -1, TotalRate: -1, TotalHandshakes: -1, TotalConnects: -1, BanAfter: -1, BanNetworkAfter: -1,
	}
	if err := off.Validate(); err != nil {
		t.Fatal(err)
	}
	h := newHouse(t, off)
	for range 30_000 {
		h.open("192.0.2.1").Handshaken()
	}

	bad := Config{
		AddressRate: 1_000_001, AddressBurst: -1, TotalConnections: 100_000_001, BanWindow: time.Millisecond, BanTime: 48 * time.Hour,
		TrackedAddresses: 5, MemoryLimit: -1, Exempt: []string{"10.0.0.1/8"}, Proxies: []string{"lb.example.org"},
	}
	err := bad.Validate()
	if err == nil {
		t.Fatal("taken")
	}
	for _, key := range []string{
		"address_rate: 1000001", "address_burst: -1", "total_connections", "ban_window: 1ms", "ban_time: 48h0m0s", "tracked_addresses: 5",
		"memory_limit", `exempt: "10.0.0.1/8" is not a network: do you mean 10.0.0.0/8?`, `proxies: "lb.example.org"`,
	} {
		if !strings.Contains(err.Error(), key) {
			t.Errorf("no word of %s in:\n%v", key, err)
		}
	}
	if _, err := New(bad, Options{}); err == nil {
		t.Fatal("a gate was made of it")
	}
	if _, err := New(Config{BanTime: 2 * time.Hour, BanLongest: time.Hour}, Options{}); err == nil || !strings.Contains(err.Error(), "ban_longest") {
		t.Fatal(err)
	}
}

func TestParsePrefix(t *testing.T) {
	for s, want := range map[string]string{
		"192.0.2.1": "192.0.2.1/32", "::ffff:192.0.2.1": "192.0.2.1/32", "2001:db8::1": "2001:db8::1/128", "10.0.0.0/8": "10.0.0.0/8", "::/0": "::/0",
		"": "", "10.0.0.1/8": "", "fe80::1%eth0": "", "::ffff:10.0.0.0/104": "", "10.0.0.0/33": "", "none": "",
	} {
		p, err := ParsePrefix(s)
		if want == "" && err == nil || want != "" && p.String() != want {
			t.Errorf("%q: %v, %v", s, p, err)
		}
	}
}
