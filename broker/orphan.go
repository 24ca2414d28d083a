package broker

import "github.com/sealmq/sealmq/store"

// orphan is a message that another member of its group is to get.
type orphan struct {
	share *group
	m     *store.Message
}

// orphans takes out the messages of the groups that leaving selects. With all set also the QoS 1 messages that have
// been sent and the rest of the queue go, since the session ends; a QoS 2 message that has been sent stays with its
// member for good [MQTT-4.8.2-5].
func (s *session) orphans(w *worker, leaving func(*group) bool, all bool) []orphan {
	var rest []orphan
	if all {
		for i := range s.inflight.len() {
			fl := s.inflight.at(i)
			if fl.share != nil && fl.m != nil && (!fl.sent || fl.qos == 1) {
				rest = append(rest, orphan{fl.share, fl.m})
			}
		}
	}
	if s.dur != nil {
		var keep queue
		gone, size := 0, int64(0)
		for s.dur.ready.n > 0 {
			it := s.dur.ready.pop()
			switch {
			case it.share != nil && it.m != nil && leaving(it.share) && !(it.dup && it.qos == 2): // [MQTT-4.8.2-5]
				rest = append(rest, orphan{it.share, it.m})
				s.hold(w, -it.size())
				if it.place.Pos > s.dur.back {
					gone, size = gone+1, size+it.size()
				}
				s.acknowledge(w, it.place)
			default:
				keep.push(it)
			}
		}
		s.dur.ready = keep
		s.dur.count, s.dur.bytes = max(s.dur.count-gone, 0), max(s.dur.bytes-size, 0)
	}
	for n := s.waiting(); n > 0; n-- {
		it := s.queue.pop()
		if it.share != nil && leaving(it.share) {
			rest = append(rest, orphan{it.share, it.m})
		} else if !all {
			s.queue.push(it)
			continue
		}
		s.hold(w, -it.m.Size())
	}
	return rest
}

// reroute gives messages to other members of their groups. No session's mu may be held.
func (w *worker) reroute(rest []orphan) {
	for _, o := range rest {
		o.share.route(w, o.m)
		w.straight = false // it must be stored before it is taken from where it was
		w.settle(nil, outItem{})
	}
}
