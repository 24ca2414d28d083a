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
	OutboundBytes, PreAuthBytes       int64
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
		Retained: b.retained.Len(), OutboundBytes: b.outbound.Load(), PreAuthBytes: b.preAuth.Load(),
	}
	st.Sessions, st.Online = int(b.known.Load()), int(b.online.Load())
	st.Filters, st.Subscriptions = b.index.Len()
	return st
}
