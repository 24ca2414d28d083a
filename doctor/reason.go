package doctor

import (
	"fmt"

	"github.com/sealmq/sealmq/mqtt"
)

func quoted(s string) string {
	if s == "" {
		return ""
	}
	return fmt.Sprintf(", %q", show(s))
}

// judgeReason explains a refused CONNECT; certified tells that the broker has
// seen, and not refused, a client certificate.
func judgeReason(no *refusal, certified bool, o Options) Step {
	text := fmt.Sprintf("the broker refuses the connection: %v (0x%02X)%s", no.code, uint8(no.code), quoted(no.reason))
	fix := reasonFix(no.code)
	switch no.code {
	case mqtt.BadUserNameOrPassword:
		switch {
		case o.Username == "" && o.Password == nil:
			fix = "give user name and password: --username NAME --password-file FILE"
		default:
			fix = "check user name and password, and their spelling on the broker"
		}
	case mqtt.NotAuthorized:
		switch {
		case o.Username == "" && o.Password == nil && !certified:
			fix = "say who the client is: --cert FILE --key FILE, or --username NAME --password-file FILE"
		case certified:
			fix = "check on the broker that the device is enabled (SealMQ: sealmq device show ID), may use this client id, and needs no user name and password besides"
		}
	case mqtt.ClientIDNotValid:
		fix = "choose another client id with --id"
		if o.ClientID == "" {
			fix = "give a client id with --id; with a certificate it is often the name in it"
		}
	}
	if no.reference != "" {
		fix = "connect to " + show(no.reference)
	}
	s := fail(StepConnect, CauseConnect, "", text, fix)
	s.Code = int(no.code)
	return s
}

// reasonFix is what to do about a reason code.
func reasonFix(c mqtt.ReasonCode) string {
	switch c {
	case mqtt.UnsupportedProtocolVersion:
		return "use another MQTT version: 3.1.1 or 5"
	case mqtt.BadUserNameOrPassword, mqtt.NotAuthorized, mqtt.BadAuthenticationMethod:
		return "check how the broker wants clients to prove who they are"
	case mqtt.ClientIDNotValid:
		return "choose another client id with --id"
	case mqtt.ServerUnavailable, mqtt.ServerBusy, mqtt.ServerShuttingDown:
		return "try again later; look into the broker's log"
	case mqtt.Banned, mqtt.AdministrativeAction:
		return "ask whoever runs the broker: an operator has forbidden this client"
	case mqtt.QuotaExceeded, mqtt.ConnectionRateExceeded, mqtt.MessageRateTooHigh:
		return "connect less often, or have the broker's limits raised"
	case mqtt.PacketTooLarge:
		return "send less with CONNECT: the will, the user properties"
	case mqtt.SessionTakenOver:
		return "another client uses the same id: choose one with --id"
	case mqtt.UseAnotherServer, mqtt.ServerMoved:
		return "connect to the broker that took over"
	}
	return "look into the broker's log"
}
