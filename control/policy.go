package control

import (
	"context"
	"crypto/tls"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/sealmq/sealmq/auth"
	"github.com/sealmq/sealmq/pki"
	"github.com/sealmq/sealmq/policy"
	"github.com/sealmq/sealmq/registry"
)

// Policy is what questions about permissions are answered from. It must not be modified once passed in. What is nil answers
// with 404 and a hint.
type Policy struct {
	Live    *policy.Live
	Denials *policy.Denials

	// Client returns the identity of a connected client, which must not be changed, and false if none with this identifier is
	// connected. narrower is not nil for one whose permissions are not those of the policy file: it is in quarantine, or has
	// to enrol first.
	Client func(clientID string) (id *policy.Identity, narrower auth.Policy, ok bool)
}

// IdentityOf is a registered device or operator as it would be on a listener with TLS. What its certificate says is not known.
func IdentityOf(d *registry.Device) policy.Identity {
	id := policy.Identity{Name: d.ID, Kind: string(pki.Device), Method: "certificate", Groups: d.Groups, Transport: "tls", TLS: tls.VersionTLS13}
	if name, ok := strings.CutPrefix(d.ID, "operator/"); ok {
		id.Name, id.Kind = name, string(pki.Operator)
	} else {
		id.ClientID, id.Proven = d.ID, true
	}
	return id
}

// ExplainRequest asks whether a client may do something. Either Client or ClientID is set.
type ExplainRequest struct {
	// Client says who it is as an assertion does in its braces: device = pump-17 listener = mqtts. The groups of a device
	// that it does not name are those of the registry.
	Client   string `json:"client,omitempty"`
	ClientID string `json:"client_id,omitempty"` // of one that is connected

	Action string `json:"action"` // publish, subscribe or receive
	Topic  string `json:"topic"`  // a filter for subscribe
	QoS    uint8  `json:"qos,omitempty"`
	Retain bool   `json:"retain,omitempty"`
	Size   int    `json:"size,omitempty"` // of the payload, in bytes

	Time time.Time `json:"time,omitzero"` // zero: now

	// Policy is the file to answer by; nil: the policy in force, which only a running broker has.
	Policy *PolicyFile `json:"policy,omitempty"`
}

// PolicyFile is the text of a policy file, at most policy.MaxSize.
type PolicyFile struct {
	Name      string `json:"name"` // in the places of rules
	Text      string `json:"text"`
	Mosquitto bool   `json:"mosquitto,omitempty"` // it is an ACL file of Mosquitto
}

// Compile reads the file. Mistakes in it are policy.Errors.
func (f *PolicyFile) Compile() (*policy.Policy, error) {
	parse := policy.Parse
	if f.Mosquitto {
		parse = policy.ParseMosquitto
	}
	file, err := parse(f.Name, []byte(f.Text))
	if err != nil {
		return nil, err
	}
	return policy.Compile(file)
}

// ExplainAnswer says whether it may, and why.
type ExplainAnswer struct {
	Allowed bool   `json:"allowed"`
	Reason  string `json:"reason"`
	Fix     string `json:"fix,omitempty"`     // what would allow it
	Rule    string `json:"rule,omitempty"`    // that decided, FILE:LINE: TEXT
	Nearest string `json:"nearest,omitempty"` // the rule that is nearest to allow what none allows
	Client  string `json:"client"`            // who was asked about, for people
	// Notes are sentences about what the answer rests on.
	Notes []string `json:"notes,omitempty"`
}

// Denial is something that was refused to a client, and what the policy in force says of it.
type Denial struct {
	Time     time.Time `json:"time"`  // the last one
	Times    int       `json:"times"` // how often
	Name     string    `json:"name,omitempty"`
	ClientID string    `json:"client_id"`
	Action   string    `json:"action"` // publish, subscribe or receive; connect: with that client identifier
	Topic    string    `json:"topic,omitempty"`
	QoS      uint8     `json:"qos,omitempty"`
	Retain   bool      `json:"retain,omitempty"`
	Size     int       `json:"size,omitempty"` // bytes; negative: unknown
	Rule     string    `json:"rule,omitempty"` // FILE:LINE of the rule that decided then; empty if none allowed it

	Allowed bool   `json:"allowed_now"` // the policy was changed since: a new request would be allowed
	Reason  string `json:"reason"`
	Fix     string `json:"fix,omitempty"`
}

// Explain asks whether a client may do something, and why.
func (c *Client) Explain(ctx context.Context, q ExplainRequest) (ExplainAnswer, error) {
	var a ExplainAnswer
	err := c.do(ctx, "POST", "/v1/acl/explain", q, &a)
	return a, err
}

// Why returns the last n things that were refused to a device, user or client, the newest first; at most
// policy.MaxDenials for its own requests, and as many for what was not delivered to it.
func (c *Client) Why(ctx context.Context, name string, n int) ([]Denial, error) {
	var all []Denial
	err := c.do(ctx, "GET", withQuery("/v1/acl/why", url.Values{"name": {name}, "last": {strconv.Itoa(n)}}), nil, &all)
	return all, err
}
