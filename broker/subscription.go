package broker

import (
	"sync/atomic"

	"github.com/sealmq/sealmq/store"
	"github.com/sealmq/sealmq/topic"
)

// subscription is one entry of the index: of a session, of a group of sharing sessions, or of the embedding program.
// Exactly one of sess (with share nil), group and local is what it delivers to.
type subscription struct {
	sess   *session
	group  *group                   // the entry of a whole group in the index
	share  *group                   // a member's own record, which is not in the index
	local  func(*store.Message)     // see Broker.Subscribe
	filter string                   // as subscribed, "$share/…" included
	opts   atomic.Uint64            // options; replaced in place, so that no message is lost meanwhile [MQTT-3.8.4-4]
	list   atomic.Pointer[[]uint32] // the identifier as the list that deliveries share; nil without one
	ref    topic.Ref[subscription]
	replay *replay // under way; under the session's mu
	slot   int     // place in its group's list, under the group's lock
}

// options are the subscription options in one word.
type options uint64

func packOptions(qos uint8, noLocal, retainAsPublished bool, id uint32) options {
	o := options(qos) | options(id)<<8
	if noLocal {
		o |= 1 << 2
	}
	if retainAsPublished {
		o |= 1 << 3
	}
	return o
}

func (o options) qos() uint8              { return uint8(o & 3) }
func (o options) noLocal() bool           { return o&(1<<2) != 0 }
func (o options) retainAsPublished() bool { return o&(1<<3) != 0 }
func (o options) id() uint32              { return uint32(o >> 8) }

func (s *subscription) options() options { return options(s.opts.Load()) }

func (s *subscription) setOptions(o options) {
	if id := o.id(); id != 0 {
		s.list.Store(&[]uint32{id})
	} else {
		s.list.Store(nil)
	}
	s.opts.Store(uint64(o))
}

// stored is what the store keeps of the subscription.
func (s *subscription) stored() store.Subscription {
	o := s.options()
	return store.Subscription{Filter: s.filter, QoS: o.qos(), NoLocal: o.noLocal(), RetainAsPublished: o.retainAsPublished(), ID: o.id()}
}

// ids returns the list of subscription identifiers to send along, nil for none.
func (s *subscription) ids() *[]uint32 { return s.list.Load() }
