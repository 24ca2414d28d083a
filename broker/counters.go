package broker

import "sync/atomic"

// counter names one event that the broker counts.
type counter int

const (
	received         counter = iota // PUBLISH packets from clients
	delivered                       // messages handed to a connection's outbox
	sent                            // PUBLISH packets encoded to clients
	bytesIn                         // plaintext bytes from clients
	bytesOut                        // plaintext bytes to clients
	connected                       // accepted CONNECTs
	refused                         // refused CONNECTs
	takenOver                       // connections ended by another one with the same client identifier
	droppedOffline                  // QoS 0 messages for sessions without a connection
	droppedOutbound                 // QoS 0 messages beyond max_outbound_bytes or outbound_memory
	droppedQueue                    // QoS 1 and 2 messages beyond max_queued_*
	droppedExpired                  // messages whose expiry passed before they were sent
	droppedTooLarge                 // messages beyond the receiver's Maximum Packet Size
	droppedDenied                   // messages that policy refused to take or to deliver
	protocolFaults                  // connections ended for a malformed packet or a protocol error
	keepAliveTimeout                // connections ended by keep alive
	droppedFrozen                   // messages for sessions whose principal does not stand
	droppedRequest                  // publications to the Service beyond its bounds
	shedConnects                    // see Limited, here and below
	shedReplays
	shedPublishes
	limitedRate
	limitedFilters
	limitedSubscriptions
	limitedTopicLength
	limitedTopicLevels
	limitedUserProperties
	limitedWillDelay
	limitedRetained
	limitedSessions
	numCounters
)

// stripes spread the counters over cache lines, so that loops do not share one.
const stripes = 16

type counters [stripes]struct {
	n [numCounters]atomic.Uint64
	_ [64]byte
}

func (c *counters) add(stripe int, k counter, n uint64) { c[stripe%stripes].n[k].Add(n) }

func (c *counters) sum(k counter) uint64 {
	var t uint64
	for i := range c {
		t += c[i].n[k].Load()
	}
	return t
}

// Stats are counts since the broker began, and a few levels.
type Stats struct {
	Received, Delivered, Sent         uint64 // messages in, handed to outboxes, encoded to connections
	BytesIn, BytesOut                 uint64 // plaintext, without TLS
	Connected, Refused, TakenOver     uint64
	DroppedOffline, DroppedOutbound   uint64 // QoS 0: no connection; receiver or memory bound
	DroppedQueue, DroppedExpired      uint64 // queue bound; message expiry
	DroppedTooLarge, DroppedDenied    uint64 // receiver's Maximum Packet Size; policy
	DroppedFrozen, DroppedRequests    uint64 // sessions frozen by Standing; requests to the Service beyond its bounds
	ProtocolFaults, KeepAliveTimeouts uint64
	Sessions, Online, Frozen          int
	Subscriptions, Filters            int
	Retained                          int
	RetainedBytes                     int64 // topics, properties, payloads, and 96 bytes a message
	OutboundBytes, PreAuthBytes       int64
	Limited                           Limited
}

// Limited counts what the limits of Config and Limits, and Shed, have refused, dropped or held back. What a limit of
// another kind has dropped is among the others of Stats.
type Limited struct {
	Rate             uint64 // times that a client was not read from for a while: max_publish_rate, max_publish_bytes
	Filters          uint64 // subscriptions beyond max_subscribe_filters
	Subscriptions    uint64 // subscriptions beyond max_subscriptions
	TopicLength      uint64 // publications, wills and subscriptions beyond max_topic_length
	TopicLevels      uint64 // the same beyond max_topic_levels
	UserProperties   uint64 // packets beyond max_user_properties and max_user_property_bytes
	WillDelay        uint64 // wills whose delay was cut to max_will_delay
	Retained         uint64 // retained publications and wills beyond one of the bounds on retained messages
	Sessions         uint64 // CONNECTs beyond max_sessions and max_sessions_per_principal
	ShedConnects     uint64 // CONNECTs of anonymous clients refused by Shed
	ShedReplays      uint64 // subscriptions whose retained messages were not sent
	ShedPublications uint64 // QoS 0 publications dropped
}

// Stats returns the counts of this moment.
func (b *Broker) Stats() Stats {
	sum := b.counters.sum
	st := Stats{
		Received: sum(received), Delivered: sum(delivered), Sent: sum(sent), BytesIn: sum(bytesIn), BytesOut: sum(bytesOut),
		Connected: sum(connected), Refused: sum(refused), TakenOver: sum(takenOver),
		DroppedOffline: sum(droppedOffline), DroppedOutbound: sum(droppedOutbound), DroppedQueue: sum(droppedQueue),
		DroppedExpired: sum(droppedExpired), DroppedTooLarge: sum(droppedTooLarge), DroppedDenied: sum(droppedDenied),
		ProtocolFaults: sum(protocolFaults), KeepAliveTimeouts: sum(keepAliveTimeout),
		DroppedFrozen: sum(droppedFrozen), DroppedRequests: sum(droppedRequest), Frozen: int(b.frozen.Load()),
		RetainedBytes: b.uses.bytes.Load(),
		Limited: Limited{
			Rate: sum(limitedRate), Filters: sum(limitedFilters), Subscriptions: sum(limitedSubscriptions),
			TopicLength: sum(limitedTopicLength), TopicLevels: sum(limitedTopicLevels), UserProperties: sum(limitedUserProperties),
			WillDelay: sum(limitedWillDelay), Retained: sum(limitedRetained), Sessions: sum(limitedSessions),
			ShedConnects: sum(shedConnects), ShedReplays: sum(shedReplays), ShedPublications: sum(shedPublishes),
		},
		Retained: b.retained.Len(), OutboundBytes: b.outbound.Load(), PreAuthBytes: b.preAuth.Load(),
	}
	st.Sessions, st.Online = int(b.known.Load()), int(b.online.Load())
	st.Filters, st.Subscriptions = b.index.Len()
	return st
}
