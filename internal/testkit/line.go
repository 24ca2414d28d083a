package testkit

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// arg is one word of a script line: key=value, a bare word, or !key.
type arg struct {
	key, val string
	bare     bool // no "=": key is empty and val the word
	not      bool
	quoted   bool // the value was in quotes, so it is taken literally
}

var repeatRE = regexp.MustCompile(`repeat\(([^)]*?),(\d+)\)`)

// words splits a line at blanks. Double quotes hold Go string escapes; two blanks and "# " begin a comment;
// repeat(s,n) stands for n times s.
func words(line string) ([]arg, error) {
	var out []arg
	for i := 0; i < len(line); {
		if line[i] == ' ' || line[i] == '\t' {
			if strings.HasPrefix(strings.TrimLeft(line[i:], " \t"), "# ") && len(line[i:])-len(strings.TrimLeft(line[i:], " \t")) >= 2 {
				break
			}
			i++
			continue
		}
		var w strings.Builder
		quoted, eq := false, -1
		for i < len(line) && line[i] != ' ' && line[i] != '\t' {
			switch {
			case line[i] == '"':
				q, err := strconv.QuotedPrefix(line[i:])
				if err != nil {
					return nil, fmt.Errorf("unterminated quote in %q", line)
				}
				s, err := strconv.Unquote(q)
				if err != nil {
					return nil, err
				}
				w.WriteString(s)
				i += len(q)
				quoted = true
			default:
				if line[i] == '=' && eq < 0 && !quoted {
					eq = w.Len()
				}
				if strings.HasPrefix(line[i:], "repeat(") {
					if m := repeatRE.FindStringSubmatchIndex(line[i:]); m != nil && m[0] == 0 {
						n, _ := strconv.Atoi(line[i+m[4] : i+m[5]])
						w.WriteString(strings.Repeat(line[i+m[2]:i+m[3]], n))
						i += m[1]
						continue
					}
				}
				w.WriteByte(line[i])
				i++
			}
		}
		s := w.String()
		a := arg{val: s, bare: true, quoted: quoted}
		if eq > 0 && isName(s[:eq]) {
			a = arg{key: s[:eq], val: s[eq+1:], quoted: quoted}
		} else if !quoted && len(s) > 1 && s[0] == '!' && isName(s[1:]) {
			a = arg{key: s[1:], not: true}
		}
		out = append(out, a)
	}
	return out, nil
}

func isName(s string) bool {
	for _, c := range s {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '_' {
			return false
		}
	}
	return s != ""
}

// flagWords are the bare words that mean a field set to 1, per packet.
var flagWords = map[string]string{
	"CONNECT":   "clean will_retain",
	"PUBLISH":   "retain dup",
	"SUBSCRIBE": "nl rap",
	"CONNACK":   "sp",
}

// encoded is a packet to send with what the runner has to know of it.
type encoded struct {
	kind    string
	fields  Fields
	version int
	bytes   []byte
}

// encode builds the packet that a script line describes; v is the version of the connection so far, 0 before CONNECT.
// Every field can be given a value that the standard forbids.
func encode(v int, args []arg) (*encoded, error) {
	if len(args) == 0 || !args[0].bare {
		return nil, fmt.Errorf("no packet type")
	}
	kind := args[0].val
	if kind == "hex" {
		b, err := hexBytes(args[1:])
		if v == 0 {
			v = levelOf(b)
		}
		return &encoded{kind: "hex", bytes: b, version: v}, err
	}
	num, ok := kindNumber(kind)
	if !ok {
		return nil, fmt.Errorf("%q is no packet type", kind)
	}
	e := &encoded{kind: kind, fields: Fields{}}
	f := e.fields
	type sub struct {
		filter string
		f      Fields
	}
	var subs []sub
	var props, will []byte
	var err error
	for _, a := range args[1:] {
		if a.not {
			return nil, fmt.Errorf("!%s in a packet to send", a.key)
		}
		if a.bare && !a.quoted && containsWord(flagWords[kind], a.val) {
			a = arg{key: a.val, val: "1"}
		}
		if a.bare {
			switch kind {
			case "SUBSCRIBE", "UNSUBSCRIBE":
				subs = append(subs, sub{a.val, Fields{}})
			case "PUBLISH":
				f.add("topic", a.val)
			default:
				return nil, fmt.Errorf("%s: what is %q?", kind, a.val)
			}
			continue
		}
		if kind == "SUBSCRIBE" && containsWord("q nl rap rh options", a.key) {
			if len(subs) == 0 {
				return nil, fmt.Errorf("%s before a filter", a.key)
			}
			subs[len(subs)-1].f.add(a.key, a.val)
			continue
		}
		if d := propByName(a.key); d != nil && a.key != "delay" {
			if props, err = appendProp(props, d, a.val); err != nil {
				return nil, err
			}
		} else if w, ok := strings.CutPrefix(a.key, "will_"); ok && propByName(w) != nil {
			if will, err = appendProp(will, propByName(w), a.val); err != nil {
				return nil, err
			}
		} else if a.key == "prop" { // raw property bytes in hexadecimal
			b, err := hex.DecodeString(a.val)
			if err != nil {
				return nil, err
			}
			props = append(props, b...)
		} else if !containsWord(fieldWords[kind]+" hflags prop_length", a.key) {
			return nil, fmt.Errorf("%s: what is %s=?", kind, a.key)
		}
		f.add(a.key, a.val)
	}
	n := func(k string) int {
		x, ok := number(f.Get(k))
		if !ok && f.Get(k) != "" && err == nil {
			err = fmt.Errorf("%s=%s is no number", k, f.Get(k))
		}
		return int(x)
	}
	if kind == "CONNECT" {
		v = 5
		if f.Get("v") != "" {
			v = n("v")
		}
	}
	e.version = v
	if v != 5 && (props != nil || will != nil) {
		return nil, fmt.Errorf("properties in a packet of version %d", v)
	}
	length := len(props)
	if f.Get("prop_length") != "" {
		length = n("prop_length")
	}
	withProps := func(b []byte) []byte {
		if v != 5 {
			return b
		}
		return append(appendVarint(b, length), props...)
	}
	flags := defaultFlags(num)
	var b []byte
	switch kind {
	case "CONNECT":
		name := "MQTT"
		if v == 3 {
			name = "MQIsdp"
		}
		if f["name"] != nil {
			name = f.Get("name")
		}
		b = appendString(b, name)
		level := v
		if f["level"] != nil {
			level = n("level")
		}
		hasWill := f["will"] != nil
		var c byte
		c |= byte(n("clean")&1)<<1 | byte(n("will_qos")&3)<<3 | byte(n("will_retain")&1)<<5
		if hasWill {
			c |= 4
		}
		if f["password"] != nil {
			c |= 0x40
		}
		if f["username"] != nil {
			c |= 0x80
		}
		if f["cflags"] != nil {
			c = byte(n("cflags"))
		}
		b = append(b, byte(level), c, byte(n("ka")>>8), byte(n("ka")))
		b = withProps(b)
		if f["noid"] == nil {
			b = appendString(b, f.Get("id"))
		}
		if hasWill {
			if v == 5 {
				b = append(appendVarint(b, len(will)), will...)
			}
			b = appendString(appendString(b, f.Get("will")), f.Get("will_payload"))
		}
		if f["username"] != nil {
			b = appendString(b, f.Get("username"))
		}
		if f["password"] != nil {
			b = appendString(b, f.Get("password"))
		}
	case "CONNACK":
		b = withProps(append(b, byte(n("sp")), byte(n("code"))))
	case "PUBLISH":
		flags = byte(n("dup")&1)<<3 | byte(n("q")&3)<<1 | byte(n("retain")&1)
		b = appendString(b, f.Get("topic"))
		if n("q") > 0 || f["id"] != nil {
			b = append(b, byte(n("id")>>8), byte(n("id")))
		}
		b = append(withProps(b), f.Get("payload")...)
	case "PUBACK", "PUBREC", "PUBREL", "PUBCOMP":
		b = append(b, byte(n("id")>>8), byte(n("id")))
		if v == 5 && (f["code"] != nil || props != nil || f["prop_length"] != nil) {
			b = append(b, byte(n("code")))
			if props != nil || f["prop_length"] != nil {
				b = withProps(b)
			}
		}
	case "SUBSCRIBE", "UNSUBSCRIBE":
		b = withProps(append(b, byte(n("id")>>8), byte(n("id"))))
		for _, s := range subs {
			b = appendString(b, s.filter)
			if kind == "SUBSCRIBE" {
				o := byte(num2(s.f, "q")&3 | num2(s.f, "nl")<<2 | num2(s.f, "rap")<<3 | num2(s.f, "rh")<<4)
				if s.f["options"] != nil {
					o = byte(num2(s.f, "options"))
				}
				b = append(b, o)
			}
		}
	case "SUBACK", "UNSUBACK":
		b = withProps(append(b, byte(n("id")>>8), byte(n("id"))))
		for c := range strings.SplitSeq(f.Get("codes"), ",") {
			x, _ := strconv.ParseUint(c, 0, 8)
			b = append(b, byte(x))
		}
	case "DISCONNECT", "AUTH":
		if v == 5 && (f["code"] != nil || props != nil || f["prop_length"] != nil) {
			b = append(b, byte(n("code")))
			if props != nil || f["prop_length"] != nil {
				b = withProps(b)
			}
		}
	}
	if f["hflags"] != nil {
		flags = byte(n("hflags"))
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", kind, err)
	}
	e.bytes = append(appendVarint([]byte{num<<4 | flags}, len(b)), b...)
	return e, nil
}

// fieldWords are the fields of each packet besides its properties.
var fieldWords = map[string]string{
	"CONNECT": "v id noid clean ka username password will will_payload will_qos will_retain cflags level name",
	"CONNACK": "sp code", "PUBLISH": "topic wire_topic q retain dup id payload",
	"PUBACK": "id code", "PUBREC": "id code", "PUBREL": "id code", "PUBCOMP": "id code",
	"SUBSCRIBE": "id", "UNSUBSCRIBE": "id", "SUBACK": "id codes", "UNSUBACK": "id codes",
	"DISCONNECT": "code", "AUTH": "code", "PINGREQ": "", "PINGRESP": "", "RESERVED": "",
}

func num2(f Fields, k string) int {
	x, _ := strconv.ParseUint(f.Get(k), 0, 8)
	return int(x)
}

// hexBytes reads bytes in hexadecimal; "text" in quotes stands for its bytes, str="text" for a length and its bytes.
func hexBytes(args []arg) ([]byte, error) {
	var b []byte
	for _, a := range args {
		switch {
		case a.key == "str":
			b = appendString(b, a.val)
		case a.key == "raw" || a.quoted:
			b = append(b, a.val...)
		default:
			x, err := hex.DecodeString(a.val)
			if err != nil {
				return nil, fmt.Errorf("hex %q: %w", a.val, err)
			}
			b = append(b, x...)
		}
	}
	return b, nil
}

// levelOf finds the protocol level in the bytes of a CONNECT; 0 when there is none.
func levelOf(b []byte) int {
	_, rest, ok := bytes.Cut(b, []byte("\x00\x04MQTT"))
	if !ok || len(rest) == 0 {
		return 0
	}
	return int(rest[0])
}
