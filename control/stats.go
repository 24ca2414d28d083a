package control

import (
	"github.com/sealmq/sealmq/broker"
	"github.com/sealmq/sealmq/store"
)

// Stats are the counts of a broker since it started, and a few levels.
type Stats struct {
	Broker BrokerStats `json:"broker"`
	Store  StoreStats  `json:"store"`
}

// BrokerStats are the broker's own; see broker.Stats. Messages are counted as PUBLISH packets, bytes without TLS.
type BrokerStats struct {
	MessagesReceived  uint64 `json:"messages_received"`
	MessagesDelivered uint64 `json:"messages_delivered"` // to outboxes of connections
	MessagesSent      uint64 `json:"messages_sent"`
	BytesReceived     uint64 `json:"bytes_received"`
	BytesSent         uint64 `json:"bytes_sent"`

	Connected         uint64 `json:"connected"` // accepted CONNECTs
	Refused           uint64 `json:"refused"`   // CONNECTs
	TakenOver         uint64 `json:"taken_over"`
	ProtocolFaults    uint64 `json:"protocol_faults"`     // connections ended by one
	KeepAliveTimeouts uint64 `json:"keep_alive_timeouts"` // connections ended by one

	DroppedOffline  uint64 `json:"dropped_offline"`   // QoS 0, no connection
	DroppedOutbound uint64 `json:"dropped_outbound"`  // QoS 0, the receiver's or the memory's bound
	DroppedQueue    uint64 `json:"dropped_queue"`     // QoS 1 and 2, the queue's bound
	DroppedExpired  uint64 `json:"dropped_expired"`   // message expiry
	DroppedTooLarge uint64 `json:"dropped_too_large"` // the receiver's Maximum Packet Size
	DroppedDenied   uint64 `json:"dropped_denied"`    // policy
	DroppedFrozen   uint64 `json:"dropped_frozen"`    // the receiver is frozen
	DroppedRequests uint64 `json:"dropped_requests"`  // to the service of enrolment, beyond its bounds

	// What limits have refused, dropped or held back; see broker.Limited.
	LimitedRate           uint64 `json:"limited_rate"` // times that a client was not read from for a while
	LimitedFilters        uint64 `json:"limited_filters"`
	LimitedSubscriptions  uint64 `json:"limited_subscriptions"`
	LimitedTopicLength    uint64 `json:"limited_topic_length"`
	LimitedTopicLevels    uint64 `json:"limited_topic_levels"`
	LimitedUserProperties uint64 `json:"limited_user_properties"`
	LimitedWillDelay      uint64 `json:"limited_will_delay"`
	LimitedRetained       uint64 `json:"limited_retained"`
	LimitedSessions       uint64 `json:"limited_sessions"`
	ShedConnects          uint64 `json:"shed_connects"`     // of anonymous clients, since memory was short
	ShedReplays           uint64 `json:"shed_replays"`      // subscriptions without their retained messages
	ShedPublications      uint64 `json:"shed_publications"` // QoS 0

	Sessions      int   `json:"sessions"`
	Online        int   `json:"online"` // sessions with a connection
	Frozen        int   `json:"frozen"` // sessions whose device is disabled, revoked or otherwise refused
	Subscriptions int   `json:"subscriptions"`
	Filters       int   `json:"filters"` // distinct ones
	Retained      int   `json:"retained"`
	RetainedBytes int64 `json:"retained_bytes"`
	OutboundBytes int64 `json:"outbound_bytes"` // waiting for all clients
	PreAuthBytes  int64 `json:"pre_auth_bytes"` // held for connections without an accepted CONNECT
}

// StoreStats are those of the durable store; see store.Stats.
type StoreStats struct {
	Messages     uint64 `json:"messages"` // submitted to be kept
	Elided       uint64 `json:"elided"`   // of those, acknowledged by every receiver before they were written
	Commits      uint64 `json:"commits"`  // batches made durable
	BytesWritten uint64 `json:"bytes_written"`
	Sessions     int    `json:"sessions"`
	DiskBytes    int64  `json:"disk_bytes"` // size of its files
	FreeBytes    int64  `json:"free_bytes"` // left on its file system; -1: unknown
}

func brokerStats(s broker.Stats) BrokerStats {
	return BrokerStats{
		MessagesReceived: s.Received, MessagesDelivered: s.Delivered, MessagesSent: s.Sent,
		BytesReceived: s.BytesIn, BytesSent: s.BytesOut,
		Connected: s.Connected, Refused: s.Refused, TakenOver: s.TakenOver,
		ProtocolFaults: s.ProtocolFaults, KeepAliveTimeouts: s.KeepAliveTimeouts,
		DroppedOffline: s.DroppedOffline, DroppedOutbound: s.DroppedOutbound, DroppedQueue: s.DroppedQueue,
		DroppedExpired: s.DroppedExpired, DroppedTooLarge: s.DroppedTooLarge, DroppedDenied: s.DroppedDenied,
		DroppedFrozen: s.DroppedFrozen, DroppedRequests: s.DroppedRequests, Frozen: s.Frozen,
		Sessions: s.Sessions, Online: s.Online, Subscriptions: s.Subscriptions, Filters: s.Filters,
		LimitedRate: s.Limited.Rate, LimitedFilters: s.Limited.Filters, LimitedSubscriptions: s.Limited.Subscriptions,
		LimitedTopicLength: s.Limited.TopicLength, LimitedTopicLevels: s.Limited.TopicLevels,
		LimitedUserProperties: s.Limited.UserProperties, LimitedWillDelay: s.Limited.WillDelay,
		LimitedRetained: s.Limited.Retained, LimitedSessions: s.Limited.Sessions,
		ShedConnects: s.Limited.ShedConnects, ShedReplays: s.Limited.ShedReplays, ShedPublications: s.Limited.ShedPublications,
		RetainedBytes: s.RetainedBytes, Retained: s.Retained, OutboundBytes: s.OutboundBytes, PreAuthBytes: s.PreAuthBytes,
	}
}

func storeStats(s store.Stats) StoreStats {
	return StoreStats{
		Messages: s.Messages, Elided: s.Elided, Commits: s.Commits, BytesWritten: s.BytesWritten,
		Sessions: s.Sessions, DiskBytes: s.DiskBytes, FreeBytes: s.FreeBytes,
	}
}
