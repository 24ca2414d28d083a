package broker

import (
	"errors"
	"fmt"
	"time"
)

// Config is the broker's own configuration. The zero value means the defaults given with each field. It must not be
// modified once it was passed to New.
type Config struct {
	// Limits are the protocol limits of every listener that does not set its own.
	Limits Limits `toml:"limits"`

	// PreAuthMemory bounds the bytes held for all connections together whose CONNECT has not been accepted yet. The first
	// 4 KiB of each do not count.
	PreAuthMemory int64 `toml:"preauth_memory" unit:"bytes" default:"64MiB" min:"1MiB" max:"4GiB"`

	// OutboundMemory bounds the bytes waiting for all clients together, in outboxes and queues. Above it, messages that
	// would have to wait are dropped and counted. 64 KiB of each session do not depend on it, and the sessions of one identity
	// may have a quarter of it beyond these.
	OutboundMemory int64 `toml:"outbound_memory" unit:"bytes" default:"1GiB" min:"1MiB" max:"1TiB"`

	// MaxSessions is how many sessions there may be in all, with and without a connection. Who would make one more is
	// refused with 0x97 (quota exceeded; before MQTT 5 "server unavailable"). 0: no limit.
	MaxSessions int `toml:"max_sessions" default:"1000000" min:"0" max:"100000000" none:"-1"`

	// MaxRetained is how many topics may have a retained message. One more is refused with 0x97 (quota exceeded); clients
	// before MQTT 5 cannot be told: it is dropped, counted and logged. A topic that has one may get another, and the broker's
	// own count but are not refused. 0: no limit.
	MaxRetained int `toml:"max_retained_messages" default:"10000000" min:"0" max:"100000000" none:"-1"`

	// MaxRetainedBytes bounds the retained messages, which are all held in memory, by the bytes of topics, properties and
	// payloads and 96 bytes for each. What is beyond is refused as with max_retained_messages. 0: no limit.
	MaxRetainedBytes int64 `toml:"max_retained_bytes" unit:"bytes" default:"4GiB" min:"0" max:"1TiB" none:"-1"`

	// DurableWills also publishes, after a crash of the broker, the wills of clients whose session ends with their
	// connection. Their messages are then stored like those of other sessions.
	DurableWills bool `toml:"durable_wills"`

	// SysInterval is how often the topics below $SYS/broker are published. 0 in the file, negative in a program, switches
	// them off.
	SysInterval time.Duration `toml:"sys_interval" default:"10s" min:"0s" max:"24h" none:"-1"`
}

// Limits are what one client may ask of the broker. A zero field means the default given with it; where 0 itself is a
// useful value, -1 stands for it.
type Limits struct {
	// MaxPacketSize is the largest MQTT packet accepted from a client and told to MQTT 5 clients as Maximum Packet Size.
	MaxPacketSize int64 `toml:"max_packet_size" unit:"bytes" default:"2000000" min:"1KiB" max:"268435460"`

	// MaxConnectSize is the largest CONNECT packet accepted.
	MaxConnectSize int64 `toml:"max_connect_size" unit:"bytes" default:"256KiB" min:"256" max:"16MiB"`

	// ReceiveMaximum is how many QoS 1 and 2 publications of one MQTT 5 client may be unacknowledged at a time.
	ReceiveMaximum int `toml:"receive_maximum" default:"20" min:"1" max:"65535"`

	// TopicAliasMaximum is how many topic aliases a client may set.
	TopicAliasMaximum int `toml:"topic_alias_maximum" default:"10" min:"0" max:"65535" none:"-1"`

	// TopicAliasMaximumSend is how many topic aliases the broker uses towards a client that allows them.
	TopicAliasMaximumSend int `toml:"topic_alias_maximum_send" default:"10" min:"0" max:"65535" none:"-1"`

	// MaxInflight is how many QoS 1 and 2 messages may be on their way to one client at a time; an MQTT 5 client's own
	// Receive Maximum counts where it is smaller, and more than 13,000 count as 13,000. The other way round, as many QoS 2
	// publications of one client may wait for their PUBREL, or receive_maximum if that is more.
	MaxInflight int `toml:"max_inflight_messages" default:"1024" min:"1" max:"65535"`

	// MaxQueued is how many QoS 1 and 2 messages wait for one session beyond those in flight.
	MaxQueued int `toml:"max_queued_messages" default:"1000" min:"0" max:"100000000" none:"-1"`

	// MaxQueuedBytes bounds the same queue by the bytes of topics, properties and payloads.
	MaxQueuedBytes int64 `toml:"max_queued_bytes" unit:"bytes" default:"64MiB" min:"1KiB" max:"1TiB"`

	// DropOldest makes room in a queue that is full by dropping the message that has waited longest; without it the new
	// message is not taken.
	DropOldest bool `toml:"drop_oldest"`

	// MaxOutbound bounds the bytes of packets waiting to be written to one connection. QoS 0 messages beyond it are
	// dropped; a client that lets twice as much pile up is disconnected.
	MaxOutbound int64 `toml:"max_outbound_bytes" unit:"bytes" default:"4MiB" min:"64KiB" max:"4GiB"`

	// MaxKeepAlive is the longest keep alive granted: MQTT 5 clients that ask for more, or for none, are told this value
	// (Server Keep Alive); earlier clients are closed when they are silent for one and a half times as long. 0 grants
	// what the client asks for, even none.
	MaxKeepAlive time.Duration `toml:"max_keep_alive" default:"0s" min:"0s" max:"65535s"`

	// MaxSessionExpiry is the longest time that a session is kept after its connection ended, also for MQTT 3 clients
	// with a persistent session. 0 keeps what the client asks for.
	MaxSessionExpiry time.Duration `toml:"max_session_expiry" default:"0s" min:"0s" max:"4294967294s"`

	// MaxQoS is the highest QoS accepted from clients and granted to subscriptions.
	MaxQoS int `toml:"max_qos" default:"2" min:"0" max:"2" none:"-1"`

	// NoRetain refuses retained messages.
	NoRetain bool `toml:"!retain_available"`

	// NoWildcards refuses subscriptions with wildcards.
	NoWildcards bool `toml:"!wildcard_subscriptions"`

	// NoShared refuses shared subscriptions.
	NoShared bool `toml:"!shared_subscriptions"`

	// NoSubscriptionIDs refuses MQTT 5 subscription identifiers.
	NoSubscriptionIDs bool `toml:"!subscription_identifiers"`

	// MaxSubscriptions is how many subscriptions one session may hold.
	MaxSubscriptions int `toml:"max_subscriptions" default:"100000" min:"1" max:"10000000"`

	// MaxSubscribeFilters is how many filters of one SUBSCRIBE are looked at. Those after them are answered with 0x97 (quota
	// exceeded; before MQTT 5 with 0x80), and may be subscribed to with another packet.
	MaxSubscribeFilters int `toml:"max_subscribe_filters" default:"100000" min:"1" max:"10000000"`

	// MaxTopicLevels is how many levels a topic name or filter may have.
	MaxTopicLevels int `toml:"max_topic_levels" default:"65535" min:"1" max:"65535"`

	// MaxTopicLength is the longest topic name or filter accepted. A longer one is refused with 0x90 (topic name invalid) or
	// 0x8F (topic filter invalid).
	MaxTopicLength int `toml:"max_topic_length" unit:"bytes" default:"65535" min:"1" max:"65535"`

	// MaxUserProperties is how many user properties a packet, or a will, may have. A PUBLISH with more is refused with 0x97
	// (quota exceeded), and so is a CONNECT; any other packet ends the connection with this code.
	MaxUserProperties int `toml:"max_user_properties" default:"10000" min:"0" max:"1000000" none:"-1"`

	// MaxUserPropertyBytes bounds the names and values of a packet's user properties together, with the same consequence.
	MaxUserPropertyBytes int64 `toml:"max_user_property_bytes" unit:"bytes" default:"256KiB" min:"0" max:"256MiB" none:"-1"`

	// MaxWillDelay is the longest time that a will waits for its client to come back; MQTT has no way to tell it of a cut.
	// 0 waits as long as the client asks for, but not longer than its session lasts.
	MaxWillDelay time.Duration `toml:"max_will_delay" default:"0s" min:"0s" max:"4294967295s"`

	// MaxPublishRate is how many messages a client may publish in a second, on average. A client that is faster is not
	// read from until it is not: nothing is lost, and its other packets wait too. Another connection of the same identity, or
	// anonymous client identifier, does not begin anew. 0: no limit.
	MaxPublishRate int `toml:"max_publish_rate" default:"0" min:"0" max:"10000000" none:"-1"`

	// MaxPublishBytes is how many bytes of PUBLISH packets a client may send in a second, on average, with the same
	// consequence. 0: no limit.
	MaxPublishBytes int64 `toml:"max_publish_bytes" unit:"bytes" default:"0" min:"0" max:"1TiB" none:"-1"`

	// PublishBurst is how long a client that was silent may go without being held back: it may send at once what the two
	// rates above allow in this time.
	PublishBurst time.Duration `toml:"publish_burst" default:"10s" min:"1s" max:"1h"`

	// MaxSessionsPerPrincipal is how many sessions one identity may have: a certificate's holder, or a user. All clients
	// without an identity are one. Who would make one more is refused as with max_sessions. 0: no limit.
	MaxSessionsPerPrincipal int `toml:"max_sessions_per_principal" default:"300000" min:"0" max:"100000000" none:"-1"`

	// MaxRetainedPerPrincipal is how many topics may have a retained message of one identity, that is the one that has
	// published it last. One more is refused as with max_retained_messages. 0: no limit.
	MaxRetainedPerPrincipal int `toml:"max_retained_per_principal" default:"10000000" min:"0" max:"100000000" none:"-1"`

	// MaxRetainedBytesPerPrincipal bounds the same messages by their bytes, counted as in max_retained_bytes. 0: no limit.
	MaxRetainedBytesPerPrincipal int64 `toml:"max_retained_bytes_per_principal" unit:"bytes" default:"1GiB" min:"0" max:"1TiB" none:"-1"`

	// MaxClientID is the longest client identifier accepted, in bytes.
	MaxClientID int `toml:"max_client_id" unit:"bytes" default:"65535" min:"23" max:"65535"`
}

func or[T int | int64 | time.Duration](v, def T) T {
	if v == 0 {
		return def
	}
	return max(v, 0)
}

// withDefaults returns l with every zero field set to its default.
func (l Limits) withDefaults() Limits {
	l.MaxPacketSize = or(l.MaxPacketSize, 2_000_000)
	l.MaxConnectSize = or(l.MaxConnectSize, 256<<10)
	l.ReceiveMaximum = or(l.ReceiveMaximum, 20)
	l.TopicAliasMaximum = or(l.TopicAliasMaximum, 10)
	l.TopicAliasMaximumSend = or(l.TopicAliasMaximumSend, 10)
	l.MaxInflight = or(l.MaxInflight, 1024)
	l.MaxQueued = or(l.MaxQueued, 1000)
	l.MaxQueuedBytes = or(l.MaxQueuedBytes, 64<<20)
	l.MaxOutbound = or(l.MaxOutbound, 4<<20)
	l.MaxQoS = or(l.MaxQoS, 2)
	l.MaxSubscriptions = or(l.MaxSubscriptions, 100_000)
	l.MaxTopicLevels = or(l.MaxTopicLevels, 65535)
	l.MaxSubscribeFilters = or(l.MaxSubscribeFilters, 100_000)
	l.MaxTopicLength = or(l.MaxTopicLength, 65535)
	l.MaxUserProperties = or(l.MaxUserProperties, 10_000)
	l.MaxUserPropertyBytes = or(l.MaxUserPropertyBytes, 256<<10)
	l.MaxPublishRate = or(l.MaxPublishRate, 0)
	l.MaxPublishBytes = or(l.MaxPublishBytes, 0)
	l.PublishBurst = or(l.PublishBurst, 10*time.Second)
	l.MaxSessionsPerPrincipal = or(l.MaxSessionsPerPrincipal, 300_000)
	l.MaxRetainedPerPrincipal = or(l.MaxRetainedPerPrincipal, 10_000_000)
	l.MaxRetainedBytesPerPrincipal = or(l.MaxRetainedBytesPerPrincipal, 1<<30)
	l.MaxClientID = or(l.MaxClientID, 65535)
	return l
}

// over returns l with every zero field taken from base, which has no zero field that means a default.
func (l Limits) over(base Limits) Limits {
	pick(&l.MaxPacketSize, base.MaxPacketSize)
	pick(&l.MaxConnectSize, base.MaxConnectSize)
	pick(&l.ReceiveMaximum, base.ReceiveMaximum)
	pick(&l.TopicAliasMaximum, base.TopicAliasMaximum)
	pick(&l.TopicAliasMaximumSend, base.TopicAliasMaximumSend)
	pick(&l.MaxInflight, base.MaxInflight)
	pick(&l.MaxQueued, base.MaxQueued)
	pick(&l.MaxQueuedBytes, base.MaxQueuedBytes)
	pick(&l.MaxOutbound, base.MaxOutbound)
	pick(&l.MaxKeepAlive, base.MaxKeepAlive)
	pick(&l.MaxSessionExpiry, base.MaxSessionExpiry)
	pick(&l.MaxQoS, base.MaxQoS)
	pick(&l.MaxSubscriptions, base.MaxSubscriptions)
	pick(&l.MaxTopicLevels, base.MaxTopicLevels)
	pick(&l.MaxSubscribeFilters, base.MaxSubscribeFilters)
	pick(&l.MaxTopicLength, base.MaxTopicLength)
	pick(&l.MaxUserProperties, base.MaxUserProperties)
	pick(&l.MaxUserPropertyBytes, base.MaxUserPropertyBytes)
	pick(&l.MaxWillDelay, base.MaxWillDelay)
	pick(&l.MaxPublishRate, base.MaxPublishRate)
	pick(&l.MaxPublishBytes, base.MaxPublishBytes)
	pick(&l.PublishBurst, base.PublishBurst)
	pick(&l.MaxSessionsPerPrincipal, base.MaxSessionsPerPrincipal)
	pick(&l.MaxRetainedPerPrincipal, base.MaxRetainedPerPrincipal)
	pick(&l.MaxRetainedBytesPerPrincipal, base.MaxRetainedBytesPerPrincipal)
	pick(&l.MaxClientID, base.MaxClientID)
	l.DropOldest = l.DropOldest || base.DropOldest
	l.NoRetain = l.NoRetain || base.NoRetain
	l.NoWildcards = l.NoWildcards || base.NoWildcards
	l.NoShared = l.NoShared || base.NoShared
	l.NoSubscriptionIDs = l.NoSubscriptionIDs || base.NoSubscriptionIDs
	return l
}

// pick sets v to base where v is zero, and none to zero.
func pick[T int | int64 | time.Duration](v *T, base T) {
	if *v == 0 {
		*v = base
	}
	*v = max(*v, 0)
}

func (c Config) withDefaults() Config {
	c.Limits = c.Limits.withDefaults()
	c.PreAuthMemory = or(c.PreAuthMemory, 64<<20)
	c.OutboundMemory = or(c.OutboundMemory, 1<<30)
	c.MaxSessions = or(c.MaxSessions, 1_000_000)
	c.MaxRetained = or(c.MaxRetained, 10_000_000)
	c.MaxRetainedBytes = or(c.MaxRetainedBytes, 4<<30)
	c.SysInterval = or(c.SysInterval, 10*time.Second)
	return c
}

// Validate reports every value outside its limits, by its key in the configuration file.
func (c Config) Validate() error {
	d := c.withDefaults()
	return errors.Join(
		between("preauth_memory", d.PreAuthMemory, 1<<20, 4<<30),
		between("outbound_memory", d.OutboundMemory, 1<<20, 1<<40),
		between("max_sessions", int64(d.MaxSessions), 0, 100_000_000),
		between("max_retained_messages", int64(d.MaxRetained), 0, 100_000_000),
		between("max_retained_bytes", d.MaxRetainedBytes, 0, 1<<40),
		between("sys_interval", int64(d.SysInterval/time.Second), 0, 86400),
		c.Limits.Validate(),
	)
}

// Validate reports every value outside its limits, by its key in the configuration file.
func (l Limits) Validate() error {
	l = l.withDefaults()
	return errors.Join(
		between("max_packet_size", l.MaxPacketSize, 1<<10, 268_435_460),
		between("max_connect_size", l.MaxConnectSize, 256, 16<<20),
		between("receive_maximum", int64(l.ReceiveMaximum), 1, 65535),
		between("topic_alias_maximum", int64(l.TopicAliasMaximum), 0, 65535),
		between("topic_alias_maximum_send", int64(l.TopicAliasMaximumSend), 0, 65535),
		between("max_inflight_messages", int64(l.MaxInflight), 1, 65535),
		between("max_queued_messages", int64(l.MaxQueued), 0, 100_000_000),
		between("max_queued_bytes", l.MaxQueuedBytes, 1<<10, 1<<40),
		between("max_outbound_bytes", l.MaxOutbound, 64<<10, 4<<30),
		between("max_keep_alive", int64(l.MaxKeepAlive/time.Second), 0, 65535),
		between("max_session_expiry", int64(l.MaxSessionExpiry/time.Second), 0, 4294967294),
		between("max_qos", int64(l.MaxQoS), 0, 2),
		between("max_subscriptions", int64(l.MaxSubscriptions), 1, 10_000_000),
		between("max_topic_levels", int64(l.MaxTopicLevels), 1, 65535),
		between("max_subscribe_filters", int64(l.MaxSubscribeFilters), 1, 10_000_000),
		between("max_topic_length", int64(l.MaxTopicLength), 1, 65535),
		between("max_user_properties", int64(l.MaxUserProperties), 0, 1_000_000),
		between("max_user_property_bytes", l.MaxUserPropertyBytes, 0, 256<<20),
		between("max_will_delay", int64(l.MaxWillDelay/time.Second), 0, 4294967295),
		between("max_publish_rate", int64(l.MaxPublishRate), 0, 10_000_000),
		between("max_publish_bytes", l.MaxPublishBytes, 0, 1<<40),
		between("publish_burst", int64(l.PublishBurst), int64(time.Second), int64(time.Hour)),
		between("max_sessions_per_principal", int64(l.MaxSessionsPerPrincipal), 0, 100_000_000),
		between("max_retained_per_principal", int64(l.MaxRetainedPerPrincipal), 0, 100_000_000),
		between("max_retained_bytes_per_principal", l.MaxRetainedBytesPerPrincipal, 0, 1<<40),
		between("max_client_id", int64(l.MaxClientID), 23, 65535),
	)
}

func between(key string, v, lo, hi int64) error {
	if v < lo || v > hi {
		return fmt.Errorf("%s: %d is not between %d and %d", key, v, lo, hi)
	}
	return nil
}
