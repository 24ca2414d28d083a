package mqtt

import (
	"bytes"
	"encoding/binary"
	mathbits "math/bits"
)

// Parse reads a Property Length and the properties it covers from the start of b, and tells how many bytes they took
// together. Identifiers that do not exist or do not belong there are malformed (section 2.2.2.2); a second occurrence
// of a single property and a value out of range are protocol errors. Strings and data are views into b.
func (p *Properties) Parse(b []byte, t PropertyContext) (n int, err error) {
	p.Reset()
	raw, n, err := cutProperties(b)
	if err != nil || len(raw) == 0 {
		return n, err
	}
	if err := p.parse(raw, t); err != nil {
		p.Reset()
		return 0, err
	}
	return n, nil
}

// cutProperties finds the property bytes behind their length; n counts both.
func cutProperties(b []byte) (raw []byte, n int, err error) {
	if len(b) > 0 && b[0] == 0 {
		return b[1:1:1], 1, nil
	}
	length, size, err := ParseVarint(b)
	if err == ErrIncomplete {
		return nil, 0, malformed("property length is cut short")
	} else if err != nil {
		return nil, 0, malformed("property length: " + err.(*Error).Text)
	}
	if length > len(b)-size {
		return nil, 0, malformed("properties are cut short")
	}
	n = size + length
	return b[size:n:n], n, nil
}

func (p *Properties) parse(b []byte, t PropertyContext) error {
	may := allowed[t&15]
	for len(b) > 0 {
		id := Property(b[0])
		b = b[1:]
		if id > lastProperty || may>>id&1 == 0 {
			return strangeProperty(id, t)
		}
		if p.set>>id&1 != 0 {
			return violation(id.String() + " occurs more than once")
		}
		var ok bool
		switch forms[id] {
		case formBool:
			if ok = len(b) >= 1; ok {
				*p.byteField(id) = b[0]
				if b[0] > 1 {
					return violation(id.String() + " is neither 0 nor 1")
				}
				b = b[1:]
			}
		case formShort:
			if ok = len(b) >= 2; ok {
				*p.shortField(id) = binary.BigEndian.Uint16(b)
				b = b[2:]
			}
		case formLong:
			if ok = len(b) >= 4; ok {
				*p.longField(id) = binary.BigEndian.Uint32(b)
				b = b[4:]
			}
		case formText:
			f := p.bytesField(id)
			if *f, b, ok = cut(b); ok && !ValidString(*f) {
				return badText(*f, id.String())
			}
		case formBinary:
			*p.bytesField(id), b, ok = cut(b)
		case formList:
			var err error
			if id == PropUser {
				b, err = p.parseUser(b)
			} else {
				b, err = p.parseSubscriptionID(b, t)
			}
			if err != nil {
				return err
			}
			continue
		}
		if !ok {
			return malformed(id.String() + " is cut short")
		}
		p.set |= 1 << id
	}
	return p.check(t)
}

//go:noinline
func strangeProperty(id Property, t PropertyContext) error {
	where := Type(t).String()
	if t == InWill {
		where = "Will Properties"
	}
	if formOf(id) == formNone {
		return malformed("unknown property in " + where)
	}
	return malformed(id.String() + " is not allowed in " + where)
}

// parseUser reads a string pair [MQTT-1.5.7-1].
func (p *Properties) parseUser(b []byte) (rest []byte, err error) {
	var u UserProperty
	if u.Key, b, err = readText(b, "name of a User Property"); err != nil {
		return nil, err
	}
	if u.Value, b, err = readText(b, "value of a User Property"); err != nil {
		return nil, err
	}
	p.User = append(p.User, u)
	return b, nil
}

func (p *Properties) parseSubscriptionID(b []byte, t PropertyContext) (rest []byte, err error) {
	v, n, err := ParseVarint(b)
	switch {
	case err == ErrIncomplete:
		return nil, malformed("Subscription Identifier is cut short")
	case err != nil:
		return nil, malformed("Subscription Identifier: " + err.(*Error).Text)
	case v == 0:
		return nil, violation("Subscription Identifier is zero")
	case t == PropertyContext(SUBSCRIBE) && len(p.SubscriptionIDs) > 0:
		return nil, violation("Subscription Identifier occurs more than once")
	}
	p.SubscriptionIDs = append(p.SubscriptionIDs, uint32(v))
	return b[n:], nil
}

// check holds the values to their ranges.
func (p *Properties) check(t PropertyContext) error {
	const looked = 1<<PropReceiveMaximum | 1<<PropMaximumPacketSize | 1<<PropTopicAlias | 1<<PropResponseTopic |
		1<<PropAuthData | 1<<PropAuthMethod
	if p.set&looked == 0 {
		return nil
	}
	switch {
	case p.Has(PropReceiveMaximum) && p.ReceiveMaximum == 0:
		return violation("Receive Maximum is zero")
	case p.Has(PropMaximumPacketSize) && p.MaximumPacketSize == 0:
		return violation("Maximum Packet Size is zero")
	case p.Has(PropTopicAlias) && p.TopicAlias == 0: // [MQTT-3.3.2-8]
		return &Error{TopicAliasInvalid, "Topic Alias is zero"}
	case p.Has(PropResponseTopic) && len(p.ResponseTopic) == 0: // [MQTT-4.7.3-1]
		return violation("Response Topic is empty")
	case p.Has(PropResponseTopic) && (bytes.IndexByte(p.ResponseTopic, '#') >= 0 || bytes.IndexByte(p.ResponseTopic, '+') >= 0):
		return violation("Response Topic contains a wildcard") // [MQTT-3.3.2-14]
	case p.Has(PropAuthData) && !p.Has(PropAuthMethod):
		return violation("Authentication Data without Authentication Method")
	}
	return nil
}

// Size is the bytes that Append writes.
func (p *Properties) Size() int {
	n := p.size()
	return add(VarintLen(n), n)
}

func (p *Properties) size() (n int) {
	for s := p.set; s != 0; s &= s - 1 {
		switch id := Property(mathbits.TrailingZeros64(s)); forms[id] {
		case formBool:
			n += 2
		case formShort:
			n += 3
		case formLong:
			n += 5
		case formText, formBinary:
			n = add(n, 1+sizeString(*p.bytesField(id)))
		}
	}
	for _, v := range p.SubscriptionIDs {
		n = add(n, 1+VarintLen(int(v)))
		if v > MaxRemaining {
			n = tooLong
		}
	}
	for i := range p.User {
		n = add(n, 1+sizeString(p.User[i].Key))
		n = add(n, sizeString(p.User[i].Value))
	}
	return n
}

// Append writes the Property Length and the present properties, by identifier, the two lists last. Whether they belong
// to the packet is the caller's concern. Properties that cannot be expressed are not written: Size is above MaxPacketSize
// or any limit of the peer then.
func (p *Properties) Append(dst []byte) []byte {
	n := p.size()
	if n > MaxRemaining {
		return dst
	}
	dst = p.appendSingles(AppendVarint(dst, n), p.set)
	for _, v := range p.SubscriptionIDs {
		dst = AppendVarint(append(dst, byte(PropSubscriptionIDs)), int(v))
	}
	return p.appendUser(dst)
}

// appendSingles writes the properties in the mask set.
func (p *Properties) appendSingles(dst []byte, set uint64) []byte {
	for s := set; s != 0; s &= s - 1 {
		id := Property(mathbits.TrailingZeros64(s))
		dst = append(dst, byte(id))
		switch forms[id] {
		case formBool:
			dst = append(dst, *p.byteField(id))
		case formShort:
			dst = appendUint16(dst, *p.shortField(id))
		case formLong:
			dst = binary.BigEndian.AppendUint32(dst, *p.longField(id))
		case formText, formBinary:
			dst = appendString(dst, *p.bytesField(id))
		}
	}
	return dst
}

func (p *Properties) appendUser(dst []byte) []byte {
	for i := range p.User {
		dst = appendString(append(dst, byte(PropUser)), p.User[i].Key)
		dst = appendString(dst, p.User[i].Value)
	}
	return dst
}

// forwarded are the properties that a server passes on unaltered.
const forwarded uint64 = 1<<PropPayloadFormat | 1<<PropContentType | 1<<PropResponseTopic | 1<<PropCorrelationData |
	1<<PropUser

// appendForward copies the forwarded ones of the properties in raw, in their order. It stops at the first that is not
// a property of PUBLISH or of a Will.
func appendForward(dst, raw []byte) []byte {
	for len(raw) > 0 {
		id := Property(raw[0])
		n := 1
		switch formOf(id) {
		case formBool:
			n += 1
		case formLong:
			n += 4
		case formShort:
			n += 2
		case formText, formBinary:
			f, _, ok := cut(raw[1:])
			if !ok {
				return dst
			}
			n += 2 + len(f)
		case formList:
			if id == PropSubscriptionIDs {
				_, size, err := ParseVarint(raw[1:])
				if err != nil {
					return dst
				}
				n += size
				break
			}
			key, rest, ok := cut(raw[1:])
			if !ok {
				return dst
			}
			value, _, ok := cut(rest)
			if !ok {
				return dst
			}
			n += 4 + len(key) + len(value)
		default:
			return dst
		}
		if n > len(raw) {
			return dst
		}
		if forwarded>>id&1 != 0 {
			dst = append(dst, raw[:n]...)
		}
		raw = raw[n:]
	}
	return dst
}
