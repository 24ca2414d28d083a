package mqtt

import (
	"fmt"
	"strings"
)

// ReasonCode is the outcome of an operation as version 5 tells it. It is an error, so that it can be returned and
// found again with errors.Is and errors.As.
type ReasonCode uint8

// The reason codes of MQTT 5, section 2.4.
const (
	Success                           ReasonCode = 0x00
	NormalDisconnection               ReasonCode = 0x00
	GrantedQoS0                       ReasonCode = 0x00
	GrantedQoS1                       ReasonCode = 0x01
	GrantedQoS2                       ReasonCode = 0x02
	DisconnectWithWill                ReasonCode = 0x04
	NoMatchingSubscribers             ReasonCode = 0x10
	NoSubscriptionExisted             ReasonCode = 0x11
	ContinueAuthentication            ReasonCode = 0x18
	ReAuthenticate                    ReasonCode = 0x19
	UnspecifiedError                  ReasonCode = 0x80
	MalformedPacket                   ReasonCode = 0x81
	ProtocolError                     ReasonCode = 0x82
	ImplementationSpecificError       ReasonCode = 0x83
	UnsupportedProtocolVersion        ReasonCode = 0x84
	ClientIDNotValid                  ReasonCode = 0x85
	BadUserNameOrPassword             ReasonCode = 0x86
	NotAuthorized                     ReasonCode = 0x87
	ServerUnavailable                 ReasonCode = 0x88
	ServerBusy                        ReasonCode = 0x89
	Banned                            ReasonCode = 0x8A
	ServerShuttingDown                ReasonCode = 0x8B
	BadAuthenticationMethod           ReasonCode = 0x8C
	KeepAliveTimeout                  ReasonCode = 0x8D
	SessionTakenOver                  ReasonCode = 0x8E
	TopicFilterInvalid                ReasonCode = 0x8F
	TopicNameInvalid                  ReasonCode = 0x90
	PacketIDInUse                     ReasonCode = 0x91
	PacketIDNotFound                  ReasonCode = 0x92
	ReceiveMaximumExceeded            ReasonCode = 0x93
	TopicAliasInvalid                 ReasonCode = 0x94
	PacketTooLarge                    ReasonCode = 0x95
	MessageRateTooHigh                ReasonCode = 0x96
	QuotaExceeded                     ReasonCode = 0x97
	AdministrativeAction              ReasonCode = 0x98
	PayloadFormatInvalid              ReasonCode = 0x99
	RetainNotSupported                ReasonCode = 0x9A
	QoSNotSupported                   ReasonCode = 0x9B
	UseAnotherServer                  ReasonCode = 0x9C
	ServerMoved                       ReasonCode = 0x9D
	SharedSubscriptionsNotSupported   ReasonCode = 0x9E
	ConnectionRateExceeded            ReasonCode = 0x9F
	MaximumConnectTime                ReasonCode = 0xA0
	SubscriptionIDsNotSupported       ReasonCode = 0xA1
	WildcardSubscriptionsNotSupported ReasonCode = 0xA2
)

var reasonNames = [256]string{
	Success:                           "Success",
	GrantedQoS1:                       "Granted QoS 1",
	GrantedQoS2:                       "Granted QoS 2",
	DisconnectWithWill:                "Disconnect with Will Message",
	NoMatchingSubscribers:             "No matching subscribers",
	NoSubscriptionExisted:             "No subscription existed",
	ContinueAuthentication:            "Continue authentication",
	ReAuthenticate:                    "Re-authenticate",
	UnspecifiedError:                  "Unspecified error",
	MalformedPacket:                   "Malformed Packet",
	ProtocolError:                     "Protocol Error",
	ImplementationSpecificError:       "Implementation specific error",
	UnsupportedProtocolVersion:        "Unsupported Protocol Version",
	ClientIDNotValid:                  "Client Identifier not valid",
	BadUserNameOrPassword:             "Bad User Name or Password",
	NotAuthorized:                     "Not authorized",
	ServerUnavailable:                 "Server unavailable",
	ServerBusy:                        "Server busy",
	Banned:                            "Banned",
	ServerShuttingDown:                "Server shutting down",
	BadAuthenticationMethod:           "Bad authentication method",
	KeepAliveTimeout:                  "Keep Alive timeout",
	SessionTakenOver:                  "Session taken over",
	TopicFilterInvalid:                "Topic Filter invalid",
	TopicNameInvalid:                  "Topic Name invalid",
	PacketIDInUse:                     "Packet Identifier in use",
	PacketIDNotFound:                  "Packet Identifier not found",
	ReceiveMaximumExceeded:            "Receive Maximum exceeded",
	TopicAliasInvalid:                 "Topic Alias invalid",
	PacketTooLarge:                    "Packet too large",
	MessageRateTooHigh:                "Message rate too high",
	QuotaExceeded:                     "Quota exceeded",
	AdministrativeAction:              "Administrative action",
	PayloadFormatInvalid:              "Payload format invalid",
	RetainNotSupported:                "Retain not supported",
	QoSNotSupported:                   "QoS not supported",
	UseAnotherServer:                  "Use another server",
	ServerMoved:                       "Server moved",
	SharedSubscriptionsNotSupported:   "Shared Subscriptions not supported",
	ConnectionRateExceeded:            "Connection rate exceeded",
	MaximumConnectTime:                "Maximum connect time",
	SubscriptionIDsNotSupported:       "Subscription Identifiers not supported",
	WildcardSubscriptionsNotSupported: "Wildcard Subscriptions not supported",
}

// String is the standard's name of the code.
func (c ReasonCode) String() string {
	if s := reasonNames[c]; s != "" {
		return s
	}
	return fmt.Sprintf("Reason Code 0x%02X", uint8(c))
}

// Error is the name in lower case, as error texts are.
func (c ReasonCode) Error() string {
	return strings.ReplaceAll(strings.ToLower(c.String()), "qos", "QoS")
}

// IsError tells failure from success: 0x80 and above.
func (c ReasonCode) IsError() bool { return c >= 0x80 }

// V3Connack is the CONNACK return code that tells a 3.1 or 3.1.1 client of a refusal, 0 for any code that is none.
// Malformed packets and protocol errors have no return code of their own: a server closes without CONNACK
// [MQTT311 MQTT-3.1.4-1, MQTT-3.2.2-6]. For these, too, it is 3, so that no refusal reads as success.
func (c ReasonCode) V3Connack() byte {
	switch {
	case !c.IsError():
		return 0
	case c == UnsupportedProtocolVersion:
		return 1
	case c == ClientIDNotValid:
		return 2
	case c == BadUserNameOrPassword:
		return 4
	case c == NotAuthorized, c == BadAuthenticationMethod, c == Banned:
		return 5
	}
	return 3
}

// fromV3Connack is the way back, for the client side.
func fromV3Connack(b byte) (ReasonCode, bool) {
	switch b {
	case 0:
		return Success, true
	case 1:
		return UnsupportedProtocolVersion, true
	case 2:
		return ClientIDNotValid, true
	case 3:
		return ServerUnavailable, true
	case 4:
		return BadUserNameOrPassword, true
	case 5:
		return NotAuthorized, true
	}
	return 0, false
}

// codesOf has a bit for every reason code that a packet type may carry in version 5.
// 0x8C stands in table 2-6 for DISCONNECT though not in table 3-10; it is accepted there.
var codesOf = [16]codeSet{
	CONNACK: newCodeSet(Success, UnspecifiedError, MalformedPacket, ProtocolError, ImplementationSpecificError,
		UnsupportedProtocolVersion, ClientIDNotValid, BadUserNameOrPassword, NotAuthorized, ServerUnavailable,
		ServerBusy, Banned, BadAuthenticationMethod, TopicNameInvalid, PacketTooLarge, QuotaExceeded,
		PayloadFormatInvalid, RetainNotSupported, QoSNotSupported, UseAnotherServer, ServerMoved,
		ConnectionRateExceeded),
	PUBACK: newCodeSet(Success, NoMatchingSubscribers, UnspecifiedError, ImplementationSpecificError, NotAuthorized,
		TopicNameInvalid, PacketIDInUse, QuotaExceeded, PayloadFormatInvalid),
	PUBREC: newCodeSet(Success, NoMatchingSubscribers, UnspecifiedError, ImplementationSpecificError, NotAuthorized,
		TopicNameInvalid, PacketIDInUse, QuotaExceeded, PayloadFormatInvalid),
	PUBREL:  newCodeSet(Success, PacketIDNotFound),
	PUBCOMP: newCodeSet(Success, PacketIDNotFound),
	SUBACK: newCodeSet(GrantedQoS0, GrantedQoS1, GrantedQoS2, UnspecifiedError, ImplementationSpecificError,
		NotAuthorized, TopicFilterInvalid, PacketIDInUse, QuotaExceeded, SharedSubscriptionsNotSupported,
		SubscriptionIDsNotSupported, WildcardSubscriptionsNotSupported),
	UNSUBACK: newCodeSet(Success, NoSubscriptionExisted, UnspecifiedError, ImplementationSpecificError, NotAuthorized,
		TopicFilterInvalid, PacketIDInUse),
	DISCONNECT: newCodeSet(NormalDisconnection, DisconnectWithWill, UnspecifiedError, MalformedPacket, ProtocolError,
		ImplementationSpecificError, NotAuthorized, ServerBusy, ServerShuttingDown, BadAuthenticationMethod,
		KeepAliveTimeout, SessionTakenOver, TopicFilterInvalid, TopicNameInvalid, ReceiveMaximumExceeded,
		TopicAliasInvalid, PacketTooLarge, MessageRateTooHigh, QuotaExceeded, AdministrativeAction,
		PayloadFormatInvalid, RetainNotSupported, QoSNotSupported, UseAnotherServer, ServerMoved,
		SharedSubscriptionsNotSupported, ConnectionRateExceeded, MaximumConnectTime, SubscriptionIDsNotSupported,
		WildcardSubscriptionsNotSupported),
	AUTH: newCodeSet(Success, ContinueAuthentication, ReAuthenticate),
}

type codeSet [4]uint64

func newCodeSet(codes ...ReasonCode) (s codeSet) {
	for _, c := range codes {
		s[c>>6] |= 1 << (c & 63)
	}
	return s
}

// ValidFor tells whether the standard lets packets of type t carry the code.
func (c ReasonCode) ValidFor(t Type) bool { return codesOf[t&15][c>>6]>>(c&63)&1 != 0 }

// Error is what is wrong with a packet: the code for the peer and a text for the log.
type Error struct {
	Code ReasonCode
	Text string // what, in lower case, without the code: "topic name contains U+0000"
}

func (e *Error) Error() string { return e.Code.Error() + ": " + e.Text }

// Unwrap lets errors.Is and errors.As find the reason code.
func (e *Error) Unwrap() error { return e.Code }

//go:noinline
func malformed(text string) error { return &Error{MalformedPacket, text} }

//go:noinline
func violation(text string) error { return &Error{ProtocolError, text} }
