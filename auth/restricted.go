package auth

import "strings"

// Quarantine is the policy of a device in quarantine: the topics below $pki, and those of quarantine/ID, both ways.
func Quarantine(id string) Policy { return quarantine(id) }

// Enrolling is the policy of a client that is to get its identity first: it asks for a certificate as clientID, or for a
// new one, hears the answers, and nothing else.
func Enrolling(clientID string) Policy { return enrolling(clientID) }

// Renewing is the policy of a client with a certificate on a listener for enrolment: it asks for a new certificate, hears
// the answers and learns which CAs there are.
func Renewing() Policy { return renewing{} }

type quarantine string

// May implements Policy.
func (id quarantine) May(_ Action, topic string, _ uint8, _ bool) bool {
	if strings.HasPrefix(topic, "$pki/") {
		return true
	}
	rest, ok := strings.CutPrefix(topic, "quarantine/")
	if !ok {
		return false
	}
	rest, ok = strings.CutPrefix(rest, string(id))
	return ok && (rest == "" || rest[0] == '/')
}

type enrolling string

// May implements Policy.
func (id enrolling) May(a Action, topic string, _ uint8, _ bool) bool {
	if rest, ok := strings.CutPrefix(topic, "$pki/enroll/"); ok {
		rest, ok = strings.CutPrefix(rest, string(id))
		return ok && exchange(a, rest, "/request") || ok && a != Publish && rest == "/pending"
	}
	if rest, ok := strings.CutPrefix(topic, "$pki/renew"); ok {
		return exchange(a, rest, "/request")
	}
	if rest, ok := strings.CutPrefix(topic, "$aws/certificates/create-from-csr"); ok {
		return encoded(a, rest)
	}
	if rest, ok := strings.CutPrefix(topic, "$aws/provisioning-templates/"); ok {
		slash := strings.IndexByte(rest, '/') // after the template's name
		if slash <= 0 {
			return false
		}
		rest, ok = strings.CutPrefix(rest[slash:], "/provision")
		return ok && encoded(a, rest)
	}
	return false
}

type renewing struct{}

// May implements Policy.
func (renewing) May(a Action, topic string, _ uint8, _ bool) bool {
	if rest, ok := strings.CutPrefix(topic, "$pki/renew"); ok {
		return exchange(a, rest, "/request") || a != Publish && rest == "/advice"
	}
	rest, ok := strings.CutPrefix(topic, "$pki/cacerts")
	switch {
	case !ok:
		return false
	case a == Publish:
		return rest == "/seen"
	}
	return rest == "" || a == Subscribe && rest == "/#"
}

// exchange reports whether rest, what follows the common part of the topics of a question and its answers, is the
// question or, for those who listen, an answer to it.
func exchange(a Action, rest, question string) bool {
	if a == Publish {
		return rest == question
	}
	return rest == "/accepted" || rest == "/rejected" || a == Subscribe && (rest == "/+" || rest == "/#")
}

// encoded is exchange for topics that name the encoding.
func encoded(a Action, rest string) bool {
	after, ok := strings.CutPrefix(rest, "/json")
	if !ok {
		after, ok = strings.CutPrefix(rest, "/cbor")
	}
	return ok && exchange(a, after, "")
}
