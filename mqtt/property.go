package mqtt

// Property is the identifier of a property of MQTT 5, section 2.2.2.2.
type Property uint8

// The properties; their names are those of the fields of Properties.
const (
	PropPayloadFormat           Property = 0x01
	PropMessageExpiry           Property = 0x02
	PropContentType             Property = 0x03
	PropResponseTopic           Property = 0x08
	PropCorrelationData         Property = 0x09
	PropSubscriptionIDs         Property = 0x0B
	PropSessionExpiry           Property = 0x11
	PropAssignedClientID        Property = 0x12
	PropServerKeepAlive         Property = 0x13
	PropAuthMethod              Property = 0x15
	PropAuthData                Property = 0x16
	PropRequestProblemInfo      Property = 0x17
	PropWillDelay               Property = 0x18
	PropRequestResponseInfo     Property = 0x19
	PropResponseInfo            Property = 0x1A
	PropServerReference         Property = 0x1C
	PropReasonString            Property = 0x1F
	PropReceiveMaximum          Property = 0x21
	PropTopicAliasMaximum       Property = 0x22
	PropTopicAlias              Property = 0x23
	PropMaximumQoS              Property = 0x24
	PropRetainAvailable         Property = 0x25
	PropUser                    Property = 0x26
	PropMaximumPacketSize       Property = 0x27
	PropWildcardAvailable       Property = 0x28
	PropSubscriptionIDAvailable Property = 0x29
	PropSharedAvailable         Property = 0x2A

	lastProperty = PropSharedAvailable
)

// Properties holds the properties of any packet. A field counts only when Has reports its property; after Parse and
// Reset the others are zero, which is not always the default that the standard gives to an absent one. The two lists
// are present when they are not empty and need no Set.
type Properties struct {
	set uint64 // bit i: property i is present

	PayloadFormat           byte   // 1: the payload is UTF-8
	MessageExpiry           uint32 // s
	ContentType             []byte
	ResponseTopic           []byte
	CorrelationData         []byte
	SubscriptionIDs         []uint32 // 1..MaxRemaining each
	SessionExpiry           uint32   // s; 0xFFFFFFFF: never
	AssignedClientID        []byte
	ServerKeepAlive         uint16 // s
	AuthMethod              []byte
	AuthData                []byte
	RequestProblemInfo      byte
	WillDelay               uint32 // s
	RequestResponseInfo     byte
	ResponseInfo            []byte
	ServerReference         []byte
	ReasonString            []byte
	ReceiveMaximum          uint16 // packets, 1..65,535
	TopicAliasMaximum       uint16
	TopicAlias              uint16 // 1..65,535
	MaximumQoS              byte   // 0 or 1
	RetainAvailable         byte
	User                    []UserProperty
	MaximumPacketSize       uint32 // bytes, not 0
	WildcardAvailable       byte
	SubscriptionIDAvailable byte
	SharedAvailable         byte
}

// UserProperty is a pair of strings that the standard gives no meaning. Order and repetition are kept.
type UserProperty struct{ Key, Value []byte }

// Has tells whether the property is present.
func (p *Properties) Has(id Property) bool {
	switch id {
	case PropUser:
		return len(p.User) > 0
	case PropSubscriptionIDs:
		return len(p.SubscriptionIDs) > 0
	}
	return p.set>>id&1 != 0
}

// Empty tells that there is no property at all.
func (p *Properties) Empty() bool {
	return p.set == 0 && len(p.User) == 0 && len(p.SubscriptionIDs) == 0
}

// Set marks properties present; their fields hold the values. Identifiers that do not exist are ignored.
func (p *Properties) Set(ids ...Property) {
	for _, id := range ids {
		if formOf(id) != formNone && formOf(id) != formList {
			p.set |= 1 << id
		}
	}
}

// Unset removes a property; its field keeps the value, a list becomes empty.
func (p *Properties) Unset(id Property) {
	switch id {
	case PropUser:
		p.User = p.User[:0]
	case PropSubscriptionIDs:
		p.SubscriptionIDs = p.SubscriptionIDs[:0]
	}
	p.set &^= 1 << id
}

// Reset makes the properties empty and every field zero; the lists keep a bounded room for the next use.
func (p *Properties) Reset() {
	if p.set == 0 && p.User == nil && p.SubscriptionIDs == nil {
		return
	}
	p.clear()
}

func (p *Properties) clear() {
	users, ids := keep(p.User), keep(p.SubscriptionIDs)
	*p = Properties{User: users, SubscriptionIDs: ids}
}

// form is how the value of a property is written.
type form uint8

const (
	formNone   form = iota // no such property
	formBool               // one byte, 0 or 1
	formShort              // two bytes
	formLong               // four bytes
	formText               // UTF-8 string
	formBinary             // binary data
	formList               // of Subscription Identifiers or User Properties
)

var forms = [64]form{
	PropPayloadFormat: formBool, PropMessageExpiry: formLong, PropContentType: formText, PropResponseTopic: formText,
	PropCorrelationData: formBinary, PropSubscriptionIDs: formList, PropSessionExpiry: formLong,
	PropAssignedClientID: formText, PropServerKeepAlive: formShort, PropAuthMethod: formText, PropAuthData: formBinary,
	PropRequestProblemInfo: formBool, PropWillDelay: formLong, PropRequestResponseInfo: formBool,
	PropResponseInfo: formText, PropServerReference: formText, PropReasonString: formText,
	PropReceiveMaximum: formShort, PropTopicAliasMaximum: formShort, PropTopicAlias: formShort,
	PropMaximumQoS: formBool, PropRetainAvailable: formBool, PropUser: formList, PropMaximumPacketSize: formLong,
	PropWildcardAvailable: formBool, PropSubscriptionIDAvailable: formBool, PropSharedAvailable: formBool,
}

func formOf(id Property) form {
	if id > lastProperty {
		return formNone
	}
	return forms[id]
}

var propertyNames = [lastProperty + 1]string{
	PropPayloadFormat: "Payload Format Indicator", PropMessageExpiry: "Message Expiry Interval",
	PropContentType: "Content Type", PropResponseTopic: "Response Topic", PropCorrelationData: "Correlation Data",
	PropSubscriptionIDs: "Subscription Identifier", PropSessionExpiry: "Session Expiry Interval",
	PropAssignedClientID: "Assigned Client Identifier", PropServerKeepAlive: "Server Keep Alive",
	PropAuthMethod: "Authentication Method", PropAuthData: "Authentication Data",
	PropRequestProblemInfo: "Request Problem Information", PropWillDelay: "Will Delay Interval",
	PropRequestResponseInfo: "Request Response Information", PropResponseInfo: "Response Information",
	PropServerReference: "Server Reference", PropReasonString: "Reason String", PropReceiveMaximum: "Receive Maximum",
	PropTopicAliasMaximum: "Topic Alias Maximum", PropTopicAlias: "Topic Alias", PropMaximumQoS: "Maximum QoS",
	PropRetainAvailable: "Retain Available", PropUser: "User Property", PropMaximumPacketSize: "Maximum Packet Size",
	PropWildcardAvailable:       "Wildcard Subscription Available",
	PropSubscriptionIDAvailable: "Subscription Identifier Available",
	PropSharedAvailable:         "Shared Subscription Available",
}

// String is the standard's name of the property.
func (id Property) String() string {
	if formOf(id) == formNone {
		return "unknown property"
	}
	return propertyNames[id]
}

// PropertyContext says where properties stand: PropertyContext(t) in a packet of type t, or InWill.
type PropertyContext uint8

// InWill is the context of the Will Properties in CONNECT.
const InWill PropertyContext = 0

func bits(ids ...Property) (m uint64) {
	for _, id := range ids {
		m |= 1 << id
	}
	return m
}

// allowed has a bit for every property that may stand in a context, table 2-4 of the standard.
var allowed = [16]uint64{
	InWill: bits(PropPayloadFormat, PropMessageExpiry, PropContentType, PropResponseTopic, PropCorrelationData,
		PropWillDelay, PropUser),
	CONNECT: bits(PropSessionExpiry, PropAuthMethod, PropAuthData, PropRequestProblemInfo, PropRequestResponseInfo,
		PropReceiveMaximum, PropTopicAliasMaximum, PropUser, PropMaximumPacketSize),
	CONNACK: bits(PropSessionExpiry, PropAssignedClientID, PropServerKeepAlive, PropAuthMethod, PropAuthData,
		PropResponseInfo, PropServerReference, PropReasonString, PropReceiveMaximum, PropTopicAliasMaximum,
		PropMaximumQoS, PropRetainAvailable, PropUser, PropMaximumPacketSize, PropWildcardAvailable,
		PropSubscriptionIDAvailable, PropSharedAvailable),
	PUBLISH: bits(PropPayloadFormat, PropMessageExpiry, PropContentType, PropResponseTopic, PropCorrelationData,
		PropSubscriptionIDs, PropTopicAlias, PropUser),
	PUBACK:      bits(PropReasonString, PropUser),
	PUBREC:      bits(PropReasonString, PropUser),
	PUBREL:      bits(PropReasonString, PropUser),
	PUBCOMP:     bits(PropReasonString, PropUser),
	SUBSCRIBE:   bits(PropSubscriptionIDs, PropUser),
	SUBACK:      bits(PropReasonString, PropUser),
	UNSUBSCRIBE: bits(PropUser),
	UNSUBACK:    bits(PropReasonString, PropUser),
	DISCONNECT:  bits(PropSessionExpiry, PropServerReference, PropReasonString, PropUser),
	AUTH:        bits(PropAuthMethod, PropAuthData, PropReasonString, PropUser),
}

// byteField and its sisters find the field of a property by its form.
func (p *Properties) byteField(id Property) *byte {
	switch id {
	case PropPayloadFormat:
		return &p.PayloadFormat
	case PropRequestProblemInfo:
		return &p.RequestProblemInfo
	case PropRequestResponseInfo:
		return &p.RequestResponseInfo
	case PropMaximumQoS:
		return &p.MaximumQoS
	case PropRetainAvailable:
		return &p.RetainAvailable
	case PropWildcardAvailable:
		return &p.WildcardAvailable
	case PropSubscriptionIDAvailable:
		return &p.SubscriptionIDAvailable
	}
	return &p.SharedAvailable
}

func (p *Properties) shortField(id Property) *uint16 {
	switch id {
	case PropServerKeepAlive:
		return &p.ServerKeepAlive
	case PropReceiveMaximum:
		return &p.ReceiveMaximum
	case PropTopicAliasMaximum:
		return &p.TopicAliasMaximum
	}
	return &p.TopicAlias
}

func (p *Properties) longField(id Property) *uint32 {
	switch id {
	case PropMessageExpiry:
		return &p.MessageExpiry
	case PropSessionExpiry:
		return &p.SessionExpiry
	case PropWillDelay:
		return &p.WillDelay
	}
	return &p.MaximumPacketSize
}

func (p *Properties) bytesField(id Property) *[]byte {
	switch id {
	case PropContentType:
		return &p.ContentType
	case PropResponseTopic:
		return &p.ResponseTopic
	case PropCorrelationData:
		return &p.CorrelationData
	case PropAssignedClientID:
		return &p.AssignedClientID
	case PropAuthMethod:
		return &p.AuthMethod
	case PropAuthData:
		return &p.AuthData
	case PropResponseInfo:
		return &p.ResponseInfo
	case PropServerReference:
		return &p.ServerReference
	}
	return &p.ReasonString
}
