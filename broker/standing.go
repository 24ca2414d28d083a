package broker

import (
	"github.com/sealmq/sealmq/auth"
	"github.com/sealmq/sealmq/mqtt"
)

// Standing says whether a principal that was let in may stay. The zero value: it may.
type Standing struct {
	Refused mqtt.ReasonCode // what an MQTT 5 client is told in CONNACK or DISCONNECT
	Text    string          // and the words beside it
}

// Review asks Options.Standing about every session. See there for what becomes of those that are refused. Once it has
// returned, none of them is served any more, except for the packets of one read that was under way; their connections end
// in the background. Calls at the same time share their work. It must not be called from Options.Standing.
func (b *Broker) Review() {}

// End ends, without their wills, the connections and sessions of the principals that match: for good, unlike Review. It
// returns when none of them is served any more, and ends them in the background. A client may connect again at once, to a
// session of its own, unless its authenticator knows better.
func (b *Broker) End(match func(*auth.Principal) bool) {}
