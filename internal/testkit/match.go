package testkit

import (
	"fmt"
	"slices"
	"sort"
	"strconv"
	"strings"
)

// codeNames are the reason codes by the names that scripts may use instead of numbers.
var codeNames = map[string]int{
	"Success": 0, "GrantedQoS1": 1, "GrantedQoS2": 2, "DisconnectWithWill": 4, "NoMatchingSubscribers": 0x10,
	"NoSubscriptionExisted": 0x11, "ContinueAuthentication": 0x18, "ReAuthenticate": 0x19, "UnspecifiedError": 0x80,
	"MalformedPacket": 0x81, "ProtocolError": 0x82, "ImplementationSpecificError": 0x83,
	"UnsupportedProtocolVersion": 0x84, "ClientIdentifierNotValid": 0x85, "BadUserNameOrPassword": 0x86,
	"NotAuthorized": 0x87, "ServerUnavailable": 0x88, "ServerBusy": 0x89, "Banned": 0x8a, "ServerShuttingDown": 0x8b,
	"BadAuthenticationMethod": 0x8c, "KeepAliveTimeout": 0x8d, "SessionTakenOver": 0x8e, "TopicFilterInvalid": 0x8f,
	"TopicNameInvalid": 0x90, "PacketIDInUse": 0x91, "PacketIDNotFound": 0x92, "ReceiveMaximumExceeded": 0x93,
	"TopicAliasInvalid": 0x94, "PacketTooLarge": 0x95, "MessageRateTooHigh": 0x96, "QuotaExceeded": 0x97,
	"AdministrativeAction": 0x98, "PayloadFormatInvalid": 0x99, "RetainNotSupported": 0x9a, "QoSNotSupported": 0x9b,
	"UseAnotherServer": 0x9c, "ServerMoved": 0x9d, "SharedSubscriptionsNotSupported": 0x9e,
	"ConnectionRateExceeded": 0x9f, "MaximumConnectTime": 0xa0, "SubscriptionIdentifiersNotSupported": 0xa1,
	"WildcardSubscriptionsNotSupported": 0xa2,
}

func number(s string) (int64, bool) {
	if n, ok := codeNames[s]; ok {
		return int64(n), true
	}
	n, err := strconv.ParseInt(s, 0, 64)
	return n, err == nil
}

// match says why p is not what the arguments expect, "" when it is. vars holds the bindings of $1, $2, …
func match(p *Packet, args []arg, vars map[string]string) string {
	if args[0].val != p.Kind {
		return "it is no " + args[0].val
	}
	want := map[string][]string{}
	var order []string
	for _, a := range args[1:] {
		if a.bare && !a.quoted && containsWord(flagWords[p.Kind], a.val) {
			a = arg{key: a.val, val: "1"}
		}
		if a.bare {
			a = arg{key: "topic", val: a.val, quoted: true}
		}
		if !containsWord(fieldWords[p.Kind]+" size", a.key) && propByName(a.key) == nil {
			return "no such field: " + a.key
		}
		if a.not {
			if v := p.Fields.Get(a.key); v != "" && v != "0" {
				return fmt.Sprintf("%s=%q must not be there", a.key, v)
			}
			continue
		}
		if isVar(a.val) {
			if v, ok := vars[a.val]; ok {
				a.val, a.quoted = v, true
			} else {
				vars[a.val] = p.Fields.Get(a.key)
				continue
			}
		}
		if want[a.key] == nil {
			order = append(order, a.key)
		}
		want[a.key] = append(want[a.key], a.val)
	}
	for _, k := range order {
		have := p.Fields[k]
		if k == "size" {
			have = []string{strconv.Itoa(p.Size)}
		}
		w := want[k]
		if k == "sub_id" {
			have = slices.Clone(have)
			sort.Strings(have)
			sort.Strings(w)
		}
		if len(w) == 1 && w[0] == "*" {
			if len(have) == 0 {
				return k + " is missing"
			}
			continue
		}
		if len(have) != len(w) {
			return fmt.Sprintf("%s: %d values %q, want %q", k, len(have), have, w)
		}
		for i := range w {
			if k == "codes" {
				if !matchCodes(have[i], w[i]) {
					return fmt.Sprintf("codes=%s, want %s", have[i], w[i])
				}
			} else if !matchValue(have[i], w[i]) {
				return fmt.Sprintf("%s=%s, want %s", k, short(have[i]), short(w[i]))
			}
		}
	}
	return ""
}

func isVar(s string) bool {
	if len(s) < 2 || s[0] != '$' {
		return false
	}
	_, err := strconv.Atoi(s[1:])
	return err == nil
}

func matchCodes(have, want string) bool {
	h, w := strings.Split(have, ","), strings.Split(want, ",")
	if len(h) != len(w) {
		return false
	}
	for i := range h {
		if !matchValue(h[i], w[i]) {
			return false
		}
	}
	return true
}

// matchValue compares one value: equal text or number, "a|b" alternatives, "5..10" a range, "abc*" a beginning.
func matchValue(have, want string) bool {
	if have == want {
		return true
	}
	h, hok := number(have)
	for w := range strings.SplitSeq(want, "|") {
		if n, ok := number(w); ok && hok && n == h {
			return true
		}
		if lo, hi, ok := strings.Cut(w, ".."); ok && hok {
			l, lok := number(lo)
			u, uok := number(hi)
			if lok && uok && l <= h && h <= u {
				return true
			}
		}
		if pre, ok := strings.CutSuffix(w, "*"); ok && strings.HasPrefix(have, pre) {
			return true
		}
		if have == w && strings.Contains(want, "|") {
			return true
		}
	}
	return false
}

func short(s string) string {
	if len(s) > 60 {
		return fmt.Sprintf("%q… (%d bytes)", s[:60], len(s))
	}
	return strconv.Quote(s)
}

// String writes the packet as a script would expect it.
func (p *Packet) String() string {
	var b strings.Builder
	b.WriteString(p.Kind)
	keys := make([]string, 0, len(p.Fields))
	for k := range p.Fields {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	for _, k := range keys {
		for _, v := range p.Fields[k] {
			if k == "wire_topic" && v == p.Fields.Get("topic") {
				continue
			}
			if k == "code" {
				if n, _ := strconv.Atoi(v); n > 2 {
					v = fmt.Sprintf("%#x", n)
				}
			} else if _, err := strconv.Atoi(v); err != nil {
				v = short(v)
			}
			b.WriteString(" " + k + "=" + v)
		}
	}
	return b.String()
}
