package enroll

import "strings"

// op is what a topic asks for.
type op uint8

const (
	opNone op = iota
	opEnrol
	opRenew
	opSeen
	opCreate     // AWS: a certificate for a CSR
	opCreateKeys // AWS: a certificate and a key, which is refused
	opProvision  // AWS: make that certificate good
	opAdvise     // no request: a subscription to AdviceTopic
)

// action is a topic that was understood.
type action struct {
	op     op
	client string // of opEnrol: whom the topic is for
	base   string // the topic that the last word of an answer comes behind
	name   string // of opProvision: the template's
	cbor   bool
}

const (
	enrolTopic   = "$pki/enroll/"
	renewTopic   = "$pki/renew/request"
	seenTopic    = "$pki/cacerts/seen"
	createTopic  = "$aws/certificates/create-from-csr/"
	keysTopic    = "$aws/certificates/create/"
	provideTopic = "$aws/provisioning-templates/"

	// AdviceTopic is where a device is told that its certificate is due: see Advice.
	AdviceTopic = "$pki/renew/advice"
	// RootsTopic is where the roots are published, retained, as PEM.
	RootsTopic = "$pki/cacerts"
)

// route reads the topic of a request.
func route(topic string) action {
	switch topic {
	case renewTopic:
		return action{op: opRenew, base: "$pki/renew/"}
	case seenTopic:
		return action{op: opSeen, base: "$pki/cacerts/seen/"}
	}
	if rest, ok := strings.CutPrefix(topic, enrolTopic); ok {
		client, ok := strings.CutSuffix(rest, "/request")
		if !ok || client == "" {
			return action{}
		}
		return action{op: opEnrol, client: client, base: enrolTopic + client + "/"}
	}
	a := action{base: topic + "/"}
	if rest, ok := strings.CutPrefix(topic, createTopic); ok {
		a.op, topic = opCreate, rest
	} else if rest, ok := strings.CutPrefix(topic, keysTopic); ok {
		a.op, topic = opCreateKeys, rest
	} else if rest, ok := strings.CutPrefix(topic, provideTopic); ok {
		a.name, topic, ok = strings.Cut(rest, "/provision/")
		if !ok || a.name == "" || strings.Contains(a.name, "/") {
			return action{}
		}
		a.op = opProvision
	}
	switch topic {
	case "json":
	case "cbor":
		a.cbor = true
	default:
		return action{}
	}
	return a
}
