package broker

import (
	"strconv"
	"time"
)

// sysTopic is one value that the broker tells about itself, under the name that Mosquitto's users know.
type sysTopic struct {
	name  string
	value func(*Stats) uint64
}

var sysTopics = [...]sysTopic{
	{"$SYS/broker/clients/connected", func(s *Stats) uint64 { return uint64(s.Online) }},
	{"$SYS/broker/clients/disconnected", func(s *Stats) uint64 { return uint64(max(s.Sessions-s.Online, 0)) }},
	{"$SYS/broker/clients/total", func(s *Stats) uint64 { return uint64(s.Sessions) }},
	{"$SYS/broker/publish/messages/received", func(s *Stats) uint64 { return s.Received }},
	{"$SYS/broker/publish/messages/sent", func(s *Stats) uint64 { return s.Sent }},
	{"$SYS/broker/publish/messages/dropped", func(s *Stats) uint64 { return s.Dropped() }},
	{"$SYS/broker/publish/messages/dropped/frozen", func(s *Stats) uint64 { return s.DroppedFrozen }},
	{"$SYS/broker/bytes/received", func(s *Stats) uint64 { return s.BytesIn }},
	{"$SYS/broker/bytes/sent", func(s *Stats) uint64 { return s.BytesOut }},
	{"$SYS/broker/retained messages/count", func(s *Stats) uint64 { return uint64(s.Retained) }},
	{"$SYS/broker/subscriptions/count", func(s *Stats) uint64 { return uint64(s.Subscriptions) }},
	{"$SYS/broker/store/messages/bytes", func(s *Stats) uint64 { return uint64(max(s.OutboundBytes, 0)) }},
}

// Dropped is how many messages did not reach a receiver that wanted them.
func (s *Stats) Dropped() uint64 {
	return s.DroppedOffline + s.DroppedOutbound + s.DroppedQueue + s.DroppedExpired + s.DroppedTooLarge + s.DroppedDenied +
		s.DroppedFrozen + s.DroppedRequests
}

// startSys publishes the $SYS topics at once and then in every interval, those that have changed.
func (b *Broker) startSys(version string) {
	if version != "" {
		b.sysPublish("$SYS/broker/version", version)
	}
	last := make(map[string]string, len(sysTopics))
	var tick func()
	tick = func() {
		st := b.Stats()
		for _, t := range sysTopics {
			if v := strconv.FormatUint(t.value(&st), 10); last[t.name] != v {
				last[t.name] = v
				b.sysPublish(t.name, v)
			}
		}
		b.sysPublish("$SYS/broker/uptime", strconv.Itoa(int(b.now()/time.Second))+" seconds")
		b.life.Lock()
		defer b.life.Unlock()
		if !b.closed {
			b.sysTimer = time.AfterFunc(b.cfg.SysInterval, func() { b.spawn(tick) })
		}
	}
	b.spawn(tick)
}

func (b *Broker) sysPublish(name, value string) {
	w := b.worker()
	defer b.release(w)
	w.route(publication{topic: []byte(name), payload: []byte(value), retain: true, passing: true})
	w.settle(nil, outItem{})
}
